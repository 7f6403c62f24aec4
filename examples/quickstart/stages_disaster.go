package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// lostStore is where the store of the primary is moved: as root, file modes
// would not keep anybody from it.
func (st *story) lostStore() string { return st.store(primarySite) + ".lost" }

// disaster is stage 6.
func (st *story) disaster(ctx context.Context) error {
	if err := st.healthy(ctx); err != nil {
		return err
	}
	// If a killed orchestrator had come as far as killing the service, the
	// fault is the one it noted.
	if _, alive := st.fleet.find(serviceProcess(primarySite)); alive {
		err := st.log.remember(func(f *facts) { f.Fault, f.FaultClock = time.Now().UTC(), clock() })
		if err != nil {
			return err
		}
	}
	for _, name := range []string{serviceProcess(primarySite), storeProcess(primarySite)} {
		d, err := st.fleet.kill(ctx, name)
		if err != nil {
			return err
		}
		st.ok("kill -9 %-7d %s is gone", d.PID, d.Name)
		crash("kill-" + name + ":after")
	}
	if err := os.Rename(st.store(primarySite), st.lostStore()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(st.lostStore()); err != nil {
		return fmt.Errorf("the lost store: %w", err)
	}
	st.ok("the primary's store is moved away")
	return nil
}

// oldPrimaryReturns is stage 9: the machine of the primary is back, with its
// service as it was configured and its data as they were.
func (st *story) oldPrimaryReturns(ctx context.Context) error {
	if err := os.Rename(st.lostStore(), st.store(primarySite)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{storeProcess(primarySite), serviceProcess(primarySite)} {
		in, err := st.fleet.start(ctx, name)
		if err != nil {
			return err
		}
		st.ok("%-16s pid %-7d %s is up again, as it was", in.Name, in.PID, in.Addr)
	}
	s, err := st.site(primarySite)
	if err != nil {
		return err
	}
	got, err := s.await(ctx, func(st status) bool { return st.Sealed })
	if err != nil {
		return err
	}
	st.ok("it finds itself fenced: %s", got.Why)
	if st.tree() {
		return st.log.remember(func(f *facts) { f.FencedReply = got.Why })
	}
	// Whoever still knows its address and writes to it is refused.
	_, err = postRecord(ctx, st.log.Run, st.fleet.addr(serviceProcess(primarySite)), "stray-000001")
	refused, ok := errors.AsType[*statusError](err)
	if !ok || refused.code != 503 {
		return fmt.Errorf("a write to the old primary was not refused: %v", err)
	}
	st.ok("a write to it is refused: %s", refused.text)
	return st.log.remember(func(f *facts) { f.FencedReply = refused.text })
}

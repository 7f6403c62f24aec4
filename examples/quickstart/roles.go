package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// site is what failover does with one site of a service: stop it, start it,
// ask it. This is the part that only you can write for a service of your own.
type site struct {
	layout
	fleet    fleet
	run      string // of the quickstart
	name     string
	service  string // whose lease it obeys
	home     string // site that is in charge before any failover
	tree     bool
	patience time.Duration
	witness  provider.BlobStore
}

var (
	_ failover.Fencer   = site{}
	_ failover.Promoter = promotion{}
)

const fenceMethod = "lease record changed at the witness, process ended"

// Fence ends the service. Before it is called, package failover has written
// into the lease record that this site is not in charge, which keeps any
// process of it from serving ever again; this does away with the one that may
// not have read it yet.
func (s site) Fence(ctx context.Context, _ uint64) (failover.FenceEvidence, error) {
	in, err := inCharge(ctx, s.witness, s.service, s.home)
	if err != nil {
		return failover.FenceEvidence{}, err
	}
	if in.Site == s.name {
		return failover.FenceEvidence{}, fmt.Errorf("%v: %w", in, failover.ErrNoEffect)
	}
	d, err := s.fleet.kill(ctx, serviceProcess(s.name))
	if err != nil {
		return failover.FenceEvidence{}, err
	}
	return failover.FenceEvidence{
		Method: fenceMethod, Confirmed: true,
		Detail: fmt.Sprintf("%s; %s (pid %d, began %s) is gone", in, d.Name, d.PID, d.Began),
	}, nil
}

// Fenced looks whether both halves hold.
func (s site) Fenced(ctx context.Context) (failover.FenceEvidence, error) {
	in, err := inCharge(ctx, s.witness, s.service, s.home)
	if err != nil {
		return failover.FenceEvidence{}, err
	}
	p, alive := s.fleet.find(serviceProcess(s.name))
	ev := failover.FenceEvidence{
		Method: fenceMethod,
		Detail: fmt.Sprintf("%s; %s (pid %d) is alive: %t", in, serviceProcess(s.name), p.PID, alive),
	}
	if alive {
		if st, err := s.status(ctx); err == nil && st.Sealed {
			alive = false
			ev.Detail += ", and says that it is fenced for good: " + st.Why
		}
	}
	ev.Confirmed = in.Site != s.name && !alive
	return ev, nil
}

// Unfence starts the service again on the data it had. Package failover has
// put the site back in charge before it calls this.
func (s site) Unfence(ctx context.Context, _ uint64) error {
	var old serviceConfig
	if err := readJSON(s.config(serviceProcess(s.name)), &old); err != nil {
		return err
	}
	_, err := s.serve(ctx, old.Data)
	return err
}

// inCharge reads at the witness which site is in charge of a service, and
// since which epoch. As long as no failover has ever said anything it is home,
// with epoch 0.
func inCharge(ctx context.Context, witness provider.BlobStore, service, home string) (failover.Active, error) {
	r, err := failover.ReadLease(ctx, witness, "", service)
	switch {
	case errors.Is(err, provider.ErrNotFound), err == nil && r.Active == failover.Active{}:
		return failover.Active{Site: home}, nil
	case err != nil:
		return failover.Active{}, err
	}
	return r.Active, nil
}

// serve starts the service on the given data, for the epoch since which this
// site is in charge. It never puts the site in charge itself.
func (s site) serve(ctx context.Context, data string) (status, error) {
	in, err := inCharge(ctx, s.witness, s.service, s.home)
	if err != nil {
		return status{}, err
	}
	if in.Site != s.name {
		return status{}, fmt.Errorf("%s, not %s: %w", in, s.name, failover.ErrNoEffect)
	}
	want := serviceConfig{
		Run: s.run, Service: s.service, Site: s.name, Epoch: in.Epoch, Data: data, Tree: s.tree, Patience: s.patience,
	}
	name := serviceProcess(s.name)
	var have serviceConfig
	if err := readJSON(s.config(name), &have); err != nil || have != want {
		// Whatever runs there was started for something else.
		if _, err := s.fleet.kill(ctx, name); err != nil {
			return status{}, err
		}
		if err := writeJSON(s.config(name), want); err != nil {
			return status{}, err
		}
	}
	if _, err := s.fleet.start(ctx, name); err != nil {
		return status{}, err
	}
	return s.await(ctx, func(st status) bool { return st.Writable && st.Epoch == in.Epoch })
}

// await asks the service until it is as wanted or ctx ends.
func (s site) await(ctx context.Context, wanted func(status) bool) (status, error) {
	for {
		st, err := s.status(ctx)
		if err == nil && wanted(st) {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("service of %s: %w", s.name, errors.Join(ctx.Err(), err, errors.New(st.Why)))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// status asks the service directly, not through its name.
func (s site) status(ctx context.Context) (status, error) {
	return askStatus(ctx, s.run, s.fleet.addr(serviceProcess(s.name)))
}

func askStatus(ctx context.Context, run, addr string) (st status, err error) {
	if addr == "" {
		return st, errors.New("it has no address yet")
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	cl := client{c: clientConfig{Run: run}}
	err = cl.get(ctx, "http://"+addr+"/healthz", &st)
	if e, ok := errors.AsType[*statusError](err); ok && e.code == http.StatusServiceUnavailable {
		return st, nil // it answered: not writable, and why
	}
	return st, err
}

// promotion starts the service of a site on restored data.
type promotion struct {
	site
	data     string
	register func(ctx context.Context, site, addr string) error // makes the zone say where it listens
}

// Promote implements [failover.Promoter].
func (p promotion) Promote(ctx context.Context, _ uint64) (failover.Evidence, error) {
	st, err := p.serve(ctx, p.data)
	if err != nil {
		return nil, err
	}
	addr := p.fleet.addr(serviceProcess(p.name))
	if err := p.register(ctx, p.name, addr); err != nil {
		return nil, err
	}
	return evidence(st, addr), nil
}

// Promoted implements [failover.Promoter].
func (p promotion) Promoted(ctx context.Context) (failover.Observation, error) {
	in, err := inCharge(ctx, p.witness, p.service, p.home)
	if err != nil || in.Site != p.name {
		return failover.Observation{}, err
	}
	st, err := p.status(ctx)
	if err != nil || !st.Writable || st.Epoch != in.Epoch {
		return failover.Observation{}, nil // in charge, but not serving: Promote goes on
	}
	addr := p.fleet.addr(serviceProcess(p.name))
	return failover.Observation{Done: p.register(ctx, p.name, addr) == nil, Evidence: evidence(st, addr)}, nil
}

func evidence(st status, addr string) failover.Evidence {
	return failover.Evidence{
		"address": addr, "writable": strconv.FormatBool(st.Writable),
		"epoch": strconv.FormatUint(st.Epoch, 10), "records": strconv.Itoa(st.Records), "sum": st.Sum,
	}
}

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
	fleet   fleet
	run     string // of the quickstart
	name    string
	charge  string // key of the record at the witness
	witness provider.BlobStore
	service func(data string) serviceConfig // how it is run here, but for its epoch
}

var (
	_ failover.Fencer   = site{}
	_ failover.Promoter = promotion{}
)

// Fence takes the site out of charge and ends its service. Both halves count:
// the first keeps any process of it from serving ever again under its epoch,
// the second does away with the one that may not have noticed yet.
func (s site) Fence(ctx context.Context, lease uint64) (failover.FenceEvidence, error) {
	c, err := passCharge(ctx, s.witness, s.charge, "", lease, s.orNobody)
	if err != nil {
		return failover.FenceEvidence{}, err
	}
	d, err := s.fleet.kill(ctx, serviceProcess(s.name))
	if err != nil {
		return failover.FenceEvidence{}, err
	}
	return failover.FenceEvidence{
		Method: "epoch raised at the witness, process ended", Confirmed: true,
		Detail: fmt.Sprintf("%v; %s (pid %d, began %s) is gone", c, d.Name, d.PID, d.Began),
	}, nil
}

// orNobody allows taking the charge from this site only, or from nobody: a
// run that is late must not depose the site that another run has promoted.
func (s site) orNobody(c charge) error {
	if c.Site != "" && c.Site != s.name {
		return fmt.Errorf("%v, not %s: %w", c, s.name, failover.ErrNoEffect)
	}
	return nil
}

// Fenced looks whether both halves hold.
func (s site) Fenced(ctx context.Context) (failover.FenceEvidence, error) {
	c, err := readCharge(ctx, s.witness, s.charge)
	if err != nil {
		return failover.FenceEvidence{}, err
	}
	in, alive := s.fleet.find(serviceProcess(s.name))
	ev := failover.FenceEvidence{
		Method: "epoch raised at the witness, process ended",
		Detail: fmt.Sprintf("%v; %s (pid %d) is alive: %t", c, serviceProcess(s.name), in.PID, alive),
	}
	if alive {
		if st, err := s.status(ctx); err == nil && st.Sealed {
			alive = false
			ev.Detail += ", and says that it is fenced for good: " + st.Why
		}
	}
	ev.Confirmed = c.Site != s.name && !alive
	return ev, nil
}

// Unfence puts the site back in charge, with its data as they are.
func (s site) Unfence(ctx context.Context, lease uint64) error {
	var old serviceConfig
	if err := readJSON(s.config(serviceProcess(s.name)), &old); err != nil {
		return err
	}
	if _, err := s.fleet.kill(ctx, serviceProcess(s.name)); err != nil {
		return err
	}
	_, err := s.serve(ctx, old.Data, lease, s.orNobody)
	return err
}

// serve puts the site in charge and starts its service on the given data.
func (s site) serve(ctx context.Context, data string, lease uint64, allow func(charge) error) (status, error) {
	c, err := passCharge(ctx, s.witness, s.charge, s.name, lease, allow)
	if err != nil {
		return status{}, err
	}
	sc := s.service(data)
	sc.Run, sc.Site, sc.Charge, sc.Epoch = s.run, s.name, s.charge, c.Epoch
	name := serviceProcess(s.name)
	var running serviceConfig
	if err := readJSON(s.config(name), &running); err != nil || running != sc {
		// Whatever runs there was started for something else.
		if _, err := s.fleet.kill(ctx, name); err != nil {
			return status{}, err
		}
		if err := writeJSON(s.config(name), sc); err != nil {
			return status{}, err
		}
	}
	if _, err := s.fleet.start(ctx, name); err != nil {
		return status{}, err
	}
	return s.await(ctx, func(st status) bool { return st.Writable && st.Epoch == c.Epoch })
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
func (p promotion) Promote(ctx context.Context, lease uint64) (failover.Evidence, error) {
	st, err := p.serve(ctx, p.data, lease, func(c charge) error {
		if c.Site != "" {
			return fmt.Errorf("%v, it must be fenced first: %w", c, failover.ErrNoEffect)
		}
		return nil
	})
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
	c, err := readCharge(ctx, p.witness, p.charge)
	if errors.Is(err, provider.ErrNotFound) {
		return failover.Observation{}, nil // nobody has ever been in charge
	}
	if err != nil || c.Site != p.name {
		return failover.Observation{}, err
	}
	st, err := p.status(ctx)
	if err != nil || !st.Writable || st.Epoch != c.Epoch {
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
)

// testSite is where a test failover starts the service: at the standby, but
// with a lease of its own, no name and no clients.
const testSite = standbySite + "-test"

// testFailover is stage 4.
func (st *story) testFailover(ctx context.Context) error {
	actions, err := st.testActions()
	if err != nil {
		return err
	}
	res, err := st.perform(ctx, "test", failover.Config{Actions: actions}, func(id string) (failover.Plan, error) {
		return failover.NewPlan(failover.PlanConfig{
			Kind: failover.Test, Service: service, From: primarySite, To: standbySite,
			ID: id, Created: time.Now(), Settle: settle, Timeouts: st.timeouts(),
		})
	})
	if err != nil {
		return err
	}
	proof := proofFact{At: time.Now().UTC()}
	for _, s := range res.Steps {
		switch s.Name {
		case "restore":
			proof.Point = backup.PointID(s.Evidence["point"])
		case "verify-private":
			fmt.Sscan(s.Evidence["records"], &proof.Records)
		}
	}
	st.ok("point %s is proven; production was not touched: the client's name leads to %s, and nobody else is in charge", proof.Point, primarySite)
	return st.log.remember(func(f *facts) { f.Proof = &proof })
}

// settle is how long a call of ours may still take effect after it returned:
// a request to a process of this machine.
const settle = 100 * time.Millisecond

func (st *story) testActions() (map[string]failover.Action, error) {
	s, err := st.site(testSite)
	if err != nil {
		return nil, err
	}
	s.service, s.home = service+"-test", testSite // a lease that nobody ever takes
	dir := st.inSite(testSite, "data")
	nowhere := func(context.Context, string, string) error { return nil }
	return map[string]failover.Action{
		"test/verify-standby": failover.ProbeAction(100*time.Millisecond, st.standbyReady(standbySite)),
		"test/restore":        restoration{st, standbySite, dir},
		"test/start":          failover.PromoteAction(promotion{site: s, data: dir, register: nowhere}),
		"test/verify-private": failover.ActionFuncs{DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
			return st.verifyTest(ctx, s, c.Prior["restore"])
		}},
		"test/clean-up": cleanUpTest{s},
	}, nil
}

// verifyTest asks the isolated service for its data and holds them against
// what the client was promised before the backup began.
func (st *story) verifyTest(ctx context.Context, s site, restored failover.Evidence) (failover.Evidence, error) {
	got, err := s.status(ctx)
	if err != nil {
		return nil, err
	}
	ev := failover.Evidence{"records": fmt.Sprint(got.Records), "words": fmt.Sprintf("%d files served", got.Records)}
	if st.tree() {
		return ev, nil
	}
	var records []record
	cl := client{c: clientConfig{Run: st.log.Run}}
	if err := cl.get(ctx, "http://"+st.fleet.addr(serviceProcess(s.name))+"/records", &records); err != nil {
		return nil, err
	}
	at, err := backup.PointID(restored["point"]).Time()
	if err != nil {
		return nil, err
	}
	acks, err := st.acks()
	if err != nil {
		return nil, err
	}
	promised, missing := 0, missingAcks(acks, records, at)
	for _, a := range acks {
		if a.Time.Before(at) {
			promised++
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("%d records acknowledged before the backup are missing, the first is %s", len(missing), missing[0].Key)
	}
	ev["words"] = fmt.Sprintf("%d records served, all %d that were acknowledged before the backup among them", len(records), promised)
	return ev, nil
}

// missingAcks returns what was acknowledged before a moment and is not among
// records with the same number and checksum.
func missingAcks(acks []ack, records []record, before time.Time) (missing []ack) {
	for _, a := range acks {
		if a.Time.Before(before) && (a.N > len(records) || records[a.N-1].Sum != a.Sum) {
			missing = append(missing, a)
		}
	}
	return missing
}

// cleanUpTest removes everything a test made. Its Observe looks for each, so
// that a test is over only if nothing is left.
type cleanUpTest struct{ site }

func (t cleanUpTest) Observe(_ context.Context, _ failover.Call) (failover.Observation, error) {
	_, alive := t.fleet.find(serviceProcess(t.name))
	_, dirErr := os.Stat(t.inSite(t.name, "data"))
	done := !alive && errors.Is(dirErr, fs.ErrNotExist)
	return failover.Observation{Done: done, Evidence: failover.Evidence{
		"process": fmt.Sprintf("alive: %t", alive), "directory": fmt.Sprint(dirErr),
		"words": "process and directory are gone; looked for after",
	}}, nil
}

func (t cleanUpTest) Do(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	if _, err := t.fleet.kill(ctx, serviceProcess(t.name)); err != nil {
		return nil, err
	}
	for _, f := range []string{"data", "data.json"} {
		if err := removeTree(t.inSite(t.name, f)); err != nil {
			return nil, err
		}
	}
	o, err := t.Observe(ctx, c)
	if err == nil && !o.Done {
		err = fmt.Errorf("something is left: %v", o.Evidence)
	}
	return o.Evidence, err
}

func (t cleanUpTest) Undo(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	return t.Do(ctx, c)
}

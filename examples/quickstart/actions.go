package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// restoration is the action of a restore step: the newest point that the site
// has, put into a directory of its own. Data that a site had before are never
// touched.
type restoration struct {
	*story
	site string
	into string // the directory; its evidence is beside it
}

func (r restoration) receipt() string { return r.into + ".json" }

// Observe finds a restore that was finished: its receipt is written last.
func (r restoration) Observe(context.Context, failover.Call) (failover.Observation, error) {
	var ev failover.Evidence
	err := readJSON(r.receipt(), &ev)
	if errors.Is(err, fs.ErrNotExist) {
		return failover.Observation{}, nil
	}
	return failover.Observation{Done: err == nil, Evidence: ev}, err
}

func (r restoration) Do(ctx context.Context, _ failover.Call) (failover.Evidence, error) {
	_, stop := r.wait("restore at " + r.site)
	defer stop()
	// What a crashed attempt left is begun again.
	if err := removeTree(r.into); err != nil {
		return nil, err
	}
	repo, err := r.openRepository(ctx, r.site)
	if err != nil {
		return nil, err
	}
	point, err := newestPoint(ctx, repo)
	if err != nil {
		return nil, err
	}
	target, err := files.New(files.Config{Root: r.into})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := repo.Restore(ctx, point.ID, target, backup.Destination{Location: r.into}, backup.RestoreOptions{}); err != nil {
		return nil, err
	}
	took := time.Since(began)
	position, age, err := r.position(r.into, point)
	if err != nil {
		return nil, err
	}
	ev := failover.Evidence{
		"point": string(point.ID), "items": strconv.FormatInt(point.Stats.Items, 10), "took": took.String(),
		"words":                   fmt.Sprintf("%d items, %s of %s; newest write %s old", point.Stats.Items, size(point.Stats.Bytes), point.ID, short(age)),
		failover.EvidenceAge:      age.String(),
		failover.EvidencePosition: position,
	}
	return ev, writeJSON(r.receipt(), ev)
}

// Undo removes what was restored.
func (r restoration) Undo(context.Context, failover.Call) (failover.Evidence, error) {
	return nil, errors.Join(removeTree(r.into), removeTree(r.receipt()))
}

// position says how far restored data go: their position in one word, and how
// old the newest write in them is.
func (st *story) position(dir string, point backup.Point) (string, time.Duration, error) {
	if st.tree() {
		pos, err := treePosition(dir)
		return pos, time.Since(point.Time), err
	}
	records, _, err := readLedger(dir)
	if err != nil || len(records) == 0 {
		return "", 0, errors.Join(err, errors.New("the ledger is empty"))
	}
	last := records[len(records)-1]
	return ledgerPosition(last.N, last.Sum), time.Duration(clock() - last.At), nil
}

func ledgerPosition(n int, sum string) string { return fmt.Sprintf("%d:%s", n, sum) }

// quiesce is the fence of a planned move: the site in charge finishes what it
// has accepted, stops, and says where.
type quiesce struct {
	site
	data string // the directory it serves
}

func (q quiesce) Observe(ctx context.Context, c failover.Call) (failover.Observation, error) {
	st, err := q.status(ctx)
	if err != nil || !st.Sealed {
		return failover.Observation{}, nil // it has not said that it stopped
	}
	ev, err := q.Do(ctx, c)
	return failover.Observation{Done: err == nil, Evidence: ev}, err
}

// Do waits until the service has read in the lease record that it is not in
// charge any more, and has finished what it was at.
func (q quiesce) Do(ctx context.Context, _ failover.Call) (failover.Evidence, error) {
	st, err := q.await(ctx, func(st status) bool { return st.Sealed })
	if err != nil {
		return nil, err
	}
	position := ledgerPosition(st.Records, st.Sum)
	if q.tree {
		if position, err = treePosition(q.data); err != nil {
			return nil, err
		}
	}
	return failover.Evidence{
		failover.EvidenceConfirmed: "true", failover.EvidencePosition: position,
		"method": "lease record changed at the witness, the service says that it has stopped",
		"detail": fmt.Sprintf("%s stopped at %d: %s", q.name, st.Records, st.Why),
	}, nil
}

func (q quiesce) Undo(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	return nil, q.Unfence(ctx, c.Epoch)
}

// probeFunc is a probe made of a function.
type probeFunc struct {
	name string
	ask  func(ctx context.Context) (string, error)
}

func (p probeFunc) String() string                            { return p.name }
func (p probeFunc) Probe(ctx context.Context) (string, error) { return p.ask(ctx) }

// standbyReady asks whether a site could take over: its store answers, and
// its newest point opens with the key that is at home there.
func (st *story) standbyReady(site string) failover.Probe {
	return probeFunc{"newest point at " + site, func(ctx context.Context) (string, error) {
		repo, err := st.openRepository(ctx, site)
		if err != nil {
			return "", err
		}
		p, err := newestPoint(ctx, repo)
		return string(p.ID) + " opens", err
	}}
}

// serves asks the service of a site by its own address.
func serves(s site) failover.Probe {
	return probeFunc{"service of " + s.name, func(ctx context.Context) (string, error) {
		st, err := s.status(ctx)
		if err == nil && (!st.Writable || st.Site != s.name) {
			err = errors.New(st.Why)
		}
		return fmt.Sprintf("%s, epoch %d, %d records", st.Site, st.Epoch, st.Records), err
	}}
}

// servesPublicly asks whoever the name leads to, through the name's server.
func (st *story) servesPublicly(site string) failover.Probe {
	return probeFunc{"http " + serviceName, func(ctx context.Context) (string, error) {
		r := resolver{server: func() string { return st.fleet.addr(dnsProcess) }}
		addr, err := r.lookup(ctx, serviceName)
		if err != nil {
			return "", err
		}
		got, err := askStatus(ctx, st.log.Run, addr)
		if err == nil && (got.Site != site || !got.Writable) {
			err = fmt.Errorf("answered by %s: %s", got.Site, got.Why)
		}
		return fmt.Sprintf("%s answers at %s", got.Site, addr), err
	}}
}

// storeAnswers asks a store for an object of its own.
func (st *story) storeAnswers(site string) failover.Probe {
	return probeFunc{"store of " + site, func(ctx context.Context) (string, error) {
		store, err := st.openStore(site)
		if err != nil {
			return "", err
		}
		_, err = store.Stat(ctx, "probe")
		if errors.Is(err, provider.ErrNotFound) {
			err = nil
		}
		return "answers", err
	}}
}

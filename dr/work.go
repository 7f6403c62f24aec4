package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/replicate"
)

// initRepository creates the repository at a site.
func (p *Planner) initRepository(ctx context.Context, site string) error {
	store, err := p.repositoryStore(ctx, site)
	if err != nil {
		return err
	}
	keys, err := p.keyring(ctx, site)
	if err != nil {
		return err
	}
	if _, err := backup.Init(ctx, p.repositoryConfig(site, store, keys)); err != nil && !errors.Is(err, backup.ErrExists) {
		return fmt.Errorf("create repository at %s: %w", site, err)
	}
	return nil
}

// recordWait bounds how long a record may hold up the work it is about.
const recordWait = 30 * time.Second

// record keeps a fact. Work never fails because of it: what cannot be kept is
// an event. It is written also when ctx has just ended, because a failed
// attempt is worth knowing about then, too.
func (p *Planner) record(ctx context.Context, key string, v any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordWait)
	defer cancel()
	r, err := p.records(ctx)
	if err == nil {
		err = r.put(ctx, key, v)
	}
	if err != nil {
		p.event(Event{Kind: EventRecord, Text: "a record could not be kept", Err: err})
	}
}

// backUp makes a point of a workload at the site in charge.
func (p *Planner) backUp(ctx context.Context, w Workload, site string, tags map[string]string) (backup.Point, error) {
	unlock, err := p.busy.lock(ctx, "backup/"+w.Name)
	if err != nil {
		return backup.Point{}, err
	}
	defer unlock()
	began := time.Now().UTC()
	point, err := p.backUpNow(ctx, w, site, tags)
	a := Attempt{Workload: w.Name, Began: began, Took: Duration(time.Since(began)), Point: point.ID, Warnings: point.WarningCount}
	e := Event{Kind: EventBackup, Workload: w.Name, Point: string(point.ID), Text: "backup made", Took: time.Since(began), Bytes: point.Stats.BytesRead, Err: err}
	if err != nil {
		a.Point, a.Error, e.Text = "", err.Error(), "backup failed"
	} else if point.Partial() {
		e.Text = "backup made with " + count(int(point.WarningCount), "warning")
	}
	p.record(ctx, recordKey(kindAttempt, w.Name, began), a)
	p.event(e)
	return point, err
}

func (p *Planner) backUpNow(ctx context.Context, w Workload, site string, tags map[string]string) (backup.Point, error) {
	t, err := p.target(ctx, w, homeOf(w, site))
	if err != nil {
		return backup.Point{}, err
	}
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return backup.Point{}, err
	}
	point, err := repo.Backup(ctx, w.Name, t, backup.BackupOptions{Mode: backup.Mode(or(w.Mode, Incremental)), Tags: tags,
		Compression: backup.Compression(strings.ToLower(w.Compression))})
	if err != nil {
		return backup.Point{}, fmt.Errorf("back up %s: %w", w.Name, err)
	}
	return point, nil
}

// replicate brings the other site up to date with the site in charge.
func (p *Planner) replicate(ctx context.Context, from string) (replicate.Result, error) {
	unlock, err := p.busy.lock(ctx, "replicate")
	if err != nil {
		return replicate.Result{}, err
	}
	defer unlock()
	began, to := time.Now(), otherSite(from)
	result, err := p.replicateNow(ctx, from, to)
	e := Event{Kind: EventReplicate, Text: fmt.Sprintf("%s arrived at %s", count(len(result.Arrived), "point"), to), Took: time.Since(began), Bytes: result.Bytes, Err: err}
	if err != nil {
		e.Text = fmt.Sprintf("replication to %s failed; %s arrived", to, count(len(result.Arrived), "point"))
	}
	p.event(e)
	return result, err
}

func (p *Planner) replicateNow(ctx context.Context, from, to string) (replicate.Result, error) {
	source, err := p.Repository(ctx, from)
	if err != nil {
		return replicate.Result{}, err
	}
	here, err := p.repositoryStore(ctx, from)
	if err != nil {
		return replicate.Result{}, err
	}
	there, err := p.repositoryStore(ctx, to)
	if err != nil {
		return replicate.Result{}, err
	}
	// What points need of logs arrives before them. A backup that ended in
	// between has its part of a log copied afterwards.
	var result replicate.Result
	locked := p.config.lockedCopies(there, to)
	logs, failed := p.replicateLogs(ctx, source, here, locked)
	result, err = replicate.Copy(ctx, replicate.Config{Source: source, From: here, To: locked, Logger: p.log,
		Hold: func(ctx context.Context, manifests []provider.Info) (replicate.Hold, error) {
			return source.Hold(ctx, there, manifests) // so that the other site can be pruned at any time
		}})
	if failed == nil && len(result.Arrived) > 0 {
		var more int64
		more, failed = p.replicateLogs(ctx, source, here, locked)
		logs += more
	}
	result.Bytes += logs
	p.recordArrivals(ctx, source, to, result, failed == nil)
	if failed == nil {
		p.recordAwaited(ctx, source, to)
	}
	if err = errors.Join(err, failed); err != nil {
		return result, fmt.Errorf("replicate to %s: %w", to, err)
	}
	return result, nil
}

// replicateLogs copies what the logs of a repository have, and returns how many
// bytes that were.
func (p *Planner) replicateLogs(ctx context.Context, source *backup.Repository, here, there provider.BlobStore) (bytes int64, err error) {
	for name, err := range source.Logs(ctx) {
		if err != nil {
			return bytes, err
		}
		log, err := source.Log(name)
		if err != nil {
			return bytes, err
		}
		result, err := replicate.Copy(ctx, replicate.Config{Source: log, From: here, To: there, Logger: p.log})
		if bytes += result.Bytes; err != nil {
			return bytes, fmt.Errorf("log %q: %w", name, err)
		}
	}
	return bytes, nil
}

// recordArrivals keeps when each point arrived. Arrived names manifests; the
// points of the source say which those are. Without the logs, points that need
// one have not arrived: that they will have is kept.
func (p *Planner) recordArrivals(ctx context.Context, source *backup.Repository, to string, result replicate.Result, logs bool) {
	if len(result.Arrived) == 0 {
		return
	}
	now := time.Now().UTC()
	for _, key := range result.Arrived {
		point, err := source.Point(ctx, pointOf(key))
		if err != nil {
			p.event(Event{Kind: EventRecord, Text: "an arrival could not be recorded", Point: key, Err: err})
			continue
		}
		a := Arrival{Workload: point.Name, Point: point.ID, PointTime: point.Time, Ended: point.Ended, Arrived: now, Site: to}
		if len(point.Logs) > 0 && !logs {
			p.record(ctx, recordKey(kindAwaited, to, now), a)
			continue
		}
		p.record(ctx, recordKey(kindArrival, point.Name, now), a)
	}
}

// recordAwaited keeps when points arrived whose logs are only there now. An
// arrival is recorded before it is no longer awaited: twice is better than never.
func (p *Planner) recordAwaited(ctx context.Context, source *backup.Repository, to string) {
	if err := p.awaited(ctx, source, to); err != nil {
		p.event(Event{Kind: EventRecord, Text: "arrivals of points whose logs came later could not be recorded", Err: err})
	}
}

// awaitedPrefix is that of the records of what a site still lacks logs of.
func awaitedPrefix(site string) string { return kindAwaited + "/" + site + "/" }

// countAwaited counts them.
func (p *Planner) countAwaited(ctx context.Context, site string) (n int, err error) {
	r, err := p.records(ctx)
	if err != nil {
		return 0, err
	}
	for _, err := range r.store.List(ctx, awaitedPrefix(site), provider.ListOptions{}) {
		if err != nil {
			return n, fmt.Errorf("list records: %w", err)
		}
		n++
	}
	return n, nil
}

func (p *Planner) awaited(ctx context.Context, source *backup.Repository, to string) error {
	r, err := p.records(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for info, err := range r.store.List(ctx, awaitedPrefix(to), provider.ListOptions{}) {
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		a, err := readOne[Arrival](ctx, r, info.Key)
		if err == nil {
			if _, err = source.Point(ctx, a.Point); err == nil {
				a.Arrived = time.Now().UTC()
				err = r.put(ctx, recordKey(kindArrival, a.Workload, a.Arrived), a)
			} else if errors.Is(err, provider.ErrNotFound) {
				err = nil // it was forgotten meanwhile
			}
		}
		if err == nil {
			err = r.store.Delete(ctx, info.Key, provider.DeleteOptions{})
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// pointOf is the id in the key of a manifest, its last segment.
func pointOf(manifest string) backup.PointID {
	for i := len(manifest) - 1; i >= 0; i-- {
		if manifest[i] == '/' {
			return backup.PointID(manifest[i+1:])
		}
	}
	return backup.PointID(manifest)
}

// forget removes one point at one site.
func (p *Planner) forget(ctx context.Context, w, site string, id backup.PointID, reason string) error {
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return err
	}
	err = repo.Forget(ctx, id)
	if err != nil {
		err = fmt.Errorf("forget %s at %s: %w", id, site, err)
	}
	p.event(Event{Kind: EventForget, Workload: w, Point: string(id), Text: "point forgotten at " + site + ": " + reason, Err: err})
	return err
}

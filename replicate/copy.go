package replicate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/internal/throttle"
	"github.com/holdfast-go/holdfast/provider"
)

// maxUnreachable is how many points in a row may fail because a store does not
// answer before Copy stops asking. Points that are damaged do not count.
const maxUnreachable = 3

// Copy brings every point of the source that is missing at the destination
// there, newest first. It goes on past points that cannot be copied; the error
// joins one error for each distinct key in Result.Failed. It stops early if
// three points in a row fail because a store does not answer or refuses to
// store anything. A point that is
// forgotten at the source while it is being copied is passed over.
//
// The Result is valid with an error too. When ctx ends, Copy stops with its
// error; what has arrived stays, and no point is there in part.
func Copy(ctx context.Context, c Config) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	s, err := look(ctx, c.Source, c.To)
	if err != nil {
		return Result{}, err
	}
	r := &run{
		Config:    c,
		situation: s,
		limit:     throttle.New(c.BytesPerSecond),
		log:       cmp.Or(c.Logger, slog.New(slog.DiscardHandler)),
		damaged:   map[string]error{},
		hold:      free{},
	}
	r.result.Present = len(s.arrived)
	if len(s.missing) == 0 {
		return r.result, nil
	}
	if c.Hold != nil {
		if r.hold, err = c.Hold(ctx, s.missing); err != nil {
			return r.result, fmt.Errorf("announce the copy at the destination: %w", err)
		}
	}
	err = r.all(ctx)
	if releaseErr := r.hold.Release(context.WithoutCancel(ctx)); releaseErr != nil {
		err = errors.Join(err, fmt.Errorf("end the announcement at the destination: %w", releaseErr))
	}
	return r.result, err
}

// run is one Copy.
type run struct {
	Config
	situation
	limit   *throttle.Limiter
	log     *slog.Logger
	hold    Hold
	held    error // what has ended the hold
	started time.Time

	mu       sync.Mutex // guards what follows, and the inventory
	damaged  map[string]error
	result   Result
	progress Progress
}

// all lists the destination and copies what is missing. What has been
// announced before the listing cannot vanish after it.
func (r *run) all(ctx context.Context) error {
	clear(r.inventory)
	if err := r.add(ctx, r.To, ""); err != nil {
		return err
	}
	r.started = time.Now()
	if r.Progress != nil {
		total := r.outstanding(ctx, r.Source, func(string, error) {}) // met again, and reported, when its turn comes
		r.progress = Progress{TotalPoints: len(r.missing), TotalObjects: total.objects, TotalBytes: total.bytes}
		r.started = time.Now()
	}
	r.log.Info("replication begins", "points", len(r.missing))

	unreachable := 0
	for _, m := range r.missing {
		failures := r.point(ctx, m)
		if err := ctx.Err(); err != nil {
			return errors.Join(r.result.errors(), err)
		}
		if r.held != nil {
			return errors.Join(r.result.errors(), fmt.Errorf("the destination does not hold what is copied any more: %w", r.held))
		}
		if len(failures) == 0 {
			r.pointDone(m, nil)
			unreachable = 0
			continue
		}
		_, err := r.From.Stat(ctx, m.Key)
		if errors.Is(err, provider.ErrNotFound) {
			// It is no point any more, and its objects may rightly be gone.
			r.log.Info("point forgotten at the source while it was copied", "point", m.Key)
			continue
		}
		r.pointDone(m, failures)
		answers := err == nil
		unreachable++
		if slices.ContainsFunc(failures, func(f Failure) bool { return isVerdict(f, answers) }) {
			unreachable = 0
		}
		if unreachable == maxUnreachable {
			return errors.Join(r.result.errors(), fmt.Errorf("stopped after %d points in a row could not be copied", unreachable))
		}
	}
	return r.result.errors()
}

// errors joins one error for each distinct key that failed.
func (r Result) errors() error {
	var errs []error
	seen := map[string]bool{}
	for _, f := range r.Failed {
		if !seen[f.Key] {
			seen[f.Key] = true
			errs = append(errs, fmt.Errorf("copy %s: %w", f.Key, f.Err))
		}
	}
	return errors.Join(errs...)
}

// errObjects marks that the objects of a point could not be learned. A source
// that answers otherwise says thereby that the point is damaged, in words of
// its own: it must not keep the points behind it from being copied.
var errObjects = errors.New("list its objects")

// isVerdict reports whether a failure is about one object, so that others may
// well succeed. answers tells whether the source could be reached since.
func isVerdict(f Failure, answers bool) bool {
	if answers && errors.Is(f.Err, errObjects) {
		return true
	}
	for _, verdict := range []error{ErrDamaged, ErrConflict, ErrLeaving, provider.ErrInvalidKey} {
		if errors.Is(f.Err, verdict) {
			return true
		}
	}
	return false
}

// point copies one point and returns what kept it from arriving. Its manifest
// goes last, once everything else is there.
func (r *run) point(ctx context.Context, m provider.Info) []Failure {
	if r.standing(m) == other && r.hold.Replaces(m.Key) == "" {
		return []Failure{{m.Key, m.Key, ErrConflict}} // nothing of it would help
	}
	failures := r.objects(ctx, m)
	if len(failures) > 0 || ctx.Err() != nil {
		return failures
	}
	needed, err := r.claim(m)
	if err == nil && needed {
		if err = r.object(ctx, m); err != nil {
			r.disclaim(m, err)
		} else {
			r.held = r.hold.Arrived(ctx, m.Key)
			err = r.held
		}
	}
	if err != nil {
		return []Failure{{m.Key, m.Key, err}}
	}
	return nil
}

// objects copies everything that a point needs except its manifest, several at
// a time. After a failure it begins no more, but finishes what is under way.
func (r *run) objects(ctx context.Context, m provider.Info) []Failure {
	var g errgroup.Group
	g.SetLimit(parallel(r.Parallel))
	var f failures
	for o, err := range r.Source.Objects(ctx, m.Key) {
		if err != nil {
			f.add(m.Key, m.Key, fmt.Errorf("%w: %w", errObjects, atSource(err)))
		}
		if ctx.Err() != nil || f.any() {
			break
		}
		if r.held = r.hold.Renew(ctx); r.held != nil {
			f.add(m.Key, m.Key, r.held)
			break
		}
		needed, err := r.claim(o)
		switch {
		case err != nil:
			f.add(m.Key, o.Key, err)
		case needed:
			g.Go(func() error {
				if err := r.object(ctx, o); err != nil {
					r.disclaim(o, err)
					f.add(m.Key, o.Key, err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // its functions return nil; f says what went wrong
	return f.list
}

// failures collects what concurrent copies run into.
type failures struct {
	mu   sync.Mutex
	list []Failure
}

func (f *failures) add(manifest, key string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, Failure{manifest, key, err})
}

func (f *failures) any() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.list) > 0
}

// claim decides whether an object must be copied and, if so, counts it as
// present from now on, so that it is copied once. This is safe because no
// manifest is stored before everything claimed for its point has arrived.
func (r *run) claim(o provider.Info) (needed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err, ok := r.damaged[o.Key]; ok {
		return false, err
	}
	if r.hold.Leaving(o.Key) {
		return false, ErrLeaving
	}
	switch r.standing(o) {
	case same:
		r.result.Skipped++
		return false, nil
	case other:
		if r.hold.Replaces(o.Key) == "" {
			return false, ErrConflict
		}
	}
	r.inventory[idOf(o.Key)] = factOf(o)
	return true, nil
}

func (r *run) disclaim(o provider.Info, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.inventory, idOf(o.Key))
	if errors.Is(err, ErrDamaged) {
		r.damaged[o.Key] = err
	}
}

// object copies one object and returns nil once it is durable at the
// destination with the promised bytes.
func (r *run) object(ctx context.Context, o provider.Info) error {
	body := openRemote(ctx, r.From, r.limit, o)
	defer body.Close()
	sum := o.SHA256
	if sum == ([32]byte{}) {
		var err error
		if sum, err = body.sum(); err != nil {
			return atSource(err)
		}
	}
	replaces := r.hold.Replaces(o.Key)
	_, err := r.To.Put(ctx, o.Key, body, provider.PutOptions{IfAbsent: replaces == "", IfMatch: replaces, SHA256: sum, Meta: o.Meta})
	if err != nil {
		if err = r.settle(ctx, o, sum, body, err); err != nil {
			return err
		}
	}
	if r.ReadBack == ReadCopied {
		if err := readAndCompare(ctx, r.To, r.limit, o, sum); err != nil {
			return fmt.Errorf("read back: %w", err)
		}
	}
	r.objectDone(o)
	return nil
}

// settle finds out what became of a Put that failed with putErr. The write may
// have happened and only its reply been lost, or another Copy may have been
// first.
func (r *run) settle(ctx context.Context, o provider.Info, sum [32]byte, body *remote, putErr error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(putErr, provider.ErrInvalidKey):
		return putErr
	case errors.Is(putErr, provider.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrDamaged, putErr)
	}
	err := r.compare(ctx, o, sum)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, provider.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrConflict, putErr)
	case !errors.Is(err, provider.ErrNotFound):
		return errors.Join(putErr, fmt.Errorf("find out whether it was stored: %w", err))
	}
	// It was not written. A Put need not keep the error of its body.
	if err := body.failure(); err != nil {
		return atSource(err)
	}
	return putErr
}

// compare returns nil if the destination holds the promised bytes, ErrNotFound
// if it holds none, and ErrCorrupt if it holds others. It reads them only
// if the store has no hash of its own.
func (r *run) compare(ctx context.Context, o provider.Info, sum [32]byte) error {
	info, err := r.To.Stat(ctx, o.Key)
	switch {
	case err != nil:
		return err
	case info.Size != o.Size || info.SHA256 != sum && info.SHA256 != [32]byte{}:
		return provider.ErrCorrupt
	case info.SHA256 == sum:
		return nil
	}
	return readAndCompare(ctx, r.To, r.limit, o, sum)
}

// readAndCompare reads the object that s holds under o.Key. ErrNotFound and
// ErrCorrupt tell absent from wrong.
func readAndCompare(ctx context.Context, s provider.BlobStore, l *throttle.Limiter, o provider.Info, sum [32]byte) error {
	o.Version = "" // that of another store
	body := openRemote(ctx, s, l, o)
	defer body.Close()
	if o.Size == 0 { // reading nothing would ask for nothing
		info, err := s.Stat(ctx, o.Key)
		if err != nil {
			return err
		}
		return body.recognise(info)
	}
	got, err := body.sum()
	if err == nil && got != sum {
		err = fmt.Errorf("%s has another SHA-256: %w", o.Key, provider.ErrCorrupt)
	}
	return err
}

// atSource marks an error as damage of the source if that is what it is.
func atSource(err error) error {
	if isDamage(err) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (r *run) objectDone(o provider.Info) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Objects++
	r.result.Bytes += o.Size
	r.progress.Objects++
	r.progress.Bytes += o.Size
	r.tell()
}

// pointDone notes that a point has arrived, or what kept it from arriving.
func (r *run) pointDone(m provider.Info, failures []Failure) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress.Points++
	if len(failures) == 0 {
		r.result.Arrived = append(r.result.Arrived, m.Key)
		r.log.Info("point arrived", "point", m.Key)
	} else {
		r.result.Failed = append(r.result.Failed, failures...)
		r.log.Warn("point did not arrive", "point", m.Key, "key", failures[0].Key, "error", failures[0].Err)
	}
	r.tell()
}

// tell reports progress; r.mu is held.
func (r *run) tell() {
	if r.Progress == nil {
		return
	}
	p := r.progress
	p.Elapsed = time.Since(r.started)
	if p.Bytes > 0 {
		p.Remaining = time.Duration(float64(p.Elapsed) / float64(p.Bytes) * float64(p.TotalBytes-p.Bytes))
	}
	r.Progress(p)
}

package replicate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/internal/throttle"
	"github.com/holdfast-go/holdfast/provider"
)

// VerifyConfig says what to verify. Source, From and To are required. Where
// the source is lost, Source and From may be those of the destination itself:
// then the destination is compared with what its own manifests promise.
type VerifyConfig struct {
	Source Source
	From   provider.BlobStore // read only for objects whose SHA256 Source does not know
	To     provider.BlobStore

	// Budget is how many bytes to read from To. The object that exceeds it
	// is still read whole, so every call gets further. 0 is no limit.
	Budget int64

	// After continues a verification that ran out of budget: the Next of its
	// Report.
	After string

	BytesPerSecond int64 // read from To; 0 is no limit
	Parallel       int   // objects read at once; 0 means 4
}

// Validate returns every fault of the configuration.
func (c VerifyConfig) Validate() error {
	return errors.Join(
		required("Source", c.Source != nil), required("From", c.From != nil), required("To", c.To != nil),
		notNegative("Budget", c.Budget), notNegative("BytesPerSecond", c.BytesPerSecond), notNegative("Parallel", int64(c.Parallel)))
}

// Report says what a Verify found.
type Report struct {
	Points  int      // that have arrived, and were examined
	Objects int64    // whose presence and size were compared
	Read    int64    // objects whose bytes were read and hashed
	Bytes   int64    // of them
	Next    string   // the After to go on with; "" if the end was reached
	Damage  []Damage // in ascending order of Key
}

// Damage is an object at the destination that is missing or wrong.
type Damage struct {
	Key    string
	Err    error    // matches provider.ErrNotFound or provider.ErrCorrupt
	Points []string // manifests of the arrived points that need it, newest first
}

// Err returns an error for each damaged object, or nil if there is none.
func (r Report) Err() error {
	var errs []error
	for _, d := range r.Damage {
		errs = append(errs, fmt.Errorf("%s: %w (needed by %d points: %s)", d.Key, d.Err, len(d.Points), some(d.Points)))
	}
	return errors.Join(errs...)
}

// Verify compares what has arrived with what the source promises: every
// object present with the right size, and the SHA-256 of as many as the budget
// allows, in the order of their keys. Points that have not arrived are not
// examined; see [Lag].
//
// A damaged object is no error of Verify but part of the Report; see
// [Report.Err]. The error says what could not be examined; the Report is valid
// for the rest, and its Next is then After. It uses less than 1 KiB of memory
// per object, most of it while it begins.
func Verify(ctx context.Context, c VerifyConfig) (Report, error) {
	if err := c.Validate(); err != nil {
		return Report{}, err
	}
	s, err := look(ctx, c.Source, c.To)
	if err != nil {
		return Report{}, err
	}
	if err := s.add(ctx, c.To, ""); err != nil {
		return Report{}, err
	}
	v := &verification{VerifyConfig: c, situation: s, limit: throttle.New(c.BytesPerSecond), damage: map[string]error{}}
	expected, unknown := v.expected(ctx)
	v.report.Points, v.report.Objects = len(s.arrived), int64(len(expected))
	err = v.examine(ctx, expected)
	if err == nil {
		err = v.blame(ctx)
	}
	if err = errors.Join(unknown, err); err != nil {
		v.report.Next = c.After
	}
	return v.report, err
}

type verification struct {
	VerifyConfig
	situation
	limit *throttle.Limiter

	mu     sync.Mutex // guards what follows
	damage map[string]error
	report Report
}

// expected returns every object of the arrived points, in ascending order of
// key.
func (v *verification) expected(ctx context.Context) ([]provider.Info, error) {
	objects := map[string]provider.Info{}
	var errs []error
	for _, m := range v.arrived {
		objects[m.Key] = m
		for o, err := range v.Source.Objects(ctx, m.Key) {
			if err != nil {
				errs = append(errs, fmt.Errorf("objects of %s: %w", m.Key, err))
				break
			}
			objects[o.Key] = o
		}
	}
	sorted := make([]provider.Info, 0, len(objects))
	for _, key := range slices.Sorted(maps.Keys(objects)) {
		sorted = append(sorted, objects[key])
	}
	return sorted, errors.Join(errs...)
}

// examine compares presence and size of all objects, and reads those after
// After until the budget is used up.
func (v *verification) examine(ctx context.Context, objects []provider.Info) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel(v.Parallel))
	var spent int64
	last := ""
	for _, o := range objects {
		if gctx.Err() != nil {
			break
		}
		if v.standing(o) != same {
			g.Go(func() error { return v.confirm(gctx, o) })
			continue
		}
		if o.Key <= v.After || v.report.Next != "" {
			continue
		}
		if v.Budget > 0 && spent >= v.Budget {
			v.report.Next = last
			continue
		}
		spent, last = spent+o.Size, o.Key
		g.Go(func() error { return v.read(gctx, o) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// confirm asks the store itself about an object that the listing did not show
// as promised, for it may have arrived since.
func (v *verification) confirm(ctx context.Context, o provider.Info) error {
	info, err := v.To.Stat(ctx, o.Key)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		v.damaged(o.Key, err)
	case err != nil:
		return fmt.Errorf("look at %s: %w", o.Key, err)
	case info.Size != o.Size:
		v.damaged(o.Key, fmt.Errorf("has %d bytes instead of %d: %w", info.Size, o.Size, provider.ErrCorrupt))
	case info.SHA256 != o.SHA256 && info.SHA256 != [32]byte{} && o.SHA256 != [32]byte{}:
		v.damaged(o.Key, fmt.Errorf("has another SHA-256: %w", provider.ErrCorrupt))
	}
	return nil
}

func (v *verification) read(ctx context.Context, o provider.Info) error {
	sum := o.SHA256
	if sum == ([32]byte{}) {
		body := openRemote(ctx, v.From, nil, o)
		defer body.Close()
		var err error
		if sum, err = body.sum(); err != nil {
			return fmt.Errorf("learn the hash from the source: %w", err)
		}
	}
	err := readAndCompare(ctx, v.To, v.limit, o, sum)
	switch {
	case err == nil:
	case isDamage(err):
		v.damaged(o.Key, err)
	default:
		return fmt.Errorf("verify: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.report.Read++
	v.report.Bytes += o.Size
	return nil
}

func (v *verification) damaged(key string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.damage[key] = err
}

// blame names the points that need what is damaged.
func (v *verification) blame(ctx context.Context) error {
	if len(v.damage) == 0 {
		return nil
	}
	points := map[string][]string{}
	for _, m := range v.arrived {
		if v.damage[m.Key] != nil {
			points[m.Key] = append(points[m.Key], m.Key)
		}
		blamed := map[string]bool{}
		for o, err := range v.Source.Objects(ctx, m.Key) {
			if err != nil {
				break // reported when the objects were learned
			}
			if v.damage[o.Key] != nil && !blamed[o.Key] {
				blamed[o.Key] = true
				points[o.Key] = append(points[o.Key], m.Key)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(v.damage)) {
		v.report.Damage = append(v.report.Damage, Damage{key, v.damage[key], points[key]})
	}
	return ctx.Err()
}

// some names the first few.
func some(keys []string) string {
	const few = 3
	if len(keys) <= few {
		return fmt.Sprint(keys)
	}
	return fmt.Sprintf("%v and %d more", keys[:few], len(keys)-few)
}

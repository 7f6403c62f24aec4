package dr

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// Records are what the points in the repositories do not say themselves:
// attempts that failed, when points arrived, what drills proved. They live
// beside lease and journal, outside the primary region, one object each,
// written once. Losing them loses history and proofs, never a point.
type records struct {
	store provider.BlobStore
}

// maxRecord bounds one record.
const maxRecord = 1 << 20

const recordTime = "20060102t150405.000z"

// A Proof records a drill: what was restored, whether it was good, and how
// long it took.
type Proof struct {
	Workload  string         `json:"workload"`
	Point     backup.PointID `json:"point"`
	PointTime time.Time      `json:"point_time"`
	Site      string         `json:"site"` // whose repository it was restored from
	Began     time.Time      `json:"began"`
	Restore   Duration       `json:"restore"` // how long restoring took
	Check     Duration       `json:"check"`   // how long checking took
	Bytes     int64          `json:"bytes"`   // restored
	Checked   bool           `json:"checked"` // a Checker judged the data; without one nothing is proven
	Passed    bool           `json:"passed"`
	Removed   bool           `json:"removed"`         // what was restored has been removed again
	Error     string         `json:"error,omitempty"` // why not passed or not removed

	// Of an Examiner: see Examination.
	Newest   time.Time          `json:"newest,omitzero"`
	Findings string             `json:"findings,omitempty"`
	Measured map[string]float64 `json:"measured,omitempty"`
}

// Proves reports whether the point is proven: restored, and the data judged.
func (p Proof) Proves() bool { return p.Passed && p.Checked }

// RTO is how long it took until data were there that had been found good: to
// restore and to check; 0 if they have not. It does not have the time until
// somebody decides to recover.
func (p Proof) RTO() Duration {
	if !p.Proves() {
		return 0
	}
	return p.Restore + p.Check
}

// RPO is what would have been lost if the source had been lost when the drill
// began: everything since Newest. Where nothing was changed for a while it is
// too long. It is not known if the Checker did not say.
func (p Proof) RPO() (d Duration, known bool) {
	if !p.Proves() || p.Newest.IsZero() {
		return 0, false
	}
	return max(0, Duration(p.Began.Sub(p.Newest))), true
}

// An Attempt records one backup, good or not.
type Attempt struct {
	Workload string         `json:"workload"`
	Began    time.Time      `json:"began"`
	Took     Duration       `json:"took"`
	Point    backup.PointID `json:"point,omitempty"` // empty if it failed
	Warnings int64          `json:"warnings,omitempty"`
	Error    string         `json:"error,omitempty"`
}

// An Arrival records that a point reached the other site.
type Arrival struct {
	Workload  string         `json:"workload"`
	Point     backup.PointID `json:"point"`
	PointTime time.Time      `json:"point_time"`
	Ended     time.Time      `json:"ended"`   // when the backup was committed
	Arrived   time.Time      `json:"arrived"` // by this process' clock
	Site      string         `json:"site"`    // where to
}

// Kinds of records, as the first part of their keys.
const (
	kindProof    = "proofs"
	kindAttempt  = "attempts"
	kindArrival  = "arrivals"
	kindRestored = "restored"
	kindPruning  = "prunings"
	kindAwaited  = "awaited" // arrivals that lack a log

	kindAttestation = "attestations"
	kindLocking     = "lockings"
)

// key is kind/group/time-random: ascending in time within a group.
func recordKey(kind, group string, t time.Time) string {
	return fmt.Sprintf("%s/%s/%s-%s.json", kind, group, t.UTC().Format(recordTime), strings.ToLower(rand.Text()[:12]))
}

func (r records) put(ctx context.Context, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s: %w", key, err)
	}
	if _, err := provider.PutOnce(ctx, r.store, key, b, provider.PutOptions{}); err != nil {
		return fmt.Errorf("put record: %w", err)
	}
	return nil
}

// read yields the records of a kind and group from since on, oldest first. A
// record that cannot be understood is an error of its own and skipped, so
// that one bad object does not hide the rest.
func read[T any](ctx context.Context, r records, kind, group string, since time.Time) ([]T, error) {
	prefix := kind + "/" + group + "/"
	o := provider.ListOptions{}
	if !since.IsZero() {
		o.StartAfter = prefix + since.UTC().Format(recordTime)
	}
	var out []T
	var errs []error
	for info, err := range r.store.List(ctx, prefix, o) {
		if err != nil {
			return out, errors.Join(append(errs, fmt.Errorf("list records: %w", err))...)
		}
		v, err := readOne[T](ctx, r, info.Key)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, v)
	}
	return out, errors.Join(errs...)
}

// readSince yields the records of a kind and group back to the newest that is
// enough, but none from before since, oldest first.
func readSince[T any](ctx context.Context, r records, kind, group string, since time.Time, enough func(T) bool) ([]T, error) {
	var keys []string
	prefix := kind + "/" + group + "/"
	for info, err := range r.store.List(ctx, prefix, provider.ListOptions{StartAfter: prefix + since.UTC().Format(recordTime)}) {
		if err != nil {
			return nil, fmt.Errorf("list records: %w", err)
		}
		keys = append(keys, info.Key)
	}
	var out []T
	var errs []error
	for _, key := range slices.Backward(keys) {
		v, err := readOne[T](ctx, r, key)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if out = append(out, v); enough(v) {
			break
		}
	}
	slices.Reverse(out)
	return out, errors.Join(errs...)
}

func readOne[T any](ctx context.Context, r records, key string) (T, error) {
	var v T
	b, _, err := provider.ReadAll(ctx, r.store, key, maxRecord)
	if err != nil {
		return v, fmt.Errorf("read record: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(&v); err != nil {
		return v, fmt.Errorf("read record %s: %w", key, err)
	}
	return v, nil
}

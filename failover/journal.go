package failover

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

const (
	journalPrefix = "journal/"
	maxRecord     = 1 << 20
	maxSeq        = 99_999_999
)

func recordKey(run string, seq int) string {
	return fmt.Sprintf("%s%s/%08d", journalPrefix, run, seq)
}

// appendRecord makes a record durable, or finds that another process took its
// place, which is [ErrDeposed]. Until ctx ends it sends the same bytes again
// after any other error: whether an earlier attempt arrived, even late, the
// object then holds exactly these bytes, and its nonce says they are ours.
func appendRecord(ctx context.Context, s provider.BlobStore, r Record) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("append %s: %w", r.Kind, err)
	}
	if len(body) > maxRecord {
		return fmt.Errorf("append %s: %d bytes, more than the %d a record may have", r.Kind, len(body), maxRecord)
	}
	key := recordKey(r.Run, r.Seq)
	for wait := firstBackoff; ; wait = nextBackoff(wait) {
		_, err := provider.PutOnce(ctx, s, key, body, provider.PutOptions{})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, provider.ErrConflict):
			return fmt.Errorf("append %s: %w", key, ErrDeposed)
		case errors.Is(err, fs.ErrPermission), errors.Is(err, provider.ErrInvalidKey), errors.Is(err, errors.ErrUnsupported):
			return fmt.Errorf("append %s: %w", key, err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("append %s: %w", key, err), context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func newRecord(run string, seq int, kind RecordKind) Record {
	return Record{Version: RecordVersion, Run: run, Seq: seq, Nonce: rand.Text(), Kind: kind}
}

// Runs yields the names of all runs in a store, ascending.
func Runs(ctx context.Context, s provider.BlobStore) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after := ""
		for {
			run := ""
			for info, err := range s.List(ctx, journalPrefix, provider.ListOptions{StartAfter: after}) {
				if err != nil {
					yield("", fmt.Errorf("list runs: %w", err))
					return
				}
				run, _, _ = strings.Cut(strings.TrimPrefix(info.Key, journalPrefix), "/")
				break
			}
			if run == "" || !yield(run, nil) {
				return
			}
			after = recordKey(run, maxSeq) // the last key a run can have: on to the next run
		}
	}
}

// Records yields the journal of a run in order. [provider.ErrNotFound] if it
// has none. A journal with a gap, or with a record that is not what its key
// says, is [provider.ErrCorrupt].
func Records(ctx context.Context, s provider.BlobStore, run string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		seq := 0
		for info, err := range s.List(ctx, journalPrefix+run+"/", provider.ListOptions{}) {
			var r Record
			if err == nil {
				seq++
				r, err = readRecord(ctx, s, run, seq, info.Key)
			}
			if err != nil {
				yield(Record{}, fmt.Errorf("read journal of %s: %w", run, err))
				return
			}
			if !yield(r, nil) {
				return
			}
		}
		if seq == 0 {
			yield(Record{}, fmt.Errorf("read journal of %s: %w", run, provider.ErrNotFound))
		}
	}
}

func readRecord(ctx context.Context, s provider.BlobStore, run string, seq int, key string) (Record, error) {
	if want := recordKey(run, seq); key != want {
		return Record{}, fmt.Errorf("found %s where %s should be: %w", key, want, provider.ErrCorrupt)
	}
	b, _, err := provider.ReadAll(ctx, s, key, maxRecord)
	if err != nil {
		return Record{}, err
	}
	return parseRecord(b, run, seq)
}

// parseRecord reads one record and checks that it is the one expected. It
// refuses fields it does not know: a newer program wrote something that may
// matter.
func parseRecord(b []byte, run string, seq int) (Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("record %s: %w: %w", recordKey(run, seq), err, provider.ErrCorrupt)
	}
	switch {
	case r.Version != RecordVersion:
		return Record{}, fmt.Errorf("record %s has version %d: this program understands %d", recordKey(run, seq), r.Version, RecordVersion)
	case r.Run != run || r.Seq != seq || r.Nonce == "" || r.Deadline < 0:
		return Record{}, fmt.Errorf("record %s: says run %q seq %d: %w", recordKey(run, seq), r.Run, r.Seq, provider.ErrCorrupt)
	case r.Kind == RecordAccepted && (r.Plan == nil || r.Plan.ID != run || r.Plan.Hash() != r.PlanHash):
		return Record{}, fmt.Errorf("record %s: the plan is not the one that was accepted: %w", recordKey(run, seq), provider.ErrCorrupt)
	}
	return r, nil
}

// Load reads what has become of a run so far, from its journal alone. The
// Outcome of a run that is being worked on is empty. [provider.ErrNotFound].
func Load(ctx context.Context, s provider.BlobStore, run string) (Result, error) {
	st, err := replay(ctx, s, run)
	if err != nil {
		return Result{}, err
	}
	return st.result(), nil
}

// Unfinished yields the runs that are not over, in the order of their names.
func Unfinished(ctx context.Context, s provider.BlobStore) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		for run, err := range Runs(ctx, s) {
			var r Result
			if err == nil {
				r, err = Load(ctx, s, run)
			}
			if err != nil {
				yield(Result{}, err)
				return
			}
			if !r.Outcome.Final() && !yield(r, nil) {
				return
			}
		}
	}
}

// replay folds the journal of a run into the state it describes.
func replay(ctx context.Context, s provider.BlobStore, run string) (state, error) {
	var st state
	for r, err := range Records(ctx, s, run) {
		if err != nil {
			return state{}, err
		}
		if st, err = fold(st, r); err != nil {
			return state{}, fmt.Errorf("read journal of %s: %w: %w", run, err, provider.ErrCorrupt)
		}
	}
	return st, nil
}

// bounded returns a copy of ev that fits a record.
func bounded(ev Evidence) Evidence {
	if len(ev) == 0 {
		return nil
	}
	out := Evidence{}
	for i, k := range slices.Sorted(maps.Keys(ev)) {
		if i == maxEvidenceEntries {
			out["..."] = strconv.Itoa(len(ev)-i) + " more"
			break
		}
		out[cut(k, 200)] = cut(ev[k], maxEvidenceValue)
	}
	return out
}

package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func accepted(p Plan) Record {
	r := newRecord(p.ID, 1, RecordAccepted)
	r.At, r.Holder, r.Epoch, r.Plan, r.PlanHash = decided, "a", 1, &p, p.Hash()
	return r
}

// Two processes append to one place: one of them is told that it was deposed,
// even if their records say the same.
func TestJournalOnePlaceOneWriter(t *testing.T) {
	store, p := providertest.NewMemory(), plan(t, Failover)
	a, b := accepted(p), accepted(p)
	if err := appendRecord(t.Context(), store, a); err != nil {
		t.Fatal(err)
	}
	if err := appendRecord(t.Context(), store, a); err != nil {
		t.Errorf("its own record, sent again: %v", err)
	}
	if err := appendRecord(t.Context(), store, b); !errors.Is(err, ErrDeposed) {
		t.Errorf("another process' record: %v", err)
	}
}

func TestJournalList(t *testing.T) {
	store := providertest.NewMemory()
	var want []string
	for _, id := range []string{"shop-a", "shop", "shop-b", "z"} {
		p := plan(t, Failover)
		p.ID = id
		want = append(want, id)
		if err := appendRecord(t.Context(), store, accepted(p)); err != nil {
			t.Fatal(err)
		}
		if id == "z" { // over
			r := newRecord(id, 2, RecordFinished)
			r.Epoch, r.Outcome = 1, RolledBack
			if err := appendRecord(t.Context(), store, r); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got, open []string
	for run, err := range Runs(t.Context(), store) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, run)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
	for r, err := range Unfinished(t.Context(), store) {
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r.Plan.ID)
	}
	slices.Sort(open)
	if !slices.Equal(open, []string{"shop", "shop-a", "shop-b"}) {
		t.Errorf("open %v", open)
	}
	if _, err := Load(t.Context(), store, "sho"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a run that is only the beginning of another's name: %v", err)
	}
}

func TestJournalDamage(t *testing.T) {
	p := plan(t, Failover)
	for name, damage := range map[string]func(*providertest.Memory){
		"gap": func(m *providertest.Memory) {
			r := newRecord(p.ID, 3, RecordTakeover)
			r.Epoch = 2
			if err := appendRecord(t.Context(), m, r); err != nil {
				t.Fatal(err)
			}
		},
		"another plan": func(m *providertest.Memory) {
			r := accepted(p)
			r.PlanHash = "sha256:0"
			put(t, m, 1, r)
		},
		"another place": func(m *providertest.Memory) {
			r := newRecord(p.ID, 7, RecordTakeover)
			put(t, m, 2, r)
		},
		"an epoch that falls": func(m *providertest.Memory) { put(t, m, 2, newRecord(p.ID, 2, RecordTakeover)) },
		"unknown kind": func(m *providertest.Memory) {
			r := newRecord(p.ID, 2, "wish")
			r.Epoch = 1
			put(t, m, 2, r)
		},
		"unknown step": func(m *providertest.Memory) {
			r := newRecord(p.ID, 2, RecordStarted)
			r.Epoch, r.Step = 1, "dance"
			put(t, m, 2, r)
		},
		"rollback past the pivot": func(m *providertest.Memory) {
			r := newRecord(p.ID, 2, RecordStarted)
			r.Epoch, r.Step = 1, "start"
			put(t, m, 2, r)
			r = newRecord(p.ID, 3, RecordRollback)
			r.Epoch = 1
			put(t, m, 3, r)
		},
		"after the end": func(m *providertest.Memory) {
			r := newRecord(p.ID, 2, RecordFinished)
			r.Epoch = 1
			put(t, m, 2, r)
			r = newRecord(p.ID, 3, RecordTakeover)
			r.Epoch = 2
			put(t, m, 3, r)
		},
	} {
		m := providertest.NewMemory()
		put(t, m, 1, accepted(p))
		damage(m)
		if r, err := Load(t.Context(), m, p.ID); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%s: %q %v", name, r.Outcome, err)
		}
	}
}

func put(t *testing.T, m *providertest.Memory, seq int, r Record) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Put(t.Context(), recordKey(r.Run, seq), provider.Bytes(b), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	ev := Evidence{}
	for i := range 100 {
		ev[fmt.Sprintf("%03d", i)] = strings.Repeat("<\xff", 5000)
	}
	b := bounded(ev)
	if len(b) != maxEvidenceEntries+1 || b["..."] != "60 more" {
		t.Errorf("%d entries, %q", len(b), b["..."])
	}
	r := newRecord("r", 1, RecordDone)
	r.Evidence = b
	body, err := json.Marshal(r)
	if err != nil || len(body) > maxRecord {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func FuzzParseRecord(f *testing.F) {
	p, err := NewPlan(PlanConfig{Kind: Failover, Service: "shop", From: "east", To: "west", Created: decided})
	if err != nil {
		f.Fatal(err)
	}
	b, err := json.Marshal(accepted(p))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b, p.ID, 1)
		if err != nil {
			return
		}
		if r.Run != p.ID || r.Seq != 1 || r.Nonce == "" || r.Deadline < 0 {
			t.Errorf("accepted %+v", r)
		}
		if s, err := fold(state{}, r); err == nil { // must not panic, then or later
			next(s, event{kind: evBegin})
			s.result()
		}
	})
}

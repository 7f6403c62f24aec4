package replicate_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

// arrivedCopy returns a source of points, one of which has not arrived, and
// the destination.
func arrivedCopy(t *testing.T) (from, to *providertest.Memory) {
	from, to = providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 9)
	copyAll(t, configOf(from, to))
	put(t, from, "points/900", []byte(`{"objects":[{"Key":"packs/new","Size":3}]}`))
	return from, to
}

func verify(t *testing.T, c replicate.VerifyConfig) replicate.Report {
	t.Helper()
	r, err := replicate.Verify(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyWholeCopy(t *testing.T) {
	from, to := arrivedCopy(t)
	want := int64(len(keys(t, to, "")))
	for name, c := range map[string]replicate.VerifyConfig{
		"against the source": {Source: source{from}, From: from, To: to},
		"against itself":     {Source: source{to}, From: to, To: to},
		"without hashes":     {Source: source{forgetful{from}}, From: from, To: forgetful{to}},
	} {
		r := verify(t, c)
		if r.Points != 9 || r.Objects != want || r.Read != want || r.Next != "" || r.Err() != nil {
			t.Errorf("%s: %+v, want %d objects read and no damage", name, r, want)
		}
	}
}

func TestVerifyNamesDamageAndItsPoints(t *testing.T) {
	for name, tc := range map[string]struct {
		harm func(t *testing.T, to *providertest.Memory, key string)
		want error
	}{
		"bit flipped": {func(t *testing.T, to *providertest.Memory, key string) { put(t, to, key, changed(read(t, to, key))) }, provider.ErrCorrupt},
		"longer":      {func(t *testing.T, to *providertest.Memory, key string) { put(t, to, key, longer(read(t, to, key))) }, provider.ErrCorrupt},
		"cut short":   {func(t *testing.T, to *providertest.Memory, key string) { put(t, to, key, read(t, to, key)[1:]) }, provider.ErrCorrupt},
		"gone": {func(t *testing.T, to *providertest.Memory, key string) {
			if err := to.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}, provider.ErrNotFound},
	} {
		for _, store := range []func(provider.BlobStore) provider.BlobStore{plain, noHashes} {
			from, to := arrivedCopy(t)
			bad := needed(t, from, "points/005").Key
			tc.harm(t, to, bad)
			r := verify(t, replicate.VerifyConfig{Source: source{from}, From: from, To: store(to)})
			if len(r.Damage) != 1 || r.Damage[0].Key != bad || !errors.Is(r.Damage[0].Err, tc.want) {
				t.Errorf("%s: damage %+v, want %s", name, r.Damage, bad)
				continue
			}
			want := slices.Sorted(maps.Keys(users(t, to, bad)))
			slices.Reverse(want)
			if !slices.Equal(r.Damage[0].Points, want) {
				t.Errorf("%s: harms %v, want %v", name, r.Damage[0].Points, want)
			}
			if err := r.Err(); !errors.Is(err, tc.want) || !strings.Contains(err.Error(), bad) || !strings.Contains(err.Error(), want[0]) {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}

// Only reading finds what the store lies about.
func TestVerifyReadsTheBytes(t *testing.T) {
	from, to := arrivedCopy(t)
	bad := needed(t, from, "points/005").Key
	r := verify(t, replicate.VerifyConfig{Source: source{from}, From: from, To: rotten{to, bad, 3}})
	if len(r.Damage) != 1 || r.Damage[0].Key != bad {
		t.Errorf("damage %+v, want %s", r.Damage, bad)
	}
	r = verify(t, replicate.VerifyConfig{Source: source{from}, From: from, To: rotten{to, "points/004", 3}})
	if len(r.Damage) != 1 || !slices.Equal(r.Damage[0].Points, []string{"points/004"}) {
		t.Errorf("damage %+v, want the manifest points/004", r.Damage)
	}
}

// Calls with a small budget read every object once, and each gets further.
func TestVerifyInSlices(t *testing.T) {
	from, to := arrivedCopy(t)
	last := keys(t, to, "packs/")
	bad := last[len(last)-1]
	put(t, to, bad, longer(read(t, to, bad)))
	objects := int64(len(keys(t, to, ""))) - 1 // the longer one is not read
	c := replicate.VerifyConfig{Source: source{from}, From: from, To: to, Budget: 3000}
	var readObjects int64
	for calls := 1; ; calls++ {
		r := verify(t, c)
		readObjects += r.Read
		if len(r.Damage) != 1 {
			t.Errorf("call %d: presence and size are compared every time, but damage is %v", calls, r.Damage)
		}
		if r.Next == "" {
			if calls < 3 {
				t.Errorf("%d calls, the budget is not kept", calls)
			}
			break
		}
		if r.Next <= c.After {
			t.Fatalf("call %d got from %q to %q", calls, c.After, r.Next)
		}
		c.After = r.Next
	}
	if readObjects != objects {
		t.Errorf("%d objects read, want each of %d once", readObjects, objects)
	}
}

func TestVerifyWhenAStoreFails(t *testing.T) {
	from, to := arrivedCopy(t)
	f := providertest.NewFaulty(to, func(c providertest.Call) providertest.Fault {
		if c.Op == "get" && c.N > 5 {
			return providertest.Fault{Before: errUnreachable}
		}
		return providertest.Fault{}
	})
	r, err := replicate.Verify(t.Context(), replicate.VerifyConfig{Source: source{from}, From: from, To: f, After: "a"})
	if !errors.Is(err, errUnreachable) || r.Next != "a" || len(r.Damage) != 0 {
		t.Errorf("an unreachable store is neither damaged nor verified: %v, %+v", err, r)
	}
}

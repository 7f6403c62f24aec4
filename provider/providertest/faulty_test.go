package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestFaultyWithoutScript(t *testing.T) {
	providertest.TestBlobStore(t, func(t *testing.T) provider.BlobStore {
		return providertest.NewFaulty(providertest.NewMemory(), nil)
	}, providertest.CheckOptions{Only: []string{"blob/get-range", "blob/put-if-match-race", "blob/list-order", "blob/lock-shorten"}})
}

func put(ctx context.Context, s provider.BlobStore, key, content string) error {
	_, err := s.Put(ctx, key, strings.NewReader(content), provider.PutOptions{})
	return err
}

// content is what a store holds under key, or "" if nothing.
func content(t *testing.T, s provider.BlobStore, key string) string {
	t.Helper()
	b, _, err := provider.ReadAll(t.Context(), s, key, 1<<20)
	if err != nil && !errors.Is(err, provider.ErrNotFound) {
		t.Fatal(err)
	}
	return string(b)
}

func TestFaultyFailsBothWays(t *testing.T) {
	ctx := t.Context()
	m := providertest.NewMemory()
	boom := errors.New("boom")
	f := providertest.NewFaulty(m, func(c providertest.Call) providertest.Fault {
		switch c.Key {
		case "before":
			return providertest.Fault{Before: boom}
		case "after":
			return providertest.Fault{After: boom}
		}
		return providertest.Fault{}
	})
	for _, key := range []string{"before", "after"} {
		if err := put(ctx, f, key, "x"); !errors.Is(err, boom) {
			t.Errorf("put %s: %v", key, err)
		}
	}
	if content(t, m, "before") != "" || content(t, m, "after") != "x" {
		t.Error("before: applied, or after: not applied")
	}
	if _, err := f.Stat(ctx, "after"); !errors.Is(err, boom) {
		t.Errorf("stat: %v", err)
	}
	if err := f.Lock(ctx, "after", provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Minute)}); !errors.Is(err, boom) {
		t.Errorf("lock: %v", err)
	}
	if err := m.Delete(ctx, "after", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) {
		t.Errorf("the lock was not applied: %v", err)
	}
	if e, ok := errors.AsType[*provider.Error](put(ctx, f, "before", "x")); !ok || e.Op != "put" || e.Key != "before" {
		t.Errorf("error is not a *provider.Error that names the call: %v", e)
	}
	f.Use(nil)
	if err := put(ctx, f, "before", "x"); err != nil {
		t.Error(err)
	}
}

func TestFaultyReads(t *testing.T) {
	ctx := t.Context()
	m := providertest.NewMemory()
	for _, key := range []string{"a", "b", "c"} {
		if err := put(ctx, m, key, "0123456789"); err != nil {
			t.Fatal(err)
		}
	}
	f := providertest.NewFaulty(m, func(providertest.Call) providertest.Fault {
		return providertest.Fault{After: providertest.ErrInjected}
	})
	r, _, err := f.Get(ctx, "a", provider.GetOptions{Offset: 2})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if string(b) != "2345" || !errors.Is(err, providertest.ErrInjected) {
		t.Errorf("reader delivers %q, %v; want half of the range, then the fault", b, err)
	}
	var got []string
	for info, err := range f.List(ctx, "", provider.ListOptions{}) {
		got = append(got, fmt.Sprint(info.Key, errors.Is(err, providertest.ErrInjected)))
	}
	if !slices.Equal(got, []string{"afalse", "true"}) {
		t.Errorf("list yields %q; want one object, then the fault", got)
	}
	for range f.List(ctx, "", provider.ListOptions{}) {
		break // must not be followed by the fault
	}
}

// TestFaultyCrash runs a job of some calls once for each instant at which it
// can die, and sees each prefix of its effects.
func TestFaultyCrash(t *testing.T) {
	ctx := t.Context()
	job := func(s provider.BlobStore) error {
		for _, key := range []string{"1", "2", "3"} {
			if err := put(ctx, s, key, key); err != nil {
				return err
			}
		}
		return s.Delete(ctx, "1", provider.DeleteOptions{})
	}
	var got []string
	for n := 1; n <= 4; n++ {
		for _, script := range []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n)} {
			m := providertest.NewMemory()
			f := providertest.NewFaulty(m, script)
			if err := job(f); !errors.Is(err, providertest.ErrCrashed) {
				t.Errorf("crash at %d: %v", n, err)
			}
			if err := put(ctx, f, "later", "x"); !errors.Is(err, providertest.ErrCrashed) {
				t.Errorf("after the crash at %d: %v", n, err)
			}
			keys := ""
			for info := range m.List(ctx, "", provider.ListOptions{}) {
				keys += info.Key
			}
			got = append(got, keys)
		}
	}
	if want := []string{"", "1", "1", "12", "12", "123", "123", "23"}; !slices.Equal(got, want) {
		t.Errorf("crashes leave %q, want %q", got, want)
	}
}

func TestFaultyCrashTakesOpenReadersAndCallsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := providertest.NewMemory()
		if err := put(ctx, m, "x", "0123456789"); err != nil {
			t.Fatal(err)
		}
		f := providertest.NewFaulty(m, func(c providertest.Call) providertest.Fault {
			switch c.Key {
			case "slow":
				return providertest.Fault{Wait: func(context.Context) error { time.Sleep(time.Hour); return nil }}
			case "crash":
				return providertest.Fault{Crash: true}
			}
			return providertest.Fault{}
		})
		r, _, err := f.Get(ctx, "x", provider.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var slow error
		var wg sync.WaitGroup
		wg.Go(func() { slow = put(ctx, f, "slow", "x") })
		synctest.Wait()
		if err := put(ctx, f, "crash", "x"); !errors.Is(err, providertest.ErrCrashed) {
			t.Error(err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, providertest.ErrCrashed) {
			t.Errorf("reader opened before the crash: %v", err)
		}
		wg.Wait()
		if !errors.Is(slow, providertest.ErrCrashed) {
			t.Errorf("call under way: %v", slow)
		}
		if content(t, m, "slow") != "x" {
			t.Error("a request that was on its way when its sender died must arrive")
		}
	})
}

func TestFaultyRecordsCalls(t *testing.T) {
	ctx := t.Context()
	f := providertest.NewFaulty(providertest.NewMemory(), nil)
	put(ctx, f, "a", "x")
	f.Stat(ctx, "missing")
	f.Delete(ctx, "a", provider.DeleteOptions{})
	for range f.List(ctx, "p/", provider.ListOptions{}) {
	}
	var got []string
	for _, c := range f.Calls() {
		got = append(got, fmt.Sprintf("%d %s %s %t", c.N, c.Op, c.Key, errors.Is(c.Err, provider.ErrNotFound)))
	}
	if want := []string{"1 put a false", "2 stat missing true", "3 delete a false", "4 list p/ false"}; !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestSeeded(t *testing.T) {
	run := func(seed uint64) (s string) {
		script := providertest.Seeded(seed, 0.5)
		for range 64 {
			switch f := script(providertest.Call{}); {
			case f.Before != nil:
				s += "b"
			case f.After != nil:
				s += "a"
			default:
				s += "-"
			}
		}
		return s
	}
	one, two := run(1), run(2)
	if one != run(1) || one == two {
		t.Error("one seed must give one sequence, another seed another")
	}
	for _, kind := range []string{"a", "b", "-"} {
		if n := strings.Count(one, kind); n < 5 {
			t.Errorf("%d of 64 calls are %q", n, kind)
		}
	}
}

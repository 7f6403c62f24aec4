package disks_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/disks"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
)

func count(e *disks.Snapshots, t *testing.T) (n int) {
	t.Helper()
	for _, err := range e.List(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// Whatever happens to the request, one thing comes of it.
func TestOnce(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]fakegcp.Rule{
		"lost reply": fakegcp.Lost, "lost request": fakegcp.Cut, "503": fakegcp.Unavailable, "429": fakegcp.Throttled, "403": fakegcp.Limited,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fakegcp.NewCompute(t)
			e, v := open(t, s, nil), s.Disk(zone, nil)
			for _, method := range []string{insert, insertDisk, "compute.snapshots.delete"} {
				first, _ := fakegcp.First(1, method, rule)
				s.Add(first)
			}
			snap := ready(t, e, v, "t")
			if sent := s.Seen(insert); len(sent) != 2 || sent[0].URL.Query().Get("requestId") != sent[1].URL.Query().Get("requestId") {
				t.Errorf("%d requests, want two of one request ID", len(sent))
			}
			if again := ready(t, open(t, s, nil), v, "t"); again.Ref != snap.Ref || count(e, t) != 1 {
				t.Errorf("again: %s of %d, was %s", again.Ref.ID, count(e, t), snap.Ref.ID)
			}
			vol, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "t"})
			if err != nil {
				t.Fatal(err)
			}
			if again, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "t"}); err != nil || again.ID != vol.ID || len(s.Disks()) != 2 {
				t.Errorf("restore again: %s, %v, was %s of %q", again.ID, err, vol.ID, s.Disks())
			}
			if err := e.Delete(t.Context(), snap.Ref); err != nil || count(e, t) != 0 {
				t.Errorf("%d are left: %v", count(e, t), err)
			}
		})
	}
}

// No reply at all: the error says nothing certain, and the same Token finds what
// was made.
func TestUnanswered(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	lost, _ := fakegcp.First(3, insert, fakegcp.Lost)
	s.Add(lost)
	_, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "t"})
	isUnknown(t, err)
	snap := ready(t, e, v, "t")
	lost, _ = fakegcp.First(3, insertDisk, fakegcp.Lost)
	s.Add(lost)
	_, err = e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "t"})
	isUnknown(t, err)
	if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "t"}); err != nil || len(s.Disks()) != 2 || count(e, t) != 1 {
		t.Errorf("%v, %q, %d snapshots", err, s.Disks(), count(e, t))
	}
}

// A caller that dies after any of its requests leaves what the next one finds.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"compute.regions.get", "compute.snapshots.get", insertDisk, "compute.disks.get", insert, "compute.globalOperations.get", "compute.zoneOperations.get"} {
		s := fakegcp.NewCompute(t)
		e, v := open(t, s, nil), s.Disk(zone, []byte("content"))
		snap := ready(t, e, v, "t")
		ctx, crash := context.WithCancel(t.Context())
		first, done := fakegcp.First(1, method, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			answer, err := next()
			crash()
			return answer, err
		})
		s.Add(first)
		o := provider.SnapshotOptions{Token: "t"}
		if _, err := e.CopySnapshot(ctx, snap.Ref, away, o); !errors.Is(err, context.Canceled) || done.Load() != 1 {
			t.Errorf("after %s: %v", method, err)
		}
		copied, err := open(t, s, nil).CopySnapshot(t.Context(), snap.Ref, away, o)
		for range 20 {
			if err != nil {
				t.Fatalf("after %s: %v", method, err)
			}
			if copied.State != provider.Ready || len(s.Disks()) > 1 {
				copied, err = e.Get(t.Context(), copied.Ref)
			}
		}
		if n := count(open(t, s, inAway), t); n != 1 || copied.State != provider.Ready || len(s.Disks()) != 1 {
			t.Errorf("after %s: %d copies, %s, and the disks %q", method, n, copied.State, s.Disks())
		}
	}
}

// An operation that ends badly says why, and the Token can be used again.
func TestFails(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	for code, want := range map[string]error{"QUOTA_EXCEEDED": nil, "RESOURCE_NOT_FOUND": provider.ErrNotFound} {
		check := func(err error) {
			t.Helper()
			if want == nil {
				isUnknown(t, err)
			} else if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", code, err, want)
			}
		}
		s.Fails(insert, code)
		_, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: code})
		check(err)
		snap := ready(t, e, v, code)
		s.Fails(insertDisk, code)
		_, err = e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: code})
		check(err)
		if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: code}); err != nil {
			t.Errorf("restore again: %v", err)
		}
	}
	snap := ready(t, e, v, "t")
	s.Fails("compute.snapshots.delete", "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE")
	isUnknown(t, e.Delete(t.Context(), snap.Ref))
	if _, err := e.Get(t.Context(), snap.Ref); err != nil {
		t.Errorf("it is there: %v", err)
	}
}

// Create returns when the disk is frozen, and not before: what is written
// afterwards is not in the snapshot.
func TestFrozen(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, []byte("before"))
	snap, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "t"})
	if err != nil || snap.State != provider.Pending || s.Attributes(snap.Ref.ID)["status"] != "UPLOADING" {
		t.Fatalf("%+v, %v, %v", snap, err, s.Attributes(snap.Ref.ID)["status"])
	}
	s.Write(v, []byte("after"))
	snap = ready(t, e, v, "t")
	vol, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if content, _ := s.Content(vol.ID); string(content) != "before" {
		t.Errorf("restored is %q", content)
	}
}

// The disk that a copy passes through is deleted when the copy is Ready, and no
// other disk ever.
func TestCopyDisk(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	snap := ready(t, e, v, "t")
	copied, err := e.CopySnapshot(t.Context(), snap.Ref, "eu", provider.SnapshotOptions{Token: "t"})
	if err != nil || copied.Ref.Region != "eu" || copied.Volume != v || len(s.Disks()) != 2 {
		t.Fatalf("%+v, %v, %q", copied, err, s.Disks())
	}
	for range 20 {
		if copied, err = e.Get(t.Context(), copied.Ref); err != nil {
			t.Fatal(err)
		}
		if copied.State == provider.Pending && (len(s.Disks()) != 2 || len(s.Seen("compute.disks.delete")) > 0) {
			t.Fatal("the disk is gone too early")
		}
	}
	if copied.State != provider.Ready {
		t.Errorf("%+v", copied)
	}
	for _, r := range s.Seen("compute.disks.delete") {
		if r.Parts["disk"] != copied.Ref.ID {
			t.Errorf("%s was to be deleted", r.Parts["disk"])
		}
	}
	if err := e.Delete(t.Context(), copied.Ref); err != nil {
		t.Fatal(err)
	}
	for range 20 { // the Token is free again, and so are the names
		if copied, err = e.CopySnapshot(t.Context(), snap.Ref, "eu", provider.SnapshotOptions{Token: "t"}); err != nil {
			t.Fatal(err)
		}
	}
	if copied.State != provider.Ready || len(s.Disks()) != 1 {
		t.Errorf("made anew: %+v, %q", copied, s.Disks())
	}
	if _, err := open(t, s, func(c *disks.Config) { c.Zone = "" }).CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "u"}); err == nil {
		t.Error("a copy without a zone")
	}
}

func TestDenied(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	snap := ready(t, e, v, "t")
	s.Add(fakegcp.Denied)
	_, createErr := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "x"})
	_, getErr := e.Get(t.Context(), snap.Ref)
	_, restoreErr := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "x"})
	_, copyErr := e.CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "x"})
	for i, err := range []error{createErr, getErr, restoreErr, copyErr, e.Delete(t.Context(), snap.Ref)} {
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// A token that the service calls expired, while our clock says that it is good,
// is replaced.
func TestExpired(t *testing.T) {
	s := fakegcp.NewCompute(t)
	s.Takes("2")
	token := "1"
	e := open(t, s, func(c *disks.Config) {
		c.Credentials = fakegcp.Token("p", func() string {
			defer func() { token = "2" }()
			return token
		})
	})
	ready(t, e, s.Disk(zone, nil), "t")
}

// A service that is silent costs the time of ctx and no more; what was begun is
// found by the Token afterwards.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), s.Disk(zone, nil)
	ctx, cancel := context.WithCancel(t.Context())
	hole, _ := fakegcp.First(1, insert, func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		fakegcp.Lost(r, next)
		cancel()
		return fakegcp.Hole(r, next)
	})
	s.Add(hole)
	if _, err := e.Create(ctx, v, provider.SnapshotOptions{Token: "t"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if ready(t, e, v, "t"); count(e, t) != 1 {
		t.Errorf("%d snapshots", count(e, t))
	}
}

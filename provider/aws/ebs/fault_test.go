package ebs_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/ebs"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
)

// Whatever happens to the request, one snapshot comes of it.
func TestCreateOnce(t *testing.T) {
	for name, rule := range map[string]wire.Rule{
		"lost reply":   wire.Lost,
		"lost request": wire.Cut,
		"500":          wire.Answers(http.StatusInternalServerError, "text/xml", "<Response><Errors><Error><Code>InternalError</Code></Error></Errors></Response>"),
		"throttled":    wire.Answers(http.StatusServiceUnavailable, "text/xml", "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>"),
		"too many":     refuse("SnapshotCreationPerVolumeRateExceeded", "The maximum per volume CreateSnapshot request rate has been exceeded."),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			e, v := s.open(t, nil), s.volume(t)
			first, done := wire.First(1, "CreateSnapshot", rule)
			s.Add(first)
			snap := create(t, e, v, "token")
			if done.Load() != 1 {
				t.Fatal("nothing went wrong")
			}
			if n := count(t, e, v); n != 1 {
				t.Errorf("%d snapshots", n)
			}
			if n := len(s.Seen("CreateSnapshot")); name == "lost reply" && n != 1 {
				t.Errorf("%d were made, where a look would have shown the first", n)
			}
			if again := create(t, s.open(t, nil), v, "token"); again.Ref != snap.Ref {
				t.Errorf("again: %s, was %s", again.Ref.ID, snap.Ref.ID)
			}
			ready(t, e, snap.Ref)
			first, _ = wire.First(1, "CopySnapshot", rule)
			s.Add(first)
			one, err := e.CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "token of " + v, Tags: map[string]string{"for": v}})
			if err != nil {
				t.Fatal(err)
			}
			if two, err := e.CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "token of " + v}); err != nil || two.Ref != one.Ref || two.Volume != v {
				t.Errorf("copy again: %+v, %v, was %s", two, err, one.Ref.ID)
			}
			if n := count(t, s.open(t, inAway), v); n != 1 {
				t.Errorf("%d copies", n)
			}
			first, _ = wire.First(1, "CreateVolume", rule)
			s.Add(first)
			if name == "too many" {
				return // said of snapshots only
			}
			vol, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: v})
			if err != nil {
				t.Fatal(err)
			}
			if again, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: v}); err != nil || again.ID != vol.ID {
				t.Errorf("restore again: %s, %v, was %s", again.ID, err, vol.ID)
			}
		})
	}
}

// The reply is lost, and EC2 does not show the snapshot for a while: a second
// one is made, found out, and deleted.
func TestDuplicateOfOneCall(t *testing.T) {
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	var hidden string
	first, _ := wire.First(2, "CreateSnapshot", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, body, err := read(next)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if hidden == "" { // the reply to it is lost, and it is shown when the second one is there
			hidden = snapshotID.FindStringSubmatch(body)[1]
			s.lost[hidden] = true
			return wire.Cut(r, next)
		}
		delete(s.lost, hidden)
		return answer, nil
	})
	s.Add(first)
	snap := create(t, e, v, "token")
	if n := len(s.Seen("CreateSnapshot")); n != 2 {
		t.Fatalf("%d snapshots were made", n)
	}
	if n := count(t, e, v); n != 1 {
		t.Errorf("%d snapshots are left", n)
	}
	if _, err := e.Get(t.Context(), snap.Ref); err != nil || snap.Ref.ID != hidden {
		t.Errorf("%s was returned, want the first, %s: %v", snap.Ref.ID, hidden, err)
	}
	if again := create(t, e, v, "token"); again.Ref != snap.Ref {
		t.Errorf("again: %s, was %s", again.Ref.ID, snap.Ref.ID)
	}
}

// A snapshot shows up only after another was returned in its place: that one
// stays the one, and the other is deleted when no call can still be at it.
func TestLateDuplicate(t *testing.T) {
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	var late string
	first, _ := wire.First(1, "CreateSnapshot", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		_, body, err := read(next)
		if err != nil {
			return nil, err
		}
		late = snapshotID.FindStringSubmatch(body)[1]
		s.mu.Lock()
		s.lost[late] = true
		s.mu.Unlock()
		return wire.Cut(r, next)
	})
	s.Add(first)
	snap := create(t, e, v, "token")
	delete(s.lost, late)
	if snap.Ref.ID == late || count(t, e, v) != 2 {
		t.Fatalf("%s was returned, with %d there", snap.Ref.ID, count(t, e, v))
	}
	for range 2 {
		if again := create(t, e, v, "token"); again.Ref != snap.Ref {
			t.Errorf("again: %s, was %s", again.Ref.ID, snap.Ref.ID)
		}
		if n := count(t, e, v); n != 2 {
			t.Errorf("%d are there: it may belong to a call that is not at its end", n)
		}
	}
	s.made[late] = time.Now().Add(-2 * time.Hour)
	if again := create(t, e, v, "token"); again.Ref != snap.Ref || count(t, e, v) != 1 {
		t.Errorf("%s of %d, want %s alone", again.Ref.ID, count(t, e, v), snap.Ref.ID)
	}
}

// A caller that dies in the middle leaves what the next one finds, after each
// of the requests.
func TestCrash(t *testing.T) {
	for _, after := range []string{"DescribeSnapshots", "CreateSnapshot", "CreateTags"} {
		s := newService(t)
		e, v := s.open(t, nil), s.volume(t)
		ctx, crash := context.WithCancel(t.Context())
		first, _ := wire.First(1, after, func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			answer, err := next()
			crash()
			return answer, err
		})
		s.Add(first)
		o := provider.SnapshotOptions{Token: "token of " + v, Tags: map[string]string{"for": v}}
		if _, err := e.Create(ctx, v, o); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("after %s: %v", after, err)
		}
		s.pass(time.Minute)
		create(t, s.open(t, nil), v, "token")
		if n := count(t, e, v); n != 1 {
			t.Errorf("after %s: %d snapshots", after, n)
		}
		if n := len(s.Seen("CreateSnapshot")); n != 1 {
			t.Errorf("after %s: %d were made", after, n)
		}
	}
}

// Many at once, while EC2 shows what is new after a while only.
func TestCreateRace(t *testing.T) {
	s := newService(t)
	v := s.volume(t)
	s.hidden = 150 * time.Millisecond
	e := s.open(t, func(c *ebs.Config) { c.Settle = 400 * time.Millisecond })
	refs := make([]provider.SnapshotRef, 8)
	var looked sync.WaitGroup
	looked.Add(len(refs))
	first, _ := wire.First(int32(len(refs)), "DescribeSnapshots", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := next()
		looked.Done()
		looked.Wait() // all have found nothing
		return answer, err
	})
	s.Add(first)
	var g errgroup.Group
	for i := range refs {
		g.Go(func() error {
			snap, err := e.Create(t.Context(), v, provider.SnapshotOptions{Token: v, Tags: map[string]string{"for": v}})
			refs[i] = snap.Ref
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, ref := range refs {
		if ref != refs[0] {
			t.Errorf("%s and %s", ref.ID, refs[0].ID)
		}
	}
	if n := count(t, e, v); n != 1 || len(s.Seen("CreateSnapshot")) != len(refs) {
		t.Errorf("%d snapshots are left of %d", n, len(s.Seen("CreateSnapshot")))
	}
}

// A call finds what another has just made, and an older one is not yet shown:
// it must not settle what its maker is about to delete as a duplicate.
func TestFoundBeforeAnOlderOne(t *testing.T) {
	s := newService(t)
	v := s.volume(t)
	e := s.open(t, func(c *ebs.Config) { c.Settle = 300 * time.Millisecond })
	o := provider.SnapshotOptions{Token: "token of " + v, Tags: map[string]string{"for": v}}
	// Two calls die when each has made one.
	for range 2 {
		ctx, crash := context.WithCancel(t.Context())
		first, _ := wire.First(1, "CreateSnapshot", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			answer, body, err := read(next)
			s.mu.Lock()
			s.lost[snapshotID.FindStringSubmatch(body)[1]] = true
			s.mu.Unlock()
			crash()
			return answer, err
		})
		s.Add(first)
		if _, err := e.Create(ctx, v, o); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond) // EC2 tells them apart by time
	}
	var older, younger string
	for id, made := range s.made {
		if older == "" || made.Before(s.made[older]) {
			older, younger = id, older
		} else {
			younger = id
		}
	}
	delete(s.lost, younger) // the older one is shown after the first look
	first, _ := wire.First(1, "DescribeSnapshots", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := next()
		delete(s.lost, older)
		return answer, err
	})
	s.Add(first)
	if snap, err := e.Create(t.Context(), v, o); err != nil || snap.Ref.ID != older {
		t.Errorf("%s, %v, want the older, %s", snap.Ref.ID, err, older)
	}
}

// Whoever made the first has just deleted it as his duplicate.
func TestFirstIsDeletedMeanwhile(t *testing.T) {
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	first, done := wire.First(1, "CreateTags", refuse("InvalidSnapshot.NotFound", "The snapshot does not exist."))
	s.Add(first)
	create(t, e, v, "token")
	if done.Load() != 1 || count(t, e, v) != 1 {
		t.Errorf("%d snapshots", count(t, e, v))
	}
}

// One token makes one volume, also for callers with other tags at the same
// moment; a volume that was deleted is not made again unseen.
func TestRestoreToken(t *testing.T) {
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	snap := create(t, e, v, "token")
	ready(t, e, snap.Ref)
	var unseen wire.Rule = wire.Answers(http.StatusOK, "text/xml", `<DescribeVolumesResponse `+xmlns+`><volumeSet/></DescribeVolumesResponse>`)
	vol, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: v})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := wire.First(1, "DescribeVolumes", unseen)
	s.Add(first)
	if again, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: v, Tags: map[string]string{"a": "b"}}); err != nil || again.ID != vol.ID {
		t.Errorf("with other tags: %+v, %v", again, err)
	}
	other := create(t, e, v, "other")
	ready(t, e, other.Ref)
	first, _ = wire.First(1, "DescribeVolumes", unseen)
	s.Add(first)
	if _, err := e.Restore(t.Context(), other.Ref, provider.RestoreOptions{Token: v}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("of another snapshot: %v", err)
	}
	if _, err := s.owner.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: &vol.ID}); err != nil {
		t.Fatal(err)
	}
	for k, tok := range s.tokens {
		tok.answer = createTime.ReplaceAllString(tok.answer, "<createTime>2020-01-02T03:04:05.000Z</createTime>")
		s.tokens[k] = tok
	}
	if _, err := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: v}); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "another Token") {
		t.Errorf("of a token whose volume was deleted: %v", err)
	}
}

func TestDenied(t *testing.T) {
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	snap := create(t, e, v, "token")
	s.Add(wire.Answers(http.StatusForbidden, "text/xml", "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized</Message></Error></Errors></Response>"))
	_, createErr := e.Create(t.Context(), v, provider.SnapshotOptions{Token: "x"})
	_, getErr := e.Get(t.Context(), snap.Ref)
	_, restoreErr := e.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "x"})
	_, copyErr := e.CopySnapshot(t.Context(), snap.Ref, away, provider.SnapshotOptions{Token: "x"})
	for i, err := range []error{createErr, getErr, restoreErr, copyErr, e.Delete(t.Context(), snap.Ref), e.Share(t.Context(), snap.Ref, "210987654321")} {
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// A service that is silent costs the time of ctx and no more; what was begun
// is found by the token afterwards.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := newService(t)
	e, v := s.open(t, nil), s.volume(t)
	ctx, cancel := context.WithCancel(t.Context())
	hole, done := wire.First(1, "CreateSnapshot", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		wire.Lost(r, next)
		cancel()
		return wire.Hole(r, next)
	})
	s.Add(hole)
	o := provider.SnapshotOptions{Token: "token of " + v, Tags: map[string]string{"for": v}}
	if _, err := e.Create(ctx, v, o); !errors.Is(err, context.Canceled) || done.Load() != 1 {
		t.Errorf("%v", err)
	}
	create(t, e, v, "token")
	if n := count(t, e, v); n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

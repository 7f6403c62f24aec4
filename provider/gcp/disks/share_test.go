package disks_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/disks"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
)

const (
	role = "projects/p/roles/snapshotReader"
	them = "serviceAccount:restore@standby.iam.gserviceaccount.com"

	getPolicy, setPolicy = "compute.snapshots.getIamPolicy", "compute.snapshots.setIamPolicy"
)

// sharedWith are those who have the role, as the policy writes them; "user:B" as
// it was given.
func sharedWith(s *fakegcp.Compute, snapshot string) (all []string) {
	bindings, _ := s.Policy(snapshot)["bindings"].([]any)
	for _, b := range bindings {
		b := b.(map[string]any)
		if _, conditional := b["condition"]; b["role"] == role && !conditional {
			for _, m := range b["members"].([]any) {
				all = append(all, strings.Replace(m.(string), "user:b@", "user:B@", 1))
			}
		}
	}
	return all
}

// What else the policy says stays.
func TestShareKeepsThePolicy(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e := open(t, s, nil)
	snap := ready(t, e, s.Disk(zone, nil), "t")
	condition := map[string]any{"title": "for a year", "expression": "request.time < timestamp('2030-01-01T00:00:00Z')"}
	others := []any{
		map[string]any{"role": role, "members": []any{"user:c@example.com"}, "condition": condition},
		map[string]any{"role": "roles/owner", "members": []any{them}},
	}
	s.SetPolicy(snap.Ref.ID, map[string]any{"version": 3, "bindings": others})
	before := fmt.Sprint(s.Policy(snap.Ref.ID)["bindings"])
	if err := e.Share(t.Context(), snap.Ref, them, strings.ToUpper(them[:1])+them[1:]); err == nil {
		t.Error("ServiceAccount: is accepted")
	}
	if err := e.Share(t.Context(), snap.Ref, them, them); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Policy(snap.Ref.ID)["bindings"]); !strings.Contains(got, before[1:len(before)-1]) || len(sharedWith(s, snap.Ref.ID)) != 1 {
		t.Errorf("%s has become %s", before, got)
	}
	n := len(s.Seen(setPolicy))
	if err := e.Share(t.Context(), snap.Ref, "serviceAccount:RESTORE@standby.iam.gserviceaccount.com"); err != nil || len(s.Seen(setPolicy)) != n {
		t.Errorf("shared again: %v, after %d requests", err, len(s.Seen(setPolicy))-n)
	}
	if err := e.Unshare(t.Context(), snap.Ref, "serviceAccount:RESTORE@standby.iam.gserviceaccount.com"); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Policy(snap.Ref.ID)["bindings"]); got != before {
		t.Errorf("%s has become %s", before, got)
	}
}

// Whatever happens to the requests, what was asked for is there, and what others
// change meanwhile is, too.
func TestShareFaults(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e := open(t, s, nil)
	snap := ready(t, e, s.Disk(zone, nil), "t")
	other := map[string]any{"role": "roles/owner", "members": []any{"user:o@example.com"}}
	for name, rule := range map[string]fakegcp.Rule{
		"lost reply":   fakegcp.Lost,
		"lost request": fakegcp.Cut,
		"503":          fakegcp.Unavailable,
		"changed by others": func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			s.SetPolicy(snap.Ref.ID, map[string]any{"bindings": []any{other}})
			return next()
		},
		"409": fakegcp.Refuses(fakegcp.Fault{Code: http.StatusConflict, Reason: "conflict", Message: "There were concurrent policy changes."}),
	} {
		first, done := fakegcp.First(1, setPolicy, rule)
		s.Add(first)
		if err := e.Share(t.Context(), snap.Ref, them); err != nil || fmt.Sprint(sharedWith(s, snap.Ref.ID)) != "["+them+"]" {
			t.Errorf("%s: %v, %q", name, err, sharedWith(s, snap.Ref.ID))
		}
		if got := fmt.Sprint(s.Policy(snap.Ref.ID)); name == "changed by others" && !strings.Contains(got, "user:o@") {
			t.Errorf("what others have changed is gone: %s", got)
		}
		if err := e.Unshare(t.Context(), snap.Ref, them); err != nil || done.Load() != 1 || len(sharedWith(s, snap.Ref.ID)) != 0 {
			t.Errorf("%s: %v, %q", name, err, sharedWith(s, snap.Ref.ID))
		}
	}
}

// A policy that never holds still, and one that cannot be compared, are not
// changed.
func TestShareGivesUp(t *testing.T) {
	s := fakegcp.NewCompute(t)
	e := open(t, s, nil)
	snap := ready(t, e, s.Disk(zone, nil), "t")
	always, tries := fakegcp.First(1000, setPolicy, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		s.SetPolicy(snap.Ref.ID, map[string]any{})
		return next()
	})
	s.Add(always)
	if err := e.Share(t.Context(), snap.Ref, them); !errors.Is(err, provider.ErrConflict) || tries.Load() != 20 {
		t.Errorf("%v after %d tries", err, tries.Load())
	}
	s.Clear()
	s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == getPolicy {
			return fakegcp.Answer(http.StatusOK, `{"bindings":[]}`), nil
		}
		return next()
	})
	n := len(s.Seen(setPolicy))
	if err := e.Share(t.Context(), snap.Ref, them); err == nil || !strings.Contains(err.Error(), "etag") || len(s.Seen(setPolicy)) != n {
		t.Errorf("without an etag: %v", err)
	}
}

// What cannot be shared is refused before anything is asked.
func TestShareRefused(t *testing.T) {
	s := fakegcp.NewCompute(t)
	snap := ready(t, open(t, s, nil), s.Disk(zone, nil), "t")
	n := len(s.Seen(""))
	e := open(t, s, func(c *disks.Config) { c.ShareRole = "" })
	if err := e.Share(t.Context(), snap.Ref, them); err == nil || !strings.Contains(err.Error(), "Config.ShareRole") {
		t.Errorf("without a role: %v", err)
	}
	e = open(t, s, nil)
	for _, m := range []string{"restore@standby.iam.gserviceaccount.com", "projectOwner:p", "principalSet://goog/public:all", "user:", "user:a b"} {
		if err := e.Share(t.Context(), snap.Ref, them, m); err == nil || !strings.Contains(err.Error(), m) {
			t.Errorf("%q: %v", m, err)
		}
	}
	ref := snap.Ref
	ref.Provider = "ebs"
	isUnknown(t, e.Share(t.Context(), ref, them))
	if len(s.Seen("")) != n {
		t.Errorf("%d requests", len(s.Seen(""))-n)
	}
}

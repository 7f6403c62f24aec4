package disks_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/disks"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
)

const (
	insertGroup = "compute.instantSnapshotGroups.insert"
	deleteGroup = "compute.instantSnapshotGroups.delete"
	setLabels   = "compute.snapshots.setLabels"
)

// together makes n disks that have one policy.
func together(s *fakegcp.Compute, n int) (volumes []string) {
	for i := range n {
		volumes = append(volumes, s.Disk(zone, []byte{byte('a' + i)}))
	}
	s.Set("resourcePolicies", []string{s.ResourcePolicy(home, nil)}, volumes...)
	return volumes
}

var groupOptions = provider.SnapshotOptions{Token: "g", Tags: map[string]string{"for": "tests"}}

func group(t *testing.T, e *disks.Snapshots, volumes ...string) (refs []provider.SnapshotRef) {
	t.Helper()
	snaps, err := e.CreateGroup(t.Context(), volumes, groupOptions)
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range snaps {
		refs = append(refs, snap.Ref)
	}
	return refs
}

// settle asks for the snapshots until all are Ready, and once more.
func settle(t *testing.T, e *disks.Snapshots, refs []provider.SnapshotRef) {
	t.Helper()
	for range 30 {
		ready := 0
		for _, ref := range refs {
			snap, err := e.Get(t.Context(), ref)
			if err != nil || snap.State == provider.Failed {
				t.Fatalf("%+v, %v", snap, err)
			}
			if snap.State == provider.Ready {
				ready++
			}
		}
		if ready == len(refs) {
			e.Get(t.Context(), refs[0])
			return
		}
	}
	t.Fatalf("%v are not Ready", refs)
}

// content is what a snapshot shows.
func content(t *testing.T, s *fakegcp.Compute, e *disks.Snapshots, ref provider.SnapshotRef) string {
	t.Helper()
	v, err := e.Restore(t.Context(), ref, provider.RestoreOptions{Token: "of " + ref.ID})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := s.Content(v.ID)
	s.DeleteDisk(v.ID)
	return string(b)
}

// One request freezes the disks. What else has the policy is left out, and gone
// with the instant group, which stays until all are Ready.
func TestGroup(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e := open(t, s, func(c *disks.Config) { c.Keys = map[string]string{home: kmsKey + "home"} })
	v := together(s, 4)
	s.Set("resourcePolicies", []string{s.ResourcePolicy(home, map[string]any{})}, v[3])
	refs := group(t, e, v[2], v[0])
	for i, d := range v {
		s.Write(d, []byte{byte('A' + i)})
	}
	if n := len(s.Seen(insertGroup)); n != 1 || len(s.Seen(insert)) != 2 || len(s.InstantGroups()) != 1 {
		t.Errorf("%d requests to freeze, %d snapshots, %q", n, len(s.Seen(insert)), s.InstantGroups())
	}
	for _, r := range s.Seen(insert) {
		if body := string(r.Content); !strings.Contains(body, `"storageLocations":["`+home+`"]`) || !strings.Contains(body, kmsKey+"home") || strings.Contains(body, `"sourceDisk"`) {
			t.Errorf("sent %s", body)
		}
	}
	settle(t, e, refs)
	if got := content(t, s, e, refs[0]) + content(t, s, e, refs[1]); got != "ca" {
		t.Errorf("restored are %q", got)
	}
	if left := s.InstantGroups(); len(left) > 0 || count(e, t) != 2 {
		t.Errorf("left are %q and %d snapshots", left, count(e, t))
	}
	n := len(s.Seen(""))
	if e.Get(t.Context(), refs[1]); len(s.Seen("")) != n+1 {
		t.Errorf("%d requests for a Get when the instant group is gone", len(s.Seen(""))-n)
	}
}

// What cannot be frozen together is ErrUnsupported, which says what has which
// policy, and nothing is made.
func TestGroupApart(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e := open(t, s, nil)
	v, w := together(s, 3), together(s, 1)[0]
	none, scheduled, elsewhere := s.Disk(zone, nil), s.Disk(zone, nil), s.Disk(home+"-b", nil)
	s.Set("resourcePolicies", []string{s.ResourcePolicy(home, map[string]any{})}, scheduled)
	s.Set("type", "https://www.googleapis.com/compute/v1/projects/p/zones/"+zone+"/diskTypes/hyperdisk-ml", v[1])
	for want, of := range map[string][]string{
		"add-resource-policies":         {v[0], w},
		w + " has regions/":             {w, none},
		none + " has none":              {none},
		scheduled + " has none":         {scheduled, v[0]},
		"only disks of one zone":        {v[0], elsewhere},
		v[1] + " is of type hyperdisk":  {v[0], v[1]},
		"regions/europe-west3/disks/d ": {"regions/europe-west3/disks/d"},
	} {
		_, err := e.CreateGroup(t.Context(), of, groupOptions)
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", of, err, want)
		}
	}
	s.Set("status", "RESTORING", v[2])
	_, err := e.CreateGroup(t.Context(), v[2:], groupOptions)
	isUnknown(t, err)
	for _, of := range []string{"", "disk", "zones/z/disks/../x"} {
		_, err := e.CreateGroup(t.Context(), []string{v[0], of}, groupOptions)
		isUnknown(t, err)
	}
	o := groupOptions
	o.Tags = map[string]string{"k": strings.Repeat("x", 1850)}
	if _, err := e.CreateGroup(t.Context(), v[:1], o); err == nil {
		t.Error("tags for which there is no room are accepted")
	}
	if n := len(s.Seen(insertGroup)) + len(s.Seen(insert)); n != 0 {
		t.Errorf("%d requests to make something", n)
	}
}

// Whatever happens to a request, one group of one moment comes of it.
func TestGroupOnce(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]fakegcp.Rule{"lost reply": fakegcp.Lost, "lost request": fakegcp.Cut, "503": fakegcp.Unavailable} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fakegcp.NewCompute(t)
			e, v := open(t, s, nil), together(s, 2)
			for _, method := range []string{insertGroup, insert, setLabels, deleteGroup} {
				first, _ := fakegcp.First(1, method, rule)
				s.Add(first)
			}
			refs := group(t, e, v...)
			settle(t, e, refs)
			settle(t, e, refs) // once more: the first deletion is not tried again by a Get
			if again := group(t, open(t, s, nil), v[1], v[0]); again[0] != refs[1] || again[1] != refs[0] || count(e, t) != 2 {
				t.Errorf("%v, then %v, of %d", refs, again, count(e, t))
			}
			if left := s.InstantGroups(); len(left) > 0 {
				t.Errorf("left is %q", left)
			}
		})
	}
}

// A caller that dies between any two of its requests leaves what the same Token
// makes whole: of the moment that there is, if there is one.
func TestGroupCrash(t *testing.T) {
	t.Parallel()
	step := 4
	if os.Getenv("HOLDFAST_LONG") != "" {
		step = 1
	}
	for at, ended := 1, false; !ended; at += step {
		s := fakegcp.NewCompute(t)
		e, v := open(t, s, nil), together(s, 2)
		ctx, crash := context.WithCancel(t.Context())
		n := 0
		s.Add(func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			answer, err := next()
			if n++; n == at {
				crash()
			}
			return answer, err
		})
		_, err := e.CreateGroup(ctx, v, groupOptions)
		if ended = err == nil; !ended && !errors.Is(err, context.Canceled) {
			t.Fatalf("after request %d: %v", at, err)
		}
		crash()
		s.Clear()
		want := "AB"
		if len(s.InstantGroups()) > 0 {
			want = "ab"
		}
		for range 3 { // time passes, the disks are frozen
			e.Get(t.Context(), provider.SnapshotRef{Provider: "pd", Account: "p", Region: home, ID: "x"})
		}
		s.Write(v[0], []byte("A"))
		s.Write(v[1], []byte("B"))
		refs := group(t, open(t, s, nil), v...)
		settle(t, e, refs)
		got := content(t, s, e, refs[0]) + content(t, s, e, refs[1])
		if got != want || count(e, t) != 2 || len(s.InstantGroups()) > 0 {
			t.Errorf("after request %d: restored are %q, want %q; %d snapshots, %q", at, got, want, count(e, t), s.InstantGroups())
		}
	}
}

// A group of which one is gone is ErrConflict, and nothing is added to it,
// whether the instant group is there or not, and whoever deleted which.
func TestGroupDeleted(t *testing.T) {
	t.Parallel()
	for i, settled := range []bool{true, false, false} {
		s := fakegcp.NewCompute(t)
		e, v := open(t, s, nil), together(s, 3)
		refs := group(t, e, v...)
		if settled {
			settle(t, e, refs)
		}
		if err := e.Delete(t.Context(), refs[i]); err != nil {
			t.Fatal(err)
		}
		made := len(s.Seen(insert))
		for _, of := range [][]string{v, v[:2], v[1:], v[2:]} {
			if _, err := e.CreateGroup(t.Context(), of, groupOptions); !errors.Is(err, provider.ErrConflict) {
				t.Errorf("without %d: %q is %v", i, of, err)
			}
		}
		if len(s.Seen(insert)) != made || len(s.Seen(insertGroup)) != 1 || count(e, t) != 2 {
			t.Errorf("without %d: %d requests, %d snapshots", i, len(s.Seen(insert))-made, count(e, t))
		}
		rest := slices.Delete(slices.Clone(refs), i, i+1)
		settle(t, e, rest)
		if left := s.InstantGroups(); len(left) > 0 {
			t.Errorf("without %d: left is %q", i, left)
		}
		for _, ref := range rest {
			if err := e.Delete(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
		if again := group(t, e, v...); count(e, t) != 3 || len(s.Seen(insertGroup)) != 2 {
			t.Errorf("when all are gone: %v", again)
		} else if settle(t, e, again); len(s.InstantGroups()) > 0 {
			t.Errorf("made anew, left is %q", s.InstantGroups())
		}
	}
}

// What is lost with the zone before it became snapshots is an error, and is not
// made up for by another moment.
func TestGroupLost(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 3)
	n := 0
	s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == insert {
			if n++; n == 2 {
				s.Melt(s.InstantGroups()[0])
			}
		}
		return next()
	})
	_, err := e.CreateGroup(t.Context(), v, groupOptions)
	if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), v[1]) || len(s.Seen(insertGroup)) != 1 {
		t.Errorf("%v after %d freezes", err, len(s.Seen(insertGroup)))
	}
	if _, err := e.CreateGroup(t.Context(), v, groupOptions); !errors.Is(err, provider.ErrConflict) || count(e, t) != 1 {
		t.Errorf("again: %v, %d snapshots", err, count(e, t))
	}
	w, o := together(s, 1), provider.SnapshotOptions{Token: "h"}
	s.Clear()
	snaps, err := e.CreateGroup(t.Context(), w, o)
	if err != nil {
		t.Fatal(err)
	}
	s.Melt(s.InstantGroups()[0])
	if snap, err := e.Get(t.Context(), snaps[0].Ref); err != nil || snap.State != provider.Failed {
		t.Errorf("lost before it was Ready: %+v, %v", snap, err)
	}
}

// Of calls with one Token in two zones at once one makes a group.
func TestGroupZones(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	w := []string{s.Disk(home+"-b", nil), s.Disk(home+"-b", nil)}
	s.Set("resourcePolicies", []string{s.ResourcePolicy(home, nil)}, w...)
	for _, method := range []string{insertGroup, insert} { // the other call comes between the look and the request
		s.Clear()
		var refs []provider.SnapshotRef
		between, _ := fakegcp.First(1, method, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			refs = group(t, open(t, s, nil), w...)
			return next()
		})
		s.Add(between)
		_, err := e.CreateGroup(t.Context(), v, groupOptions)
		if !errors.Is(err, provider.ErrConflict) || len(refs) != 2 || count(e, t) != 2 || len(s.InstantGroups()) != 1 {
			t.Errorf("%s: %v; %v of %d, %q", method, err, refs, count(e, t), s.InstantGroups())
		}
		settle(t, e, refs)
		for _, ref := range refs {
			if err := e.Delete(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A request to freeze that arrives when the group is made and its moment let go
// makes nothing that stays.
func TestGroupLate(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	var first []provider.SnapshotRef
	late, _ := fakegcp.First(1, insertGroup, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		other := open(t, s, nil)
		first = group(t, other, v...)
		settle(t, other, first)
		for len(s.Seen(deleteGroup)) == 0 || len(s.InstantGroups()) > 0 {
			other.Get(t.Context(), first[0])
		}
		for range 4 { // the deletion ends
			other.Get(t.Context(), first[0])
		}
		s.Write(v[0], []byte("A"))
		answer, err := next()
		for range 3 { // what may be another call's own is not touched
			open(t, s, nil).Get(t.Context(), first[0])
		}
		if len(s.InstantGroups()) != 1 {
			t.Errorf("a Get has deleted the instant group of another moment")
		}
		return answer, err
	})
	s.Add(late)
	if refs := group(t, e, v...); !slices.Equal(refs, first) || count(e, t) != 2 || len(s.InstantGroups()) > 0 || len(s.Seen(insert)) != 2 {
		t.Errorf("%v, then %v of %d; %q", first, refs, count(e, t), s.InstantGroups())
	}
	if got := content(t, s, e, first[0]); got != "a" {
		t.Errorf("restored is %q", got)
	}
}

// A disk that loses the policy between the look and the freeze is not in the
// instant group, of which nothing stays.
func TestGroupOfOthers(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	first, _ := fakegcp.First(1, insertGroup, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		s.Set("resourcePolicies", []string{}, v[1])
		return next()
	})
	s.Add(first)
	_, err := e.CreateGroup(t.Context(), v, groupOptions)
	isUnknown(t, err)
	if !strings.Contains(err.Error(), v[1]) || count(e, t) != 0 || len(s.InstantGroups()) > 0 {
		t.Errorf("%v, %d snapshots, %q", err, count(e, t), s.InstantGroups())
	}
	if _, err := e.CreateGroup(t.Context(), v, groupOptions); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("again: %v", err)
	}
}

// An operation that ends badly says why, and the Token can be used again.
func TestGroupFails(t *testing.T) {
	t.Parallel()
	for _, method := range []string{insertGroup, insert, setLabels} {
		s := fakegcp.NewCompute(t)
		e, v := open(t, s, nil), together(s, 2)
		s.Fails(method, "QUOTA_EXCEEDED")
		_, err := e.CreateGroup(t.Context(), v, groupOptions)
		isUnknown(t, err)
		if !strings.Contains(err.Error(), "QUOTA_EXCEEDED") {
			t.Errorf("%s: %v", method, err)
		}
		refs := group(t, e, v...)
		settle(t, e, refs)
		if count(e, t) != 2 || len(s.InstantGroups()) > 0 {
			t.Errorf("%s: %d snapshots, %q", method, count(e, t), s.InstantGroups())
		}
	}
}

// A group that was given up before it was whole takes its instant group along
// with the last of its snapshots.
func TestGroupGivenUp(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	ctx, crash := context.WithCancel(t.Context())
	n := 0
	s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := next()
		if r.Method == insert {
			if n++; n == 2 {
				crash()
			}
		}
		return answer, err
	})
	if _, err := e.CreateGroup(ctx, v, groupOptions); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	var refs []provider.SnapshotRef
	for snap, err := range e.List(t.Context(), groupOptions.Tags) {
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, snap.Ref)
	}
	settle(t, e, refs)
	if len(refs) != 2 || len(s.InstantGroups()) != 1 {
		t.Fatalf("%v, %q: one that may be about to make others is in the way of nobody", refs, s.InstantGroups())
	}
	for i, ref := range refs {
		if err := e.Delete(t.Context(), ref); err != nil || len(s.InstantGroups()) != 1-i {
			t.Errorf("%v, %q", err, s.InstantGroups())
		}
	}
}

// A group that another call makes between two looks of this one is not taken for
// one of which a snapshot was deleted.
func TestGroupBetween(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	var refs []provider.SnapshotRef
	between, _ := fakegcp.First(1, "compute.snapshots.get", func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := next() // that the first is not there
		refs = group(t, open(t, s, nil), v...)
		return answer, err
	})
	s.Add(between)
	if own := group(t, e, v...); !slices.Equal(own, refs) || len(s.Seen(insertGroup)) != 1 {
		t.Errorf("%v, then %v after %d freezes", refs, own, len(s.Seen(insertGroup)))
	}
}

// What others do to labels, and a list that is behind, hide nothing of a group;
// and what was made of another instant snapshot of the same name is none of it.
func TestGroupUnlisted(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	refs := group(t, e, v...)
	settle(t, e, refs)
	s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Method == "compute.snapshots.list" {
			return fakegcp.Answer(http.StatusOK, `{"kind":"compute#snapshotList"}`), nil
		}
		return next()
	})
	if again := group(t, e, v...); !slices.Equal(again, refs) || len(s.Seen(insertGroup)) != 1 {
		t.Errorf("%v, then %v after %d freezes", refs, again, len(s.Seen(insertGroup)))
	}
	for _, of := range []string{`"sourceInstantSnapshotId":"`, `\"moment\":\"`} {
		changed, _ := fakegcp.First(2, "compute.snapshots.get", func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			answer, err := next()
			if r.Parts["snapshot"] != refs[1].ID || err != nil {
				return answer, err
			}
			body, err := io.ReadAll(answer.Body)
			return fakegcp.Answer(http.StatusOK, strings.Replace(string(body), of, of+"9", 1)), err
		})
		s.Add(changed)
		if _, err := e.CreateGroup(t.Context(), v, groupOptions); !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), refs[1].ID) {
			t.Errorf("with another %s: %v", of, err)
		}
	}
}

// What goes on with a group that a crash has left goes on with its tags.
func TestGroupTags(t *testing.T) {
	t.Parallel()
	s := fakegcp.NewCompute(t)
	e, v := open(t, s, nil), together(s, 2)
	s.Fails(insert, "QUOTA_EXCEEDED")
	if _, err := e.CreateGroup(t.Context(), v, groupOptions); err == nil {
		t.Fatal("no error")
	}
	if _, err := e.CreateGroup(t.Context(), v[:1], groupOptions); !errors.Is(err, provider.ErrConflict) || len(s.InstantGroups()) != 1 {
		t.Errorf("other volumes: %v, %q", err, s.InstantGroups())
	}
	snaps, err := e.CreateGroup(t.Context(), v, provider.SnapshotOptions{Token: groupOptions.Token, Tags: map[string]string{"other": "tags"}})
	if err != nil || len(snaps) != 2 {
		t.Fatalf("%v, %v", snaps, err)
	}
	for _, snap := range snaps {
		if !maps.Equal(snap.Tags, groupOptions.Tags) || snap.Size != 10<<30 {
			t.Errorf("%+v", snap)
		}
	}
}

// That something else is not there does not say that a volume is not, and it is
// not looked for for ever.
func TestGroupVanished(t *testing.T) {
	t.Parallel()
	for _, method := range []string{insertGroup, insert, "compute.resourcePolicies.get"} {
		s := fakegcp.NewCompute(t)
		e, v := open(t, s, nil), together(s, 2)
		always, n := fakegcp.First(1000, method, fakegcp.Refuses(fakegcp.Fault{Code: http.StatusNotFound, Reason: "notFound", Message: "The resource 'projects/p/x' was not found"}))
		s.Add(always)
		_, err := e.CreateGroup(t.Context(), v, groupOptions)
		isUnknown(t, err)
		if n.Load() < 1 || n.Load() > 20 {
			t.Errorf("%s: %d requests", method, n.Load())
		}
	}
}

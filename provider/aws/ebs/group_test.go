package ebs_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/ebs"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
)

// instance starts one that boots from a volume.
func (s *service) instance(t *testing.T) string {
	t.Helper()
	out, err := s.owner.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String("ami-12c6146b"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	id := *out.Instances[0].InstanceId
	described, err := s.owner.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range described.Reservations[0].Instances[0].BlockDeviceMappings {
		s.roots[*d.Ebs.VolumeId] = true
	}
	if len(s.roots) == 0 {
		t.Fatal("the instance has no root volume")
	}
	return id
}

func (s *service) attached(t *testing.T, instance string, n int) (ids []string) {
	t.Helper()
	for range n {
		ids = append(ids, s.volume(t))
	}
	if err := (volumes{Client: s.owner, instance: instance}).attach(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	return ids
}

func groupOptions(volumes []string) provider.SnapshotOptions {
	return provider.SnapshotOptions{Token: "group of " + volumes[0], Tags: map[string]string{"for": volumes[0]}}
}

func group(t *testing.T, e *ebs.Snapshots, volumes ...string) []provider.SnapshotRef {
	t.Helper()
	snaps, err := e.CreateGroup(t.Context(), volumes, groupOptions(volumes))
	if err != nil {
		t.Fatal(err)
	}
	return refs(snaps)
}

func refs(snaps []provider.Snapshot) (all []provider.SnapshotRef) {
	for _, snap := range snaps {
		all = append(all, snap.Ref)
	}
	return all
}

// One request makes all of them, and nothing of what else is attached, be it
// the root volume or another.
func TestGroupRequest(t *testing.T) {
	s := newService(t)
	e, i := s.open(t, nil), s.instance(t)
	v := s.attached(t, i, 3)
	group(t, e, v[2], v[0])
	sent := string(s.Seen("CreateSnapshots")[0].Content)
	for _, want := range []string{"InstanceSpecification.InstanceId=" + i, "ExcludeBootVolume=true", "ExcludeDataVolumeId.1=" + v[1], "holdfast%3Atoken", "holdfast%3Agroup", "holdfast%3Avolumes"} {
		if !strings.Contains(sent, want) {
			t.Errorf("without %s: %s", want, sent)
		}
	}
	if strings.Contains(sent, "ExcludeDataVolumeId.2") || len(s.Seen("CreateSnapshots")) != 1 || len(s.Seen("CreateSnapshot")) != 0 {
		t.Errorf("sent %s", sent)
	}
	var root string
	for id := range s.roots {
		root = id
	}
	if refs := group(t, e, root); len(refs) != 1 || strings.Contains(string(s.Seen("CreateSnapshots")[1].Content), "ExcludeBootVolume") {
		t.Errorf("of the root volume: %v", refs)
	}
}

// What is not attached to one instance cannot be had at one moment, and the
// error says what is where.
func TestGroupApart(t *testing.T) {
	s := newService(t)
	e, i, j := s.open(t, nil), s.instance(t), s.instance(t)
	a, b, c := s.attached(t, i, 1)[0], s.attached(t, j, 1)[0], s.volume(t)
	for _, of := range [][]string{{a, b}, {a, c}, {c}} {
		_, err := e.CreateGroup(t.Context(), of, groupOptions(of))
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Fatalf("%s: %v", of, err)
		}
		for volume, where := range map[string]string{a: i, b: j, c: "nothing"} {
			if named := strings.Contains(err.Error(), volume+" to "+where); named != slices.Contains(of, volume) {
				t.Errorf("%s: %v", of, err)
			}
		}
	}
	first, _ := wire.First(1, "DescribeVolumes", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		_, body, err := read(next)
		return wire.Answer(http.StatusOK, "text/xml", strings.ReplaceAll(body, "<status>attached<", "<status>detaching<")), err
	})
	s.Add(first)
	if _, err := e.CreateGroup(t.Context(), []string{a}, groupOptions([]string{a})); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("of one that is being detached: %v", err)
	}
	if _, err := e.CreateGroup(t.Context(), []string{a, ""}, groupOptions([]string{a})); err == nil {
		t.Error("an empty ID is accepted")
	}
	if n := len(s.Seen("CreateSnapshots")); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// Whatever happens to the request, one group comes of it.
func TestGroupOnce(t *testing.T) {
	for name, rule := range map[string]wire.Rule{
		"lost reply":   wire.Lost,
		"lost request": wire.Cut,
		"too many":     refuse("SnapshotCreationPerVolumeRateExceeded", "The maximum per volume CreateSnapshot request rate has been exceeded."),
	} {
		s := newService(t)
		e := s.open(t, nil)
		v := s.attached(t, s.instance(t), 2)
		first, done := wire.First(1, "CreateSnapshots", rule)
		s.Add(first)
		one := group(t, e, v...)
		if two := group(t, s.open(t, nil), v...); done.Load() != 1 || !slices.Equal(one, two) || count(t, e, v[0]) != 2 {
			t.Errorf("%s: %v, then %v, of %d", name, one, two, count(t, e, v[0]))
		}
	}
	s := newService(t)
	v := s.attached(t, s.instance(t), 2)
	s.Add(refuse("InvalidParameterValue", "It is so."))
	if _, err := s.open(t, nil).CreateGroup(t.Context(), v, groupOptions(v)); err == nil || !strings.Contains(err.Error(), "It is so.") {
		t.Errorf("refused: %v", err)
	}
}

// A caller that dies in the middle leaves what the next one finds.
func TestGroupCrash(t *testing.T) {
	for _, after := range []string{"DescribeVolumes", "DescribeInstances", "CreateSnapshots", "CreateTags"} {
		s := newService(t)
		v := s.attached(t, s.instance(t), 2)
		ctx, crash := context.WithCancel(t.Context())
		first, _ := wire.First(1, after, func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			answer, err := next()
			crash()
			return answer, err
		})
		s.Add(first)
		if _, err := s.open(t, nil).CreateGroup(ctx, v, groupOptions(v)); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("after %s: %v", after, err)
		}
		s.pass(time.Minute)
		e := s.open(t, nil)
		group(t, e, v...)
		if n := count(t, e, v[0]); n != 2 || len(s.Seen("CreateSnapshots")) != 1 {
			t.Errorf("after %s: %d snapshots, %d requests", after, n, len(s.Seen("CreateSnapshots")))
		}
	}
}

// hide keeps the group that a request makes from being shown, and loses the reply.
func (s *service) hide(hidden *[]string) wire.Rule {
	return func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		_, body, err := read(next)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range snapshotID.FindAllStringSubmatch(body, -1) {
			if !s.lost[m[1]] {
				*hidden = append(*hidden, m[1])
				s.lost[m[1]] = true
			}
		}
		return wire.Cut(r, next)
	}
}

// A group shows up only after another was returned in its place: it is deleted
// as a whole when no call can still be at it.
func TestGroupLateDuplicate(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	v := s.attached(t, s.instance(t), 2)
	var late []string
	first, _ := wire.First(1, "CreateSnapshots", s.hide(&late))
	s.Add(first)
	one := group(t, e, v...)
	for _, id := range late {
		delete(s.lost, id)
	}
	if again := group(t, e, v...); !slices.Equal(again, one) || count(t, e, v[0]) != 4 {
		t.Errorf("%v, then %v, of %d", one, again, count(t, e, v[0]))
	}
	for _, id := range late {
		s.made[id] = time.Now().Add(-2 * time.Hour)
	}
	if again := group(t, e, v...); !slices.Equal(again, one) || count(t, e, v[0]) != 2 {
		t.Errorf("%v, then %v, of %d", one, again, count(t, e, v[0]))
	}
}

// A group of which EC2 shows a part is neither returned, nor made again before
// the rest must have been shown.
func TestGroupShownInParts(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	v := s.attached(t, s.instance(t), 2)
	var made []string
	first, _ := wire.First(1, "CreateSnapshots", s.hide(&made))
	s.Add(first)
	var looks int
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Action == "DescribeSnapshots" {
			s.mu.Lock()
			if looks++; looks == 2 {
				delete(s.lost, made[0])
			}
			if looks == 6 {
				delete(s.lost, made[1])
			}
			s.mu.Unlock()
		}
		return next()
	})
	one := group(t, e, v...)
	if len(s.Seen("CreateSnapshots")) != 1 || len(one) != 2 || !slices.Contains(made, one[0].ID) {
		t.Errorf("%v after %d requests", one, len(s.Seen("CreateSnapshots")))
	}
	// Settled, and shown in parts to the next caller: none of it was deleted.
	s.mu.Lock()
	s.lost[made[1]], looks = true, 2
	s.mu.Unlock()
	if again := group(t, s.open(t, nil), v...); !slices.Equal(again, one) {
		t.Errorf("%v, then %v", one, again)
	}
}

// A group that will never be whole is in nobody's way, and is deleted when no
// call can still be at it.
func TestGroupBroken(t *testing.T) {
	s := newService(t)
	e := s.open(t, nil)
	v := s.attached(t, s.instance(t), 2)
	ctx, crash := context.WithCancel(t.Context())
	var made []string
	first, _ := wire.First(1, "CreateSnapshots", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		defer crash()
		return s.hide(&made)(r, next)
	})
	s.Add(first)
	if _, err := e.CreateGroup(ctx, v, groupOptions(v)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	delete(s.lost, made[0])
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := e.CreateGroup(short, v, groupOptions(v)); !errors.Is(err, context.DeadlineExceeded) || len(s.Seen("CreateSnapshots")) != 1 {
		t.Errorf("while the rest may still be shown: %v", err)
	}
	s.pass(time.Minute)
	one := group(t, e, v...)
	if count(t, e, v[0]) != 3 || one[0].ID == made[0] || one[1].ID == made[0] {
		t.Errorf("%v of %d", one, count(t, e, v[0]))
	}
	s.made[made[0]] = time.Now().Add(-2 * time.Hour)
	if again := group(t, e, v...); !slices.Equal(again, one) || count(t, e, v[0]) != 2 {
		t.Errorf("%v, then %v, of %d", one, again, count(t, e, v[0]))
	}
}

// What is attached changes between the look and the request: nothing of that is
// kept, and it is looked again.
func TestGroupOfOthers(t *testing.T) {
	s := newService(t)
	e, i := s.open(t, nil), s.instance(t)
	v := s.attached(t, i, 2)
	change := func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		s.attached(t, i, 1)
		return next()
	}
	always, changes := wire.First(3, "CreateSnapshots", change)
	s.Add(always)
	_, err := e.CreateGroup(t.Context(), v, groupOptions(v))
	if err == nil || !strings.Contains(err.Error(), "has changed") || changes.Load() != 3 || count(t, e, v[0]) != 0 {
		t.Errorf("%v after %d changes, %d are left", err, changes.Load(), count(t, e, v[0]))
	}
	once, _ := wire.First(1, "CreateSnapshots", change)
	s.Add(once)
	if refs := group(t, e, v...); len(refs) != 2 || count(t, e, v[0]) != 2 {
		t.Errorf("%v of %d", refs, count(t, e, v[0]))
	}
}

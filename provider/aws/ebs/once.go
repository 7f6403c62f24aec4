package ebs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

const (
	abandoned = time.Hour        // no Create takes so long
	invisible = 30 * time.Second // EC2 has shown a snapshot by then
	busyWait  = 90 * time.Second // for the snapshot of a volume that is being made
)

// A making is the work of making one set of snapshots for a token.
type making struct {
	region string
	hash   string            // of the token and of what is made
	tags   map[string]string // of the snapshots, those of this package included

	// matches says why a set that has the token is not the one.
	matches func(set) error

	// prepare is called before one is made, if there is none; nil: nothing.
	prepare func(context.Context) error

	// begin makes one and returns its name. Its error is that of the request.
	begin func(context.Context, ...func(*ec2.Options)) (string, error)
}

func newMaking(what, region, token string, tags map[string]string) (*making, error) {
	if token == "" {
		return nil, errors.New("no Token")
	}
	all, err := withOwn(tags, map[string]string{tagToken: hashOf(what, token)})
	return &making{region: region, hash: hashOf(what, token), tags: all}, err
}

// hashOf is a token as a tag and as a client token of EC2, of 64 characters.
// Different things made for one token have different ones.
func hashOf(what, token string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(what+"\x00"+token)))
}

// once returns the set that has the token, and makes it if there is none.
func (s *Snapshots) once(ctx context.Context, m *making) (set, error) {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		found, err := s.withToken(ctx, m)
		if err != nil {
			return nil, err
		}
		if len(found) > 0 && !s.broken(found[0]) {
			return s.settle(ctx, m, found, "")
		}
		if m.prepare != nil {
			if err := m.prepare(ctx); err != nil {
				return nil, err
			}
		}
		name, err := m.begin(ctx, inRegion(m.region), onlyIfNotDone)
		switch {
		case err == nil:
			return s.settle(ctx, m, nil, name)
		case isBusy(err) && time.Since(start) < busyWait:
		case conn.Unanswered(err) && attempt < max(s.c.Attempts, 2):
			// It may have been made: EC2 is given time to show it. Or what
			// begin has seen is no longer so.
		default:
			return nil, err
		}
		if err := sleep(ctx, s.c.Settle); err != nil {
			return nil, err
		}
	}
}

// settle decides which of several sets of one token counts. made is the one
// that this call has made, or empty. Unless one is settled, it looks again
// when EC2 shows also those that are older than what it has seen.
func (s *Snapshots) settle(ctx context.Context, m *making, found []set, made string) (set, error) {
	for start := time.Now(); ; {
		if made != "" || len(found) == 0 || !found[0].settled() {
			if err := sleep(ctx, s.c.Settle); err != nil {
				return nil, err
			}
			var err error
			if found, err = s.withToken(ctx, m); err != nil {
				return nil, err
			}
		}
		shown := made == "" || slices.ContainsFunc(found, func(f set) bool { return f.name() == made && f.whole() })
		if shown && len(found) > 0 {
			first, err := s.choose(ctx, m, found, made)
			if !errors.Is(err, errPart) && meaning(err) != provider.ErrNotFound {
				return first, err
			}
			found = nil // whoever made it has just deleted it as a duplicate, or EC2 shows a part of it: look again
		}
		if time.Since(start) > s.shownBy() {
			return nil, fmt.Errorf("what was made for the Token by %s is not shown as a whole: call again", cmp.Or(made, "an earlier call"))
		}
	}
}

// errPart: there may be more of the set than EC2 shows.
var errPart = errors.New("a part")

// choose settles the first, and deletes what nobody has been given.
func (s *Snapshots) choose(ctx context.Context, m *making, found []set, made string) (set, error) {
	first := found[0]
	err := m.matches(first)
	switch {
	case err != nil:
	case !first.whole() && first.settled() && time.Since(first.begun()) > s.shownBy():
		err = fmt.Errorf("a snapshot of the group that was made for the Token has been deleted, %d are left: use another Token: %w", len(first), provider.ErrConflict)
	case !first.whole():
		return nil, errPart
	case !first.settled():
		tag := types.Tag{Key: aws.String(tagSettled), Value: aws.String("yes")}
		_, err := s.client.CreateTags(ctx, &ec2.CreateTagsInput{Resources: first.ids(), Tags: []types.Tag{tag}}, inRegion(m.region))
		if err != nil {
			return nil, err
		}
		for i := range first {
			first[i].Tags = append(first[i].Tags, tag)
		}
	}
	for _, o := range found[1:] {
		// The duplicate that this call has made, and those that crashed ones
		// have left. One that cannot be deleted now is found by a later call.
		left := (first.settled() || s.broken(o)) && !o.settled() && time.Since(o.begun()) > abandoned
		if o.name() == made || left {
			s.discard(ctx, m.region, o.ids())
		}
	}
	return first, err
}

// discard deletes what nobody has been given, as far as it can.
func (s *Snapshots) discard(ctx context.Context, region string, ids []string) {
	for _, id := range ids {
		s.client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id}, inRegion(region))
	}
}

// withToken returns the sets that have the token, the one that counts first.
func (s *Snapshots) withToken(ctx context.Context, m *making) ([]set, error) {
	found, err := s.find(ctx, m.region, map[string]string{tagToken: m.hash})
	if err != nil {
		return nil, err
	}
	all := sets(found)
	slices.SortFunc(all, s.before)
	return all, nil
}

// broken: the set will never be whole. It was given to nobody, since what is
// given is settled first.
func (s *Snapshots) broken(f set) bool {
	return !f.settled() && !f.whole() && time.Since(f.begun()) > s.shownBy()
}

// shownBy is how long after it was made EC2 shows a snapshot at the latest.
func (s *Snapshots) shownBy() time.Duration { return max(invisible, 3*s.c.Settle) }

// onlyIfNotDone keeps the SDK from making a request again that may have been
// carried out.
func onlyIfNotDone(o *ec2.Options) {
	if r, ok := o.Retryer.(aws.RetryerV2); ok {
		o.Retryer = careful{r}
	} else {
		o.Retryer = aws.NopRetryer{}
	}
}

type careful struct{ aws.RetryerV2 }

func (c careful) IsErrorRetryable(err error) bool {
	return !conn.Unanswered(err) && c.RetryerV2.IsErrorRetryable(err)
}

func inRegion(region string) func(*ec2.Options) {
	return func(o *ec2.Options) { o.Region = region }
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

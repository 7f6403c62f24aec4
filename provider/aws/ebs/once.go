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

// A making is the work of making one snapshot for a token.
type making struct {
	region string
	hash   string            // of the token and of what is made
	tags   map[string]string // of the snapshot, those of this package included

	// matches says why a snapshot that has the token is not the one.
	matches func(types.Snapshot) error

	// prepare is called before one is made, if there is none; nil: nothing.
	prepare func(context.Context) error

	// begin makes one and returns its ID. Its error is that of the request.
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

// once returns the snapshot that has the token, and makes it if there is none.
func (s *Snapshots) once(ctx context.Context, m *making) (types.Snapshot, error) {
	start := time.Now()
	for attempt := 1; ; attempt++ {
		found, err := s.withToken(ctx, m)
		if err != nil {
			return types.Snapshot{}, err
		}
		if len(found) > 0 {
			return s.settle(ctx, m, found, "")
		}
		if m.prepare != nil {
			if err := m.prepare(ctx); err != nil {
				return types.Snapshot{}, err
			}
		}
		id, err := m.begin(ctx, inRegion(m.region), onlyIfNotDone)
		switch {
		case err == nil:
			return s.settle(ctx, m, nil, id)
		case isBusy(err) && time.Since(start) < busyWait:
		case conn.Unanswered(err) && ctx.Err() == nil && attempt < max(s.c.Attempts, 2):
			// It may have been made. EC2 is given time to show it.
		default:
			return types.Snapshot{}, err
		}
		if err := sleep(ctx, s.c.Settle); err != nil {
			return types.Snapshot{}, err
		}
	}
}

// settle decides which of several snapshots of one token counts. made is the
// one that this call has made, or empty. Unless one is settled, it looks again
// when EC2 shows also those that are older than what it has seen.
func (s *Snapshots) settle(ctx context.Context, m *making, found []types.Snapshot, made string) (types.Snapshot, error) {
	for start := time.Now(); ; {
		if made != "" || len(found) == 0 || !settled(found[0]) {
			if err := sleep(ctx, s.c.Settle); err != nil {
				return types.Snapshot{}, err
			}
			var err error
			if found, err = s.withToken(ctx, m); err != nil {
				return types.Snapshot{}, err
			}
		}
		shown := made == "" || slices.ContainsFunc(found, func(f types.Snapshot) bool { return *f.SnapshotId == made })
		if shown && len(found) > 0 {
			first, err := s.choose(ctx, m, found, made)
			if meaning(err) != provider.ErrNotFound {
				return first, err
			}
			found = nil // whoever made it has just deleted it as a duplicate: look again
		}
		if time.Since(start) > max(invisible, 3*s.c.Settle) {
			return types.Snapshot{}, fmt.Errorf("snapshot %s was made and is not shown", made)
		}
	}
}

// choose settles the first, and deletes what nobody has been given.
func (s *Snapshots) choose(ctx context.Context, m *making, found []types.Snapshot, made string) (types.Snapshot, error) {
	first := found[0]
	err := m.matches(first)
	if err == nil && !settled(first) {
		tag := types.Tag{Key: aws.String(tagSettled), Value: aws.String("yes")}
		_, err = s.client.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{*first.SnapshotId}, Tags: []types.Tag{tag}}, inRegion(m.region))
		if err != nil {
			return types.Snapshot{}, err
		}
		first.Tags = append(first.Tags, tag)
	}
	for _, o := range found[1:] {
		// The duplicate that this call has made, and those that crashed ones
		// have left. One that cannot be deleted now is found by a later call.
		left := settled(first) && !settled(o) && time.Since(aws.ToTime(o.StartTime)) > abandoned
		if *o.SnapshotId == made || left {
			s.client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: o.SnapshotId}, inRegion(m.region))
		}
	}
	return first, err
}

// withToken returns the snapshots that have the token, the one that counts
// first: those that are settled before the others, and of these the oldest.
func (s *Snapshots) withToken(ctx context.Context, m *making) ([]types.Snapshot, error) {
	found, err := s.find(ctx, m.region, map[string]string{tagToken: m.hash})
	slices.SortFunc(found, func(a, b types.Snapshot) int {
		if settled(a) != settled(b) {
			if settled(a) {
				return -1
			}
			return 1
		}
		return cmp.Or(aws.ToTime(a.StartTime).Compare(aws.ToTime(b.StartTime)), cmp.Compare(*a.SnapshotId, *b.SnapshotId))
	})
	return found, err
}

func settled(held types.Snapshot) bool { return tagOf(held.Tags, tagSettled) != "" }

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

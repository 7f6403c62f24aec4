package disks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

var member = regexp.MustCompile(`^(user|serviceAccount|group|domain|principal|principalSet):\S+$`)

// Share implements [provider.SnapshotSharer] for principals of IAM
// ("serviceAccount:restore@standby.iam.gserviceaccount.com"), to whom it gives
// Config.ShareRole on the snapshot. Those who use one under a key of Cloud KMS
// need that key, too.
func (s *Snapshots) Share(ctx context.Context, ref provider.SnapshotRef, members ...string) error {
	return wrap(ctx, "snapshot share", ref.ID, s.permit(ctx, ref, members, func(held []string) []string {
		for _, m := range members {
			if !among(held, m) {
				held = append(held, m)
			}
		}
		return held
	}))
}

// Unshare implements [provider.SnapshotSharer].
func (s *Snapshots) Unshare(ctx context.Context, ref provider.SnapshotRef, members ...string) error {
	return wrap(ctx, "snapshot unshare", ref.ID, s.permit(ctx, ref, members, func(held []string) []string {
		return slices.DeleteFunc(held, func(m string) bool { return among(members, m) })
	}))
}

// among: IAM keeps addresses in lower case.
func among(all []string, m string) bool {
	return slices.ContainsFunc(all, func(a string) bool { return strings.EqualFold(a, m) })
}

const policyTries = 20 // others may change a policy, too, but not all the time

// permit changes who has the role on the snapshot, and nothing else of its
// policy, by compare-and-swap.
func (s *Snapshots) permit(ctx context.Context, ref provider.SnapshotRef, members []string, change func([]string) []string) error {
	for _, m := range members {
		if !member.MatchString(m) || strings.HasPrefix(m, "principalSet://goog/public") { // nor allUsers
			return fmt.Errorf("%q begins with none of user:, serviceAccount:, group:, domain:, principal: and principalSet: that Share takes", m)
		}
	}
	switch {
	case len(members) == 0:
		return errors.New("no members")
	case s.c.ShareRole == "":
		return errors.New("no role to give: set Config.ShareRole")
	}
	if _, err := s.find(ctx, ref); err != nil {
		return err
	}
	for range policyTries {
		policy, err := ask(ctx, s, func(ctx context.Context) (*compute.Policy, error) {
			return s.client.Snapshots.GetIamPolicy(s.c.Project, ref.ID).OptionsRequestedPolicyVersion(3).Context(ctx).Do()
		})
		switch {
		case err != nil:
			return err
		case policy.Etag == "":
			return errors.New("the policy has no etag: a change could undo another")
		case !s.edit(policy, change):
			return nil
		}
		_, err = ask(ctx, s, func(ctx context.Context) (*compute.Policy, error) {
			return s.client.Snapshots.SetIamPolicy(s.c.Project, ref.ID, &compute.GlobalSetPolicyRequest{Policy: policy}).Context(ctx).Do()
		})
		// Also an attempt of ours whose answer was lost has changed the etag.
		if code := conn.StatusOf(err); code != http.StatusConflict && code != http.StatusPreconditionFailed {
			return err
		}
		if err := s.pause(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("the policy was changed by others %d times: %w", policyTries, provider.ErrConflict)
}

// edit changes the members of the role, and says whether that changed anything.
// Bindings with a condition are of others.
func (s *Snapshots) edit(policy *compute.Policy, change func([]string) []string) bool {
	i := slices.IndexFunc(policy.Bindings, func(b *compute.Binding) bool { return b.Role == s.c.ShareRole && b.Condition == nil })
	if i < 0 {
		policy.Bindings = append(policy.Bindings, &compute.Binding{Role: s.c.ShareRole})
		i = len(policy.Bindings) - 1
	}
	b := policy.Bindings[i]
	n := len(b.Members)
	if b.Members = change(b.Members); len(b.Members) == 0 {
		policy.Bindings = slices.Delete(policy.Bindings, i, i+1)
	}
	return len(b.Members) != n
}

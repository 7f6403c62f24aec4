package disks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
)

// Tags of this prefix are the package's own: they are not shown, and cannot be
// given.
const (
	ownPrefix = "holdfast:"
	tagVolume = ownPrefix + "volume" // what a snapshot, or that which it is a copy of, was made of
	maxTag    = 256                  // characters of a value
)

// newTags returns the name of what is made for a token, and its tags.
// Different things made for one token have different names.
func newTags(what, token string, tags, own map[string]string) (name string, all map[string]*string, err error) {
	if token == "" {
		return "", nil, errors.New("no Token")
	}
	all = map[string]*string{}
	for k, v := range tags {
		if k == "" || len(k) > 512 || strings.ContainsAny(k, `<>%&\?/`) || strings.HasPrefix(strings.ToLower(k), ownPrefix) {
			return "", nil, fmt.Errorf("a tag of the name %q is not taken by Azure, or is of this package", k)
		}
		all[k] = &v
	}
	for k, v := range own {
		all[k] = &v
	}
	for k, v := range all {
		if len(*v) > maxTag {
			return "", nil, fmt.Errorf("tag %q has %d characters, and Azure takes %d", k, len(*v), maxTag)
		}
	}
	sum := sha256.Sum256([]byte(what + "\x00" + token))
	return fmt.Sprintf("holdfast-%x", sum[:20]), all, nil
}

// shown are the tags that were given.
func shown(tags map[string]*string) map[string]string {
	out := map[string]string{}
	for k, v := range tags {
		if !strings.HasPrefix(k, ownPrefix) {
			out[k] = value(v)
		}
	}
	return out
}

func hasAll(held, want map[string]string) bool {
	for k, v := range want {
		if got, ok := held[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// snapshot is what the service says about a snapshot.
func (s *Snapshots) snapshot(held armcompute.Snapshot) provider.Snapshot {
	snap := provider.Snapshot{
		Ref:    provider.SnapshotRef{Provider: providerName, Account: s.c.Subscription, Region: strings.ToLower(value(held.Location)), ID: s.id("snapshots", value(held.Name))},
		Volume: source(held), Tags: shown(held.Tags), State: provider.Pending,
	}
	if of := value(held.Tags[tagVolume]); of != "" {
		snap.Volume = of // of a copy the service knows the snapshot it was made of
	}
	p := held.Properties
	if p == nil {
		return snap
	}
	snap.Created, snap.Size = value(p.TimeCreated).UTC(), value(p.DiskSizeBytes)
	if t := momentOf(held.Tags); !t.IsZero() {
		snap.Created = t // of a group: the snapshot was made when all was over
	}
	copying := p.CreationData != nil && value(p.CreationData.CreateOption) == armcompute.DiskCreateOptionCopyStart
	snap.State, snap.Progress, snap.Reason = state(value(p.ProvisioningState), p.CompletionPercent, copying)
	if e := p.CopyCompletionError; e != nil {
		snap.State, snap.Reason = provider.Failed, fmt.Sprintf("%s: %s", value(e.ErrorCode), value(e.ErrorMessage))
		snap.Progress = min(snap.Progress, 0.99)
	}
	return snap
}

// state says what a provisioning state means. What the service copies behind it
// is complete at 100 percent; copying says that it must tell the percentage.
func state(provisioning string, percent *float32, copying bool) (provider.State, float64, string) {
	done := min(max(float64(value(percent))/100, 0), 0.99)
	switch provisioning {
	case "Succeeded":
		if value(percent) >= 100 || percent == nil && !copying {
			return provider.Ready, 1, ""
		}
		return provider.Pending, done, ""
	case "Failed", "Canceled", "Deleting":
		return provider.Failed, done, fmt.Sprintf("Azure calls it %q", provisioning)
	}
	return provider.Pending, done, ""
}

// until writes the end of a retention.
func until(t *time.Time) string {
	if t == nil {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

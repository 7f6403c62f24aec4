package disks

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/api/compute/v1"

	"github.com/holdfast-go/holdfast/provider"
)

const (
	maxDescription = 2048
	maxTags        = 60 // of the 64 labels of a resource
)

// A record is what the description of a snapshot or a disk says about it.
type record struct {
	Source string            `json:"source,omitempty"` // of a disk, and of a copy: the snapshot it is made of
	Volume string            `json:"volume,omitempty"` // of a copy: the volume of its source; of one of a group: its volume
	Group  *group            `json:"group,omitempty"`  // of one of a group, and of the instant group
	Tags   map[string]string `json:"tags,omitempty"`
}

// A group is what says which snapshots belong together, and are of one moment.
type group struct {
	Name    string `json:"name"`    // of the instant group
	Volumes string `json:"volumes"` // their hash
	Size    int    `json:"size"`
	Moment  string `json:"moment,omitempty"`  // ID of the instant group
	Instant string `json:"instant,omitempty"` // ID of the instant snapshot
}

func (g *group) volumes() string {
	if g == nil {
		return ""
	}
	return g.Volumes
}

func (g *group) moment() string {
	if g == nil {
		return ""
	}
	return g.Moment
}

type description struct {
	Holdfast *record `json:"holdfast"`
}

// write returns the description and the labels.
func (r record) write() (string, map[string]string, error) {
	if _, ok := r.Tags[""]; ok {
		return "", nil, fmt.Errorf("tag %q has an empty name", "")
	}
	b, err := json.Marshal(description{&r})
	switch {
	case err != nil:
		return "", nil, err
	case len(b) > maxDescription:
		return "", nil, fmt.Errorf("the tags take %d bytes as JSON, Compute Engine keeps %d", len(b), maxDescription)
	case len(r.Tags) > maxTags:
		return "", nil, fmt.Errorf("%d tags, want at most %d", len(r.Tags), maxTags)
	}
	all := labels(r.Tags)
	if r.Group != nil {
		all[labelGroup] = r.Group.Name
	}
	return string(b), all, nil
}

// read returns what write has written; of what others have made it is empty.
func read(text string) record {
	var d description
	if json.Unmarshal([]byte(text), &d) != nil || d.Holdfast == nil {
		return record{}
	}
	return *d.Holdfast
}

// labels are those by which tags are found.
func labels(tags map[string]string) map[string]string {
	all := map[string]string{}
	for k, v := range tags {
		all["holdfast-"+hashOf("tag", k)[:32]] = hashOf("value", v)[:32]
	}
	return all
}

// filter asks for labels.
func filter(all map[string]string) string {
	var terms []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		terms = append(terms, "(labels."+k+"="+all[k]+")")
	}
	return strings.Join(terms, " AND ")
}

func hashOf(what, s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(what+"\x00"+s))) }

// nameOf is the name of what is made for a token.
func nameOf(what, token string) string { return "holdfast-" + hashOf(what, token)[:40] }

// requestID is a random UUID (RFC 9562 section 5.4).
func requestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// has: all of want are among tags.
func has(tags, want map[string]string) bool {
	for k, v := range want {
		if got, ok := tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

var diskPath = regexp.MustCompile(`^(zones|regions)/[a-z0-9-]+/disks/[a-z0-9-]+$`)

// short makes "zones/Z/disks/D" of a URL.
func short(url string) string {
	_, path, _ := strings.Cut(url, "/projects/")
	_, path, ok := strings.Cut(path, "/")
	if !ok {
		return url
	}
	return path
}

// location is where a snapshot is stored.
func location(held *compute.Snapshot) string {
	if len(held.StorageLocations) == 0 {
		return ""
	}
	return held.StorageLocations[0]
}

// snapshot is what Compute Engine says about one.
func (s *Snapshots) snapshot(held *compute.Snapshot) provider.Snapshot {
	r := read(held.Description)
	created, _ := time.Parse(time.RFC3339, held.CreationTimestamp)
	snap := provider.Snapshot{
		Ref:     provider.SnapshotRef{Provider: providerName, Account: s.c.Project, Region: location(held), ID: held.Name},
		Volume:  short(held.SourceDisk),
		State:   provider.Pending,
		Size:    held.DiskSizeGb << 30,
		Created: created.UTC(),
		Tags:    r.Tags,
	}
	if r.Volume != "" {
		snap.Volume = r.Volume
	}
	if snap.Tags == nil {
		snap.Tags = map[string]string{}
	}
	switch held.Status {
	case "READY":
		snap.State, snap.Progress = provider.Ready, 1
	case "FAILED":
		snap.State, snap.Reason = provider.Failed, "Compute Engine calls the snapshot FAILED and gives no reason"
	}
	return snap
}

// volume is what Compute Engine says about a disk.
func volume(zone string, held *compute.Disk) provider.Volume {
	v := provider.Volume{ID: "zones/" + zone + "/disks/" + held.Name, State: provider.Pending, Tags: read(held.Description).Tags}
	if v.Tags == nil {
		v.Tags = map[string]string{}
	}
	switch held.Status {
	case "READY":
		v.State, v.Progress = provider.Ready, 1
	case "FAILED", "DELETING":
		v.State, v.Reason = provider.Failed, "Compute Engine calls the disk "+held.Status
	}
	return v
}

package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
	"github.com/holdfast-go/holdfast/provider"
)

// The directory of a region. What is in snapshots and restores is the truth;
// the rest is content that it names, or garbage.
const (
	volumesDir   = "volumes"   // <volume>: the volumes
	snapshotsDir = "snapshots" // <snapshot>.json: a record for each
	restoresDir  = "restores"  // <restore>.json: a record for each restored volume
	contentDir   = "data"      // <data>: the content of a snapshot, whole
	stagingDir   = "staging"   // <job>.<random>: content that is being copied
	pinsDir      = "pins"      // <data>.<job>: that job reads this data
	trashDir     = "trash"     // what is being deleted
	locksDir     = "locks"     // region, and <job>: somebody works on it
)

// A job is something to be made: a snapshot, or a volume from one. Its ID
// comes from the token, so that two calls with one token meet in one record.
type job struct {
	region string
	dir    string // snapshotsDir or restoresDir
	id     string
}

func snapshotJob(region, how, token string) job {
	return job{region, snapshotsDir, "snap-" + tokenHash(how, token)}
}

func restoreJob(region, token string) job {
	return job{region, restoresDir, "rest-" + tokenHash("restore", token)}
}

func tokenHash(how, token string) string {
	sum := sha256.Sum256([]byte(how + "\x00" + token))
	return hex.EncodeToString(sum[:10])
}

var idPattern = regexp.MustCompile(`^(snap|rest)-[0-9a-f]{20}$`)

func isID(s string) bool { return idPattern.MatchString(s) }

func (j job) path() string { return j.dir + "/" + j.id + ".json" }

func (j job) ref() provider.SnapshotRef {
	return provider.SnapshotRef{Provider: "local", Region: j.region, ID: j.id}
}

// A record is what is kept of a job.
type record struct {
	Volume string            `json:"volume"` // the one a snapshot is of, or the one restored
	State  provider.State    `json:"state"`
	Reason string            `json:"reason,omitempty"`
	Done   float64           `json:"progress"`
	Size   int64             `json:"size"` // bytes in files
	Begun  time.Time         `json:"begun"`
	Tags   map[string]string `json:"tags,omitempty"`

	// Data names the directory to be made, in contentDir or, of a restore, in
	// volumesDir. It is random, so if it is there, this job has made it.
	Data string `json:"data"`

	// Mode is that of the top directory, which is set last: without the
	// permission to write, a directory could not be moved.
	Mode fs.FileMode `json:"mode"`

	// What a copy or a restore reads.
	Source     provider.SnapshotRef `json:"source,omitzero"`
	SourceData string               `json:"source_data,omitempty"`
}

func newRecord(j job, tags map[string]string) record {
	rec := record{State: provider.Pending, Begun: time.Now().UTC().Truncate(time.Microsecond), Tags: maps.Clone(tags)}
	random := strings.ToLower(rand.Text())
	if j.dir == restoresDir {
		rec.Volume = "vol-" + random
		rec.Data = rec.Volume
	} else {
		rec.Data = j.id + "." + random
	}
	return rec
}

// from notes what the job copies.
func (r *record) from(ref provider.SnapshotRef, source record) {
	r.Source, r.SourceData = ref, source.Data
	r.Mode, r.Size = source.Mode, source.Size
}

func (r record) snapshot(j job) provider.Snapshot {
	return provider.Snapshot{
		Ref: j.ref(), Volume: r.Volume, State: r.State, Progress: r.Done, Reason: r.Reason,
		Size: r.Size, Created: r.Begun, Tags: r.Tags,
	}
}

func (r record) volume() provider.Volume {
	return provider.Volume{ID: r.Volume, State: r.State, Progress: r.Done, Reason: r.Reason, Tags: r.Tags}
}

// target is where the job puts its content.
func (j job) target(rec record) string {
	if j.dir == restoresDir {
		return volumesDir + "/" + rec.Data
	}
	return contentDir + "/" + rec.Data
}

// A region is an open directory of volumes and snapshots.
type region struct {
	name, dir string
	root      *os.Root
}

func makeRegion(name, dir string) (*region, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return openRegion(name, dir)
}

func openRegion(name, dir string) (*region, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{volumesDir, snapshotsDir, restoresDir, contentDir, stagingDir, pinsDir, trashDir, locksDir} {
		if err := durable.MkdirAll(root, d); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	return &region{name, dir, root}, nil
}

// region opens a configured region. ErrNotFound if it is none.
func (s *Snapshotter) region(name string) (*region, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.regions[name]; r != nil {
		return r, nil
	}
	dir, ok := s.others[name]
	if !ok {
		return nil, fmt.Errorf("region %q is not configured here: %w", name, provider.ErrNotFound)
	}
	r, err := openRegion(name, dir)
	if err != nil {
		return nil, fmt.Errorf("open region %s: %w", name, err)
	}
	s.regions[name] = r
	return r, nil
}

// lock is held for every change of records and for moves between directories,
// which are all short, and never while content is copied.
func (r *region) lock(ctx context.Context) (unlock func() error, err error) {
	unlock, err = durable.Lock(ctx, r.root, locksDir+"/region")
	if err != nil {
		return nil, fmt.Errorf("lock region %s: %w", r.name, err)
	}
	return unlock, nil
}

// read returns fs.ErrNotExist if there is no such job.
func (r *region) read(j job) (rec record, err error) {
	b, err := r.root.ReadFile(j.path())
	if err == nil {
		err = json.Unmarshal(b, &rec)
	}
	if err != nil {
		return rec, fmt.Errorf("record of %s: %w", j.id, err)
	}
	return rec, nil
}

// create and write make a record durable.
func (r *region) create(j job, rec record) error { return r.store(durable.CreateFile, j, rec) }
func (r *region) write(j job, rec record) error  { return r.store(durable.WriteFile, j, rec) }

func (r *region) store(put func(*os.Root, string, []byte) error, j job, rec record) error {
	b, err := json.Marshal(rec)
	if err == nil {
		err = put(r.root, j.path(), append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("record of %s: %w", j.id, err)
	}
	return nil
}

func (r *region) remove(j job) error { return durable.Remove(r.root, j.path()) }

// jobs lists the jobs of a directory in ascending order of ID.
func (r *region) jobs(dir string) ([]job, error) {
	entries, err := fs.ReadDir(r.root.FS(), dir)
	var jobs []job
	for _, e := range entries { // sorted by name; all IDs are of one length
		if id, ok := strings.CutSuffix(e.Name(), ".json"); ok && isID(id) {
			jobs = append(jobs, job{r.name, dir, id})
		}
	}
	return jobs, err
}

// pin keeps data that j reads from being collected when its snapshot is
// deleted. The file says in which region the record of j is.
func (r *region) pin(data string, j job) error {
	err := durable.CreateFile(r.root, pinsDir+"/"+data+"."+j.id, []byte(j.region))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

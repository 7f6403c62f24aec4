package holdfast_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// trouble is a pair of sites with two points at each, and what can go wrong
// there.
type trouble struct {
	t      *testing.T
	dir    string
	key    *age.X25519Identity
	config dr.Config
	points []backup.PointID
	want   map[string]string // path to content, by the newest point
}

func newTrouble(t *testing.T) *trouble {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	x := &trouble{t: t, dir: t.TempDir(), key: key, want: map[string]string{}}
	x.write("standby.key", key.String()+"\n")
	x.write("orders/1", strings.Repeat("3 apples\n", 1000))
	x.config = dr.Config{
		Name: "shop",
		Sites: dr.Sites{
			Primary: dr.Site{Region: "local-a", Bucket: "file://" + x.path("a")},
			Standby: dr.Site{Region: "local-b", Bucket: "file://" + x.path("b")},
		},
		Workloads: []dr.Workload{{
			Name: "orders", Type: "files", Source: x.path("orders"), Every: dr.Duration(5 * time.Minute),
			Retention: dr.KeepFor(dr.Duration(30 * 24 * time.Hour)), RTOClass: dr.RTOCritical, RPOClass: dr.RPOCritical,
		}},
		Recipients: []dr.Recipient{{Name: "standby", Key: key.Recipient().String(), Home: dr.AtStandby, Identity: dr.Secret("file:" + x.path("standby.key"))}},
	}
	for _, dir := range []string{"a", "b"} {
		x.must(x.open(dir, true).Close())
	}
	x.must(x.due())
	x.write("orders/2", "4 pears")
	repo := x.must2(backup.Open(t.Context(), x.repository("a", key)))
	_, err = repo.Backup(t.Context(), "orders", x.must3(files.New(files.Config{Root: x.path("orders")})), backup.BackupOptions{})
	x.must(err)
	x.must(x.due()) // replicates
	x.points = x.list("b")
	if len(x.points) != 2 {
		t.Fatalf("%d points to begin with", len(x.points))
	}
	return x
}

func (x *trouble) path(name string) string { return filepath.Join(x.dir, filepath.FromSlash(name)) }

func (x *trouble) write(name, content string) {
	x.must(os.MkdirAll(filepath.Dir(x.path(name)), 0o700))
	x.must(os.WriteFile(x.path(name), []byte(content), 0o600))
	if rel, ok := strings.CutPrefix(name, "orders/"); ok {
		x.want[rel] = content
	}
}

func (x *trouble) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *trouble) must2(r *backup.Repository, err error) *backup.Repository { x.must(err); return r }
func (x *trouble) must3(f *files.Target, err error) *files.Target           { x.must(err); return f }

func (x *trouble) open(dir string, create bool) *local.BlobStore {
	s, err := local.NewBlobStore(local.Config{Dir: x.path(dir), Create: create})
	x.must(err)
	return s
}

// repository is the one that the Planner keeps in a bucket.
func (x *trouble) repository(dir string, key *age.X25519Identity) backup.Config {
	return backup.Config{Store: provider.Sub(x.open(dir, false), "repository/"), Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}}
}

func (x *trouble) planner() *dr.Planner {
	p, err := dr.New(x.config, dr.Parts{
		Stores: map[string]dr.StoreOpener{"file": func(_ context.Context, s dr.Site) (provider.BlobStore, error) {
			return local.NewBlobStore(local.Config{Dir: strings.TrimPrefix(s.Bucket, "file://")})
		}},
		Targets: map[string]dr.TargetOpener{"files": func(_ context.Context, w dr.Workload) (backup.Target, error) {
			return files.New(files.Config{Root: w.Source})
		}},
	})
	x.must(err)
	return p
}

// due does whatever is.
func (x *trouble) due() error {
	p := x.planner()
	for range 5 {
		plan, err := p.Plan(x.t.Context())
		if err != nil || len(plan.Actions) == 0 {
			return err
		}
		if _, err := p.Run(x.t.Context(), plan); err != nil {
			return err
		}
	}
	return errors.New("there is always something due")
}

func (x *trouble) list(dir string) (ids []backup.PointID) {
	for p, err := range x.must2(backup.Open(x.t.Context(), x.repository(dir, x.key))).Points(x.t.Context(), "") {
		x.must(err)
		ids = append(ids, p.ID)
	}
	return ids
}

func (x *trouble) restore(dir string, key *age.X25519Identity, id backup.PointID) error {
	repo, err := backup.Open(x.t.Context(), x.repository(dir, key))
	if err != nil {
		return err
	}
	d := backup.Destination{Location: x.t.TempDir()}
	if err := repo.Restore(x.t.Context(), id, x.must3(files.New(files.Config{})), d, backup.RestoreOptions{}); err != nil {
		return err
	}
	for path, want := range x.want {
		if got, err := os.ReadFile(filepath.Join(d.Location, path)); id == x.points[1] && (err != nil || string(got) != want) {
			return errors.Join(errors.New("restored something else"), err)
		}
	}
	return nil
}

// objects are the files that hold the objects of a store below a prefix.
func (x *trouble) objects(dir, sub string) (paths []string) {
	x.must(filepath.WalkDir(x.path(dir+"/data"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(filepath.ToSlash(path), sub) {
			paths = append(paths, path)
		}
		return err
	}))
	if len(paths) == 0 {
		x.t.Fatalf("%s has no objects %s", dir, sub)
	}
	return paths
}

// Each kind of trouble gives an error that says what is wrong and where, and
// when it is over everything is there.
func TestTrouble(t *testing.T) {
	tests := []struct {
		name string
		// meet makes the trouble, and returns a function that ends it (nil if
		// nothing has to be mended) and the error that a user would see.
		meet func(x *trouble) (end func(), err error)
		is   error    // in the chain, if not nil
		says []string // in the text
	}{
		{"wrong key", func(x *trouble) (end func(), err error) {
			other, err := age.GenerateX25519Identity()
			x.must(err)
			return nil, x.restore("b", other, x.points[1])
		}, backup.ErrNoIdentity, []string{"no identity matches", "encrypted to"}},

		{"truncated object", func(x *trouble) (end func(), err error) {
			pack := x.objects("b", "/d-data/")[0]
			whole, err := os.ReadFile(pack)
			x.must(err)
			x.must(os.WriteFile(pack, whole[:len(whole)/2], 0o600))
			err = errors.Join(x.restore("b", x.key, x.points[0]), x.restore("b", x.key, x.points[1]))
			return func() { x.must(os.WriteFile(pack, whole, 0o600)) }, err
		}, nil, []string{"data/"}},

		{"flipped bit", func(x *trouble) (end func(), err error) {
			flip := func() {
				for _, pack := range x.objects("b", "/d-data/") {
					b, err := os.ReadFile(pack)
					x.must(err)
					object := bytes.Index(b, []byte("holdfast\x00"))                // the header and its length follow
					b[object+12+int(binary.BigEndian.Uint32(b[object+8:]))+20] ^= 1 // in the first frame
					x.must(os.WriteFile(pack, b, 0o600))
				}
			}
			flip()
			report, err := x.must2(backup.Open(x.t.Context(), x.repository("b", x.key))).Check(x.t.Context(), backup.CheckOptions{ReadData: true})
			x.must(err)
			var problems []error
			for _, p := range report.Problems {
				if len(p.Points) == 0 {
					x.t.Errorf("the check does not say which points %s harms", p.Key)
				}
				problems = append(problems, errors.New(p.Key+": "+p.Text))
			}
			return flip, errors.Join(problems...)
		}, nil, []string{"data/"}},

		{"full disk", func(x *trouble) (end func(), err error) {
			x.write("orders/3", strings.Repeat("5 plums, and another 5; ", 100_000))
			full := providertest.NewFaulty(x.repository("a", x.key).Store, func(c providertest.Call) providertest.Fault {
				if c.Op == "put" {
					return providertest.Fault{Before: &provider.Error{Op: "put", Provider: "local", Key: c.Key, Err: syscall.ENOSPC}}
				}
				return providertest.Fault{}
			})
			conf := x.repository("a", x.key)
			conf.Store = full
			repo := x.must2(backup.Open(x.t.Context(), conf))
			_, err = repo.Backup(x.t.Context(), "orders", x.must3(files.New(files.Config{Root: x.path("orders")})), backup.BackupOptions{})
			if ids := x.list("a"); !slices.Equal(ids, x.points) {
				x.t.Errorf("after a full disk there are %v", ids)
			}
			return func() { x.must(os.Remove(x.path("orders/3"))); delete(x.want, "3") }, err
		}, syscall.ENOSPC, []string{"put ", "no space left on device"}},

		{"missing standby", func(x *trouble) (end func(), err error) {
			x.must(os.Rename(x.path("b"), x.path("gone")))
			return func() { x.must(os.Rename(x.path("gone"), x.path("b"))) }, x.planner().Check(x.t.Context())
		}, nil, []string{"sites.standby.bucket", "no such file or directory"}},

		{"missing primary", func(x *trouble) (end func(), err error) {
			x.must(os.Rename(x.path("a"), x.path("gone")))
			// Nothing may mistake the absence of a repository for a first run.
			if plan, err := x.planner().Plan(x.t.Context()); err == nil && len(plan.Actions) > 0 {
				x.t.Errorf("planned with the primary gone: %v", plan.Actions)
			}
			return func() { x.must(os.Rename(x.path("gone"), x.path("a"))) }, x.planner().Check(x.t.Context())
		}, nil, []string{"sites.primary.bucket", "no such file or directory"}},

		{"missing key file", func(x *trouble) (end func(), err error) {
			x.must(os.Rename(x.path("standby.key"), x.path("gone.key")))
			return func() { x.must(os.Rename(x.path("gone.key"), x.path("standby.key"))) }, x.planner().Check(x.t.Context())
		}, nil, []string{"recipients[0].identity", "standby.key"}},

		{"malformed config", func(x *trouble) (end func(), err error) {
			_, err = dr.Load(strings.NewReader("name: shop\nsites:\n  primary: {region: eu-west-1, buckit: s3://b}\n"))
			return nil, err
		}, nil, []string{"line 3", "buckit"}},

		{"config that is no YAML", func(x *trouble) (end func(), err error) {
			_, err = dr.Load(strings.NewReader("name: shop\ntargets: [\n"))
			return nil, err
		}, nil, []string{"line 2"}},

		{"config that contradicts itself", func(x *trouble) (end func(), err error) {
			c := x.config
			c.Workloads = slices.Clone(c.Workloads)
			c.Workloads[0].Every = dr.Duration(time.Hour)
			return nil, c.Validate()
		}, nil, []string{"targets[0].every", "cannot meet the RPO of 15m"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			x := newTrouble(t)
			end, err := test.meet(x)
			if err == nil {
				t.Fatal("no error")
			}
			t.Log(err)
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("%v: not %v", err, test.is)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%v: does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "AGE-SECRET-KEY") {
				t.Errorf("a key in an error: %v", err)
			}
			if end != nil {
				end()
			}
			for _, dir := range []string{"a", "b"} {
				if ids := x.list(dir); !slices.Equal(ids, x.points) {
					t.Errorf("at %s there are %v, there were %v", dir, ids, x.points)
				}
				for _, id := range x.points {
					if err := x.restore(dir, x.key, id); err != nil {
						t.Errorf("lost: %s at %s: %v", id, dir, err)
					}
				}
			}
		})
	}
}

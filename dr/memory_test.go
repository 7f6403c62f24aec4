package dr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// places is a small world of named places, each a set of files in memory: the
// targets of these tests are really read and really restored to.
type places struct {
	mu    sync.Mutex
	files map[string]map[string]string // place, path, content
	fail  map[string]error             // backups of a place fail with it
	block map[string]chan struct{}     // backups of a place wait for it
}

func newPlaces() *places {
	return &places{files: map[string]map[string]string{}, fail: map[string]error{}, block: map[string]chan struct{}{}}
}

func (p *places) write(place, path, content string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.files[place] == nil {
		p.files[place] = map[string]string{}
	}
	p.files[place][path] = content
}

func (p *places) at(place string) map[string]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.files[place])
}

func (p *places) destroy(place string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, place)
	p.fail[place] = errors.New("connection refused")
}

// placeTarget is a backup.Target of one place.
type placeTarget struct {
	p     *places
	place string
}

func (t placeTarget) Kind() string { return "memory" }

func (t placeTarget) Backup(ctx context.Context, s *backup.Session) error {
	t.p.mu.Lock()
	err, wait := t.p.fail[t.place], t.p.block[t.place]
	t.p.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err != nil {
		return err
	}
	files := t.p.at(t.place)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if err := s.Add(ctx, backup.Item{Path: path}, strings.NewReader(files[path])); err != nil {
			return err
		}
	}
	return nil
}

func (t placeTarget) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		r, err := v.Open(ctx, it)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return err
		}
		t.p.write(d.Location, it.Path, string(b))
	}
	return nil
}

// placeChecker holds what was restored against a rule: every file's content
// ends in "ok".
type placeChecker struct{ p *places }

func (c placeChecker) Check(_ context.Context, _ Workload, _ backup.Point, d backup.Destination) error {
	files := c.p.at(d.Location)
	if len(files) == 0 {
		return errors.New("nothing was restored")
	}
	for path, content := range files {
		if !strings.HasSuffix(content, "ok") {
			return fmt.Errorf("%s is not ok", path)
		}
	}
	return nil
}

func (c placeChecker) Remove(_ context.Context, d backup.Destination) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	delete(c.p.files, d.Location)
	return nil
}

func (c placeChecker) Gone(_ context.Context, d backup.Destination) (bool, error) {
	return len(c.p.at(d.Location)) == 0, nil
}

// service is a service at one site: it can be stopped, started and asked.
type service struct {
	mu      sync.Mutex
	name    string
	serving bool
	broken  bool
	fences  int
}

func (s *service) Fence(context.Context, uint64) (failover.FenceEvidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = false
	s.fences++
	return failover.FenceEvidence{Method: "stopped", Confirmed: true}, nil
}

func (s *service) Fenced(context.Context) (failover.FenceEvidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return failover.FenceEvidence{Method: "stopped", Confirmed: !s.serving && s.fences > 0}, nil
}

func (s *service) Unfence(context.Context, uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = true
	return nil
}

func (s *service) Promote(context.Context, uint64) (failover.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving, s.fences = true, 0
	return failover.Evidence{"serving": s.name}, nil
}

func (s *service) Promoted(context.Context) (failover.Observation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return failover.Observation{Done: s.serving, Evidence: failover.Evidence{}}, nil
}

func (s *service) Probe(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.serving || s.broken {
		return "", errors.New(s.name + " does not answer")
	}
	return s.name + " answers", nil
}

func (s *service) String() string { return "service at " + s.name }

func (s *service) destroy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
}

func (s *service) parts() SiteParts {
	return SiteParts{Fencer: s, Promoter: s, Private: []failover.Probe{s}}
}

// fixture is a configuration over memory, with two sites and a witness.
type fixture struct {
	places            *places
	stores            map[string]*providertest.Faulty // by bucket URL
	primary, standby  *service
	config            Config
	parts             Parts
	mu                sync.Mutex
	events            []Event
	primaryID, coldID string // files of identities
}

// newKey writes an identity to a file and returns its public key.
func newKey(t testing.TB, path string) string {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# made for a test\n"+id.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{
		places: newPlaces(), stores: map[string]*providertest.Faulty{},
		primary: &service{name: "primary", serving: true}, standby: &service{name: "standby"},
		primaryID: filepath.Join(dir, "primary.key"), coldID: filepath.Join(dir, "standby.key"),
	}
	f.places.write("mem-a:/orders", "one", "first ok")
	f.places.write("mem-a:/models", "m1", "model ok")
	f.config = Config{
		Name: "shop",
		Sites: Sites{
			Primary: Site{Region: "local-a", Bucket: "mem://a/"},
			Standby: Site{Region: "local-b", Bucket: "mem://b/"},
			Witness: &Site{Region: "local-c", Bucket: "mem://c/"},
		},
		Workloads: []Workload{
			{Name: "orders", Type: "memory", Source: "mem-a:/orders", RestoreTo: "mem-b:/orders", Every: Duration(5 * time.Minute),
				Retention: Retention{KeepLast: 3}, RTOClass: RTODataService, RPOClass: RPOCritical, Priority: 1},
			{Name: "models", Type: "memory", Source: "mem-a:/models", RestoreTo: "mem-b:/models", Every: Duration(30 * time.Minute),
				Retention: KeepFor(Duration(30 * Day)), RTOClass: RTOCritical, RPOClass: RPOStandard},
		},
		Recipients: []Recipient{
			{Name: "primary", Key: newKey(t, f.primaryID), Home: AtPrimary, Identity: Secret("file:" + f.primaryID)},
			{Name: "standby", Key: newKey(t, f.coldID), Home: AtStandby, Identity: Secret("file:" + f.coldID)},
		},
		Drill:    Drill{Scratch: "mem-s:/drill"},
		Failover: Failover{HealthInterval: Duration(10 * time.Second)},
	}
	for _, s := range f.config.sites() {
		f.stores[s.Bucket] = providertest.NewFaulty(providertest.NewMemory(), nil)
	}
	f.parts = Parts{
		Stores: map[string]StoreOpener{"mem": func(_ context.Context, s Site) (provider.BlobStore, error) {
			return f.stores[s.Bucket], nil
		}},
		Targets: map[string]TargetOpener{"memory": func(_ context.Context, w Workload) (backup.Target, error) {
			return placeTarget{f.places, w.Source}, nil
		}},
		Checkers: map[string]Checker{"memory": placeChecker{f.places}},
		SetAside: map[string]func(context.Context, backup.Destination) error{"memory": func(ctx context.Context, d backup.Destination) error {
			return placeChecker{f.places}.Remove(ctx, d)
		}},
		Primary: f.primary.parts(), Standby: f.standby.parts(),
		Events: func(e Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events = append(f.events, e)
		},
	}
	return f
}

// planner is a new process: it knows nothing but the configuration.
func (f *fixture) planner(t testing.TB) *Planner {
	t.Helper()
	p, err := New(f.config, f.parts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// catchUp plans and runs once.
func (f *fixture) catchUp(t testing.TB, p *Planner) (*Plan, *Outcome) {
	t.Helper()
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(t.Context(), plan)
	if err != nil {
		t.Fatalf("%v\n%v", err, plan)
	}
	return plan, out
}

// points counts the points of a workload at a site.
func points(t testing.TB, p *Planner, site, workload string) []backup.Point {
	t.Helper()
	w, err := p.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.sites[site].err; err != nil && !w.sites[site].absent {
		t.Fatal(err)
	}
	return w.sites[site].of(workload)
}

func (f *fixture) eventsOf(kind EventKind) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []Event
	for _, e := range f.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// Short names for scripts of faulty stores.
type (
	providertestCall  = providertest.Call
	providertestFault = providertest.Fault
)

var checkAll = backup.CheckOptions{ReadData: true}

var errAway = errors.New("no route to host")

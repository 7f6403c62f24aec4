package dr_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// localParts open what these tests use: directories as buckets, directory
// trees as workloads.
func localParts() dr.Parts {
	return dr.Parts{
		Stores: map[string]dr.StoreOpener{"file": func(_ context.Context, s dr.Site) (provider.BlobStore, error) {
			u, err := url.Parse(s.Bucket)
			if err != nil {
				return nil, err
			}
			return local.NewBlobStore(local.Config{Dir: filepath.FromSlash(u.Path), Create: true})
		}},
		Targets: map[string]dr.TargetOpener{"files": func(_ context.Context, w dr.Workload) (backup.Target, error) {
			return files.New(files.Config{Root: w.Source})
		}},
		Checkers: map[string]dr.Checker{"files": treeChecker{}},
		SetAside: map[string]func(context.Context, backup.Destination) error{"files": func(_ context.Context, d backup.Destination) error {
			err := os.Rename(d.Location, d.Location+".aside-"+time.Now().Format("150405.000000"))
			if errors.Is(err, os.ErrNotExist) {
				return nil
			}
			return err
		}},
	}
}

// treeChecker wants a file called "index" in what was restored.
type treeChecker struct{}

func (treeChecker) Check(_ context.Context, _ dr.Workload, _ backup.Point, d backup.Destination) error {
	_, err := os.Stat(filepath.Join(d.Location, "index"))
	return err
}

func (treeChecker) Remove(_ context.Context, d backup.Destination) error {
	return os.RemoveAll(d.Location)
}

func (treeChecker) Gone(_ context.Context, d backup.Destination) (bool, error) {
	_, err := os.Stat(d.Location)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// webService serves a directory while it is allowed to.
type webService struct {
	*httptest.Server
	mu      sync.Mutex
	serving bool
	dir     string
}

func newWebService(t *testing.T, dir string, serving bool) *webService {
	s := &webService{dir: dir, serving: serving}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.serving {
			http.Error(w, "standing by", http.StatusServiceUnavailable)
			return
		}
		http.ServeFile(w, r, filepath.Join(s.dir, "index"))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *webService) set(serving bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = serving
}

func (s *webService) is() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

func (s *webService) Fence(context.Context, uint64) (failover.FenceEvidence, error) {
	s.set(false)
	return failover.FenceEvidence{Method: "process stopped", Confirmed: true}, nil
}

func (s *webService) Fenced(context.Context) (failover.FenceEvidence, error) {
	return failover.FenceEvidence{Method: "process stopped", Confirmed: !s.is()}, nil
}

func (s *webService) Unfence(context.Context, uint64) error { s.set(true); return nil }

func (s *webService) Promote(context.Context, uint64) (failover.Evidence, error) {
	s.set(true)
	return nil, nil
}

func (s *webService) Promoted(context.Context) (failover.Observation, error) {
	return failover.Observation{Done: s.is(), Evidence: failover.Evidence{}}, nil
}

func (s *webService) parts() dr.SiteParts {
	return dr.SiteParts{Fencer: s, Promoter: s, Private: []failover.Probe{failover.HTTPProbe{URL: s.URL}}}
}

// zoneOf starts an authoritative DNS server with one address record.
func zoneOf(t *testing.T, name, addr string) (server string, dns *local.DNS) {
	t.Helper()
	key := local.DNSKey{Name: "holdfast.", Secret: "c2VjcmV0IG9mIHRoaXMgdGVzdCBvbmx5IQ=="}
	s, err := local.NewDNSServer(local.DNSServerConfig{Zone: "example.test.", Dir: t.TempDir(), Keys: []local.DNSKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	dns, err = local.NewDNS(local.DNSConfig{Server: s.Addr(), Zone: "example.test.", KeyName: key.Name, Secret: key.Secret})
	if err != nil {
		t.Fatal(err)
	}
	set := provider.RecordSet{Name: name, Type: "A", TTL: time.Minute, Values: []string{addr}}
	if _, err := dns.Swap(t.Context(), provider.Change{New: &set}); err != nil {
		t.Fatal(err)
	}
	return s.Addr(), dns
}

// The whole story on real parts: a configuration in YAML, directories, a DNS
// server, services over HTTP, a webhook. The primary site is deleted.
func TestLocalDisaster(t *testing.T) {
	dir := t.TempDir()
	at := func(parts ...string) string {
		return filepath.ToSlash(filepath.Join(append([]string{dir}, parts...)...))
	}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	write(t, at("standby.key"), id.String()+"\n")
	write(t, at("primary", "www", "index"), "hello")
	write(t, at("primary", "www", "pages", "one"), strings.Repeat("page one\n", 1000))

	primary, standby := newWebService(t, at("primary", "www"), true), newWebService(t, at("standby", "www"), false)
	server, dns := zoneOf(t, "www.example.test.", "127.0.0.1")
	var messages sync.Map
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		messages.Store(string(b), true)
	}))
	defer hook.Close()

	config, err := dr.Load(strings.NewReader(fmt.Sprintf(`
name: www
sites:
  primary: {region: local-a, bucket: "file://%[1]s/primary/bucket"}
  standby: {region: local-b, bucket: "file://%[1]s/standby/bucket"}
  witness: {region: local-c, bucket: "file://%[1]s/witness"}
targets:
  - name: www
    type: files
    source: %[1]s/primary/www
    restore_to: %[1]s/standby/www
    every: 5m
    retention: {keep_last: 5, daily: 7}
    rpo_class: critical
    rto_class: critical
recipients:
  - {name: standby, key: %[2]s, home: standby, identity: "file:%[1]s/standby.key"}
notify: ["webhook:%[3]s"]
dns: {zone: example.test, name: www.example.test, primary: 127.0.0.1, standby: 127.0.0.2, ttl: 60s, servers: ["%[4]s"]}
drill: {scratch: %[1]s/scratch}
failover: {settle: 100ms} # nothing here goes on after it was given up
`, filepath.ToSlash(dir), id.Recipient(), hook.URL, server)))
	if err != nil {
		t.Fatal(err)
	}
	parts := localParts()
	parts.DNS = func(context.Context, dr.DNS) (provider.DNSProvider, error) { return dns, nil }
	parts.Primary, parts.Standby = primary.parts(), standby.parts()
	process := func() *dr.Planner {
		p, err := dr.New(config, parts)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}

	p := process()
	if err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, p)
	if _, err := p.Drill(t.Context(), "www"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(at("scratch", "www")); err == nil && len(entries) > 0 {
		t.Errorf("the drill left %v", entries)
	}
	plan, err := p.Plan(t.Context())
	if err != nil || !plan.Readiness.Ready || len(plan.Violations) > 0 {
		t.Fatalf("%v\n%v", err, plan)
	}

	primary.Close()
	primary.set(false)
	if err := os.RemoveAll(at("primary")); err != nil {
		t.Fatal(err)
	}
	p = process()
	fplan, err := p.FailoverPlan(t.Context(), failover.Failover, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Failover(t.Context(), fplan, nil)
	if err != nil || r.Outcome != failover.Completed {
		t.Fatalf("%v: %+v", err, r)
	}
	resp, err := http.Get(standby.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "hello" {
		t.Errorf("the standby serves %q", body)
	}
	if b, _ := os.ReadFile(at("standby", "www", "pages", "one")); string(b) != strings.Repeat("page one\n", 1000) {
		t.Error("a page differs")
	}
	set, err := dns.Get(t.Context(), "www.example.test.", "A")
	if err != nil || set.Values[0] != "127.0.0.2" {
		t.Errorf("the name leads to %v, %v", set.Values, err)
	}
	told := false
	messages.Range(func(m, _ any) bool {
		told = told || strings.Contains(m.(string), "failover to standby done")
		return true
	})
	if !told {
		t.Error("nobody was told")
	}
	if plan, err = p.Plan(t.Context()); err != nil || plan.Active != dr.StandbySite {
		t.Errorf("%v\n%v", err, plan)
	}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, p *dr.Planner) {
	t.Helper()
	plan, err := p.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), plan); err != nil {
		t.Fatalf("%v\n%v", err, plan)
	}
}

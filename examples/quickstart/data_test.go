//go:build unix

package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// The user's own directory comes back as it was, and is only read.
func TestData(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "mine")
	oddTree(t, data)
	before, err := readTree(data)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	dir := stateOf(t)
	out, err := quickstart(t, "failover.restore:after", append([]string{"-dir", dir, "-keep", "-data", data}, fast...)...)
	if !killed(err) {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err = quickstart(t, "", "-dir", dir, "-keep", "-resume"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	after, err := readTree(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := compareTrees(before, after); err != nil {
		t.Errorf("the user's directory was changed: %v", err)
	}
	if now, err := os.Stat(data); err != nil || !now.ModTime().Equal(root.ModTime()) {
		t.Errorf("the user's directory was modified %v, before %v (%v)", now.ModTime(), root.ModTime(), err)
	}
	for site, operation := range map[string]string{standbySite: "failover", primarySite: "failback"} {
		got, err := readTree((&story{layout: layout{dir}}).restoredDir(site, operation))
		if err != nil {
			t.Fatal(err)
		}
		if err := compareTrees(before, got); err != nil {
			t.Errorf("restored at %s: %v", site, err)
		}
	}
	intervals, err := writableIntervals(dir, primarySite, standbySite)
	if err != nil || len(intervals) < 3 {
		t.Fatalf("%v, %v", intervals, err)
	}
	if err := checkIntervals(intervals); err != nil {
		t.Error(err)
	}
}

// A primary that was stopped, not killed, and wakes up after another site has
// taken over, accepts nothing: it does not even have to notice.
func TestSleeperIsFenced(t *testing.T) {
	t.Parallel()
	dir := stateOf(t)
	// Up to the point where the standby is about to be started, but with the
	// primary alive: it was stopped when the fence looked.
	out, err := quickstart(t, "config:before", append([]string{"-dir", dir, "-keep"}, fast...)...)
	if !killed(err) {
		t.Fatalf("%v\n%s", err, out)
	}
	log, err := openStageLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	st := &story{layout: layout{dir}, fleet: fleet{dir}, log: log}
	a, err := st.site(primarySite)
	if err != nil {
		t.Fatal(err)
	}
	in, alive := st.fleet.find(serviceProcess(primarySite))
	if !alive {
		t.Fatal("the primary does not run")
	}
	if _, err := postRecord(t.Context(), log.Run, in.Addr, "awake"); err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(in.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	fence, err := takeCharge(t, st, standbySite)
	if err != nil {
		t.Fatal(err)
	}
	if ev, err := a.Fenced(t.Context()); err != nil || ev.Confirmed {
		t.Errorf("a process that is alive and silent counts as fenced: %+v, %v", ev, err)
	}
	// What a fence may do that cannot kill: wait out the patience.
	time.Sleep(st.patience() - time.Since(fence))
	b, err := st.site(standbySite)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, standbySite, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.serve(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	// A write that reaches the sleeper first of all when it wakes up.
	refused := make(chan error, 1)
	go func() {
		_, err := (&client{c: clientConfig{Run: log.Run}}).post(t.Context(), in.Addr, "asleep")
		refused <- err
	}()
	time.Sleep(50 * time.Millisecond) // it is on its way; whenever it arrives the answer must be no
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-refused; err == nil || !strings.Contains(err.Error(), "fenced") {
		t.Errorf("a write to the sleeper: %v, want it refused as fenced", err)
	}
	got, err := a.await(t.Context(), func(s status) bool { return s.Sealed })
	if err != nil || got.Writable {
		t.Errorf("%+v, %v", got, err)
	}
	if resp, err := http.Get("http://" + in.Addr + "/healthz"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health of the sleeper: %v, %v", resp, err)
	}
	if ev, err := a.Fenced(t.Context()); err != nil || !ev.Confirmed {
		t.Errorf("a process that says it is fenced for good does not count as fenced: %+v, %v", ev, err)
	}
	if ev, err := a.Fence(t.Context(), 2); err != nil || !ev.Confirmed || in.alive() {
		t.Errorf("fence: %+v, %v; alive: %t", ev, err, in.alive())
	}
	if _, err := b.Fence(t.Context(), 2); !errors.Is(err, failover.ErrNoEffect) {
		t.Errorf("the site in charge was fenced: %v", err)
	}
	all, err := writableIntervals(dir, primarySite, standbySite)
	if err != nil || len(all) < 2 {
		t.Fatalf("%v, %v", all, err)
	}
	if err := checkIntervals(all); err != nil {
		t.Error(err)
	}
}

// takeCharge puts a site in charge as a failover run does, and tells when.
func takeCharge(t *testing.T, st *story, site string) (time.Time, error) {
	t.Helper()
	witness, err := st.openStore(witnessSite)
	if err != nil {
		return time.Time{}, err
	}
	l, err := failover.OpenLease(t.Context(), failover.LeaseConfig{Store: witness, Service: service, Holder: "test", TTL: time.Minute})
	if err != nil {
		return time.Time{}, err
	}
	held, err := l.Acquire(t.Context())
	if err != nil {
		return time.Time{}, err
	}
	if err := held.SetActive(t.Context(), site); err != nil {
		return time.Time{}, err
	}
	return time.Now(), held.Release(t.Context())
}

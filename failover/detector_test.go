package failover

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var detector = DetectorConfig{Signals: []string{"http", "heartbeat"}, Observers: []string{"a", "b", "c"}}

// votes: one letter per observer and signal, "http heartbeat" each of a, b, c:
// + ok, - failed, ? blind, . absent.
func votes(s string) (vs []Vote) {
	for i, field := range strings.Fields(s) {
		for j, c := range field {
			v := Vote{Observer: detector.Observers[j], Signal: detector.Signals[i], OK: c == '+', Blind: c == '?', Detail: "x"}
			if c != '.' {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

func TestDetector(t *testing.T) {
	for _, c := range []struct {
		name   string
		rounds []string
		want   Health
	}{
		{"all is well", []string{"+++ +++"}, Healthy},
		{"twice is not three times", []string{"--- ---", "--- ---"}, Suspect},
		{"three times", []string{"--- ---", "--- ---", "--- ---"}, Unhealthy},
		{"interrupted", []string{"--- ---", "--- ---", "+++ +++", "--- ---", "--- ---"}, Suspect},
		{"one signal alone", []string{"--- +++", "--- +++", "--- +++", "--- +++"}, Suspect},
		{"one observer alone", []string{"-++ -++", "-++ -++", "-++ -++", "-++ -++"}, Suspect},
		{"two of three", []string{"--+ --+", "--+ --+", "--+ --+"}, Unhealthy},
		{"different majorities", []string{"--+ +--", "--+ +--", "--+ +--"}, Unhealthy},
		{"blind observers do not vote", []string{"??- ??-", "??- ??-", "??- ??-"}, HealthUnknown},
		{"all blind", []string{"??? ???", "??? ???", "??? ???", "??? ???"}, HealthUnknown},
		{"nobody reports", []string{"", "", ""}, HealthUnknown},
		{"blind rounds do not count as failures", []string{"--- ---", "??? ???", "--- ---"}, Suspect},
		{"nor as successes", []string{"--- ---", "--- ---", "??? ???", "--- ---"}, Unhealthy},
		{"up again needs two", []string{"--- ---", "--- ---", "--- ---", "+++ +++"}, Unhealthy},
		{"up again", []string{"--- ---", "--- ---", "--- ---", "+++ +++", "+++ +++"}, Healthy},
		{"flapping is blocked", []string{"--- ---", "--- ---", "--- ---", "+++ +++", "+++ +++", "--- ---", "--- ---", "--- ---"}, Blocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			var (
				s   DetectorState
				v   Verdict
				now = decided
			)
			for _, r := range c.rounds {
				s, v = detector.Step(s, now, votes(r))
				now = now.Add(time.Minute)
			}
			if v.Health != c.want {
				t.Errorf("%s, want %s (%s)", v.Health, c.want, v.Reason)
			}
		})
	}
}

func TestDetectorCoolDown(t *testing.T) {
	var s DetectorState
	now, last := decided, Verdict{}
	round := func(v string, n int) {
		for range n {
			s, last = detector.Step(s, now, votes(v))
			now = now.Add(time.Minute)
		}
	}
	round("--- ---", 3)
	if last.Health != Unhealthy || !last.Changed || !last.Since.Equal(decided) {
		t.Fatalf("%+v", last)
	}
	round("+++ +++", 2)
	round("--- ---", 3)
	if last.Health != Blocked {
		t.Fatalf("%+v", last)
	}
	blocked := s
	round("--- ---", 60)
	if last.Health != Unhealthy {
		t.Errorf("after the cool-down: %+v", last)
	}
	s = blocked.Acknowledge()
	round("--- ---", 1)
	if last.Health != Unhealthy {
		t.Errorf("after acknowledgement: %+v", last)
	}
}

func TestDetectorIsPure(t *testing.T) {
	s, _ := detector.Step(DetectorState{}, decided, votes("--- ---"))
	before := s.Counts["a http"]
	detector.Step(s, decided, votes("--- ---"))
	if s.Counts["a http"] != before {
		t.Error("Step changed the state it was given")
	}
	if err := (DetectorConfig{Quorum: 3, Observers: []string{"a"}, Fail: -1}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("%v", err)
	}
}

type probeFunc func(context.Context) (string, error)

func (f probeFunc) Probe(ctx context.Context) (string, error) { return f(ctx) }
func (f probeFunc) String() string                            { return "func" }

// With the zero thresholds a site that dies is found with the third round,
// one that only hangs too, and the loop keeps its pace.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		probe := probeFunc(func(ctx context.Context) (string, error) {
			if dead.Load() {
				<-ctx.Done()
				return "", ctx.Err()
			}
			return "ok", nil
		})
		died := time.Now().Add(10*time.Minute + time.Second)
		time.AfterFunc(time.Until(died), func() { dead.Store(true) })
		var found Verdict
		var took time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		err := Watch(ctx, WatchConfig{
			Observers: []Observer{{Name: "here", Signals: map[string]Probe{"http": probe, "heartbeat": probe}}},
			Verdict: func(ctx context.Context, s DetectorState, v Verdict) DetectorState {
				if v.Health == Unhealthy {
					found, took = v, time.Since(died)
					cancel()
				}
				return s
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if want := 3*time.Minute - time.Second + 10*time.Second; took != want {
			t.Errorf("found after %v, want %v", took, want)
		}
		if since := found.Since.Sub(died); since < 0 || since > 70*time.Second {
			t.Errorf("since %v after the death", since)
		}
	})
}

// An observer that is cut off itself accuses nobody.
func TestWatchCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := probeFunc(func(context.Context) (string, error) { return "", errors.New("no route") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		rounds := 0
		Watch(ctx, WatchConfig{
			Observers: []Observer{{Name: "here", Canary: down, Signals: map[string]Probe{"http": down}}},
			Verdict: func(ctx context.Context, s DetectorState, v Verdict) DetectorState {
				rounds++
				if v.Health != HealthUnknown {
					t.Errorf("%+v", v)
				}
				return s
			},
		})
		if rounds != 60 {
			t.Errorf("%d rounds in an hour", rounds)
		}
	})
}

func TestProbes(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.Write([]byte("site=west"))
	}))
	t.Cleanup(srv.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	a := newAuthority(t, west)
	store := providertest.NewMemory()
	if _, err := store.Put(t.Context(), "beat", provider.Bytes([]byte("1")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		p    Probe
		want string // of the error; empty means none
	}{
		{HTTPProbe{URL: srv.URL + "/ready", Contains: "site=west"}, ""},
		{HTTPProbe{URL: srv.URL + "/ready", Contains: "site=east"}, "does not contain"},
		{HTTPProbe{URL: srv.URL + "/"}, "503"},
		{HTTPProbe{URL: srv.URL + "/", Status: 503}, ""},
		{HTTPProbe{URL: srv.URL + "/ready", Status: 204}, "200"},
		{HTTPProbe{URL: "http://" + nobody}, "refused"},
		{TCPProbe{srv.Listener.Addr().String()}, ""},
		{TCPProbe{nobody}, "refused"},
		{DNSProbe{Server: a.addr, Name: testName, Type: "A"}, ""},
		{DNSProbe{Server: a.addr, Name: testName, Type: "A", Want: []string{"198.51.100.8", "198.51.100.7"}}, ""},
		{DNSProbe{Server: a.addr, Name: testName, Type: "A", Want: []string{"192.0.2.1"}}, "not \"192.0.2.1\""},
		{DNSProbe{Server: a.addr, Name: testName, Type: "TXT"}, "no TXT records"},
		{DNSProbe{Server: a.addr, Name: testName, Type: "WHAT"}, "unknown record type"},
		{&BlobProbe{Store: store, Key: "beat", MaxAge: time.Minute}, ""},
		{&BlobProbe{Store: store, Key: "none"}, "not found"},
	} {
		_, err := c.p.Probe(t.Context())
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.p, err, c.want)
		}
	}
	secret := HTTPProbe{URL: "http://user:secret@" + nobody}
	if _, err := secret.Probe(t.Context()); strings.Contains(secret.String()+err.Error(), "secret") {
		t.Errorf("%s: %v", secret, err)
	}
}

// A heartbeat is old when it has not changed for so long by our own clock,
// whatever time its writer believes it is.
func TestBlobProbeAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewMemory()
		p := &BlobProbe{Store: store, Key: "beat", MaxAge: time.Minute}
		beat := func(s string) {
			if _, err := store.Put(t.Context(), "beat", provider.Bytes([]byte(s)), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		beat("1")
		time.Sleep(time.Hour)
		for i, step := range []struct {
			wait time.Duration
			beat string
			ok   bool
		}{{0, "", true}, {time.Minute, "", true}, {1, "", false}, {0, "2", true}, {time.Minute + 1, "", false}} {
			time.Sleep(step.wait)
			if step.beat != "" {
				beat(step.beat)
			}
			if _, err := p.Probe(t.Context()); (err == nil) != step.ok {
				t.Errorf("step %d: %v", i, err)
			}
		}
	})
}

func TestProbeAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := time.Now().Add(5500 * time.Millisecond)
		probe := probeFunc(func(context.Context) (string, error) {
			if time.Now().Before(up) {
				return "", errors.New("starting")
			}
			return "200 OK", nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		ev, err := ProbeAction(0, probe).Do(ctx, Call{})
		if err != nil || ev["func"] != "200 OK" || ev["rounds"] != "7" {
			t.Errorf("%v %v", ev, err)
		}
		never := probeFunc(func(context.Context) (string, error) { return "", errors.New("starting") })
		if _, err := ProbeAction(0, never).Do(ctx, Call{}); err == nil || !strings.Contains(err.Error(), "starting") || !errors.Is(err, ErrNoEffect) {
			t.Errorf("%v", err)
		}
	})
}

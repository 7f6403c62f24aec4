package throttle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const slowDown = `<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`

// bucket is one of MinIO, over a network, behind a Throttle.
func bucket(t *testing.T, attempts int, c throttle.Config) (provider.BlobStore, *throttle.Throttle, *badnet.Network) {
	t.Helper()
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	direct, err := aws.Open(t.Context(), aws.Config{
		Bucket: server.NewBucket(t, testenv.BucketOptions{}), Endpoint: n.URL, Region: server.Region, PathStyle: true, PartSize: 5 << 20, Attempts: attempts,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	s, th := wrap(t, direct, c)
	return s, th, n
}

// A real server that for a while asks to be left alone: the rate falls at the
// first such answer, although the SDK would have hidden it, nobody asks before
// the time, all of it is written, and the rate recovers.
func TestSlowDown(t *testing.T) {
	t.Parallel()
	s, th, n := bucket(t, 0, throttle.Config{Attempts: 20, Write: throttle.Limit{PerSecond: 400}})
	const pause = time.Second
	var mu sync.Mutex
	var declined, early int
	var first, until time.Time
	busy := time.Now().Add(2 * time.Second)
	n.Meets(1<<30, badnet.All, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		// What was under way when the first were declined may come late.
		if !first.IsZero() && now.After(first.Add(pause)) && now.Before(until.Add(-50*time.Millisecond)) && now.After(until.Add(300*time.Millisecond-pause)) {
			early++
		}
		if now.Before(busy) {
			if declined++; first.IsZero() {
				first = now
			}
			until = now.Add(pause)
			badnet.Answers(http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}}, slowDown)(w, r)
		}
	})
	const objects = 60
	var wg sync.WaitGroup
	errs := make([]error, objects)
	var low atomic.Uint64
	low.Store(1000)
	for i := range objects {
		wg.Go(func() {
			_, errs[i] = s.Put(t.Context(), fmt.Sprint("x", i), provider.Bytes([]byte(fmt.Sprint(i))), provider.PutOptions{IfAbsent: true})
			low.Store(min(low.Load(), uint64(th.Stats()[throttle.Write].PerSecond)))
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	for i := range objects {
		if b, _, err := provider.ReadAll(t.Context(), s, fmt.Sprint("x", i), 100); err != nil || string(b) != fmt.Sprint(i) {
			t.Errorf("x%d: %q, %v", i, b, err)
		}
	}
	stats := th.Stats()[throttle.Write]
	if declined == 0 || declined > 2*objects || early > 0 {
		t.Errorf("%d declined, %d early", declined, early)
	}
	if stats.Throttled != int64(declined) || low.Load() > 200 || stats.InFlight != 0 {
		t.Errorf("%d declined; the lowest rate was %d of 400; %+v", declined, low.Load(), stats)
	}
	recovered := func() bool { return th.Stats()[throttle.Write].PerSecond > float64(low.Load())+5 }
	for deadline := time.Now().Add(20 * time.Second); !recovered(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the rate does not recover: %+v", th.Stats()[throttle.Write])
		}
	}
}

// Attempts of the SDK and of this package are not multiplied, and each of them
// is seen and paid for here.
func TestAttemptsAreNotMultiplied(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sdk, here, want int }{{3, 3, 3}, {2, 3, 3}, {5, 2, 2}} {
		s, th, n := bucket(t, c.sdk, throttle.Config{Attempts: c.here})
		n.Meets(1<<30, badnet.All, badnet.Answers(http.StatusInternalServerError, nil, ""))
		_, err := s.Stat(t.Context(), "x")
		if got := int(n.Seen.Load()); err == nil || got != c.want {
			t.Errorf("%d attempts of the SDK, %d here: %d requests, want %d; %v", c.sdk, c.here, got, c.want, err)
		}
		if st := th.Stats()[throttle.Read]; st.Requests != int64(c.want) || st.Retries != int64(c.want-1) || st.InFlight != 0 {
			t.Errorf("%+v", st)
		}
	}
	// What is used up here ends the attempts of the SDK, too.
	s, th, n := bucket(t, 5, throttle.Config{Retries: 2})
	n.Meets(1<<30, badnet.All, badnet.Answers(http.StatusServiceUnavailable, nil, slowDown))
	for range 3 {
		if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrThrottled) {
			t.Errorf("%v, want ErrThrottled", err)
		}
	}
	if got := n.Seen.Load(); got != 3+2 {
		t.Errorf("%d requests of 3 calls and 2 retries: %+v", got, th.Stats()[throttle.Read])
	}
}

// A large body goes up in parts that are sent again one by one, never as a
// whole; what is refused for good is not sent again at all.
func TestParts(t *testing.T) {
	t.Parallel()
	s, th, n := bucket(t, 3, throttle.Config{Attempts: 3, Write: throttle.Limit{InFlight: 2}})
	body := bytes.Repeat([]byte("0123456789abcdef"), 11<<20/16)
	parts := func(r *http.Request) bool { return r.URL.Query().Has("partNumber") }
	n.Meets(2, parts, badnet.Answers(http.StatusServiceUnavailable, nil, slowDown))
	if _, err := s.Put(t.Context(), "x", provider.Bytes(body), provider.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	if got := n.Seen.Load(); got != 1+3+2+1 {
		t.Errorf("%d requests, want 7: a beginning, 3 parts, 2 of them again, an end", got)
	}
	got, _, err := provider.ReadAll(t.Context(), s, "x", int64(len(body)))
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// The parts never get there: each is tried three times at most.
	n.Clear()
	n.Seen.Store(0)
	n.Meets(1000, parts, badnet.Answers(http.StatusInternalServerError, nil, ""))
	if _, err := s.Put(t.Context(), "y", provider.Bytes(body), provider.PutOptions{}); err == nil || n.Seen.Load() > 1+3*3+1 {
		t.Errorf("%v after %d requests", err, n.Seen.Load())
	}
	if _, err := s.Stat(t.Context(), "y"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the failed put: %v", err)
	}
	n.Clear()
	n.Seen.Store(0)
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("small")), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) || n.Seen.Load() > 2 {
		t.Errorf("on a taken key: %v after %d requests", err, n.Seen.Load())
	}
	if st := th.Stats()[throttle.Write]; st.InFlight != 0 {
		t.Errorf("%+v", st)
	}
}

// No secret and no long text in what a call that was given up says.
func TestGaveUpSays(t *testing.T) {
	t.Parallel()
	s, _, n := bucket(t, 5, throttle.Config{Attempts: 2})
	n.Meets(1000, badnet.All, badnet.Answers(http.StatusServiceUnavailable, http.Header{"Retry-After": {"1"}}, slowDown))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := s.Put(ctx, "some/key", provider.Bytes(nil), provider.PutOptions{})
	e, ok := errors.AsType[*provider.Error](err)
	if !ok || e.Key != "some/key" || !errors.Is(err, provider.ErrThrottled) || provider.RetryAfter(err) != time.Second || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("%v", err)
	}
}

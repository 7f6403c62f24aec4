package throttle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/internal/throttle"
)

func Example() {
	l := throttle.New(1 << 20) // one MiB per second, for all that use l
	r := l.Reader(context.Background(), strings.NewReader("a pack"))
	b, err := io.ReadAll(r)
	fmt.Printf("%s %v %d\n", b, err, l.Limit())
	// Output: a pack <nil> 1048576
}

// took returns how long f takes in the time of a bubble.
func took(t *testing.T, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	if err := f(); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func near(got, want time.Duration) bool { return (got - want).Abs() <= want/1000 }

func drain(r io.Reader) func() error {
	return func() error { _, err := io.Copy(io.Discard, r); return err }
}

func TestRate(t *testing.T) {
	for _, perSecond := range []int64{1, 7, 1000, 1 << 20, 1 << 33} {
		synctest.Test(t, func(t *testing.T) {
			l := throttle.New(perSecond)
			n := int(min(5*perSecond, 1<<24))
			want := time.Duration(float64(n) / float64(perSecond) * float64(time.Second))
			if d := took(t, drain(l.Reader(t.Context(), bytes.NewReader(make([]byte, n))))); !near(d, want) {
				t.Errorf("%d bytes at %d per second took %v, want %v", n, perSecond, d, want)
			}
			if l.Limit() != perSecond {
				t.Errorf("Limit() = %d, want %d", l.Limit(), perSecond)
			}
		})
	}
}

func TestNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none *throttle.Limiter
		for _, l := range []*throttle.Limiter{none, throttle.New(0)} {
			if d := took(t, drain(l.Reader(t.Context(), bytes.NewReader(make([]byte, 1<<20))))); d != 0 || l.Limit() != 0 {
				t.Errorf("no limit took %v", d)
			}
		}
	})
}

func TestReadersShareTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := throttle.New(1000)
		d := took(t, func() error {
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					b := bytes.NewReader(make([]byte, 1000))
					if i%2 == 0 {
						drain(l.Reader(t.Context(), b))()
						return
					}
					drain(io.NewSectionReader(l.ReaderAt(t.Context(), b), 0, 1000))()
				})
			}
			wg.Wait()
			return nil
		})
		if !near(d, 10*time.Second) {
			t.Errorf("10 readers of 1000 bytes at 1000 per second took %v", d)
		}
	})
}

// A new rate holds for readers that are in the middle of their work.
func TestSetWhileReading(t *testing.T) {
	for _, tc := range []struct {
		then int64
		want time.Duration
	}{{10_000, 10*time.Second + 9*time.Second}, {0, 10 * time.Second}, {500, 10*time.Second + 180*time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			l := throttle.New(1000)
			go func() {
				time.Sleep(10 * time.Second)
				l.Set(tc.then)
			}()
			d := took(t, drain(l.Reader(t.Context(), bytes.NewReader(make([]byte, 100_000)))))
			if (d - tc.want).Abs() > 200*time.Millisecond {
				t.Errorf("1000 per second for 10 s, then %d: %v, want %v", tc.then, d, tc.want)
			}
		})
	}
}

func TestContent(t *testing.T) {
	content := []byte(strings.Repeat("holdfast", 1000))
	l := throttle.New(1 << 30)
	if err := iotest.TestReader(l.Reader(t.Context(), bytes.NewReader(content)), content); err != nil {
		t.Error(err)
	}
	at := l.ReaderAt(t.Context(), bytes.NewReader(content))
	if err := iotest.TestReader(io.NewSectionReader(at, 0, int64(len(content))), content); err != nil {
		t.Error(err)
	}
	small := throttle.New(100).ReaderAt(t.Context(), bytes.NewReader(content[:20])) // 10 bytes at a time
	p := make([]byte, 30)
	if n, err := small.ReadAt(p, 0); n != 20 || err != io.EOF || !bytes.Equal(p[:n], content[:20]) {
		t.Errorf("read %d, %v past the end", n, err)
	}
}

func TestErrorsPassThrough(t *testing.T) {
	broken := errors.New("broken")
	l := throttle.New(1 << 20)
	if _, err := io.ReadAll(l.Reader(t.Context(), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestCancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := throttle.New(1)
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := io.ReadAll(l.Reader(ctx, bytes.NewReader(make([]byte, 100))))
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 2500*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		// What was not waited for is given back.
		if d := took(t, func() error { return l.Wait(t.Context(), 1) }); d > time.Second {
			t.Errorf("the next byte took %v", d)
		}
	})
}

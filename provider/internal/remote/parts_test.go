package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A body of any size has at most 10,000 parts.
func TestPartSize(t *testing.T) {
	const most = 10_000
	for _, size := range []int64{1 << 24, 16<<20*most - 1, 16<<20*most + 1, 5 << 40} {
		each := PartSize(size, 16<<20, most)
		if n := Parts(size, each); n > most || each < 16<<20 {
			t.Errorf("%d bytes: %d parts of %d", size, n, each)
		}
	}
}

// What is sent is the body, in parts; not more of them than allowed are under
// way, or in memory.
func TestSendParts(t *testing.T) {
	for _, size := range []int{0, 1, 9, 10, 11, 99, 100, 101} {
		synctest.Test(t, func(t *testing.T) {
			content := make([]byte, size)
			for i := range content {
				content[i] = byte(i)
			}
			got := make([][]byte, Parts(int64(size), 10))
			var under, most atomic.Int32
			whole := sha256.New()
			err := SendParts(t.Context(), provider.Bytes(content), 10, 3, whole, func(_ context.Context, i int, b []byte) error {
				for n := under.Add(1); ; {
					if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
						break
					}
				}
				time.Sleep(time.Duration(100-i) * time.Second)
				got[i] = bytes.Clone(b)
				under.Add(-1)
				return nil
			})
			if err != nil || !bytes.Equal(bytes.Join(got, nil), content) || [32]byte(whole.Sum(nil)) != sha256.Sum256(content) {
				t.Errorf("%d bytes: %v, %d parts", size, err, len(got))
			}
			if want := min(3, len(got)); int(most.Load()) != want {
				t.Errorf("%d bytes: %d under way, want %d", size, most.Load(), want)
			}
		})
	}
}

func TestSendPartsFails(t *testing.T) {
	refused := errors.New("refused")
	var sent atomic.Int32
	err := SendParts(t.Context(), provider.Bytes(make([]byte, 1000)), 10, 3, io.Discard, func(ctx context.Context, i int, _ []byte) error {
		sent.Add(1)
		if i == 2 {
			return refused
		}
		if i > 2 {
			<-ctx.Done() // the others are told
		}
		return ctx.Err()
	})
	if !errors.Is(err, refused) || sent.Load() > 20 {
		t.Errorf("%v after %d parts", err, sent.Load())
	}
	short := io.NewSectionReader(bytes.NewReader(make([]byte, 95)), 0, 100)
	nothing := func(context.Context, int, []byte) error { return nil }
	if err := SendParts(t.Context(), short, 10, 3, io.Discard, nothing); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that ends early: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := SendParts(ended, provider.Bytes(make([]byte, 100)), 10, 3, io.Discard, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended ctx: %v", err)
	}
}

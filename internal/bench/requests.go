package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// countRequests is the environment variable that names the file to which
// drive writes how many requests its store has served.
const countRequests = "BENCH_REQUESTS"

// addLatency is the environment variable that says how long every request of
// drive waits before it begins.
const addLatency = "BENCH_LATENCY"

// counted counts requests. A listing counts once for every 1,000 objects, as
// clouds count.
type counted struct {
	provider.BlobStore
	n       atomic.Int64
	latency time.Duration
}

func (s *counted) request() {
	s.n.Add(1)
	time.Sleep(s.latency)
}

// Unwrap lets optional powers of the store be found. The few requests made
// through them are not counted.
func (s *counted) Unwrap() provider.BlobStore { return s.BlobStore }

func (s *counted) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	s.request()
	return s.BlobStore.Get(ctx, key, o)
}

func (s *counted) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	s.request()
	return s.BlobStore.Put(ctx, key, b, o)
}

func (s *counted) Stat(ctx context.Context, key string) (provider.Info, error) {
	s.request()
	return s.BlobStore.Stat(ctx, key)
}

func (s *counted) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	s.request()
	return s.BlobStore.Delete(ctx, key, o)
}

func (s *counted) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		s.request()
		n := 0
		for info, err := range s.BlobStore.List(ctx, prefix, o) {
			if n++; n%1000 == 0 {
				s.request()
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// write tells the number, if somebody asked.
func (s *counted) write() error {
	if name := os.Getenv(countRequests); name != "" {
		return os.WriteFile(name, fmt.Appendln(nil, s.n.Load()), 0o600)
	}
	return nil
}

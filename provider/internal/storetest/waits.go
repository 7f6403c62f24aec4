package storetest

import (
	"context"
	"errors"
	"testing"
	"time"
)

// WaitsAsLongAsItMay has two calls need the answer to one question, which
// never comes: the second, whose ctx ends, returns while the first still waits.
// asked says that the question has been sent.
func WaitsAsLongAsItMay(t *testing.T, call func(context.Context) error, asked func() bool) {
	t.Helper()
	held, release := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- call(held) }()
	defer func() { release(); <-first }()
	for deadline := time.Now().Add(time.Minute); !asked(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody asks")
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	second := make(chan error, 1)
	go func() { second <- call(short) }()
	select {
	case err := <-second:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that its ctx has ended", err)
		}
	case <-time.After(time.Minute):
		t.Error("it waits for another call longer than its ctx lasts")
		release()
		<-second
	}
}

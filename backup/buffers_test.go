package backup_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/internal/offheap"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// TestBuffersComeBack: buffers that the collector does not know of are given
// back however a backup or a prune ends.
func TestBuffersComeBack(t *testing.T) {
	if n := offheap.Out(); n != 0 {
		t.Fatalf("%d bytes were handed out before", n)
	}
	noise := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{7}).Read(noise)
	large := &tree{files: map[string]file{"pages": {content: string(noise[:3<<20]), block: 8 << 10}}}
	for i := range 9 {
		large.files[fmt.Sprint("f", i)] = file{content: string(noise[i*4<<20:][:4<<20])}
	}
	boom := errors.New("boom")
	for _, c := range []struct {
		name  string
		fault func(n int, cancel func()) error // of the nth put of a pack
		read  func(n int, cancel func()) error // before the nth item is read
		want  error
	}{
		{name: "to its end"},
		{name: "the store fails", fault: func(n int, _ func()) error { return boom }, want: boom},
		{name: "the store fails late", fault: func(n int, _ func()) error {
			if n >= 2 {
				return boom
			}
			return nil
		}, want: boom},
		{name: "the target fails", read: func(n int, _ func()) error {
			if n == 5 {
				return boom
			}
			return nil
		}, want: boom},
		{name: "cancelled while it reads", read: func(n int, cancel func()) error {
			if n == 5 {
				cancel()
			}
			return nil
		}, want: context.Canceled},
		{name: "cancelled while it uploads", fault: func(n int, cancel func()) error { cancel(); return nil }, want: context.Canceled},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := providertest.NewFaulty(providertest.NewMemory(), nil)
			r := newRepo(t, store)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			puts, items := 0, 0
			store.Use(func(call providertest.Call) providertest.Fault {
				if c.fault == nil || call.Op != "put" || !strings.HasPrefix(call.Key, "data/") {
					return providertest.Fault{}
				}
				puts++
				return providertest.Fault{Before: c.fault(puts, cancel)}
			})
			large.during = func(string) error {
				items++
				if c.read == nil {
					return nil
				}
				return c.read(items, cancel)
			}
			_, err := r.Backup(ctx, "w", large, backup.BackupOptions{})
			if !errors.Is(err, c.want) {
				t.Errorf("backup: %v, want %v", err, c.want)
			}
			if n := offheap.Out(); n != 0 {
				t.Errorf("%d bytes are still handed out", n)
			}
		})
	}
}

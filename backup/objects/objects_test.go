package objects_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/backuptest"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func target(t testing.TB, c objects.Config) *objects.Target {
	t.Helper()
	target, err := objects.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func repository(t testing.TB, s provider.BlobStore) *backup.Repository {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := backup.Init(t.Context(), backup.Config{Store: s, Writer: "w", PackSize: 2 << 20, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func put(t testing.TB, s provider.BlobStore, key, body string, meta map[string]string) provider.Info {
	t.Helper()
	info, err := s.Put(context.Background(), key, provider.Bytes([]byte(body)), provider.PutOptions{Meta: meta})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// state describes every object below a prefix: its key, its content and its
// Meta.
func state(ctx context.Context, s provider.BlobStore, prefix string) (string, error) {
	var b strings.Builder
	for info, err := range s.List(ctx, prefix, provider.ListOptions{}) {
		if err != nil {
			return "", err
		}
		r, info, err := s.Get(ctx, info.Key, provider.GetOptions{})
		if err != nil {
			return "", err
		}
		content, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%q %d %s", strings.TrimPrefix(info.Key, prefix), len(content), short(content))
		for _, k := range slices.Sorted(maps.Keys(info.Meta)) {
			fmt.Fprintf(&b, " %s=%q", k, info.Meta[k])
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

func short(b []byte) string {
	if len(b) > 40 {
		return hex.EncodeToString(bytes.Trim(b[:8], "\x00")) + "..." + hex.EncodeToString(b[len(b)-16:])
	}
	return fmt.Sprintf("%q", b)
}

func mustState(t testing.TB, s provider.BlobStore, prefix string) string {
	t.Helper()
	text, err := state(t.Context(), s, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestTarget(t *testing.T) {
	backuptest.TestTarget(t, func(t *testing.T) backuptest.Subject {
		s, n, d := providertest.NewMemory(), 0, 0
		fill(t, s, "in/")
		return backuptest.Subject{
			Target: target(t, objects.Config{Store: s, Prefix: "in/"}),
			State:  func() (string, error) { return state(context.Background(), s, "in/") },
			Change: func() error {
				n++
				put(t, s, "in/new/"+fmt.Sprint(n), "new", nil)
				put(t, s, "in/a", fmt.Sprint("changed ", n), map[string]string{"n": fmt.Sprint(n)})
				return s.Delete(t.Context(), fmt.Sprintf("in/many/%d", n), provider.DeleteOptions{})
			},
			Destination: func() (backup.Destination, error) {
				d++
				return backup.Destination{Location: fmt.Sprintf("out%d/", d)}, nil
			},
			Restored: func(d backup.Destination) (string, error) { return state(context.Background(), s, d.Location) },
		}
	})
}

// oddKeys are some that are no paths.
var oddKeys = []string{
	"a", "a/b", "a-b", "a.b", "a/", "a//b", "a/./b", "a/../b", "/lead", "//", "/", "..", "../x", "../../etc/passwd", ".", "./", "a\x00b", "a\x00",
	"\x01", "a\x01", "tail ", "a b", "ü/€/𝄞", "\U0010ffff", ".\U0010ffff", "a.\U0010ffff", "a\\b", "%2f", "?q#f", strings.Repeat("x/", 300),
}

// fill puts the odd keys, many small objects, and two that take several parts.
func fill(t testing.TB, s provider.BlobStore, prefix string) {
	t.Helper()
	for i, k := range oddKeys {
		put(t, s, prefix+k, fmt.Sprintf("content of %q", k), map[string]string{"number": fmt.Sprint(i), "of": "odd"})
	}
	for i := range 40 {
		put(t, s, fmt.Sprintf("%smany/%d", prefix, i), strings.Repeat(fmt.Sprintf("object %d\n", i), i*i), nil)
	}
	put(t, s, prefix+"empty", "", nil)
	put(t, s, prefix+"large", noise(9<<20, 1), map[string]string{"large": "yes"})
	put(t, s, prefix+"part", noise(4<<20, 2), nil)
	put(t, s, prefix+"part+1", noise(4<<20+1, 3), nil)
}

// noise is content that does not compress.
func noise(n int, seed byte) string {
	type made struct {
		n    int
		seed byte
	}
	if s, ok := noises.Load(made{n, seed}); ok {
		return s.(string)
	}
	b := make([]byte, n)
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	noises.Store(made{n, seed}, string(b))
	return string(b)
}

var noises sync.Map // what was made before

package providertest_test

import (
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestBucket(t *testing.T) {
	b := providertest.NewBucket(providertest.BucketOptions{})
	storetest.Conforms(t, storetest.Subject{Name: "bucket", Open: func(testing.TB) provider.BlobStore { return b },
		Differs: map[string]string{"blob/warm*": "has no cold tiers; Memory does"}})
}

// A fault wrapper in front of a bucket, and a part of one, keep versions.
func TestVersionsThroughWrappers(t *testing.T) {
	only := []string{"blob/versions", "blob/versions-deleted", "blob/versions-list", "blob/versions-error"}
	b := providertest.NewBucket(providertest.BucketOptions{})
	for name, s := range map[string]provider.BlobStore{
		"faulty": providertest.NewFaulty(b, nil),
		"sub":    provider.Sub(b, "part/"),
		"all":    b.As(func(string, string) bool { return true }),
	} {
		report := providertest.CheckBlobStore(t.Context(), s, providertest.CheckOptions{Only: only})
		for _, r := range report.Results {
			if r.Outcome != providertest.Pass {
				t.Errorf("%s: %s: %s: %v", name, r.ID, r.Outcome, r.Err)
			}
		}
	}
}

// What an attacker with a stolen credential can do to a locked bucket: much,
// but no version is lost before its retention ends.
func TestBucketUnderAttack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		b := providertest.NewBucket(providertest.BucketOptions{DefaultKeep: time.Hour})
		writer := b.As(providertest.CreateOnly("packs/"))
		first, err := writer.Put(ctx, "points/1", provider.Bytes([]byte("true")), provider.PutOptions{IfAbsent: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Put(ctx, "packs/1", provider.Bytes([]byte("secret")), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}

		locker, _ := provider.As[provider.Locker](writer)
		_, _, getErr := writer.Get(ctx, "packs/1", provider.GetOptions{})
		_, statErr := writer.Stat(ctx, "packs/1")
		for what, err := range map[string]error{
			"delete": writer.Delete(ctx, "points/1", provider.DeleteOptions{}), "get of a pack": getErr, "stat of a pack": statErr,
			"lock": locker.Lock(ctx, "points/1", provider.Retention{Mode: provider.Compliance, Until: time.Now().Add(time.Minute)}),
		} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s with a credential that may only create: %v", what, err)
			}
		}

		if _, err := writer.Put(ctx, "points/1", provider.Bytes([]byte("false")), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		b.Hide("points/1")
		if err := b.DeleteVersion("points/1", first.Version); !errors.Is(err, provider.ErrLocked) {
			t.Errorf("removed a version under retention: %v", err)
		}
		if _, err := writer.Stat(ctx, "points/1"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("hidden, and found: %v", err)
		}
		var got []string
		for v, err := range provider.Versions(ctx, writer, "points/", provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(v.Version))
			if len(got) == 1 && v.Version != first.Version {
				t.Errorf("the oldest version is %q, want %q", v.Version, first.Version)
			}
		}
		if len(got) != 3 {
			t.Errorf("versions %q, want the true one, the false one and the deletion", got)
		}

		time.Sleep(2 * time.Hour)
		if err := b.DeleteVersion("points/1", first.Version); err != nil {
			t.Errorf("after the end of its retention: %v", err)
		}
		if err := b.DeleteVersion("points/1", first.Version); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
	})
}

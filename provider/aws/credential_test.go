package aws_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
)

// A writer whose credential may only create: it cannot read packs, delete or
// shorten, and what it overwrites is still there.
func TestCreateOnlyCredential(t *testing.T) {
	server := testenv.MinIO(t)
	ctx := t.Context()
	bucket := server.NewBucket(t, testenv.BucketOptions{Keep: 24 * time.Hour})
	owner := open(t, server, bucket, server.Credential, nil)
	stolen := server.CreateOnly(t, bucket, "packs/")
	writer := open(t, server, bucket, stolen, func(c *aws.Config) { c.PartSize = 5 << 20 })

	first, err := writer.Put(ctx, "points/1", provider.Bytes([]byte("true")), provider.PutOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{100, 6 << 20} { // at once, and in parts
		retain := provider.Retention{Mode: provider.Compliance, Until: time.Now().Add(48 * time.Hour)}
		if _, err := writer.Put(ctx, "packs/1", provider.Bytes(make([]byte, size)), provider.PutOptions{Retain: retain}); err != nil {
			t.Fatal(err)
		}
	}
	if b, _, err := provider.ReadAll(ctx, writer, "points/1", 100); err != nil || string(b) != "true" {
		t.Errorf("get of its own point: %q, %v", b, err)
	}
	listed := 0
	for _, err := range writer.List(ctx, "", provider.ListOptions{}) {
		if err != nil {
			t.Error(err)
		}
		listed++
	}
	if listed != 2 {
		t.Errorf("lists %d objects, want 2", listed)
	}

	_, _, getErr := writer.Get(ctx, "packs/1", provider.GetOptions{})
	_, statErr := writer.Stat(ctx, "packs/1")
	_, putErr := writer.Put(ctx, "packs/1", provider.Bytes([]byte("other")), provider.PutOptions{IfAbsent: true})
	for what, err := range map[string]error{
		"get of a pack": getErr, "stat of a pack": statErr, "delete of a pack": writer.Delete(ctx, "packs/1", provider.DeleteOptions{}),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, want fs.ErrPermission", what, err)
		}
	}
	if !errors.Is(putErr, provider.ErrConflict) {
		t.Errorf("put of a pack that is there: %v", putErr)
	}

	// Without this library: the plain delete, and that of a version.
	thief := s3.New(s3.Options{Region: server.Region, BaseEndpoint: &server.Endpoint, UsePathStyle: true, Credentials: staticCredentials(stolen)})
	var versionID string
	out, err := thief.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: &bucket, Prefix: awssdk.String("points/1")})
	if err != nil {
		t.Fatal(err)
	}
	versionID = *out.Versions[0].VersionId
	for what, in := range map[string]*s3.DeleteObjectInput{
		"delete":         {Bucket: &bucket, Key: awssdk.String("points/1")},
		"delete version": {Bucket: &bucket, Key: awssdk.String("points/1"), VersionId: &versionID},
	} {
		if _, err := thief.DeleteObject(ctx, in); err == nil {
			t.Errorf("%s: allowed", what)
		}
	}
	if _, err := writer.Put(ctx, "points/1", provider.Bytes([]byte("false")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	// Not even the owner can remove a version under the bucket's retention.
	if _, err := server.Client().DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &bucket, Key: awssdk.String("points/1"), VersionId: &versionID}); err == nil {
		t.Error("a version under retention was removed")
	}
	var got [][]byte
	for v, err := range owner.Versions(ctx, "points/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 && v.Version != first.Version {
			t.Errorf("the oldest version is %q, want %q", v.Version, first.Version)
		}
		r, _, err := writer.Get(ctx, v.Key, provider.GetOptions{Version: v.Version})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		_, err = b.ReadFrom(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b.Bytes())
	}
	if want := "true false"; string(bytes.Join(got, []byte(" "))) != want {
		t.Errorf("versions are %q, want %q", got, want)
	}
	info, err := owner.Stat(ctx, "packs/1")
	if err != nil || info.Retain.Mode != provider.Compliance || time.Until(info.Retain.Until) < 47*time.Hour {
		t.Errorf("retention of the pack: %+v, %v", info.Retain, err)
	}
}

package testenv

import (
	"archive/tar"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/moby/moby/client"
)

// Plant puts n empty objects into a bucket, under the keys of key(0) to
// key(n-1), by way of the server's disk, which takes a hundredth of the time of
// as many requests: copies of what the server itself keeps of an empty object.
// Keys are of [a-z0-9/].
func (s *S3) Plant(t testing.TB, bucket string, n int, key func(int) string) {
	t.Helper()
	object := s.onDisk(t, bucket)
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		var err error
		for i := 0; i < n && err == nil; i++ {
			err = object(archive, bucket+"/"+key(i))
		}
		w.CloseWithError(errors.Join(err, archive.Close()))
	}()
	docker, err := connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer docker.Close()
	_, err = docker.Client().CopyToContainer(t.Context(), s.container.GetContainerID(), client.CopyToContainerOptions{DestinationPath: "/data", Content: r})
	r.CloseWithError(errors.New("the copy has ended"))
	if err != nil {
		t.Fatal(err)
	}
}

// onDisk says how the server keeps an empty object on its disk.
func (s *S3) onDisk(t testing.TB, bucket string) func(w *tar.Writer, name string) error {
	t.Helper()
	if s.Name == versitygw.name {
		// A file, with what it is in extended attributes.
		sum := md5.Sum(nil)
		attributes := map[string]string{"SCHILY.xattr.user.etag": hex.EncodeToString(sum[:])}
		return func(w *tar.Writer, name string) error {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, PAXRecords: attributes})
		}
	}
	// A directory with a file of metadata, which does not name the object.
	const sample = "sample"
	if _, err := s.Client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &bucket, Key: aws.String(sample), Body: strings.NewReader("")}); err != nil {
		t.Fatal(err)
	}
	meta := s.read(t, path.Join("/data", bucket, sample, "xl.meta"))
	if _, err := s.Client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: aws.String(sample)}); err != nil {
		t.Fatal(err)
	}
	return func(w *tar.Writer, name string) error {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name + "/xl.meta", Mode: 0o644, Size: int64(len(meta))})
		if err == nil {
			_, err = w.Write(meta)
		}
		return err
	}
}

// read returns the content of a file in the container.
func (s *server) read(t testing.TB, file string) []byte {
	t.Helper()
	r, err := s.container.CopyFileFromContainer(context.WithoutCancel(t.Context()), file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

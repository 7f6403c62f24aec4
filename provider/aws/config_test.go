package aws

import (
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	good := Config{Bucket: "b"}
	if err := good.complete(); err != nil || good.PartSize != 16<<20 || good.Concurrency != 4 || good.Attempts != 5 || good.Checksum != ChecksumSHA256 {
		t.Errorf("%+v, %v", good, err)
	}
	bad := Config{Endpoint: "https://user:secret@host", Checksum: "md4", CustomerKey: []byte("secret"), KMSKey: "k", PartSize: 1, Concurrency: -1, Attempts: 101}
	err := bad.complete()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Bucket", "Endpoint", "Checksum", "CustomerKey", "PartSize", "Concurrency", "Attempts"} {
		if !strings.Contains(err.Error(), "Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells a secret", err)
	}
	if _, err := Open(t.Context(), Config{Bucket: "b", Region: "r", CA: []byte("no PEM")}); err == nil || !strings.Contains(err.Error(), "CA") {
		t.Errorf("a CA that is none: %v", err)
	}
}

func TestMeta(t *testing.T) {
	meta := map[string]string{"a": "plain", "b": "two  spaces", "c": "=?utf-8?q?x?=", "d": metaCoded + "eA", "e": ""}
	coded := encodeMeta(meta)
	coded[metaWrite], coded[metaSum] = "name", strings.Repeat("ab", 32)
	got, sum, write := decodeMeta(coded)
	if len(got) != len(meta) || sum[0] != 0xab || write != "name" {
		t.Errorf("%q, %x, %q", got, sum, write)
	}
	for k, v := range meta {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
		if strings.Contains(coded[k], "  ") || strings.Contains(coded[k], "=?") || coded[k] == "" {
			t.Errorf("%s goes out as %q", k, coded[k])
		}
	}
}

// A body of any size has at most 10,000 parts.
func TestPartSize(t *testing.T) {
	for _, size := range []int64{1 << 24, 16<<20*maxParts - 1, 16<<20*maxParts + 1, 5 << 40} {
		each := partSize(size, 16<<20)
		if n := (size + each - 1) / each; n > maxParts || each < 16<<20 {
			t.Errorf("%d bytes: %d parts of %d", size, n, each)
		}
	}
}

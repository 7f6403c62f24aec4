package azure

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

func TestConfig(t *testing.T) {
	good := Config{Container: "ccc", Account: "a"}
	if err := good.complete(); err != nil || good.PartSize != 16<<20 || good.Concurrency != 4 || good.Attempts != 5 {
		t.Errorf("%+v, %v", good, err)
	}
	bad := Config{Container: "C", Account: "a.b", Endpoint: "https://user:secret@host", AccountKey: "secret!", SAS: "secret",
		CustomerKey: []byte("secret"), EncryptionScope: "s", Tier: "archive", PartSize: 1, Concurrency: -1, Attempts: 101}
	err := bad.complete()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Container", "Account", "Endpoint", "AccountKey", "SAS", "CustomerKey", "Tier", "PartSize", "Concurrency", "Attempts"} {
		if !strings.Contains(err.Error(), "Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells a secret", err)
	}
	key := base64.StdEncoding.EncodeToString(make([]byte, 64))
	for what, c := range map[string]Config{
		"CA":               {Account: "a", SAS: "sig=x", CA: []byte("no PEM")},
		"Account":          {},
		"AccountKey":       {Endpoint: "https://host", AccountKey: key},
		"ConnectionString": {ConnectionString: "secret"},
		"SAS":              {Account: "a", SAS: "sp=r"},
		"Endpoint":         {Endpoint: "https://host?sig=secret"},
		"CustomerKey":      {Endpoint: "http://host/a", SAS: "sig=x", CustomerKey: make([]byte, 32)},
	} {
		c.Container = "ccc"
		if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "Config."+what+":") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
	both := Config{Container: "ccc", Account: "a", ConnectionString: "AccountName=a;AccountKey=" + key, SAS: "sig=x"}
	if err := both.complete(); err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("two credentials: %v", err)
	}
}

// Where the container is, by each way to say it.
func TestPlace(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, 64))
	for want, c := range map[string]Config{
		"https://acc.blob.core.windows.net/ccc":            {Account: "acc"},
		"https://acc.blob.core.windows.net/ccc?sv=1&sig=x": {Account: "acc", SAS: "?sv=1&sig=x"},
		"http://127.0.0.1:10000/acc/ccc":                   {Account: "acc", AccountKey: key, Endpoint: "http://127.0.0.1:10000/acc/"},
		"https://acc.blob.example/ccc":                     {ConnectionString: "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=" + key + ";EndpointSuffix=example"},
		"https://e.example/ccc?sv=1&sig=x":                 {ConnectionString: "BlobEndpoint=https://e.example/;SharedAccessSignature=sv=1&sig=x"},
	} {
		c.Container = "ccc"
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		if got := strings.Replace(s.client.URL(), "/?", "?", 1); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	long := strings.Repeat("s/", 253) + "s"
	for _, key := range []string{"a", "a/b.c/..d", "ü", "日本/語", "（1）.txt", "%2e", "#?&+ ~", long, strings.Repeat("n", 255)} {
		if err := checkKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "a.", "a./b", "a/..", "a...", "a\\b", "a\nb", "a\x7f", "a\u0081", "\ue000", "\ufdd0",
		"\ufeff\ufffe", "\ufff0", "😀", "a\xff", long + "/s", strings.Repeat("n", 256), strings.Repeat("a/bcdefgh/", 103)} {
		if err := checkKey(key); !errors.Is(err, provider.ErrInvalidKey) {
			t.Errorf("%q: %v", key, err)
		}
	}
	for prefix, want := range map[string]bool{"": true, "a": true, "a/": true, "a.": true, "a/..": true, "日"[:1]: true, "a/日"[:4]: true,
		"a./": false, "a//": false, "/": false, "../": false, "a\\": false, "a\x00": false, "\xff": false, "a\xffb": false, "😀": false} {
		if beginsKeys(prefix) != want {
			t.Errorf("prefix %q: %v", prefix, !want)
		}
	}
}

// Metadata has names that C# takes, and comes back as it was.
func TestMeta(t *testing.T) {
	meta := map[string]string{"a": "plain", "0": "two  spaces", "-a-": "x", "class": "", "m-a": "y", "holdfast": "z"}
	coded := encodeMeta(meta, [32]byte{0xab}, "name")
	for k, v := range coded {
		if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(k) || strings.Contains(*v, "  ") || *v == "" {
			t.Errorf("%q: %q goes out", k, *v)
		}
	}
	foreign := map[string]*string{"Author_Name": pointer("somebody"), "A": pointer("not ours")}
	maps.Copy(foreign, coded)
	canonical := map[string]*string{} // as a header comes in
	for k, v := range foreign {
		canonical[strings.ToUpper(k[:1])+k[1:]] = v
	}
	got, sum, write := decodeMeta(canonical)
	if sum != [32]byte{0xab} || write != "name" || got["author-name"] != "somebody" {
		t.Errorf("%q, %x, %q", got, sum, write)
	}
	delete(got, "author-name")
	if !maps.Equal(got, meta) {
		t.Errorf("%q, want %q", got, meta)
	}
}

// A store is named without its credential, whichever way it is printed.
func TestString(t *testing.T) {
	for _, c := range []Config{
		{Container: "ccc", Account: "acc", AccountKey: "c2VjcmV0"},
		{Container: "ccc", Endpoint: "https://acc.blob.core.windows.net/", SAS: "sp=r&sig=c2VjcmV0"},
		{Container: "ccc", ConnectionString: "BlobEndpoint=https://acc.blob.core.windows.net;SharedAccessSignature=sp=r&sig=c2VjcmV0"},
	} {
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{"%v", "%+v", "%s"} {
			if got, want := fmt.Sprintf(form, s), "container ccc of Blob Storage at acc.blob.core.windows.net"; got != want {
				t.Errorf("%s: %q, want %q", form, got, want)
			}
		}
	}
}

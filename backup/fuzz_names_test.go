package backup

import (
	"bytes"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// An object of any name and content beside a good point: whoever looks at the
// repository finds the point whole, and what cannot be read is named.
func FuzzNames(f *testing.F) {
	conf := func(s provider.BlobStore) Config {
		return Config{Store: s, Writer: "fuzz", Workers: 1, Keyring: Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}}
	}
	good := providertest.NewMemory()
	r, err := Init(f.Context(), conf(good))
	if err != nil {
		f.Fatal(err)
	}
	p, err := r.Backup(f.Context(), "n", things{"a": "alpha"}, BackupOptions{})
	if err != nil {
		f.Fatal(err)
	}
	objects := map[string][]byte{}
	for info, err := range good.List(f.Context(), "", provider.ListOptions{}) {
		if err != nil {
			f.Fatal(err)
		}
		if objects[info.Key], _, err = provider.ReadAll(f.Context(), good, info.Key, 1<<20); err != nil {
			f.Fatal(err)
		}
	}
	const other = "20261123t084735.123z-9f86d081884c7d65"
	l := testLog(f)
	for _, key := range []string{
		"points/" + other, "points/x", "sessions/" + other, "sessions/" + other + ".copy", "sessions/" + other + ".copy.end", "sessions/" + other + ".copy.99999999999999999999",
		"condemned/" + other, "condemned/" + other + ".verdict", "condemned/" + other + ".deleting-", "condemned/" + other[:30],
		"verified/" + other, "forgotten/" + other, "keys/0000000000000002", "keys/9999999999999999", "keys/+000000000000002",
		"index/" + strings.Repeat("ab", 32), "data/ab/" + strings.Repeat("ab", 32), "meta/cd/" + strings.Repeat("ab", 32),
		l.prefix + "00000001/start", l.prefix + "00000001/0000000000000000-0000000000000005", "logs/x", "logs/x/y/z",
	} {
		f.Add(key, []byte("x"))
		for k, b := range objects {
			if kind, _, _ := strings.Cut(k, "/"); strings.HasPrefix(key, kind) {
				f.Add(key, b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, key string, b []byte) {
		if _, there := objects[key]; there {
			return
		}
		store := providertest.NewMemory()
		put := func(key string, b []byte) bool {
			_, err := store.Put(t.Context(), key, provider.Bytes(b), provider.PutOptions{})
			return err == nil
		}
		for k, b := range objects {
			put(k, b)
		}
		if !put(key, b) {
			return // no name of an object
		}
		r, err := Open(t.Context(), conf(store))
		known(t, err)
		if err != nil {
			if !strings.HasPrefix(key, keysPrefix) && !strings.HasPrefix(key, "format") {
				t.Fatalf("%q keeps the repository from being opened: %v", key, err)
			}
			return
		}
		whole := func(when string) {
			rep, err := r.Check(t.Context(), CheckOptions{ReadData: true})
			if err != nil || rep.Whole != 1 {
				t.Errorf("%s: %s, %v", when, rep, err)
			}
			v, err := r.View(t.Context(), p.ID)
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range v.Items(t.Context()) {
				if err != nil {
					t.Error(err)
				}
			}
		}
		whole("before a prune")
		for _, dry := range []bool{true, false} {
			_, err = r.Prune(t.Context(), PruneOptions{DryRun: dry})
			known(t, err)
		}
		whole("after a prune")
		_, err = r.Repair(t.Context(), RepairOptions{})
		known(t, err)
		whole("after a repair")
		for _, err := range r.Points(t.Context(), "") {
			known(t, err)
		}
		for _, err := range r.Logs(t.Context()) {
			known(t, err)
		}
		if _, err := r.Backup(t.Context(), "n", things{"a": "alpha"}, BackupOptions{}); err != nil {
			t.Errorf("%q stops backups: %v", key, err)
		}
	})
}

// Keys are what they are read as.
func FuzzKeys(f *testing.F) {
	for _, key := range []string{"keys/0000000000000002", "data/ab/" + strings.Repeat("ab", 32), "index/" + strings.Repeat("ab", 32),
		"condemned/20261123t084735.123z-9f86d081884c7d65.deleting-0123456789abcdef"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if n, ok := generationOf(key); ok && keysKey(n) != key {
			t.Errorf("%q is read as generation %d", key, n)
		}
		if kind, sum, ok := parsePackKey(key); ok && packKey(kind, sum) != key {
			t.Errorf("%q is read as that of pack %x", key, sum)
		}
		if sum, ok := parseIndexKey(key); ok && strings.HasPrefix(key, indexPrefix) && indexKey(sum) != key {
			t.Errorf("%q is read as that of index %x", key, sum)
		}
		if deletingKey(key) && !bytes.HasPrefix([]byte(key), []byte(condemnedPrefix)) {
			t.Errorf("%q", key)
		}
	})
}

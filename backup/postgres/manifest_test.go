package postgres

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// manifestOf writes a manifest as a server does.
func manifestOf(version int, files ...string) []byte {
	text := fmt.Sprintf("{ \"PostgreSQL-Backup-Manifest-Version\": %d,\n\"Files\": [\n%s\n],\n\"WAL-Ranges\": [\n],\n", version, strings.Join(files, ",\n"))
	return fmt.Appendf(nil, "%s\"Manifest-Checksum\": \"%x\"}\n", text, sha256.Sum256([]byte(text)))
}

func manifestFile(path, content string) string {
	return fmt.Sprintf(`{ "Path": %q, "Size": %d, "Last-Modified": "2026-01-01 00:00:00 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "%x" }`,
		path, len(content), sha256.Sum256([]byte(content)))
}

// digestOf is what a manifest has of a content.
func digestOf(algorithm, content string) digest {
	s := newSummer(algorithm)
	s.Write([]byte(content))
	return s.digest()
}

func TestManifest(t *testing.T) {
	crc := `{ "Path": "c", "Size": 9, "Checksum-Algorithm": "CRC32C", "Checksum": "839206e3" }` // of 123456789, as a server writes it
	files, err := parseManifest(manifestOf(2, manifestFile("a", "1"), `{ "Encoded-Path": "ff62", "Size": 1, "Checksum-Algorithm": "SHA256", "Checksum": "`+fmt.Sprintf("%x", sha256.Sum256([]byte("2")))+`" }`, crc))
	if err != nil || len(files) != 3 || files["a"] != (fileSum{1, digestOf(sumSHA256, "1")}) || files["\xffb"].sum != digestOf(sumSHA256, "2") ||
		files["c"] != (fileSum{9, digestOf(sumCRC32C, "123456789")}) {
		t.Errorf("%v, %v", files, err)
	}
	for what, text := range map[string][]byte{
		"another version":       manifestOf(3, manifestFile("a", "1")),
		"a file twice":          manifestOf(1, manifestFile("a", "1"), manifestFile("a", "1")),
		"CRC-32C that is not":   manifestOf(1, strings.Replace(manifestFile("a", "1"), "SHA256", "CRC32C", 1)),
		"no sum":                manifestOf(1, `{ "Path": "a", "Size": 1 }`),
		"SHA-256 that is not":   manifestOf(1, strings.Replace(crc, "CRC32C", "SHA256", 1)),
		"a short sum":           manifestOf(1, `{ "Path": "a", "Size": 1, "Checksum-Algorithm": "SHA256", "Checksum": "ab" }`),
		"a long sum":            manifestOf(1, strings.Replace(manifestFile("a", "1"), `" }`, `00" }`, 1)),
		"a path of odd hex":     manifestOf(1, strings.Replace(manifestFile("abc", "1"), `"Path"`, `"Encoded-Path"`, 1)),
		"something changed":     []byte(strings.Replace(string(manifestOf(1, manifestFile("a", "1"))), `"Size": 1`, `"Size": 2`, 1)),
		"its end missing":       manifestOf(1, manifestFile("a", "1"))[:100],
		"nothing":               nil,
		"what is no manifest":   []byte("{}\n"),
		"a sum of another file": []byte("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [],\n\"Manifest-Checksum\": \"00\"}\n"),
	} {
		if files, err := parseManifest(text); err == nil {
			t.Errorf("%s: %v", what, files)
		}
	}
}

func TestAgree(t *testing.T) {
	sum := func(s string) fileSum { return fileSum{int64(len(s)), digestOf(sumSHA256, s)} }
	manifest := map[string]fileSum{"a": sum("1"), "b": sum("2")}
	for what, c := range map[string]struct {
		read map[string]fileSum
		want string
	}{
		"all":       {map[string]fileSum{"a": sum("1"), "b": sum("2")}, ""},
		"less":      {map[string]fileSum{"a": sum("1")}, `"b" is in the server's manifest and was not sent`},
		"more":      {map[string]fileSum{"a": sum("1"), "b": sum("2"), "c": sum("")}, `"c" was sent and is not`},
		"longer":    {map[string]fileSum{"a": sum("1"), "b": sum("22")}, `"b" has 2 bytes`},
		"different": {map[string]fileSum{"a": sum("1"), "b": sum("3")}, `"b" arrived with other content`},
	} {
		err := agree(manifest, c.read)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(manifestOf(1, manifestFile("a", "1")))
	f.Add(manifestOf(2))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := parseManifest(b)
		if err != nil && files != nil {
			t.Error("an error, and files")
		}
	})
}

// Which files are cut into pages.
func TestIsRelation(t *testing.T) {
	for path, want := range map[string]bool{
		"base/5/16384": true, "base/5/16384.12": true, "base/5/16384_fsm": true, "base/5/16384_vm.1": true, "global/1260": true, "base/5/3_init": true,
		"pg_tblspc/16385/PG_17_202406281/5/16384": true,
		"base/5/PG_VERSION":                       false, "global/pg_control": false, "base/5/pg_filenode.map": false, "pg_xact/0000": false, "backup_label": false,
		"base/5/16384.": false, "base/5/16384_x": false, "base/5/1x": false, "base/5/": false,
	} {
		if got := isRelation(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

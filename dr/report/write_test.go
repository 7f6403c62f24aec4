package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range es {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

const bothFiles = "report-2026-11-21-tf-0042.html report-2026-11-21-tf-0042.json"

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "reports")
	htmlPath, jsonPath, err := sample().Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	if read(t, htmlPath) != string(mustPage(t, sample())) || read(t, jsonPath) != string(mustTwin(t, sample())) {
		t.Error("the files are not page and twin")
	}
	if got := names(t, dir); got != bothFiles {
		t.Errorf("the directory holds %s", got)
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]fs.FileMode{htmlPath: 0o600, jsonPath: 0o600, dir: 0o700} {
			if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
				t.Errorf("%s: %v, %v, want %v", path, fi.Mode(), err, want)
			}
		}
	}
	// Once more is no error and changes nothing.
	before, _ := os.Stat(htmlPath)
	if _, _, err := sample().Write(dir); err != nil {
		t.Errorf("the same report once more: %v", err)
	}
	if after, _ := os.Stat(htmlPath); !os.SameFile(before, after) {
		t.Error("the page was replaced")
	}
}

func TestWriteReplacesNothing(t *testing.T) {
	dir := t.TempDir()
	htmlPath, jsonPath, err := sample().Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	other := sample()
	other.Summary = "Everything went well."
	if _, _, err := other.Write(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("another report under the same id: %v, want fs.ErrExist", err)
	}
	if _, err := Verify([]byte(read(t, htmlPath)), []byte(read(t, jsonPath))); err != nil {
		t.Errorf("the first report afterwards: %v", err)
	}
	if got := names(t, dir); got != bothFiles {
		t.Errorf("the directory holds %s", got)
	}
}

// TestWriteAfterACrash begins from every state that a crash can leave: a part
// of a temporary file, the whole of one, the twin linked but its temporary
// name not yet removed, the same for the page; and from files whose Write
// never heard that it had succeeded.
func TestWriteAfterACrash(t *testing.T) {
	twin, page := mustTwin(t, sample()), mustPage(t, sample())
	type files map[string][]byte
	const j, h, part = "report-2026-11-21-tf-0042.json", "report-2026-11-21-tf-0042.html", ".report-1.part"
	for name, left := range map[string]files{
		"nothing":                 {},
		"an empty temporary file": {part: nil},
		"half the twin":           {part: twin[:len(twin)/2]},
		"the whole twin":          {part: twin},
		"the twin linked":         {part: twin, j: twin},
		"the twin alone":          {j: twin},
		"half the page":           {j: twin, part: page[:len(page)/2]},
		"the whole page":          {j: twin, part: page},
		"the page linked":         {j: twin, part: page, h: page},
		"both, reply lost":        {j: twin, h: page},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for n, b := range left {
				if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			htmlPath, jsonPath, err := sample().Write(dir)
			if err != nil {
				t.Fatal(err)
			}
			if read(t, jsonPath) != string(twin) || read(t, htmlPath) != string(page) {
				t.Error("the files are not twin and page")
			}
		})
	}
}

func TestWriteTwinFirst(t *testing.T) {
	// The page cannot be written: something else has its name.
	dir := t.TempDir()
	blocked := filepath.Join(dir, "report-2026-11-21-tf-0042.html")
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sample().Write(dir); err == nil {
		t.Fatal("no error although the page cannot be there")
	}
	if got := read(t, filepath.Join(dir, "report-2026-11-21-tf-0042.json")); got != string(mustTwin(t, sample())) {
		t.Error("the twin is not there before its page")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if _, _, err := sample().Write(dir); err != nil {
		t.Errorf("after the obstacle is gone: %v", err)
	}
}

func TestWriteInvalidLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "reports")
	r := sample()
	r.NotTested = nil
	if _, _, err := r.Write(dir); err == nil {
		t.Fatal("a report that does not say what was left out was written")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made: %v", err)
	}
}

// TestWritersRace lets two different reports of one id race, each several
// times over. One wins; what stays is one whole report.
func TestWritersRace(t *testing.T) {
	dir := t.TempDir()
	other := sample()
	other.Summary = "Everything went well."
	var wg sync.WaitGroup
	results := make([]error, 16)
	for i := range results {
		wg.Go(func() {
			_, _, results[i] = []*Report{sample(), other}[i%2].Write(dir)
		})
	}
	wg.Wait()
	for i, err := range results {
		if (err == nil) != (results[i%2] == nil) || err != nil && !errors.Is(err, fs.ErrExist) {
			t.Errorf("writer %d: %v", i, err)
		}
	}
	if (results[0] == nil) == (results[1] == nil) {
		t.Errorf("both or neither won: %v, %v", results[0], results[1])
	}
	page, twin := read(t, filepath.Join(dir, "report-2026-11-21-tf-0042.html")), read(t, filepath.Join(dir, "report-2026-11-21-tf-0042.json"))
	if _, err := Verify([]byte(page), []byte(twin)); err != nil {
		t.Error(err)
	}
	if got := names(t, dir); got != bothFiles {
		t.Errorf("the directory holds %s", got)
	}
}

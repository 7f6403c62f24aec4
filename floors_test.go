package holdfast_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/holdfast-go/holdfast"

// floor says on which floor a package of this module stands. Arrows of import
// point to lower floors only; on one floor, a child may import its parent.
func floor(path string) int {
	rel := strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
	top, _, child := strings.Cut(rel, "/")
	switch top {
	case "": // the front page and the tests beside it
		return 60
	case "examples":
		return 50
	case "dr":
		if child {
			return 35 // what the Planner is made of: notify, report ...
		}
		return 40
	case "provider", "backup", "replicate", "failover", "retention":
		switch {
		case rel == "provider/internal/storetest":
			return 25 // what the tests of stores share; see onlyTests
		case rel == "provider/providertest", strings.HasPrefix(rel, "provider/internal/"):
			return 15 // the suites, and the stores that other tests use; what stores have in common
		case rel == "provider/throttle":
			return 20 // stands before any store, and knows none
		case strings.Contains(rel, "/internal/"):
			return 25 // what the packages of one cloud share; the compiler keeps others out
		case child:
			return 30
		case top == "provider" || top == "retention":
			return 10
		}
		return 20
	case "internal":
		if strings.HasPrefix(rel, "internal/testenv") {
			return 5 // servers for tests; see onlyTests
		}
		return 0
	}
	return -1
}

type listed struct {
	ImportPath string
	Imports    []string
}

// onlyTests are what only tests may compile, and internal/testenv and
// storetest, which only tests import: who uses a package of Holdfast gets none
// of it.
func onlyTests(p listed) (bad []string) {
	testenv, storetest := module+"/internal/testenv", module+"/provider/internal/storetest"
	if p.ImportPath == testenv || p.ImportPath == storetest || strings.HasPrefix(p.ImportPath, testenv+"/") {
		return nil
	}
	for _, to := range p.Imports {
		if to == testenv || to == storetest || strings.HasPrefix(to, testenv+"/") || strings.HasPrefix(to, "github.com/testcontainers/") || strings.HasPrefix(to, "github.com/moby/") {
			bad = append(bad, to)
		}
	}
	return bad
}

// wrong returns the imports of p that the drawing forbids.
func wrong(p listed) (bad []string) {
	from := floor(p.ImportPath)
	for _, to := range p.Imports {
		if to != module && !strings.HasPrefix(to, module+"/") {
			continue
		}
		parent := strings.HasPrefix(p.ImportPath, to+"/")
		down := floor(to) < from
		if from == 40 && floor(to) == 30 {
			down = false // dr knows no cloud and no kind of target: Parts brings them
		}
		if !down && !parent {
			bad = append(bad, to)
		}
	}
	return bad
}

func TestFloors(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if floor(p.ImportPath) < 0 {
			t.Errorf("%s stands on no floor: give it one in floors_test.go or move it", p.ImportPath)
		}
		for _, to := range wrong(p) {
			t.Errorf("%s must not import %s: arrows point down", p.ImportPath, to)
		}
		for _, to := range onlyTests(p) {
			t.Errorf("%s must not import %s outside of its tests", p.ImportPath, to)
		}
	}
	if seen < 5 {
		t.Fatalf("go list named only %d packages", seen)
	}
}

// The drawing itself must be able to refuse.
func TestFloorsRefuse(t *testing.T) {
	for from, to := range map[string]string{
		"provider":       "retention",
		"replicate":      "backup",
		"failover":       "provider/local",
		"dr":             "provider/local",
		"backup":         "backup/files",
		"dr/report":      "dr/notify",
		"provider/local": "provider/httpstore",
		"backup/files":   "provider/aws",
		"internal/a":     "provider",
		"provider/a/b":   "provider/a/c",
	} {
		if len(wrong(listed{module + "/" + from, []string{module + "/" + to}})) == 0 {
			t.Errorf("%s may import %s", from, to)
		}
	}
	for _, to := range []string{module + "/internal/testenv", module + "/internal/testenv/peer", module + "/provider/internal/storetest", "github.com/testcontainers/testcontainers-go"} {
		if len(onlyTests(listed{module + "/provider/aws", []string{to}})) == 0 {
			t.Errorf("provider/aws may import %s", to)
		}
	}
	for from, to := range map[string]string{
		"backup/files":   "backup",
		"dr":             "dr/notify",
		"provider/local": "provider",
		"examples/x":     "dr",
	} {
		if len(wrong(listed{module + "/" + from, []string{module + "/" + to}})) != 0 {
			t.Errorf("%s may not import %s", from, to)
		}
	}
}

package dr

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadIsStrict(t *testing.T) {
	good := "name: x\nsites:\n  primary: {region: local-a}\n"
	if _, err := ParseConfig([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"unknown field":        {"name: x\nnmae: y\n", `line 2, column 1: unknown field "nmae"`},
		"unknown nested field": {"name: x\nsites:\n  primary:\n    region: local-a\n    buckett: s3://x\n", `line 5, column 5: unknown field "buckett"`},
		"unknown in a list":    {"targets:\n  - name: a\n    tpye: files\n", `line 3, column 5: unknown field "tpye"`},
		"unknown in retention": {"targets:\n  - name: a\n    retention: {dialy: 7}\n", `unknown field "dialy"`},
		"key twice":            {"name: x\nname: y\n", `line 2, column 1: mapping key "name" already defined`},
		"two documents":        {"name: x\n---\nname: y\n", "second document"},
		"empty":                {"", "empty"},
		"no unit":              {"objectives: {rpo: 15}\n", `duration "15"`},
		"bad retention":        {"targets:\n  - retention: 30 days\n", "retention"},
		"wrong type":           {"name: [a]\n", "line 1"},
		"broken":               {"name: [a\n", "line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseConfig([]byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}

// An error of the reader must not quote the lines around it: a secret may
// stand there by mistake.
func TestLoadDoesNotQuote(t *testing.T) {
	_, err := ParseConfig([]byte("name: x\nsites:\n  primary:\n    secrets: {token: hunter2}\n    zone: hunter2\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
	_, err = ParseConfig(make([]byte, maxConfig+1))
	if err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("a huge text: %v", err)
	}
}

func TestRetentionForms(t *testing.T) {
	c, err := ParseConfig([]byte("targets:\n  - retention: 30d\n  - retention: {daily: 7, weekly: 4, min_age: 2d}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Workloads[0].Retention.Policy().String(); got != "last 1, at least 30d" {
		t.Errorf("30d is %q", got)
	}
	if got := c.Workloads[1].Retention.Policy().String(); got != "last 1, daily 7, weekly 4, at least 2d" {
		t.Errorf("the counts are %q", got)
	}
}

// A configuration survives JSON, which is what its hash is made of.
func TestConfigJSON(t *testing.T) {
	c := loadFile(t, "sample.yaml")
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var back Config
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(c, back); d != "" {
		t.Error(d)
	}
}

func TestSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, []byte("hunter2\r\nrest\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOLDFAST_TEST_SECRET", "hunter2")
	t.Setenv("HOLDFAST_TEST_EMPTY", "")
	for _, s := range []Secret{"env:HOLDFAST_TEST_SECRET", Secret("file:" + file)} {
		if v, err := s.Resolve(t.Context()); err != nil || v != "hunter2" {
			t.Errorf("%s: %q, %v", s, v, err)
		}
	}
	for _, s := range []Secret{"", "hunter2", "env:", "file:", "env:HOLDFAST_TEST_EMPTY", "env:HOLDFAST_TEST_UNSET", Secret("file:" + file + "x"), "https://hunter2"} {
		v, err := s.Resolve(t.Context())
		if err == nil || v != "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", s, v, err)
		}
	}
	for _, format := range []string{"%v", "%s", "%#v", "%q", "%+v"} {
		if out := fmt.Sprintf(format, struct{ S Secret }{"hunter2"}); strings.Contains(out, "hunter2") {
			t.Errorf("%s prints %s", format, out)
		}
	}
	if b, _ := json.Marshal(Secret("hunter2")); strings.Contains(string(b), "hunter2") {
		t.Errorf("JSON is %s", b)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, name := range []string{"classic.yaml", "sample.yaml", "local.yaml"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err == nil {
			_ = c.Validate() // must not panic
		}
	})
}

func FuzzParseDuration(f *testing.F) {
	f.Add("1w2d3h4m5.5s")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if back, err := ParseDuration(d.String()); err != nil || back != d || d < 0 {
			t.Fatalf("%q is %v, which reads back as %v, %v", s, d, back, err)
		}
	})
}

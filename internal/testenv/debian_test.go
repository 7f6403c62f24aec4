package testenv

import (
	"os"
	"strings"
	"testing"
)

// What an image is made from names it.
func TestRecipesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]int{}
	for i, d := range []debian{
		{},
		{packages: []string{"bind9"}},
		{packages: []string{"bind9", "bind9-dnsutils"}},
		{files: map[string]string{"/a": "1"}},
		{files: map[string]string{"/a": "2"}},
		{files: map[string]string{"/b": "2"}},
		{filled: "azurite 1"},
		{steps: []string{"COPY a /a"}},
	} {
		h, err := d.hash()
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[h]; ok {
			t.Errorf("%d and %d have one name", other, i)
		}
		seen[h] = i
	}
	for _, i := range images {
		h, err := i.hash()
		if err != nil || len(h) != 16 {
			t.Errorf("%s: %q, %v", i.name, h, err)
		}
	}
}

// An image of packages and files starts, with what was put into it. The image
// is the one that all of Debian are built on.
func TestDebian(t *testing.T) {
	managed = true
	recipe := debian{
		packages: []string{"netcat-openbsd"}, // small
		files:    map[string]string{"/said": "hello\n"},
		steps:    []string{`CMD ["sh", "-c", "while true; do nc -l -p 7 < /said; done"]`},
	}
	s := once(t, "probe", func() server { return service{image: image{"probe", recipe}, port: "7/tcp"}.start(t) })
	_, out, err := s.container.Exec(t.Context(), []string{"cat", "/said", "/etc/debian_version"})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, _ := out.Read(b)
	if said := string(b[:n]); !strings.Contains(said, "hello") || !strings.Contains(said, "13.") {
		t.Errorf("the container says %q", said)
	}
	if strings.Contains(s.Endpoint, "//") || !strings.Contains(s.Endpoint, ":") {
		t.Errorf("endpoint %q", s.Endpoint)
	}
}

// Sources come from the host where it is Debian.
func TestSourcesList(t *testing.T) {
	list := sourcesList()
	if strings.Count(list, "\n") != 3 || strings.Count(list, "signed-by="+keyring) != 3 || strings.Contains(list, "snapshot") {
		t.Errorf("%s", list)
	}
	if _, err := os.Stat("/etc/apt/sources.list.d/debian.sources"); err == nil && !strings.Contains(list, "/debian trixie main") {
		t.Errorf("%s", list)
	}
}

package report

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser finds a chromium. Where CI is set there must be one.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("no chromium: install it, this test is required where CI=true")
	}
	t.Skip("no chromium to render with")
	return ""
}

// measuring puts the page in a frame of a given width and writes down what
// became of it. The page itself admits no script.
const measuring = `<!DOCTYPE html><meta charset="utf-8"><iframe id="f" style="width:%dpx;height:900px;border:0"></iframe><pre id="out"></pre><script>
f.onload = () => {
  const d = f.contentDocument, e = d.documentElement;
  out.textContent = JSON.stringify({
    width: e.clientWidth, needs: e.scrollWidth, title: d.title,
    scripts: d.scripts.length, images: d.images.length,
    styled: getComputedStyle(d.body).margin,
    tables: [...d.querySelectorAll(".scroll")].filter(s => s.scrollWidth > s.clientWidth).map(s => s.closest("section").id),
    outside: [...d.querySelectorAll("main *")].filter(n => !n.closest("svg, .data thead") && n.getBoundingClientRect().right > e.clientWidth + 1)
      .map(n => n.tagName + "." + n.className + " in " + (n.closest("section") || d.body).id),
  });
};
f.src = "/page";
</script>`

type measured struct {
	Width, Needs, Scripts, Images int
	Title, Styled                 string
	Tables, Outside               []string
}

// layOut lays a page out in a real browser.
func layOut(t *testing.T, chromium string, page []byte, width int) (m measured, asked []string) {
	t.Helper()
	var mu sync.Mutex
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/":
			fmt.Fprintf(w, measuring, width)
		case "/page":
			w.Write(page)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--window-size=1400,1000", "--virtual-time-budget=10000", "--dump-dom", srv.URL)
	cmd.WaitDelay = 5 * time.Second
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", chromium, err)
	}
	_, rest, _ := strings.Cut(string(dom), `<pre id="out">`)
	out, _, _ := strings.Cut(rest, "</pre>")
	if err := json.Unmarshal([]byte(html.UnescapeString(out)), &m); err != nil {
		t.Fatalf("the page was not measured: %v in %.300s", err, dom)
	}
	mu.Lock()
	defer mu.Unlock()
	return m, slices.Clone(asked)
}

func TestInABrowser(t *testing.T) {
	chromium := browser(t)
	for _, c := range []struct {
		name  string
		r     *Report
		width int
	}{
		{"sample", sample(), 1280}, {"sample", sample(), 400},
		{"hostile", hostile(), 1280}, {"hostile", hostile(), 400}, {"hostile", hostile(), 850},
	} {
		t.Run(fmt.Sprintf("%s at %d", c.name, c.width), func(t *testing.T) {
			m, asked := layOut(t, chromium, mustPage(t, c.r), c.width)
			if m.Width != c.width || m.Needs > m.Width || len(m.Outside) > 0 {
				t.Errorf("%d pixels wide, needs %d; outside stand %q", m.Width, m.Needs, m.Outside)
			}
			if len(m.Tables) > 0 {
				t.Errorf("tables wider than the page in sections %q", m.Tables)
			}
			if m.Scripts != 0 || m.Images != 0 || !strings.HasPrefix(m.Title, "Test ") {
				t.Errorf("%d scripts, %d images, title %q", m.Scripts, m.Images, m.Title)
			}
			if m.Styled != "0px" {
				t.Errorf("the body has a margin of %s: the content security policy refuses the style", m.Styled)
			}
			for _, path := range asked {
				if path != "/" && path != "/page" && path != "/favicon.ico" {
					t.Errorf("the page asked for %s", path)
				}
			}
		})
	}
}

package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/dr/notify"
)

func TestParse(t *testing.T) {
	for name, want := range map[string]string{
		"email:ops@example.com":                     "email:ops@example.com",
		"slack:#ops":                                "slack:#ops",
		"slack:#dr-alerts_2":                        "slack:#dr-alerts_2",
		"webhook:https://example.com/hook?token=tk": "webhook:https://example.com/...",
		"webhook:http://127.0.0.1:8080/x":           "webhook:http://127.0.0.1:8080/...",
		"webhook:http://[::1]/x":                    "webhook:http://[::1]/...",
	} {
		ch, err := notify.Parse(name)
		if err != nil || ch.String() != want {
			t.Errorf("%s: %v, %v", name, ch, err)
		}
		if text := fmt.Sprintf("%v %+v %#v", ch, ch, ch); strings.Contains(text, "token") {
			t.Errorf("printed: %s", text)
		}
	}
	for name, want := range map[string]string{
		"":                                "want kind:target",
		"ops@example.com":                 "want kind:target",
		"pager:7":                         `kind "pager" is none of`,
		"email:":                          "channel email",
		"email:ops":                       "channel email",
		"email:Ops <ops@example.com>":     "bare address ops@example.com",
		"email:a@example.com,b@x.org":     "channel email",
		"slack:ops":                       "want #",
		"slack:#Ops":                      "lower case",
		"slack:https://hooks.slack.com/s": "belongs among the secrets",
		"webhook:":                        "no host",
		"webhook:example.com":             "no host",
		"webhook:http://example.com/s":    "use https",
		"webhook:http://127.0.0.1.evil/s": "use https",
		"webhook:ftp://example.com/s":     `scheme "ftp"`,
		"webhook:https://u:s3cr3t@host/":  "password",
		"webhook:https://ho st/s3cr3t":    "not a URL",
	} {
		ch, err := notify.Parse(name)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v, want %q", name, ch, err, want)
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "hooks.slack.com") {
			t.Errorf("%s: the error repeats a secret: %v", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"email:a@b.c", "slack:#x", "webhook:https://h/p", "webhook:http://[::1%25lo]/", "::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ch, err := notify.Parse(name)
		if err == nil && string(ch.Kind)+":"+ch.Target != name {
			t.Errorf("%q is %q", name, ch.Target)
		}
	})
}

// receiver is an HTTP server that answers in turn what it is told, the last
// answer for ever, and keeps what it has got.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies [][]byte
	heads  []http.Header
}

func receive(t *testing.T, answers ...func(http.ResponseWriter)) *receiver {
	r := &receiver{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.bodies, r.heads = append(r.bodies, b), append(r.heads, req.Header)
		answer := answers[min(len(r.bodies), len(answers))-1]
		r.mu.Unlock()
		answer(w)
	}))
	t.Cleanup(r.Close)
	return r
}

func status(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { w.WriteHeader(code) }
}

func ok(w http.ResponseWriter) { fmt.Fprint(w, "ok") }

func (r *receiver) webhook(t *testing.T, key notify.Secret) notify.Notifier {
	t.Helper()
	return open(t, notify.Config{Key: key, Client: r.Client()}, "webhook:"+r.URL+"/path-t0ken")
}

func open(t *testing.T, c notify.Config, name string) notify.Notifier {
	t.Helper()
	ch, err := notify.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	n, err := notify.Open(c, ch)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWebhookIsSigned(t *testing.T) {
	r := receive(t, ok)
	if err := r.webhook(t, known("k3y")).Notify(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(r.bodies[0], &got); err != nil {
		t.Fatal(err)
	}
	if got["title"] != message.Title || got["severity"] != "critical" || got["key"] != message.Key || len(got["fields"].([]any)) != 2 {
		t.Errorf("%s", r.bodies[0])
	}
	header := r.heads[0].Get(notify.SignatureHeader)
	if err := notify.CheckSignature("k3y", header, r.bodies[0], time.Now()); err != nil {
		t.Error(err)
	}
	if r.heads[0].Get("Idempotency-Key") == "" || r.heads[0].Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", r.heads[0])
	}
}

func TestCheckSignature(t *testing.T) {
	at := time.Unix(1_795_424_400, 0)
	body := []byte(`{"title":"x"}`)
	// openssl dgst -sha256 -hmac k3y over 1795424400.{"title":"x"}
	const fixed = "t=1795424400,v1=aab58fb2d4854c333f9fa3efccc11f7947d2767e0135934e62566c4910e3e9b8"
	header := notify.Sign("k3y", body, at)
	if header != fixed {
		t.Errorf("%s, want %s", header, fixed)
	}
	for _, tc := range []struct {
		name, key, header string
		body              []byte
		now               time.Time
		ok                bool
	}{
		{"right", "k3y", header, body, at.Add(notify.SignatureAge), true},
		{"too old", "k3y", header, body, at.Add(notify.SignatureAge + 1), false},
		{"of the future", "k3y", header, body, at.Add(-notify.SignatureAge - 1), false},
		{"other key", "key", header, body, at, false},
		{"other body", "k3y", header, []byte(`{"title":"y"}`), at, false},
		{"other time", "k3y", strings.Replace(header, "t=1795424400", "t=1795424401", 1), body, at, false},
		{"no signature", "k3y", "t=1795424400,v1=", body, at, false},
		{"empty", "k3y", "", body, at, false},
		{"no hex", "k3y", "t=1795424400,v1=zz", body, at, false},
	} {
		if err := notify.CheckSignature(tc.key, tc.header, tc.body, tc.now); (err == nil) != tc.ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestRetries(t *testing.T) {
	after := func(code int, header string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.Header().Set("Retry-After", header); w.WriteHeader(code) }
	}
	for _, tc := range []struct {
		name    string
		answers []func(http.ResponseWriter)
		tries   int
		ok      bool
		least   time.Duration
	}{
		{"busy, then not", []func(http.ResponseWriter){status(503), ok}, 2, true, 0},
		{"asks to wait", []func(http.ResponseWriter){after(429, "3"), ok}, 2, true, 3 * time.Second},
		{"never", []func(http.ResponseWriter){status(500)}, 4, false, 0},
		{"refused", []func(http.ResponseWriter){status(403), ok}, 1, false, 0},
		{"gone", []func(http.ResponseWriter){status(404), ok}, 1, false, 0},
		{"elsewhere", []func(http.ResponseWriter){func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://evil.example/")
			w.WriteHeader(307)
		}, ok}, 1, false, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := receive(t, tc.answers...)
			start := time.Now()
			err := r.webhook(t, known("k3y")).Notify(t.Context(), message)
			if (err == nil) != tc.ok || len(r.bodies) != tc.tries {
				t.Errorf("%d tries, %v", len(r.bodies), err)
			}
			if time.Since(start) < tc.least {
				t.Errorf("came back after %v, asked for %v", time.Since(start), tc.least)
			}
			ids := map[string]bool{}
			for _, h := range r.heads {
				ids[h.Get("Idempotency-Key")] = true
			}
			if len(ids) != 1 {
				t.Errorf("%d tries with %d identities", tc.tries, len(ids))
			}
			if err != nil && (strings.Contains(err.Error(), "t0ken") || !strings.Contains(err.Error(), "webhook:https://127.0.0.1")) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Whatever goes wrong, the address of a webhook stays secret.
func TestAddressIsNotInErrors(t *testing.T) {
	t.Parallel()
	closed := receive(t, ok)
	closed.Close()
	strange := httptest.NewTLSServer(http.NotFoundHandler()) // its certificate is not trusted
	t.Cleanup(strange.Close)
	chatty := receive(t, func(w http.ResponseWriter) {
		w.WriteHeader(400)
		fmt.Fprint(w, "no such hook: /services/t0ken")
	})
	word := receive(t, func(w http.ResponseWriter) { w.WriteHeader(404); fmt.Fprint(w, "no_service") })
	for name, tc := range map[string]struct {
		address string
		client  *http.Client
		want    string
	}{
		"closed":       {closed.URL + "/services/t0ken", closed.Client(), ""},
		"not trusted":  {strange.URL + "/services/t0ken", nil, "certificate"},
		"chatty":       {chatty.URL + "/services/t0ken", chatty.Client(), "400"},
		"Slack's word": {word.URL + "/services/t0ken", word.Client(), "no_service"},
		"no URL":       {"https://exa mple/t0ken", nil, "not a URL"},
		"control":      {"https://example.com/t0ken\x7f", nil, "not a URL"},
		"in the clear": {"http://example.com/t0ken", nil, "https"},
	} {
		n := open(t, notify.Config{Client: tc.client, Slack: map[string]notify.Secret{"#ops": known(tc.address)}}, "slack:#ops")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := n.Notify(ctx, message)
		cancel()
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "slack:#ops") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if everything := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(everything, "t0ken") {
			t.Errorf("%s: %s", name, everything)
		}
	}
}

func TestSlack(t *testing.T) {
	r := receive(t, ok)
	n := open(t, notify.Config{Client: r.Client(), Slack: map[string]notify.Secret{"#ops": known(r.URL)}}, "slack:#ops")
	long := message
	long.Text = strings.Repeat("ä", 5000)
	for _, m := range []notify.Message{message, long, {Title: "over", Severity: notify.Info}} {
		if err := n.Notify(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(r.bodies[2]); got != `{"text":"[info] over"}` {
		t.Error(got)
	}
	var got struct {
		Text        string
		Attachments []struct {
			Color, Text string
			Fields      []struct{ Title, Value string }
		}
	}
	if err := json.Unmarshal(r.bodies[0], &got); err != nil {
		t.Fatal(err)
	}
	if a := got.Attachments[0]; a.Color != "danger" || a.Text != message.Text || a.Fields[1].Value != "7h &lt;!channel&gt; &amp; more" {
		t.Errorf("%s", r.bodies[0])
	}
	if strings.Contains(got.Text, "\n") {
		t.Errorf("title %q", got.Text)
	}
	if err := json.Unmarshal(r.bodies[1], &got); err != nil || len([]rune(got.Attachments[0].Text)) != 3000 {
		t.Errorf("%d characters, %v", len([]rune(got.Attachments[0].Text)), err)
	}
}

func TestAllTellsEveryone(t *testing.T) {
	up, down := receive(t, ok), receive(t, status(403))
	err := notify.All(down.webhook(t, nil), up.webhook(t, nil), down.webhook(t, nil)).Notify(t.Context(), message)
	if len(up.bodies) != 1 || len(down.bodies) != 2 {
		t.Errorf("told %d and %d", len(up.bodies), len(down.bodies))
	}
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 2 {
		t.Errorf("%v", err)
	}
	if up.heads[0].Get(notify.SignatureHeader) != "" {
		t.Error("signed without a key")
	}
	if err := notify.All().Notify(t.Context(), message); err != nil {
		t.Error(err)
	}
}

func TestOpenReportsEveryFault(t *testing.T) {
	_, err := notify.Open(notify.Config{},
		notify.Channel{Kind: notify.KindEmail, Target: "a@example.com"},
		notify.Channel{Kind: notify.KindSlack, Target: "#ops"},
		notify.Channel{Kind: notify.KindWebhook, Target: "http://example.com/t0ken"},
		notify.Channel{Kind: "pager"})
	for _, want := range []string{"SMTP.Host", "slack:#ops", "use https", "pager"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "t0ken") {
		t.Error(err)
	}
}

func TestSecrets(t *testing.T) {
	r := receive(t, ok)
	broken := errors.New("vault sealed")
	err := r.webhook(t, func(context.Context) (string, error) { return "", broken }).Notify(t.Context(), message)
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := r.webhook(t, known("")).Notify(t.Context(), message); err == nil {
		t.Error("signed with an empty key")
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("k3y\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.webhook(t, notify.SecretFile(file)).Notify(t.Context(), message); err != nil {
		t.Error(err)
	}
	if err := notify.CheckSignature("k3y", r.heads[0].Get(notify.SignatureHeader), r.bodies[0], time.Now()); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".absent"} {
		if err := r.webhook(t, notify.SecretFile(path)).Notify(t.Context(), message); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	}
	if len(r.bodies) != 1 {
		t.Errorf("%d messages went out, want the signed one", len(r.bodies))
	}
}

func TestMessageFaults(t *testing.T) {
	r := receive(t, ok)
	for _, m := range []notify.Message{{Severity: notify.Info}, {Title: "x"}, {Title: "x", Severity: "urgent"}} {
		if err := r.webhook(t, nil).Notify(t.Context(), m); err == nil {
			t.Errorf("%+v was sent", m)
		}
	}
}

package gcp

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider"
)

func TestConfig(t *testing.T) {
	good := Config{Bucket: "b"}
	if err := good.complete(); err != nil || good.PartSize != 16<<20 || good.Attempts != 5 || good.Endpoint != "https://storage.googleapis.com" {
		t.Errorf("%+v, %v", good, err)
	}
	bad := Config{Endpoint: "https://user:secret@host", CustomerKey: []byte("secret"), KMSKey: "k", PartSize: 1, Attempts: 101,
		Anonymous: true, Credentials: &auth.Credentials{}}
	err := bad.complete()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Bucket", "Endpoint", "CustomerKey", "PartSize", "Attempts", "Anonymous"} {
		if !strings.Contains(err.Error(), "Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells a secret", err)
	}
	for _, c := range []Config{
		{Bucket: "b", Endpoint: "host"}, {Bucket: "b", Endpoint: "https://host/storage"}, {Bucket: "b", Endpoint: "\x00secret"},
		{Bucket: "b", Endpoint: "http://host", CustomerKey: make([]byte, 32)}, {Bucket: "b", PartSize: 256<<10 + 1}, {Bucket: "b", PartSize: 2 << 30},
	} {
		if err := c.complete(); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := Open(t.Context(), Config{Bucket: "b", Anonymous: true, CA: []byte("no PEM")}); err == nil || !strings.Contains(err.Error(), "CA") {
		t.Errorf("a CA that is none: %v", err)
	}
}

// What the service documents that it answers is what the contract calls it.
func TestErrors(t *testing.T) {
	answer := func(code int, reason, message string) error {
		return fmt.Errorf("put: %w", &googleapi.Error{Code: code, Message: message, Errors: []googleapi.ErrorItem{{Reason: reason, Message: message}}})
	}
	for _, c := range []struct {
		err  error
		want error
	}{
		{answer(403, "retentionPolicyNotMet", "Object 'b/k' is subject to bucket's retention policy or object retention and cannot be deleted or overwritten until 2026-11-30T00:00:00Z"), provider.ErrLocked},
		{answer(403, "forbidden", "Object 'b/k' is subject to bucket's retention policy or object retention"), provider.ErrLocked},
		{answer(403, "objectUnderActiveHold", "Object 'b/k' is under active Temporary hold and cannot be deleted, overwritten or archived until hold is removed."), provider.ErrLocked},
		{answer(403, "forbidden", "Object 'b/k' is under active Event-Based hold"), provider.ErrLocked},
		{answer(403, "forbidden", "x@y.iam.gserviceaccount.com does not have storage.objects.create access"), fs.ErrPermission},
		{answer(401, "required", "Anonymous caller does not have storage.objects.get access"), fs.ErrPermission},
		{answer(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."), provider.ErrConflict},
		{answer(416, "requestedRangeNotSatisfiable", "Request range not satisfiable"), provider.ErrRange},
		{answer(400, "invalid", `Provided CRC32C "AAAAAA==" doesn't match calculated CRC32C "yZRlqg==".`), provider.ErrCorrupt},
		{answer(400, "invalid", "Invalid argument."), nil},
		{answer(501, "notImplemented", "x"), errors.ErrUnsupported},
		{answer(429, "rateLimitExceeded", "The object exceeded the rate limit for object mutation operations"), provider.ErrThrottled},
		{answer(503, "backendError", "Backend Error"), provider.ErrThrottled},
		{fmt.Errorf("%w: %w", storage.ErrObjectNotExist, answer(404, "notFound", "No such object")), provider.ErrNotFound},
		{fmt.Errorf("%w: %w", storage.ErrBucketNotExist, answer(404, "notFound", "The specified bucket does not exist.")), nil},
		{errors.New("reset"), nil},
	} {
		if got := meaningOf(c.err); got != c.want {
			t.Errorf("%v: means %v, want %v", c.err, got, c.want)
		}
		err := wrap(t.Context(), "put", "k", c.err)
		if e, ok := errors.AsType[*provider.Error](err); !ok || e.Provider != "gcs" || !errors.Is(err, c.err) {
			t.Errorf("%v", err)
		}
	}
}

func TestVersionsAreGenerations(t *testing.T) {
	if v := versionOf(1360887697105000); generationOf(v) != 1360887697105000 {
		t.Error(v)
	}
	for _, v := range []provider.Version{"", "0", "-1", "+1", "01", "x", "1 ", "99999999999999999999"} {
		if g := generationOf(v); g != 0 {
			t.Errorf("%q is generation %d", v, g)
		}
	}
}

// Retention and holds of whatever kind keep an object.
func TestHeld(t *testing.T) {
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		a    storage.ObjectAttrs
		held bool
		mode provider.LockMode
	}{
		"nothing":       {storage.ObjectAttrs{}, false, ""},
		"locked":        {storage.ObjectAttrs{Retention: &storage.ObjectRetention{Mode: "Locked", RetainUntil: soon}}, true, provider.Compliance},
		"unlocked":      {storage.ObjectAttrs{Retention: &storage.ObjectRetention{Mode: "Unlocked", RetainUntil: soon}}, true, provider.Governance},
		"over":          {storage.ObjectAttrs{Retention: &storage.ObjectRetention{Mode: "Locked", RetainUntil: past}}, false, ""},
		"policy":        {storage.ObjectAttrs{RetentionExpirationTime: soon}, true, provider.Governance},
		"policy over":   {storage.ObjectAttrs{RetentionExpirationTime: past}, false, ""},
		"own comes 1st": {storage.ObjectAttrs{RetentionExpirationTime: soon, Retention: &storage.ObjectRetention{Mode: "Locked", RetainUntil: soon}}, true, provider.Compliance},
		"temporary":     {storage.ObjectAttrs{TemporaryHold: true}, true, ""},
		"event-based":   {storage.ObjectAttrs{EventBasedHold: true}, true, ""},
	} {
		if got, r := held(&c.a, time.Now()), retentionOf(&c.a, time.Now()); got != c.held || r.Mode != c.mode || c.mode != "" && !r.Until.Equal(soon) {
			t.Errorf("%s: held is %v, retention %v", name, got, r)
		}
	}
}

// A deletion is where a version ended and no other began.
func TestHistory(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	v := func(generation int64, created, deleted int) *storage.ObjectAttrs {
		a := &storage.ObjectAttrs{Name: "k", Generation: generation, Created: at(created)}
		if deleted > 0 {
			a.Deleted = at(deleted)
		}
		return a
	}
	for want, all := range map[string][]*storage.ObjectAttrs{
		"1":         {v(1, 1, 0)},
		"1 -":       {v(1, 1, 2)},
		"1 2":       {v(2, 5, 0), v(1, 1, 5)},
		"1 - 2":     {v(1, 1, 3), v(2, 5, 0)},
		"1 2 - 3 -": {v(3, 9, 10), v(1, 1, 4), v(2, 4, 7)},
	} {
		var got []string
		for _, h := range history(all) {
			if h.Deleted {
				got = append(got, "-")
				if h.Version != "" || h.Modified.IsZero() {
					t.Errorf("%s: %+v", want, h)
				}
			} else {
				got = append(got, string(h.Version))
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWholeRunes(t *testing.T) {
	for s, want := range map[string]string{"": "", "a": "a", "é": "é", "a\xc3": "a", "a\xf0\x9f\x98": "a", "\xff": "", "a\xffb": "a", "a\xff日本": "a"} {
		if got := wholeRunes(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

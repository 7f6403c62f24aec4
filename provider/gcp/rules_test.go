package gcp_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// rules stand in front of fake-gcs-server and enforce what Cloud Storage
// documents and it does not: the precondition of a delete, of a copy and of a
// change of metadata, the retention of objects, and that a piece of an upload that is
// sent twice is taken once and the checksum of all of them verified. What is
// shown behind them holds if the service does what it documents.
type rules struct {
	url               string
	target            string
	versioned, locked bool

	mu       sync.Mutex // changes are one after the other
	sessions map[string]*session
	patched  map[string]*retention // by key and generation
	metas    map[string]int64      // metagenerations that are not 1
}

type retention struct {
	Mode            string    `json:"mode"`
	RetainUntilTime time.Time `json:"retainUntilTime"`
}

// session is a resumable upload.
type session struct {
	query  url.Values
	meta   []byte
	have   []byte
	answer *answer // once it is finished
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func newRules(t *testing.T, endpoint string, versioned, locked bool) *rules {
	r := &rules{target: endpoint, versioned: versioned, locked: locked,
		sessions: map[string]*session{}, patched: map[string]*retention{}, metas: map[string]int64{}}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *rules) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, key, isObject := strings.Cut(req.URL.EscapedPath(), "/o/")
	q := req.URL.Query()
	switch {
	case strings.Contains(key, "/rewriteTo/b/"):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rewrite(req, body).write(w)
	case q.Get("uploadType") == "resumable" && !q.Has("upload_id"):
		r.begin(req, body).write(w)
	case q.Get("uploadType") == "resumable":
		r.mu.Lock()
		defer r.mu.Unlock()
		r.piece(req, body).write(w)
	case q.Get("uploadType") == "multipart":
		r.mu.Lock()
		defer r.mu.Unlock()
		if refused := r.overwrite(req, q.Get("name")); refused != nil {
			refused.write(w)
			return
		}
		r.forward(req, body).write(w)
	case isObject && req.Method == http.MethodDelete:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.delete(req, key).write(w)
	case isObject && req.Method == http.MethodPatch:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.patch(req, key, body).write(w)
	case isObject && q.Get("alt") != "media":
		r.mu.Lock()
		defer r.mu.Unlock()
		a := r.forward(req, body)
		if a.status == http.StatusOK {
			a.body = r.told(key, a.body)
		}
		a.write(w)
	case !isObject && !strings.HasSuffix(req.URL.Path, "/o") && r.locked:
		a := r.forward(req, body)
		a.body = set(a.body, "objectRetention", map[string]string{"mode": "Enabled"})
		a.write(w)
	default:
		r.forward(req, body).write(w)
	}
}

func (r *rules) forward(req *http.Request, body []byte) *answer {
	out, err := http.NewRequestWithContext(req.Context(), req.Method, r.target+req.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header = req.Header.Clone()
	return r.do(out)
}

func (r *rules) do(out *http.Request) *answer {
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return &answer{resp.StatusCode, resp.Header, b}
}

func (a *answer) write(w http.ResponseWriter) {
	for k, v := range a.header {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(a.status)
	w.Write(a.body)
}

func refuse(status int, reason, message string) *answer {
	b, _ := json.Marshal(map[string]any{"error": map[string]any{"code": status, "message": message,
		"errors": []map[string]string{{"reason": reason, "message": message}}}})
	return &answer{status, http.Header{"Content-Type": {"application/json"}}, b}
}

var conditionNotMet = refuse(http.StatusPreconditionFailed, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")

func set(object []byte, field string, value any) []byte {
	m := map[string]any{}
	dec := json.NewDecoder(bytes.NewReader(object))
	dec.UseNumber()
	if dec.Decode(&m) != nil {
		return object
	}
	m[field] = value
	b, _ := json.Marshal(m)
	return b
}

// object is what is known of an object besides its bytes.
type object struct {
	Generation     string     `json:"generation"`
	Retention      *retention `json:"retention"`
	Metageneration string     `json:"metageneration"`
}

func (o *object) retained() bool {
	return o.Retention != nil && time.Now().Before(o.Retention.RetainUntilTime)
}

// told is what the service would tell of an object.
func (r *rules) told(key string, b []byte) []byte {
	var o object
	json.Unmarshal(b, &o)
	id := key + "#" + o.Generation
	if p := r.patched[id]; p != nil {
		b = set(b, "retention", p)
	}
	return set(b, "metageneration", strconv.FormatInt(cmp.Or(r.metas[id], 1), 10))
}

// present describes the present object; nil if there is none.
func (r *rules) present(req *http.Request, escaped string) (*object, []byte) {
	return r.presentIn(req, strings.Split(strings.TrimPrefix(req.URL.Path, "/upload"), "/")[4], escaped)
}

func (r *rules) presentIn(req *http.Request, bucket, escaped string) (*object, []byte) {
	out, _ := http.NewRequestWithContext(req.Context(), http.MethodGet, r.target+"/storage/v1/b/"+bucket+"/o/"+escaped, nil)
	a := r.do(out)
	if a.status != http.StatusOK {
		return nil, nil
	}
	b := r.told(escaped, a.body)
	o := &object{}
	if json.Unmarshal(b, o) != nil {
		panic(http.ErrAbortHandler)
	}
	return o, b
}

func locked() *answer {
	return refuse(http.StatusForbidden, "retentionPolicyNotMet", "Object is subject to object retention and cannot be deleted or overwritten.")
}

func (r *rules) overwrite(req *http.Request, key string) *answer {
	if o, _ := r.present(req, url.PathEscape(key)); o != nil && o.retained() && !r.versioned {
		if c := req.URL.Query().Get("ifGenerationMatch"); c != "" && c != o.Generation {
			return conditionNotMet
		}
		return locked()
	}
	return nil
}

// rewrite is a copy: the preconditions are those of the destination, and the
// retention is what the request says.
func (r *rules) rewrite(req *http.Request, body []byte) *answer {
	_, to, _ := strings.Cut(req.URL.EscapedPath(), "/rewriteTo/b/")
	bucket, key, _ := strings.Cut(to, "/o/")
	o, _ := r.presentIn(req, bucket, key)
	generation := "0"
	if o != nil {
		generation = o.Generation
	}
	if c := req.URL.Query().Get("ifGenerationMatch"); c != "" && c != generation {
		return conditionNotMet
	}
	if o != nil && o.retained() && !r.versioned {
		return locked()
	}
	a := r.forward(req, body)
	var asked struct{ Retention *retention }
	var done struct{ Resource object }
	if json.Unmarshal(body, &asked) == nil && json.Unmarshal(a.body, &done) == nil && asked.Retention != nil {
		r.patched[key+"#"+done.Resource.Generation] = asked.Retention
	}
	return a
}

func (r *rules) delete(req *http.Request, key string) *answer {
	o, _ := r.present(req, key)
	if o == nil {
		return r.forward(req, nil)
	}
	if c := req.URL.Query().Get("ifGenerationMatch"); c != "" && c != o.Generation {
		return conditionNotMet
	}
	if o.retained() && (!r.versioned || req.URL.Query().Has("generation")) {
		return locked()
	}
	return r.forward(req, nil)
}

func (r *rules) patch(req *http.Request, key string, body []byte) *answer {
	o, b := r.present(req, key)
	q := req.URL.Query()
	var change struct{ Retention *retention }
	switch {
	case o == nil:
		return refuse(http.StatusNotFound, "notFound", "No such object")
	case q.Get("ifGenerationMatch") != "" && q.Get("ifGenerationMatch") != o.Generation,
		q.Get("ifMetagenerationMatch") != "" && q.Get("ifMetagenerationMatch") != o.Metageneration:
		return conditionNotMet
	case json.Unmarshal(body, &change) != nil || change.Retention == nil:
		return refuse(http.StatusBadRequest, "invalid", "no retention in "+string(body))
	case !r.locked:
		return refuse(http.StatusBadRequest, "invalid", "The bucket is not enabled for object retention.")
	}
	if o.retained() {
		shorter := change.Retention.RetainUntilTime.Before(o.Retention.RetainUntilTime)
		other := change.Retention.Mode != o.Retention.Mode
		if o.Retention.Mode == "Locked" && (shorter || other) {
			return refuse(http.StatusForbidden, "retentionPolicyNotMet", "A locked object retention cannot be shortened.")
		}
		if (shorter || other) && q.Get("overrideUnlockedRetention") != "true" {
			return refuse(http.StatusForbidden, "retentionPolicyNotMet", "An unlocked object retention needs an override.")
		}
	}
	id := key + "#" + o.Generation
	r.patched[id] = change.Retention
	r.metas[id] = cmp.Or(r.metas[id], 1) + 1
	return &answer{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, r.told(key, b)}
}

func (r *rules) begin(req *http.Request, meta []byte) *answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := rand.Text()
	q := req.URL.Query()
	r.sessions[id] = &session{query: q, meta: meta}
	at := url.URL{Scheme: "http", Host: req.Host, Path: req.URL.Path, RawQuery: url.Values{"uploadType": {"resumable"}, "upload_id": {id}}.Encode()}
	if req.TLS != nil {
		at.Scheme = "https"
	}
	return &answer{http.StatusOK, http.Header{"Location": {at.String()}}, nil}
}

// piece takes one piece of an upload, and with the last one makes the object.
func (r *rules) piece(req *http.Request, b []byte) *answer {
	s := r.sessions[req.URL.Query().Get("upload_id")]
	if s == nil {
		return refuse(http.StatusNotFound, "notFound", "no such upload")
	}
	if s.answer != nil {
		return s.answer
	}
	var from, to, total int64
	last := true
	given := req.Header.Get("Content-Range")
	if n, _ := fmt.Sscanf(given, "bytes %d-%d/%d", &from, &to, &total); n == 2 {
		last = false
	} else if n < 2 {
		if n, _ := fmt.Sscanf(given, "bytes */%d", &total); n != 1 || total != int64(len(s.have)) {
			return refuse(http.StatusBadRequest, "invalid", "Content-Range "+given)
		}
		from = total
	}
	if from > int64(len(s.have)) {
		return refuse(http.StatusServiceUnavailable, "backendError", "a piece is missing")
	}
	s.have = append(s.have[:from], b...)
	if !last {
		return &answer{http.StatusOK, http.Header{"X-Http-Status-Code-Override": {"308"}, "Range": {fmt.Sprintf("bytes=0-%d", len(s.have)-1)}}, nil}
	}
	var declared struct{ Crc32c, Name string }
	json.Unmarshal(s.meta, &declared)
	is := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(s.have, crc32.MakeTable(crc32.Castagnoli))))
	if declared.Crc32c != "" && declared.Crc32c != is {
		return refuse(http.StatusBadRequest, "invalid", fmt.Sprintf("Provided CRC32C %q doesn't match calculated CRC32C %q.", declared.Crc32c, is))
	}
	req.URL.RawQuery = s.query.Encode()
	if s.answer = r.overwrite(req, cmp.Or(s.query.Get("name"), declared.Name)); s.answer == nil {
		s.answer = r.commit(req, s)
	}
	s.have = nil
	return s.answer
}

// commit makes the object of an upload.
func (r *rules) commit(req *http.Request, s *session) *answer {
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i, part := range [][]byte{s.meta, s.have} {
		w, _ := m.CreatePart(textproto.MIMEHeader{"Content-Type": {[]string{"application/json", "application/octet-stream"}[i]}})
		w.Write(part)
	}
	m.Close()
	q := url.Values{}
	for k, v := range s.query {
		q[k] = v
	}
	q.Set("uploadType", "multipart")
	out, _ := http.NewRequestWithContext(req.Context(), http.MethodPost, r.target+req.URL.Path+"?"+q.Encode(), &b)
	out.Header.Set("Content-Type", "multipart/related; boundary="+m.Boundary())
	return r.do(out)
}

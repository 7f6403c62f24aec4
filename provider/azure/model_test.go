package azure_test

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider/azure"
)

// A model does what the documentation of the service says, where Azurite does
// not: it keeps versions, takes immutability policies of them, drops the
// blocks of others with each commit, and can have a hierarchical namespace.
// That the service does so too is for TestRealContainer to show.
type model struct {
	versions bool // and immutability policies
	hns      bool
	page     int // of a listing; 0 means 100

	mu     sync.Mutex
	blobs  map[string][]*modelVersion // the oldest first
	staged map[string]map[string][]byte
	writes int
	asked  []*http.Request // without their bodies
	denied map[string]bool // values of comp that are 403

	firewalled bool // the service cannot read sources
}

type modelVersion struct {
	id, etag string
	current  bool
	modified time.Time
	body     []byte
	blocks   map[string][]byte
	header   http.Header // metadata, tier
	mode     string      // of the immutability policy
	until    time.Time
	held     bool
	archived bool
	tags     []byte // as they were set: the documents are the same
}

func (v *modelVersion) locked() bool { return v.held || v.mode != "" && time.Now().Before(v.until) }

func newModel(t *testing.T, m *model) *azure.Config {
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	return &azure.Config{Container: "ccc", Endpoint: server.URL + "/account", SAS: "sig=x", PartSize: 256 << 10, Attempts: 1}
}

func openModel(t *testing.T, m *model) *azure.Store {
	t.Helper()
	s, err := azure.Open(t.Context(), *newModel(t, m))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refusal ends a request.
type refusal struct {
	status int
	code   string
}

func refuse(status int, code string) { panic(refusal{status, code}) }

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, r)
	defer func() {
		switch e := recover().(type) {
		case nil:
		case refusal:
			w.Header().Set("x-ms-error-code", e.code)
			w.WriteHeader(e.status)
		default:
			panic(e)
		}
	}()
	q := r.URL.Query()
	key, _ := strings.CutPrefix(r.URL.Path, "/account/ccc")
	key = strings.TrimPrefix(key, "/")
	comp := q.Get("comp")
	if m.denied[comp] {
		refuse(403, "AuthorizationPermissionMismatch")
	}
	switch {
	case q.Get("restype") == "account":
		w.Header().Set("x-ms-is-hns-enabled", strconv.FormatBool(m.hns))
	case comp == "list":
		m.list(w, q.Get("prefix"), q.Get("startFrom"), unhex(q.Get("marker")), q.Get("include") == "versions")
	case q.Get("restype") == "container":
		w.Header().Set("x-ms-immutable-storage-with-versioning-enabled", strconv.FormatBool(m.versions))
	case r.Method == http.MethodPut:
		m.put(w, r, key, comp, body)
	case comp == "tags":
		v := m.find(key, q.Get("versionid"))
		if v == nil {
			refuse(404, "BlobNotFound")
		}
		w.Header().Set("Content-Type", "application/xml")
		io.WriteString(w, cmp.Or(string(v.tags), `<Tags><TagSet></TagSet></Tags>`))
	case r.Method == http.MethodDelete:
		m.remove(w, r, key)
	default:
		m.get(w, r, key, q.Get("versionid"))
	}
}

// find returns a version of a key, the present one without an ID, or nil.
func (m *model) find(key, id string) *modelVersion {
	for _, v := range m.blobs[key] {
		if id == "" && v.current || id != "" && v.id == id {
			return v
		}
	}
	return nil
}

func condition(r *http.Request, v *modelVersion) {
	switch match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match"); {
	case none == "*" && v != nil:
		refuse(409, "BlobAlreadyExists")
	case match != "" && (v == nil || match != v.etag):
		refuse(412, "ConditionNotMet")
	}
}

func verify(r *http.Request, body []byte) {
	var want [8]byte
	binary.LittleEndian.PutUint64(want[:], crc64.Checksum(body, crc64.MakeTable(0x9A6C9329AC4BC9B5)))
	if r.Header.Get("x-ms-content-crc64") != base64.StdEncoding.EncodeToString(want[:]) {
		refuse(400, "Crc64Mismatch")
	}
}

func (m *model) put(w http.ResponseWriter, r *http.Request, key, comp string, body []byte) {
	v := m.find(key, r.URL.Query().Get("versionid"))
	var blocks map[string][]byte
	switch comp {
	case "tags":
		if v == nil {
			refuse(404, "BlobNotFound")
		}
		v.tags = body
		w.WriteHeader(http.StatusNoContent)
		return
	case "immutabilityPolicies":
		m.protect(r, v)
		return
	case "block":
		if source := r.Header.Get("x-ms-copy-source"); source != "" {
			body = m.source(r, source)
		} else {
			verify(r, body)
		}
		if m.staged[key] == nil {
			m.staged[key] = map[string][]byte{}
		}
		m.staged[key][r.URL.Query().Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
		return
	case "blocklist":
		condition(r, v)
		body, blocks = m.join(key, v, body)
	default:
		verify(r, body)
		condition(r, v)
	}
	if v != nil && v.locked() && !m.versions {
		refuse(409, "BlobImmutableDueToPolicy")
	}
	m.write(w, r, key, body, blocks)
}

// source reads what a block is to be copied from. Whoever asks must be allowed
// to read it: by the signature in the URL, or a token beside it.
func (m *model) source(r *http.Request, source string) []byte {
	u, err := url.Parse(source)
	if err != nil || len(source) > 2<<10 {
		refuse(400, "InvalidHeaderValue")
	}
	if m.firewalled || !u.Query().Has("sig") && r.Header.Get("x-ms-copy-source-authorization") == "" {
		refuse(403, "CannotVerifyCopySource")
	}
	v := m.find(strings.TrimPrefix(u.Path, "/account/ccc/"), u.Query().Get("versionid"))
	if v == nil || u.Host != r.Host {
		refuse(404, "CannotVerifyCopySource")
	}
	if v.etag != r.Header.Get("x-ms-source-if-match") {
		refuse(412, "SourceConditionNotMet")
	}
	var first, last int
	if _, err := fmt.Sscanf(r.Header.Get("x-ms-source-range"), "bytes=%d-%d", &first, &last); err != nil || last >= len(v.body) {
		refuse(416, "InvalidRange")
	}
	return v.body[first : last+1]
}

// join makes the content of a list of blocks, uncommitted ones before those
// that are committed.
func (m *model) join(key string, v *modelVersion, list []byte) ([]byte, map[string][]byte) {
	var doc struct{ Latest []string }
	if err := xml.Unmarshal(list, &doc); err != nil {
		refuse(400, "InvalidXmlDocument")
	}
	var body []byte
	blocks := map[string][]byte{}
	for _, id := range doc.Latest {
		b, ok := m.staged[key][id]
		if !ok && v != nil {
			b, ok = v.blocks[id]
		}
		if !ok {
			refuse(400, "InvalidBlockList")
		}
		blocks[id] = b
		body = append(body, b...)
	}
	return body, blocks
}

func (m *model) write(w http.ResponseWriter, r *http.Request, key string, body []byte, blocks map[string][]byte) {
	m.writes++
	v := &modelVersion{etag: fmt.Sprintf(`"0x%X"`, m.writes), current: true, modified: time.Now().UTC(), body: body, blocks: blocks, header: http.Header{}}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Ms-Meta-") {
			v.header[name] = values
		}
	}
	if tags := r.Header.Get("x-ms-tags"); tags != "" {
		if m.denied["tags"] {
			refuse(403, "AuthorizationPermissionMismatch")
		}
		v.tags = tagDocument(tags)
	}
	v.mode = strings.ToLower(r.Header.Get("x-ms-immutability-policy-mode"))
	v.until, _ = time.Parse(time.RFC1123, r.Header.Get("x-ms-immutability-policy-until-date"))
	if m.versions {
		v.id = v.modified.Format("2006-01-02T15:04:05.") + fmt.Sprintf("%07dZ", m.writes)
		for _, old := range m.blobs[key] {
			old.current = false
		}
	} else {
		delete(m.blobs, key)
	}
	m.blobs[key] = append(m.blobs[key], v)
	delete(m.staged, key) // of all that were under way
	w.Header().Set("ETag", v.etag)
	w.WriteHeader(http.StatusCreated)
}

// tagDocument makes what Get Blob Tags answers of the value of x-ms-tags.
func tagDocument(header string) []byte {
	type tag struct{ Key, Value string }
	var doc struct {
		XMLName xml.Name `xml:"Tags"`
		Tags    []tag    `xml:"TagSet>Tag"`
	}
	all, err := url.ParseQuery(header)
	if err != nil {
		refuse(400, "InvalidHeaderValue")
	}
	for k := range all {
		doc.Tags = append(doc.Tags, tag{k, all.Get(k)})
	}
	b, _ := xml.Marshal(doc)
	return b
}

// protect sets an immutability policy: a locked one only grows.
func (m *model) protect(r *http.Request, v *modelVersion) {
	if v == nil {
		refuse(404, "BlobNotFound")
	}
	mode := strings.ToLower(r.Header.Get("x-ms-immutability-policy-mode"))
	until, err := time.Parse(time.RFC1123, r.Header.Get("x-ms-immutability-policy-until-date"))
	if err != nil || mode != "locked" && mode != "unlocked" {
		refuse(400, "InvalidHeaderValue")
	}
	if v.mode == "locked" && (mode != "locked" || until.Before(v.until)) {
		refuse(409, "BlobImmutableDueToPolicy")
	}
	v.mode, v.until = mode, until
}

// remove makes the present version an earlier one, whatever its policy.
func (m *model) remove(w http.ResponseWriter, r *http.Request, key string) {
	v := m.find(key, "")
	if v == nil {
		refuse(404, "BlobNotFound")
	}
	condition(r, v)
	if m.versions {
		v.current = false
	} else if v.locked() {
		refuse(409, "BlobImmutableDueToPolicy")
	} else {
		delete(m.blobs, key)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (m *model) get(w http.ResponseWriter, r *http.Request, key, id string) {
	v := m.find(key, id)
	if v == nil {
		refuse(404, "BlobNotFound")
	}
	condition(r, v)
	if v.archived && r.Method == http.MethodGet {
		refuse(409, "BlobArchived")
	}
	h := w.Header()
	maps.Copy(h, v.header)
	h.Set("ETag", v.etag)
	h.Set("Last-Modified", v.modified.Format(http.TimeFormat))
	if v.id != "" {
		h.Set("x-ms-version-id", v.id)
	}
	if v.mode != "" {
		h.Set("x-ms-immutability-policy-mode", v.mode)
		h.Set("x-ms-immutability-policy-until-date", v.until.UTC().Format(http.TimeFormat))
	}
	if n := strings.Count(string(v.tags), "<Tag>"); n > 0 {
		h.Set("x-ms-tag-count", strconv.Itoa(n))
	}
	h.Set("x-ms-legal-hold", strconv.FormatBool(v.held))
	status, part := http.StatusOK, v.body
	if asked := r.Header.Get("x-ms-range"); asked != "" {
		from, to, _ := strings.Cut(strings.TrimPrefix(asked, "bytes="), "-")
		first, _ := strconv.Atoi(from)
		last, err := strconv.Atoi(to)
		if err != nil || last >= len(v.body) {
			last = len(v.body) - 1
		}
		if first >= len(v.body) {
			refuse(416, "InvalidRange")
		}
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(v.body)))
		status, part = http.StatusPartialContent, v.body[first:last+1]
	}
	h.Set("Content-Length", strconv.Itoa(len(part)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		w.Write(part)
	}
}

// list goes on behind the blob and version that the marker names.
func (m *model) list(w http.ResponseWriter, prefix, from, marker string, all bool) {
	type properties struct {
		Modified string `xml:"Last-Modified"`
		ETag     string `xml:"Etag"`
		Size     int    `xml:"Content-Length"`
	}
	type item struct {
		Name, VersionId  string
		IsCurrentVersion bool
		Properties       properties
	}
	var items []item
	for _, key := range slices.Sorted(maps.Keys(m.blobs)) {
		if !strings.HasPrefix(key, prefix) || key < from {
			continue
		}
		for _, v := range m.blobs[key] {
			if all || v.current {
				items = append(items, item{key, v.id, v.current, properties{v.modified.Format(http.TimeFormat), strings.Trim(v.etag, `"`), len(v.body)}})
			}
		}
	}
	place := func(i item) string { return i.Name + "\x00" + i.VersionId }
	after := slices.IndexFunc(items, func(i item) bool { return marker == "" || place(i) > marker })
	if after < 0 {
		after = len(items)
	}
	items = items[after:]
	next := ""
	if page := cmp.Or(m.page, 100); len(items) > page {
		items = items[:page]
		next = place(items[page-1])
	}
	if m.hns { // a directory is gone through before what comes after its name
		slices.Reverse(items)
	}
	doc := struct {
		XMLName    xml.Name `xml:"EnumerationResults"`
		Blobs      []item   `xml:"Blobs>Blob"`
		NextMarker string
	}{Blobs: items, NextMarker: hex.EncodeToString([]byte(next))}
	w.Header().Set("Content-Type", "application/xml")
	xml.NewEncoder(w).Encode(doc)
}

func unhex(s string) string {
	b, _ := hex.DecodeString(s)
	return string(b)
}

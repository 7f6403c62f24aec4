package fakegcp

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A schema is one of a discovery document (a JSON schema of draft 3).
type schema struct {
	Type                 string
	Format               string
	Ref                  string `json:"$ref"`
	Enum                 []string
	Properties           map[string]*schema
	AdditionalProperties *schema
	Items                *schema
	Pattern              string
	ReadOnly             bool
	Required             bool // of a parameter
	Location             string
	Repeated             bool
}

// A method is one that a service has, by its discovery document.
type method struct {
	ID         string
	HTTPMethod string
	FlatPath   string
	Path       string
	Parameters map[string]*schema
	Request    *schema
	Response   *schema

	match    *regexp.Regexp
	names    []string // of the parts of the path
	segments []string // of the path, empty where there is a part
}

type resource struct {
	Methods   map[string]*method
	Resources map[string]*resource
}

// A document is the vendor's own description of an API.
type document struct {
	resource
	ServicePath string
	Parameters  map[string]*schema
	Schemas     map[string]*schema

	methods []*method
}

// loaded are the documents that tests of this process have loaded: of megabytes,
// and not changed.
var loaded sync.Map

// load reads a discovery document out of the SDK's module.
func load(t testing.TB, name string) *document {
	t.Helper()
	if d, ok := loaded.Load(name); ok {
		return d.(*document)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "google.golang.org/api").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	d := &document{}
	if err := json.Unmarshal(b, d); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	d.collect(&d.resource)
	if len(d.methods) < 10 {
		t.Fatalf("%s: %d methods", name, len(d.methods))
	}
	loaded.Store(name, d)
	return d
}

var part = regexp.MustCompile(`\{\+?([A-Za-z0-9_]+)\}`)

func (d *document) collect(r *resource) {
	for _, m := range r.Methods {
		flat := m.FlatPath
		if flat == "" {
			flat = m.Path
		}
		path, last := "^/"+regexp.QuoteMeta(d.ServicePath), 0
		for _, at := range part.FindAllStringSubmatchIndex(flat, -1) {
			m.names = append(m.names, flat[at[2]:at[3]])
			path += regexp.QuoteMeta(flat[last:at[0]]) + "([^/]+)"
			last = at[1]
		}
		for segment := range strings.SplitSeq("/"+d.ServicePath+flat, "/") {
			if strings.Contains(segment, "{") {
				segment = ""
			}
			m.segments = append(m.segments, segment)
		}
		m.match = regexp.MustCompile(path + regexp.QuoteMeta(flat[last:]) + "$")
		d.methods = append(d.methods, m)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Resources)) {
		d.collect(r.Resources[name])
	}
}

// find returns the method of a request, and the parts of its path.
func (d *document) find(httpMethod, path string) (*method, map[string]string) {
	segments := strings.Split(path, "/")
	for _, m := range d.methods {
		// There are a thousand expressions, and a test asks thousands of times.
		if m.HTTPMethod != httpMethod || !slices.EqualFunc(m.segments, segments, func(a, b string) bool { return a == "" || a == b }) {
			continue
		}
		found := m.match.FindStringSubmatch(path)
		if found == nil {
			continue
		}
		parts := map[string]string{}
		for i, name := range m.names {
			parts[name] = found[i+1]
		}
		return m, parts
	}
	return nil, nil
}

// checkQuery says what of a query the method does not take.
func (d *document) checkQuery(m *method, query map[string][]string) (faults []string) {
	for name, values := range query {
		s := m.Parameters[name]
		if s == nil || s.Location != "query" {
			s = d.Parameters[name]
		}
		if s == nil {
			faults = append(faults, "query: there is no parameter "+name)
			continue
		}
		if len(values) > 1 && !s.Repeated {
			faults = append(faults, "query: "+name+" more than once")
		}
		for _, v := range values {
			faults = append(faults, d.check("query: "+name, s, fromText(s, v), true)...)
		}
	}
	for name, s := range m.Parameters {
		if s.Required && s.Location == "query" && query[name] == nil {
			faults = append(faults, "query: "+name+" is required")
		}
	}
	return faults
}

func fromText(s *schema, v string) any {
	switch s.Type {
	case "integer", "number":
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			return n
		}
	case "boolean":
		if b, err := strconv.ParseBool(v); err == nil {
			return b
		}
	}
	return v
}

// check says where a value is not of a schema. A request must set nothing that
// is only for reading.
func (d *document) check(at string, s *schema, v any, request bool) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	if s.Ref != "" {
		to := d.Schemas[s.Ref]
		if to == nil {
			fault("no schema %s", s.Ref)
			return faults
		}
		return d.check(at, to, v, request)
	}
	switch v := v.(type) {
	case map[string]any:
		if s.Type != "object" {
			fault("an object, want %s", s.Type)
			return faults
		}
		for name, value := range v {
			p := s.Properties[name]
			if p == nil {
				p = s.AdditionalProperties
			}
			switch {
			case p == nil:
				fault("there is no field %s", name)
			case request && p.ReadOnly:
				fault("%s is only for reading", name)
			default:
				faults = append(faults, d.check(at+"."+name, p, value, request)...)
			}
		}
	case []any:
		if s.Type != "array" {
			fault("an array, want %s", s.Type)
			return faults
		}
		for i, value := range v {
			faults = append(faults, d.check(fmt.Sprintf("%s[%d]", at, i), s.Items, value, request)...)
		}
	case string:
		if s.Type != "string" {
			fault("%q, want %s", v, s.Type)
		} else if err := s.text(v); err != nil {
			fault("%q: %v", v, err)
		}
	case bool:
		if s.Type != "boolean" {
			fault("%v, want %s", v, s.Type)
		}
	case float64:
		if s.Type != "number" && (s.Type != "integer" || v != math.Trunc(v) || s.Format == "int32" && math.Abs(v) > math.MaxInt32) {
			fault("%v, want %s %s", v, s.Type, s.Format)
		}
	default:
		fault("%T", v)
	}
	return faults
}

func (s *schema) text(v string) (err error) {
	switch s.Format {
	case "int64":
		_, err = strconv.ParseInt(v, 10, 64)
	case "uint64":
		_, err = strconv.ParseUint(v, 10, 64)
	case "byte":
		if strings.ContainsAny(v, "-_") { // which some of them write in place of +/
			_, err = base64.URLEncoding.DecodeString(v)
		} else {
			_, err = base64.StdEncoding.DecodeString(v)
		}
	case "date-time", "google-datetime":
		_, err = time.Parse(time.RFC3339, v)
	}
	if err == nil && len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
		err = fmt.Errorf("none of %q", s.Enum)
	}
	if err == nil && s.Pattern != "" {
		var ok bool
		if ok, err = regexp.MatchString("^(?:"+s.Pattern+")$", v); err == nil && !ok {
			err = fmt.Errorf("does not match %s", s.Pattern)
		}
	}
	return err
}

package fakegcp

import (
	"encoding/json"
	"strings"
	"testing"
)

// The vendor's documents refuse what is not in them, and take what is.
func TestSchema(t *testing.T) {
	d := load(t, "dns/v1/dns-api.json")
	m, parts := d.find("POST", "/dns/v1/projects/p/managedZones/z/changes")
	if m == nil || m.ID != "dns.changes.create" || parts["managedZone"] != "z" {
		t.Fatalf("%+v, %v", m, parts)
	}
	for _, path := range []string{"/dns/v1/projects/p/managedZones/z/change", "/dns/v1/projects/p/managedZones/z/changes/", "/v1/projects/p/managedZones/z/changes"} {
		if m, _ := d.find("POST", path); m != nil {
			t.Errorf("%s is %s", path, m.ID)
		}
	}
	for body, fault := range map[string]string{
		`{"additions":[{"name":"a.","type":"A","ttl":60,"rrdatas":["192.0.2.1"]}]}`: "",
		`{"added":[]}`:                       "no field added",
		`{"additions":{}}`:                   "an object, want array",
		`{"additions":[{"ttl":"60"}]}`:       `"60", want integer`,
		`{"additions":[{"ttl":60.5}]}`:       "60.5, want integer",
		`{"additions":[{"ttl":3000000000}]}`: "want integer int32",
		`{"status":"finished"}`:              "none of",
	} {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(d.check("body", m.Request, v, true), "; "); fault == "" && got != "" || !strings.Contains(got, fault) {
			t.Errorf("%s: %q, want %q", body, got, fault)
		}
	}
	list, _ := d.find("GET", "/dns/v1/projects/p/managedZones/z/changes")
	for query, fault := range map[string]string{"maxResults=10&alt=json": "", "maxResults=x": "want integer", "sortBy=name": "none of", "name=x": "no parameter"} {
		name, value, _ := strings.Cut(query, "=")
		q := map[string][]string{name: {value}}
		if fault == "" {
			q = map[string][]string{"maxResults": {"10"}, "alt": {"json"}}
		}
		if got := strings.Join(d.checkQuery(list, q), "; "); fault == "" && got != "" || !strings.Contains(got, fault) {
			t.Errorf("%s: %q, want %q", query, got, fault)
		}
	}
	kms := load(t, "cloudkms/v1/cloudkms-api.json")
	for body, fault := range map[string]string{`{"plaintext":"!"}`: "illegal base64", `{"plaintextCrc32c":1}`: "want string", `{"plaintextCrc32c":"x"}`: "invalid syntax"} {
		var v any
		json.Unmarshal([]byte(body), &v)
		if got := strings.Join(kms.check("body", &schema{Ref: "EncryptRequest"}, v, true), "; "); !strings.Contains(got, fault) {
			t.Errorf("%s: %q, want %q", body, got, fault)
		}
	}
}

package fakegcp

import (
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// DNS is a server of dns/v1 of one project.
type DNS struct {
	*Server
	PageSize int // of all lists

	mu    sync.Mutex
	zones map[string]*dnsZone
}

type dnsZone struct {
	attributes map[string]any
	sets       map[setKey]map[string]any
	changes    []map[string]any
	asked      map[string]int
}

type setKey struct{ name, typ string }

// NewDNS starts one.
func NewDNS(t testing.TB) *DNS {
	d := &DNS{zones: map[string]*dnsZone{}, PageSize: 3}
	d.Server = start(t, "dns/v1/dns-api.json", d.serve)
	return d
}

// Zone makes a managed zone; more are further attributes.
func (d *DNS) Zone(name, dnsName, visibility string, more map[string]any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	z := &dnsZone{sets: map[setKey]map[string]any{}, asked: map[string]int{}, attributes: map[string]any{
		"kind": "dns#managedZone", "id": strconv.Itoa(1000 + len(d.zones)), "name": name, "dnsName": dnsName, "visibility": visibility,
		"description": "", "creationTime": "2026-01-02T03:04:05.000Z"}}
	maps.Copy(z.attributes, more)
	z.put(map[string]any{"name": dnsName, "type": "SOA", "ttl": 21600.0, "rrdatas": []any{"ns1.example. admin.example. 1 21600 3600 259200 300"}})
	z.put(map[string]any{"name": dnsName, "type": "NS", "ttl": 21600.0, "rrdatas": []any{"ns1.example.", "ns2.example."}})
	z.changes = []map[string]any{{"kind": "dns#change", "id": "0", "status": "done", "startTime": "2026-01-02T03:04:05.000Z"}}
	d.zones[name] = z
}

// Put puts a record set into a zone, past all rules: one with a routing policy.
func (d *DNS) Put(zone string, set map[string]any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.zones[zone].put(set)
}

// Holds is a record set of a zone as the service has it, or nil.
func (d *DNS) Holds(zone, name, typ string) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.zones[zone].sets[setKey{name, typ}])
}

// Drop deletes a zone.
func (d *DNS) Drop(zone string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.zones, zone)
}

func (z *dnsZone) put(set map[string]any) {
	set["kind"] = "dns#resourceRecordSet"
	z.sets[keyOf(set)] = set
}

func keyOf(set map[string]any) setKey {
	name, _ := set["name"].(string)
	typ, _ := set["type"].(string)
	return setKey{name, typ}
}

func (d *DNS) serve(r *Request) (any, *Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Method == "dns.managedZones.list" {
		var all []any
		for _, name := range slices.Sorted(maps.Keys(d.zones)) {
			all = append(all, d.zones[name].attributes)
		}
		return d.page(r, "dns#managedZonesListResponse", "managedZones", all)
	}
	name := r.Parts["managedZone"]
	z := d.zones[name]
	if z == nil {
		return nil, faultf(http.StatusNotFound, "notFound", "", "The 'parameters.managedZone' resource named '%s' does not exist.", name)
	}
	switch r.Method {
	case "dns.managedZones.get":
		return z.attributes, nil
	case "dns.resourceRecordSets.list":
		var all []any
		for _, k := range slices.SortedFunc(maps.Keys(z.sets), func(a, b setKey) int { return slices.Compare([]string{a.name, a.typ}, []string{b.name, b.typ}) }) {
			if want := r.URL.Query().Get("name"); want == "" || want == k.name {
				all = append(all, z.sets[k])
			}
		}
		return d.page(r, "dns#resourceRecordSetsListResponse", "rrsets", all)
	case "dns.changes.create":
		return z.create(r.decode())
	case "dns.changes.list":
		var all []any
		for _, c := range z.changes {
			all = append(all, c)
		}
		if r.URL.Query().Get("sortOrder") == "descending" {
			slices.Reverse(all)
		}
		return d.page(r, "dns#changesListResponse", "changes", all)
	case "dns.changes.get":
		return z.change(r.Parts["changeId"])
	}
	return nil, faultf(http.StatusNotImplemented, "notImplemented", "", "%s is not known here", r.Method)
}

func (d *DNS) page(r *Request, kind, field string, all []any) (any, *Fault) {
	from, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
	to := min(from+d.PageSize, len(all))
	out := map[string]any{"kind": kind, field: append([]any{}, all[from:to]...)}
	if to < len(all) {
		out["nextPageToken"] = strconv.Itoa(to)
	}
	return out, nil
}

// change is one that is pending the first two times that it is asked for.
func (z *dnsZone) change(id string) (any, *Fault) {
	n, err := strconv.Atoi(id)
	if err != nil || n < 0 || n >= len(z.changes) {
		return nil, faultf(http.StatusNotFound, "notFound", "", "The 'parameters.changeId' resource named '%s' does not exist.", id)
	}
	z.asked[id]++
	if z.asked[id] > 2 {
		z.changes[n]["status"] = "done"
	}
	return maps.Clone(z.changes[n]), nil
}

// create applies a change as a whole or not at all.
func (z *dnsZone) create(change map[string]any) (any, *Fault) {
	deletions, _ := change["deletions"].([]any)
	additions, _ := change["additions"].([]any)
	if len(deletions)+len(additions) == 0 {
		return nil, faultf(http.StatusBadRequest, "required", "", "The 'entity.change' parameter is required but was missing.")
	}
	sets := maps.Clone(z.sets)
	for i, v := range deletions {
		given := v.(map[string]any)
		held := sets[keyOf(given)]
		switch {
		case held == nil:
			return nil, faultf(http.StatusNotFound, "notFound", "", "The 'entity.change.deletions[%d]' resource named '%s (%s)' does not exist.", i, given["name"], given["type"])
		case !reflect.DeepEqual(held["ttl"], given["ttl"]) || !reflect.DeepEqual(held["rrdatas"], given["rrdatas"]) || !reflect.DeepEqual(told(held["routingPolicy"]), told(given["routingPolicy"])):
			return nil, faultf(http.StatusPreconditionFailed, "conditionNotMet", "", "Precondition not met for 'entity.change.deletions[%d]'", i)
		}
		delete(sets, keyOf(given))
	}
	for i, v := range additions {
		given := maps.Clone(v.(map[string]any))
		if sets[keyOf(given)] != nil {
			return nil, faultf(http.StatusConflict, "alreadyExists", "", "The 'entity.change.additions[%d]' resource named '%s (%s)' already exists", i, given["name"], given["type"])
		}
		given["kind"] = "dns#resourceRecordSet"
		sets[keyOf(given)] = given
	}
	for k := range sets {
		for other := range sets {
			if k.typ == "CNAME" && other.name == k.name && other.typ != "CNAME" {
				return nil, faultf(http.StatusBadRequest, "cnameResourceRecordSetConflict", "",
					"The resource record set 'entity.change.additions[0]' is invalid because the DNS name '%s' may have either one CNAME resource record set or resource record sets of other types, but not both.", k.name)
			}
		}
	}
	z.sets = sets
	made := maps.Clone(change)
	made["kind"], made["id"], made["status"], made["startTime"] = "dns#change", fmt.Sprint(len(z.changes)), "pending", time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	z.changes = append(z.changes, made)
	return maps.Clone(made), nil
}

// told is a document without what the service alone says of it.
func told(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, inner := range v {
			if k != "kind" && k != "signatureRrdatas" {
				out[k] = told(inner)
			}
		}
		return out
	case []any:
		out := []any{}
		for _, inner := range v {
			out = append(out, told(inner))
		}
		return out
	}
	return v
}

package fakegcp

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// groups are the policies of disks, and what is frozen by them.
type groups struct {
	policies map[string]map[string]any // "regions/R/resourcePolicies/P"
	groups   map[string]*groupState    // "zones/Z/instantSnapshotGroups/G"
	instants map[string]*instantState  // "zones/Z/instantSnapshots/I"
}

type groupState struct {
	attributes map[string]any
	zone       string
	passed     int // requests of any kind since it was begun
	asked      int
}

type instantState struct {
	attributes map[string]any
	content    []byte
}

// ResourcePolicy makes a resource policy, of consistency or, if schedule says so, of
// snapshots at set times, and returns "regions/R/resourcePolicies/P".
func (c *Compute) ResourcePolicy(region string, schedule map[string]any) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	name := fmt.Sprintf("policy-%d", c.made)
	path := "regions/" + region + "/resourcePolicies/" + name
	c.policies[path] = map[string]any{"kind": "compute#resourcePolicy", "id": fmt.Sprint(1000 + c.made), "name": name, "status": "READY",
		"region": projectURL + "regions/" + region, "selfLink": projectURL + path, "creationTimestamp": now()}
	if schedule != nil {
		c.policies[path]["snapshotSchedulePolicy"] = schedule
	} else {
		c.policies[path]["diskConsistencyGroupPolicy"] = map[string]any{}
	}
	return path
}

// Set changes an attribute of disks. "resourcePolicies" are paths.
func (c *Compute) Set(name string, value any, disks ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range disks {
		if paths, ok := value.([]string); ok {
			urls := []any{}
			for _, p := range paths {
				urls = append(urls, projectURL+p)
			}
			c.disks[d].attributes[name] = urls
		} else {
			c.disks[d].attributes[name] = value
		}
	}
}

// InstantGroups are the paths of the instant snapshot groups that are not being
// deleted.
func (c *Compute) InstantGroups() (paths []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(c.groups.groups)) {
		if c.groups.groups[path].attributes["status"] != "DELETING" {
			paths = append(paths, path)
		}
	}
	return paths
}

// Melt removes an instant snapshot group at once, as the loss of its zone does.
func (c *Compute) Melt(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.melt(group)
}

func (c *Compute) serveGroups(r *Request) (any, *Fault) {
	zone := r.Parts["zone"]
	path := "zones/" + zone + "/instantSnapshotGroups/" + r.Parts["instantSnapshotGroup"]
	switch r.Method {
	case "compute.resourcePolicies.get":
		path := "regions/" + r.Parts["region"] + "/resourcePolicies/" + r.Parts["resourcePolicy"]
		if p := c.policies[path]; p != nil {
			return maps.Clone(p), nil
		}
		return nil, missing(path)
	case "compute.instantSnapshotGroups.insert":
		return c.insertGroup(r, zone)
	case "compute.instantSnapshotGroups.get":
		g := c.groups.groups[path]
		if g == nil {
			return nil, missing(path)
		}
		if g.asked++; g.asked == 1 {
			return nil, missing(path) // not yet shown
		}
		return maps.Clone(g.attributes), nil
	case "compute.instantSnapshotGroups.delete":
		g := c.groups.groups[path]
		if g == nil {
			return nil, missing(path)
		}
		if g.attributes["status"] == "DELETING" {
			return nil, faultf(http.StatusBadRequest, "resourceNotReady", "", "The resource 'projects/p/%s' is not ready", path)
		}
		op := c.operation(r, path, func() {
			if c.groups.groups[path] == g {
				c.melt(path)
			}
		})
		g.attributes["status"] = "DELETING"
		return op, nil
	case "compute.instantSnapshots.list":
		var all []any
		for _, path := range slices.Sorted(maps.Keys(c.instants)) {
			if strings.HasPrefix(path, "zones/"+zone+"/") {
				all = append(all, maps.Clone(c.instants[path].attributes))
			}
		}
		return c.page(r, "compute#instantSnapshotList", all), nil
	case "compute.snapshots.setLabels":
		return c.setLabels(r)
	}
	return nil, faultf(http.StatusNotImplemented, "notImplemented", "", "%s is not known here", r.Method)
}

func (c *Compute) insertGroup(r *Request, zone string) (any, *Fault) {
	body := r.decode()
	if fault := checkMade(body); fault != nil {
		return nil, fault
	}
	name, _ := body["name"].(string)
	source, _ := body["sourceConsistencyGroup"].(string)
	policy, path := strings.TrimPrefix(source, "projects/p/"), "zones/"+zone+"/instantSnapshotGroups/"+name
	switch {
	case c.policies[policy] == nil || !strings.HasPrefix(zone, c.policies[policy]["region"].(string)[len(projectURL+"regions/"):]):
		return nil, missing(policy)
	case c.policies[policy]["diskConsistencyGroupPolicy"] == nil:
		return nil, faultf(http.StatusBadRequest, "invalid", "", "Invalid value for field 'resource.sourceConsistencyGroup': '%s'.", source)
	case c.groups.groups[path] != nil:
		return nil, faultf(http.StatusConflict, "alreadyExists", "", "The resource 'projects/p/%s' already exists", path)
	}
	c.made++
	maps.Copy(body, map[string]any{"kind": "compute#instantSnapshotGroup", "id": fmt.Sprint(1000 + c.made), "status": "CREATING",
		"sourceConsistencyGroup": projectURL + policy, "zone": projectURL + "zones/" + zone, "selfLink": projectURL + path, "creationTimestamp": now()})
	c.groups.groups[path] = &groupState{attributes: body, zone: zone}
	return c.operation(r, path, nil), nil
}

// passGroups takes all groups further: first their disks are frozen, at one
// moment, then what was frozen is shown.
func (c *Compute) passGroups() {
	for path, g := range c.groups.groups {
		switch g.passed++; g.passed {
		case 2:
			c.freeze(path, g)
		case 5:
			if g.attributes["status"] == "CREATING" {
				g.attributes["status"] = "READY"
			}
		case 14: // which no document rules out
			for _, i := range c.instants {
				if i.attributes["sourceInstantSnapshotGroup"] == projectURL+path {
					i.attributes["status"] = "READY"
				}
			}
		}
	}
}

func (c *Compute) freeze(path string, g *groupState) {
	for _, disk := range slices.Sorted(maps.Keys(c.disks)) {
		d := c.disks[disk]
		of, _ := d.attributes["resourcePolicies"].([]any)
		if !strings.HasPrefix(disk, "zones/"+g.zone+"/") || !slices.Contains(of, g.attributes["sourceConsistencyGroup"]) {
			continue
		}
		c.made++
		name := fmt.Sprintf("%s-%s", g.attributes["name"], d.attributes["id"]) // may come again with another ID
		at := "zones/" + g.zone + "/instantSnapshots/" + name
		c.instants[at] = &instantState{content: slices.Clone(d.content), attributes: map[string]any{
			"kind": "compute#instantSnapshot", "id": fmt.Sprint(1000 + c.made), "name": name, "status": "CREATING", "diskSizeGb": d.attributes["sizeGb"],
			"sourceDisk": projectURL + disk, "sourceDiskId": d.attributes["id"], "sourceInstantSnapshotGroup": projectURL + path,
			"sourceInstantSnapshotGroupId": g.attributes["id"], "zone": g.attributes["zone"], "selfLink": projectURL + at, "creationTimestamp": now()}}
	}
}

// melt removes a group with its instant snapshots.
func (c *Compute) melt(path string) {
	delete(c.groups.groups, path)
	maps.DeleteFunc(c.instants, func(_ string, i *instantState) bool {
		return i.attributes["sourceInstantSnapshotGroup"] == projectURL+path
	})
}

// snapshotOfInstant is what a snapshot to make is of. Other than Compute Engine
// it does not name the disk, which no document promises.
func (c *Compute) snapshotOfInstant(body map[string]any) *Fault {
	path := strings.TrimPrefix(body["sourceInstantSnapshot"].(string), "projects/p/")
	i := c.instants[path]
	if i == nil {
		return missing(path)
	}
	if i.attributes["status"] != "READY" {
		return faultf(http.StatusBadRequest, "resourceNotReady", "", "The resource 'projects/p/%s' is not ready", path)
	}
	maps.Copy(body, map[string]any{"diskSizeGb": i.attributes["diskSizeGb"], "sourceInstantSnapshot": projectURL + path, "sourceInstantSnapshotId": i.attributes["id"]})
	return nil
}

// uploads reads an instant snapshot, which must be there until it is done.
func (c *Compute) uploads(s *snapshotState) (ok bool) {
	source, of := s.attributes["sourceInstantSnapshot"].(string)
	if !of {
		return true
	}
	i := c.instants[strings.TrimPrefix(source, projectURL)]
	if i == nil || i.attributes["id"] != s.attributes["sourceInstantSnapshotId"] {
		return false
	}
	s.content = slices.Clone(i.content)
	return true
}

// page is one page of a list.
func (c *Compute) page(r *Request, kind string, all []any) map[string]any {
	from, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
	to := min(from+c.PageSize, len(all))
	out := map[string]any{"kind": kind, "items": append([]any{}, all[min(from, to):to]...)}
	if to < len(all) {
		out["nextPageToken"] = strconv.Itoa(to)
	}
	return out
}

func fingerprint(n int) string { return base64.StdEncoding.EncodeToString([]byte(strconv.Itoa(n))) }

func (c *Compute) setLabels(r *Request) (any, *Fault) {
	name, body := r.Parts["resource"], r.decode()
	if fault := checkMade(body); fault != nil {
		return nil, fault
	}
	s := c.snapshots[name]
	switch {
	case s == nil:
		return nil, missing("global/snapshots/" + name)
	case body["labelFingerprint"] != s.attributes["labelFingerprint"]:
		return nil, faultf(http.StatusPreconditionFailed, "conditionNotMet", "", "Labels fingerprint either invalid or resource labels have changed")
	}
	return c.operation(r, "global/snapshots/"+name, func() {
		c.made++
		s.attributes["labels"], s.attributes["labelFingerprint"] = body["labels"], fingerprint(c.made)
	}), nil
}

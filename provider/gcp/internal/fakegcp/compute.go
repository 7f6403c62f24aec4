package fakegcp

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Compute is a server of compute/v1 of the project "p" with the regions
// europe-west1 and europe-west3.
type Compute struct {
	*Server
	PageSize int

	mu        sync.Mutex
	disks     map[string]*diskState     // "zones/Z/disks/D"
	snapshots map[string]*snapshotState // by name
	ops       map[string]*opState       // by name
	requests  map[string]string         // request ID: the operation
	fail      map[string]string         // method: the code with which its next operation ends
	made      int
	groups
}

type diskState struct {
	attributes map[string]any
	content    []byte
	asked      int
}

type snapshotState struct {
	attributes map[string]any
	content    []byte
	asked      int
	stuck      string // a status that stays
	policy     []byte // of IAM, as JSON
	changes    int    // of the policy
}

type opState struct {
	attributes map[string]any
	asked      int    // requests of any kind since it began
	done       func() // when it ends
}

// NewCompute starts one.
func NewCompute(t testing.TB) *Compute {
	c := &Compute{PageSize: 2, disks: map[string]*diskState{}, snapshots: map[string]*snapshotState{}, ops: map[string]*opState{},
		requests: map[string]string{}, fail: map[string]string{},
		groups: groups{map[string]map[string]any{}, map[string]*groupState{}, map[string]*instantState{}}}
	c.Server = start(t, "compute/v1/compute-api.json", c.serve)
	return c
}

const projectURL = "https://www.googleapis.com/compute/v1/projects/p/"

// Disk makes a disk in a zone that is Ready, and returns "zones/Z/disks/D".
func (c *Compute) Disk(zone string, content []byte) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	name := fmt.Sprintf("disk-%d", c.made)
	path := "zones/" + zone + "/disks/" + name
	c.disks[path] = &diskState{content: slices.Clone(content), asked: 9, attributes: map[string]any{
		"kind": "compute#disk", "id": fmt.Sprint(1000 + c.made), "name": name, "sizeGb": "10", "status": "READY",
		"zone": projectURL + "zones/" + zone, "selfLink": projectURL + path, "creationTimestamp": now()}}
	return path
}

// Content is what is on a disk.
func (c *Compute) Content(disk string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.disks[disk]
	if d == nil {
		return nil, false
	}
	return slices.Clone(d.content), true
}

// Write replaces what is on a disk.
func (c *Compute) Write(disk string, content []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disks[disk].content = slices.Clone(content)
}

// DeleteDisk removes a disk. One that is gone is no error.
func (c *Compute) DeleteDisk(disk string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deleteDisk(disk)
}

// deleteDisk removes a disk, and with it its instant snapshots.
func (c *Compute) deleteDisk(disk string) {
	delete(c.disks, disk)
	maps.DeleteFunc(c.instants, func(_ string, i *instantState) bool { return i.attributes["sourceDisk"] == projectURL+disk })
}

// Disks are the paths of all disks.
func (c *Compute) Disks() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.disks))
}

// Fails makes the next operation of a method end with an error, and nothing
// made.
func (c *Compute) Fails(method, code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail[method] = code
}

// Sticks makes a snapshot stay in a status.
func (c *Compute) Sticks(name, status string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.snapshots[name].stuck = status
}

// Attributes are those of a snapshot as the service has them, or nil.
func (c *Compute) Attributes(snapshot string) map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.snapshots[snapshot]; s != nil {
		return maps.Clone(s.attributes)
	}
	return nil
}

func now() string { return time.Now().UTC().Format("2006-01-02T15:04:05.000-07:00") }

func missing(path string) *Fault {
	return faultf(http.StatusNotFound, "notFound", "", "The resource 'projects/p/%s' was not found", path)
}

func (c *Compute) serve(r *Request) (any, *Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pass()
	if p := r.Parts["project"]; p != "p" {
		return nil, faultf(http.StatusNotFound, "notFound", "", "The resource 'projects/%s' was not found", p)
	}
	if id := r.URL.Query().Get("requestId"); id != "" {
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
			c.t.Errorf("%s: requestId %q is not a random UUID", r.Method, id)
		}
		if name := c.requests[id]; name != "" {
			return c.ops[name].attributes, nil
		}
	} else if strings.HasSuffix(r.Method, ".insert") || strings.HasSuffix(r.Method, ".delete") {
		c.t.Errorf("%s without a requestId", r.Method)
	}
	zone := r.Parts["zone"]
	switch r.Method {
	case "compute.snapshots.insert":
		return c.insertSnapshot(r)
	case "compute.snapshots.get":
		return c.getSnapshot(r.Parts["snapshot"])
	case "compute.snapshots.list":
		return c.listSnapshots(r)
	case "compute.snapshots.getIamPolicy", "compute.snapshots.setIamPolicy":
		return c.policy(r)
	case "compute.snapshots.delete":
		return c.deleteSnapshot(r)
	case "compute.disks.insert":
		return c.insertDisk(r, zone)
	case "compute.disks.get":
		return c.getDisk("zones/" + zone + "/disks/" + r.Parts["disk"])
	case "compute.disks.delete":
		path := "zones/" + zone + "/disks/" + r.Parts["disk"]
		if c.disks[path] == nil {
			return nil, missing(path)
		}
		for _, s := range c.snapshots {
			if s.attributes["sourceDisk"] == projectURL+path && s.attributes["status"] != "READY" {
				return nil, faultf(http.StatusBadRequest, "resourceInUseByAnotherResource", "", "The disk resource 'projects/p/%s' is already being used by a snapshot", path)
			}
		}
		return c.operation(r, path, func() { c.deleteDisk(path) }), nil
	case "compute.globalOperations.get", "compute.zoneOperations.get":
		return c.getOperation(r.Parts["operation"], zone)
	case "compute.regions.get":
		if name := r.Parts["region"]; name == "europe-west1" || name == "europe-west3" {
			return map[string]any{"kind": "compute#region", "name": name, "status": "UP"}, nil
		}
		return nil, missing("regions/" + r.Parts["region"])
	}
	return c.serveGroups(r)
}

// operation begins one, which is over a few requests later.
func (c *Compute) operation(r *Request, target string, done func()) map[string]any {
	c.made++
	name := fmt.Sprintf("operation-%d", c.made)
	_, what, _ := strings.Cut(r.Method, ".")
	_, what, _ = strings.Cut(what, ".")
	attributes := map[string]any{"kind": "compute#operation", "id": fmt.Sprint(1000 + c.made), "name": name, "operationType": what,
		"status": "PENDING", "progress": 0.0, "targetLink": projectURL + target, "insertTime": now()}
	if zone := r.Parts["zone"]; zone != "" {
		attributes["zone"] = projectURL + "zones/" + zone
	}
	if code := c.fail[r.Method]; code != "" {
		delete(c.fail, r.Method)
		done = func() {
			attributes["error"] = map[string]any{"errors": []any{map[string]any{"code": code, "message": "It has failed."}}}
			attributes["httpErrorStatusCode"], attributes["httpErrorMessage"] = 400.0, "BAD REQUEST"
		}
		if what == "insert" {
			delete(c.snapshots, target[strings.LastIndexByte(target, '/')+1:])
			delete(c.disks, target)
			delete(c.groups.groups, target)
		}
	}
	c.ops[name] = &opState{attributes: attributes, done: done}
	if id := r.URL.Query().Get("requestId"); id != "" {
		c.requests[id] = name
	}
	return maps.Clone(attributes)
}

func (c *Compute) getOperation(name, zone string) (any, *Fault) {
	op := c.ops[name]
	if inZone, _ := op0(op)["zone"].(string); op == nil || strings.HasSuffix(inZone, "/"+zone) != (zone != "") {
		return nil, missing("global/operations/" + name)
	}
	return maps.Clone(op.attributes), nil
}

// pass takes all operations further: time passes with each request.
func (c *Compute) pass() {
	c.passGroups()
	for _, op := range c.ops {
		op.asked++
		switch op.asked {
		case 2:
			op.attributes["status"], op.attributes["progress"] = "RUNNING", 50.0
		case 4:
			op.attributes["status"], op.attributes["progress"], op.attributes["endTime"] = "DONE", 100.0, now()
			if op.done != nil {
				op.done()
			}
		}
	}
}

func op0(op *opState) map[string]any {
	if op == nil {
		return nil
	}
	return op.attributes
}

var (
	labelKey   = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	labelValue = regexp.MustCompile(`^[a-z0-9_-]{0,63}$`)
	labelTerm  = regexp.MustCompile(`^\(labels\.([a-z][a-z0-9_-]*)=([a-z0-9_-]*)\)$`)
)

// checkMade refuses what Compute Engine refuses of anything that is made.
func checkMade(body map[string]any) *Fault {
	if text, _ := body["description"].(string); len(text) > 2048 {
		return faultf(http.StatusBadRequest, "invalid", "", "Invalid value for field 'resource.description': it is longer than 2048 characters.")
	}
	labels, _ := body["labels"].(map[string]any)
	for k, v := range labels {
		if !labelKey.MatchString(k) || !labelValue.MatchString(v.(string)) || len(labels) > 64 {
			return faultf(http.StatusBadRequest, "invalid", "", "Invalid value for field 'resource.labels': '%s'.", k)
		}
	}
	return nil
}

func (c *Compute) insertSnapshot(r *Request) (any, *Fault) {
	body := r.decode()
	if fault := checkMade(body); fault != nil {
		return nil, fault
	}
	name, _ := body["name"].(string)
	if c.snapshots[name] != nil {
		return nil, faultf(http.StatusConflict, "alreadyExists", "", "The resource 'projects/p/global/snapshots/%s' already exists", name)
	}
	if body["sourceInstantSnapshot"] != nil {
		if fault := c.snapshotOfInstant(body); fault != nil {
			return nil, fault
		}
	} else {
		source, _ := body["sourceDisk"].(string)
		path := strings.TrimPrefix(source, "projects/p/")
		disk := c.disks[path]
		if disk == nil {
			return nil, missing(path)
		}
		maps.Copy(body, map[string]any{"diskSizeGb": disk.attributes["sizeGb"], "sourceDisk": projectURL + path, "sourceDiskId": disk.attributes["id"]})
	}
	c.made++
	maps.Copy(body, map[string]any{"kind": "compute#snapshot", "id": fmt.Sprint(1000 + c.made), "status": "CREATING", "labelFingerprint": fingerprint(c.made),
		"creationTimestamp": now(), "selfLink": projectURL + "global/snapshots/" + name})
	c.snapshots[name] = &snapshotState{attributes: body}
	return c.operation(r, "global/snapshots/"+name, nil), nil
}

// step takes a snapshot further each time that somebody looks: it is not shown
// at first, then its disk is frozen, then it is uploaded.
func (c *Compute) step(s *snapshotState) {
	s.asked++
	status := s.attributes["status"]
	switch {
	case s.stuck != "":
		status = s.stuck
	case status == "READY" || status == "FAILED":
	case !c.uploads(s):
		status = "FAILED"
	case status == "CREATING" && s.asked > 3:
		status = "UPLOADING"
		if source, ok := s.attributes["sourceDisk"].(string); ok {
			if d := c.disks[strings.TrimPrefix(source, projectURL)]; d != nil {
				s.content = slices.Clone(d.content)
			}
		}
	case status == "UPLOADING" && s.asked > 6:
		status = "READY"
		s.attributes["storageBytes"] = strconv.Itoa(len(s.content))
	}
	s.attributes["status"] = status
}

func (c *Compute) getSnapshot(name string) (any, *Fault) {
	s := c.snapshots[name]
	if s == nil {
		return nil, missing("global/snapshots/" + name)
	}
	c.step(s)
	if s.asked == 1 && s.stuck == "" {
		return nil, missing("global/snapshots/" + name) // not yet shown
	}
	return maps.Clone(s.attributes), nil
}

func (c *Compute) listSnapshots(r *Request) (any, *Fault) {
	want := map[string]string{}
	if filter := r.URL.Query().Get("filter"); filter != "" {
		for term := range strings.SplitSeq(filter, " AND ") {
			m := labelTerm.FindStringSubmatch(term)
			if m == nil {
				c.t.Errorf("filter %q", filter)
				return nil, faultf(http.StatusBadRequest, "invalid", "", "Invalid value for field 'filter': '%s'.", filter)
			}
			want[m[1]] = m[2]
		}
	}
	var all []any
	for _, name := range slices.Sorted(maps.Keys(c.snapshots)) {
		s := c.snapshots[name]
		labels, _ := s.attributes["labels"].(map[string]any)
		ok := true
		for k, v := range want {
			ok = ok && labels[k] == v
		}
		if ok {
			c.step(s)
			all = append(all, maps.Clone(s.attributes))
		}
	}
	return c.page(r, "compute#snapshotList", all), nil
}

func (c *Compute) deleteSnapshot(r *Request) (any, *Fault) {
	name := r.Parts["snapshot"]
	s := c.snapshots[name]
	if s == nil {
		return nil, missing("global/snapshots/" + name)
	}
	op := c.operation(r, "global/snapshots/"+name, func() { delete(c.snapshots, name) })
	return op, nil
}

func (c *Compute) insertDisk(r *Request, zone string) (any, *Fault) {
	body := r.decode()
	if fault := checkMade(body); fault != nil {
		return nil, fault
	}
	name, _ := body["name"].(string)
	source, _ := body["sourceSnapshot"].(string)
	of, ok := strings.CutPrefix(source, "projects/p/global/snapshots/")
	s, path := c.snapshots[of], "zones/"+zone+"/disks/"+name
	switch {
	case !ok || s == nil:
		return nil, missing("global/snapshots/" + of)
	case c.disks[path] != nil:
		return nil, faultf(http.StatusConflict, "alreadyExists", "", "The resource 'projects/p/%s' already exists", path)
	case s.attributes["status"] != "READY":
		return nil, faultf(http.StatusBadRequest, "resourceNotReady", "", "The resource 'projects/p/global/snapshots/%s' is not ready", of)
	case !strings.HasPrefix(fmt.Sprint(body["type"]), "projects/p/zones/"+zone+"/diskTypes/"):
		return nil, faultf(http.StatusBadRequest, "invalid", "", "Invalid value for field 'resource.type': '%v'.", body["type"])
	}
	c.made++
	maps.Copy(body, map[string]any{"kind": "compute#disk", "id": fmt.Sprint(1000 + c.made), "status": "CREATING", "sizeGb": s.attributes["diskSizeGb"],
		"sourceSnapshot": projectURL + "global/snapshots/" + of, "sourceSnapshotId": s.attributes["id"], "type": projectURL + fmt.Sprint(body["type"])[len("projects/p/"):],
		"zone": projectURL + "zones/" + zone, "creationTimestamp": now(), "selfLink": projectURL + path})
	c.disks[path] = &diskState{attributes: body, content: slices.Clone(s.content)}
	return c.operation(r, path, nil), nil
}

func (c *Compute) getDisk(path string) (any, *Fault) {
	d := c.disks[path]
	if d == nil {
		return nil, missing(path)
	}
	d.asked++
	switch {
	case d.asked == 1:
		return nil, missing(path) // not yet shown
	case d.asked == 4:
		d.attributes["status"] = "READY"
	}
	return maps.Clone(d.attributes), nil
}

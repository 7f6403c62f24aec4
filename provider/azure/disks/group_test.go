package disks_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/disks"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
)

var inGroup = provider.SnapshotOptions{Token: "x", Tags: map[string]string{"a": "b"}}

// What goes to Azure: one restore point without the machine's other disks, and
// through disks that are deleted to snapshots that are of the moment of that.
func TestGroupRequests(t *testing.T) {
	t.Parallel()
	s := newService()
	set := group + "/providers/Microsoft.Compute/diskEncryptionSets/here"
	d := s.open(t, func(c *disks.Config) { c.EncryptionSets = map[string]string{here: set} })
	vm, ids := s.together(2)
	s.disks[base(ids[0])].disk.Properties.Encryption = &armcompute.Encryption{DiskEncryptionSetID: &set}
	of := vm.Properties.StorageProfile
	boot, other := *of.OSDisk.ManagedDisk.ID, *of.DataDisks[2].ManagedDisk.ID
	begun := time.Now()
	snaps, err := d.CreateGroup(t.Context(), []string{strings.ToUpper(ids[0]), ids[1]}, inGroup)
	ended := time.Now()
	if err != nil || len(s.left()) != 0 {
		t.Fatalf("%v; %s", err, s.left())
	}
	var bodies []string
	for _, r := range s.Seen("PUT", "") {
		bodies = append(bodies, r.URL.Path+" "+string(r.Content))
	}
	all := strings.Join(bodies, "\n")
	name := strings.TrimSuffix(base(snaps[0].Ref.ID)[:len("holdfast-")+40], "-")
	for _, want := range []string{
		"/restorePointCollections/" + name + ` {"location":"westeurope","properties":{"source":{"id":"` + *vm.ID + `"}}`,
		"/restorePointCollections/" + name + `/restorePoints/moment {"properties":{"consistencyMode":"CrashConsistent","excludeDisks":[{"id":"` + boot + `"},{"id":"` + other + `"}]}}`,
		"/disks/" + name + `-0 {"location":"westeurope","properties":{"creationData":{"createOption":"Restore","sourceResourceId":"`,
		`"encryption":{"diskEncryptionSetId":"` + set + `","type":"EncryptionAtRestWithCustomerKey"}},"sku":{"name":"Standard_LRS"}`,
		"/snapshots/" + name + `-1 {"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + diskPath + name + `-1"},"incremental":true},"tags":{"a":"b","holdfast:group":"` + name + `",`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("without %s:\n%s", want, all)
		}
	}
	if len(bodies) != 6 || s.points != 1 {
		t.Errorf("%d puts, %d restore points", len(bodies), s.points)
	}
	for i, snap := range snaps {
		if snap.Volume != []string{strings.ToUpper(ids[0]), ids[1]}[i] || snap.State != provider.Ready || snap.Created.Before(begun) || snap.Created.After(ended) || snap.Created != snaps[0].Created {
			t.Errorf("%+v, want it of the moment of %v", snap, snaps[0].Created)
		}
		if got := s.snapshots[base(snap.Ref.ID)].content; string(got) != string([]byte{byte(i)}) {
			t.Errorf("the content of %s is %v", snap.Volume, got)
		}
	}
	if again, err := d.CreateGroup(t.Context(), []string{ids[1], ids[0]}, inGroup); err != nil || again[1].Ref != snaps[0].Ref || s.points != 1 {
		t.Errorf("again, in other letters: %+v, %v", again, err)
	}
	copied, err := d.CopySnapshot(t.Context(), snaps[1].Ref, there, provider.SnapshotOptions{Token: "c"})
	if err != nil || copied.Volume != ids[1] {
		t.Errorf("a copy: %+v, %v", copied, err)
	}
}

// What Azure does not freeze together is refused with the reason and the disk,
// and nothing is made.
func TestGroupUnfit(t *testing.T) {
	t.Parallel()
	type change func(s *service, vm *armcompute.VirtualMachine, disk *armcompute.Disk, data *armcompute.DataDisk)
	for want, change := range map[string]change{
		"thus: /subscriptions/s1/": func(s *service, vm *armcompute.VirtualMachine, _ *armcompute.Disk, _ *armcompute.DataDisk) {
			for _, d := range vm.Properties.StorageProfile.DataDisks {
				s.disks[base(*d.ManagedDisk.ID)].disk.ManagedBy = nil
			}
		},
		" to nothing": func(_ *service, _ *armcompute.VirtualMachine, disk *armcompute.Disk, _ *armcompute.DataDisk) {
			disk.ManagedBy = nil
		},
		"they are attached thus: /subscriptions/": func(s *service, _ *armcompute.VirtualMachine, disk *armcompute.Disk, _ *armcompute.DataDisk) {
			disk.ManagedBy = s.machine().ID
		},
		"which is no virtual machine by itself": func(_ *service, _ *armcompute.VirtualMachine, disk *armcompute.Disk, _ *armcompute.DataDisk) {
			disk.ManagedBy = p(group + "/providers/Microsoft.Compute/virtualMachineScaleSets/s/virtualMachines/0")
		},
		"of the kind UltraSSD_LRS": func(_ *service, _ *armcompute.VirtualMachine, disk *armcompute.Disk, _ *armcompute.DataDisk) {
			disk.SKU = &armcompute.DiskSKU{Name: p(armcompute.DiskStorageAccountTypesUltraSSDLRS)}
		},
		"of the kind PremiumV2_LRS": func(_ *service, _ *armcompute.VirtualMachine, disk *armcompute.Disk, _ *armcompute.DataDisk) {
			disk.SKU = &armcompute.DiskSKU{Name: p(armcompute.DiskStorageAccountTypesPremiumV2LRS)}
		},
		"is a shared disk": func(_ *service, _ *armcompute.VirtualMachine, disk *armcompute.Disk, _ *armcompute.DataDisk) {
			disk.Properties.MaxShares = p(int32(2))
		},
		"is cached by the host for writing": func(_ *service, _ *armcompute.VirtualMachine, _ *armcompute.Disk, data *armcompute.DataDisk) {
			data.Caching = p(armcompute.CachingTypesReadWrite)
		},
		"is write-accelerated": func(_ *service, _ *armcompute.VirtualMachine, _ *armcompute.Disk, data *armcompute.DataDisk) {
			data.WriteAcceleratorEnabled = p(true)
		},
		"is ephemeral": func(_ *service, vm *armcompute.VirtualMachine, _ *armcompute.Disk, data *armcompute.DataDisk) {
			of := vm.Properties.StorageProfile
			of.OSDisk = &armcompute.OSDisk{ManagedDisk: data.ManagedDisk, DiffDiskSettings: &armcompute.DiffDiskSettings{}}
			of.DataDisks = slices.DeleteFunc(of.DataDisks, func(d *armcompute.DataDisk) bool { return d == data })
		},
		"is a confidential virtual machine": func(_ *service, vm *armcompute.VirtualMachine, _ *armcompute.Disk, _ *armcompute.DataDisk) {
			vm.Properties.SecurityProfile = &armcompute.SecurityProfile{SecurityType: p(armcompute.SecurityTypesConfidentialVM)}
		},
		"has the size Standard_E8ds_v6": func(_ *service, vm *armcompute.VirtualMachine, _ *armcompute.Disk, _ *armcompute.DataDisk) {
			vm.Properties.HardwareProfile.VMSize = p(armcompute.VirtualMachineSizeTypes("Standard_E8ds_v6"))
		},
	} {
		s := newService()
		vm, ids := s.together(2)
		change(s, vm, &s.disks[base(ids[1])].disk, vm.Properties.StorageProfile.DataDisks[1])
		_, err := s.open(t, nil).CreateGroup(t.Context(), ids, inGroup)
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say that it %s", err, want)
		}
		if of := err.Error(); !strings.Contains(of[strings.Index(of, "by Azure:"):], ids[1]) && !strings.Contains(of, "machine-") {
			t.Errorf("%v does not name %s", err, ids[1])
		}
		if n := len(s.Seen("PUT", "")); n != 0 {
			t.Errorf("%s: %d requests to make something", want, n)
		}
	}
}

// Sizes of machines, by what Azure documents of their generation.
func TestGroupSizes(t *testing.T) {
	t.Parallel()
	for size, fit := range map[string]bool{
		"Standard_D4s_v5": true, "Standard_DS2_v2": true, "Standard_B2ms": true, "Standard_E32-8s_v5": true, "Standard_NC24ads_A100_v4": true,
		"Standard_D4as_v6": true, "Standard_D4ads_v6": true, "Standard_E32-8as_v6": true, "Standard_F4alds_v6": true,
		"Standard_D4s_v6": false, "Standard_D4ds_v6": false, "Standard_E96-48ds_v6": false, "Standard_D4ps_v6": false,
		"Standard_D4as_v7": false, "Standard_F4alds_v7": false, "Standard_E8s_v12": false,
	} {
		s := newService()
		vm, ids := s.together(2)
		vm.Properties.HardwareProfile.VMSize = p(armcompute.VirtualMachineSizeTypes(size))
		s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if r.Method == "PUT" { // so far those come that are fit
				return wire.Fault(r, 403, "AuthorizationFailed", "no", ""), nil
			}
			return next()
		})
		want := map[bool]error{true: fs.ErrPermission, false: errors.ErrUnsupported}
		if _, err := s.open(t, nil).CreateGroup(t.Context(), ids, inGroup); !errors.Is(err, want[fit]) {
			t.Errorf("%s: %v, want %v", size, err, want[fit])
		}
		if _, err := s.open(t, nil).CreateGroup(t.Context(), ids[:1], inGroup); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("one disk of a %s: %v", size, err)
		}
	}
}

// interrupt makes request number n of those that follow fail, applied or not,
// and with it the process if that is asked for. It returns a ctx for them, and
// what says whether there were so many.
func (s *service) interrupt(t *testing.T, n int, applied, crash bool) (context.Context, func() bool) {
	ctx, cancel := context.WithCancel(t.Context())
	var count atomic.Int32
	s.Clear()
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if int(count.Add(1)) != n {
			return next()
		}
		if crash {
			defer cancel()
		}
		if applied {
			return wire.Lost(r, next)
		}
		return wire.Cut(r, next)
	})
	return ctx, func() bool { cancel(); s.Clear(); return int(count.Load()) >= n }
}

// write gives all disks one content.
func (s *service) write(t *testing.T, ids []string, content byte) {
	for _, id := range ids {
		if err := s.content(id, func(r *resource) { r.content = []byte{content} }); err != nil {
			t.Fatal(err)
		}
	}
}

// whole: the snapshots show one moment, and all is deleted that they were made
// of.
func (s *service) whole(t *testing.T, when string, snaps []provider.Snapshot) {
	t.Helper()
	for _, snap := range snaps {
		if got, want := s.snapshots[base(snap.Ref.ID)].content, s.snapshots[base(snaps[0].Ref.ID)].content; string(got) != string(want) {
			t.Errorf("%s: the snapshots of one group have %v and %v", when, want, got)
		}
	}
	if left := s.left(); len(left) != 0 {
		t.Errorf("%s: left are %s", when, left)
	}
}

// Whatever request fails, is lost, or is the last before a crash: the same call
// again makes the group whole, of one moment, and leaves nothing else. If one of
// its snapshots is deleted before that, it is not made again.
func TestGroupInterrupted(t *testing.T) {
	t.Parallel()
	step := 13 // from another request for each kind of failure
	if os.Getenv("HOLDFAST_LONG") != "" {
		step = 1
	}
	for i, applied := range []bool{false, true} {
		for j, crash := range []bool{false, true} {
			for n := 1 + (4*i+2*j)%step; ; n += step {
				when := fmt.Sprintf("request %d, applied %t, crash %t", n, applied, crash)
				s := newService()
				d := s.open(t, func(c *disks.Config) { c.Attempts, c.Poll = 1, time.Microsecond })
				_, ids := s.together(2)
				s.write(t, ids, 1)
				ctx, ended := s.interrupt(t, n, applied, crash)
				snaps, err := d.CreateGroup(ctx, ids, inGroup)
				if !ended() {
					if n < 20 {
						t.Fatalf("%s: there were no more requests", when)
					}
					break
				}
				if crash && err == nil {
					t.Errorf("%s: a call whose ctx has ended: %v", when, snaps)
				}
				if errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) || errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: %v", when, err)
				}
				s.write(t, ids, 2)
				if n%2 == 0 {
					s.deleted(t, d, when, ids)
					continue
				}
				if snaps, err = d.CreateGroup(t.Context(), ids, inGroup); err != nil || len(snaps) != 2 || len(s.snapshots) != 2 {
					t.Errorf("%s: again: %v, %v", when, snaps, err)
					continue
				}
				s.whole(t, when, snaps)
			}
		}
	}
}

// deleted checks what becomes of a group that was interrupted when the first of
// its snapshots is deleted.
func (s *service) deleted(t *testing.T, d *disks.Snapshots, when string, ids []string) {
	var there []provider.SnapshotRef
	for snap, err := range d.List(t.Context(), inGroup.Tags) {
		if err != nil {
			t.Fatal(err)
		}
		there = append(there, snap.Ref)
	}
	if len(there) > 0 {
		if err := d.Delete(t.Context(), there[0]); err != nil {
			t.Fatalf("%s: delete: %v", when, err)
		}
		if left := s.left(); len(left) != 0 {
			t.Errorf("%s: after a Delete are left %s", when, left)
		}
	}
	snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
	if len(there) < 2 {
		if err != nil || len(s.snapshots) != 2 {
			t.Fatalf("%s: of %d snapshots, the first deleted: %v", when, len(there), err)
		}
		s.whole(t, when, snaps)
	} else if !errors.Is(err, provider.ErrConflict) || len(s.snapshots) != 1 {
		t.Errorf("%s: a group of which one was deleted: %v, %d snapshots", when, err, len(s.snapshots))
	}
}

// Calls with one Token that race with other volumes make one group, or none:
// never snapshots that are not of one moment.
func TestGroupRace(t *testing.T) {
	t.Parallel()
	s := newService()
	_, ids := s.together(3)
	var mu sync.Mutex
	seen := map[string]int{}
	var calls sync.WaitGroup
	for i := range 12 {
		d := s.open(t, nil)
		of := ids[:2]
		if i%2 == 1 {
			of = ids[1:]
		}
		calls.Go(func() {
			snaps, err := d.CreateGroup(t.Context(), of, inGroup)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				seen[fmt.Sprint(snaps[0].Created, snaps[1].Created, snaps[0].Created == snaps[1].Created, of)]++
			}
		})
	}
	calls.Wait()
	if len(seen) > 1 || strings.Contains(fmt.Sprint(seen), "false") {
		t.Errorf("groups of one Token: %v", seen)
	}
}

// A group is refused for what was asked with other volumes, also when those of
// its snapshots are gone that have the names of the new ones.
func TestGroupOther(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	_, ids := s.together(2)
	snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
	if err != nil {
		t.Fatal(err)
	}
	for _, snap := range snaps {
		if strings.HasSuffix(snap.Ref.ID, "-0") {
			if err := d.Delete(t.Context(), snap.Ref); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, of := range [][]string{ids[:1], ids} {
		if _, err := d.CreateGroup(t.Context(), of, inGroup); !errors.Is(err, provider.ErrConflict) || s.points != 1 {
			t.Errorf("%v, %d restore points", err, s.points)
		}
	}
}

// What is not a disk, has no key or has no room in a tag is refused before
// anything is asked.
func TestGroupArguments(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	for want, ids := range map[string][]string{
		"no volumes": {}, "named twice": {diskPath + "x", strings.ToUpper(diskPath + "x")}, "not the resource ID": {"x"},
		"has 300 characters": {diskPath + strings.Repeat("x", 300-len(diskPath))},
	} {
		if _, err := d.CreateGroup(t.Context(), ids, inGroup); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if _, err := d.CreateGroup(t.Context(), []string{diskPath + "x"}, provider.SnapshotOptions{}); err == nil || !strings.Contains(err.Error(), "Token") {
		t.Error(err)
	}
	if n := len(s.Seen("", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
	vm, ids := s.together(2)
	s.disks[base(ids[1])].disk.Properties.Encryption = &armcompute.Encryption{DiskEncryptionSetID: p("the set")}
	if _, err := d.CreateGroup(t.Context(), ids, inGroup); err == nil || !strings.Contains(err.Error(), "Config.EncryptionSets") || len(s.Seen("PUT", "")) != 0 {
		t.Errorf("a disk of another key: %v", err)
	}
	s.disks[base(ids[1])].disk.Properties.Encryption, s.disks[base(ids[1])].disk.Location = nil, p(there)
	if _, err := d.CreateGroup(t.Context(), ids, inGroup); err == nil || !strings.Contains(err.Error(), "in region "+there) {
		t.Errorf("a disk of another region: %v", err)
	}
	s.disks[base(ids[1])].disk.Location = p(here)
	vm.Properties.StorageProfile.DataDisks = vm.Properties.StorageProfile.DataDisks[1:]
	if _, err := d.CreateGroup(t.Context(), ids, inGroup); err == nil || !strings.Contains(err.Error(), "is changing") || len(s.Seen("PUT", "")) != 0 {
		t.Errorf("a disk that the machine does not have: %v", err)
	}
}

// What goes wrong at Azure is said, and in the way of no other call.
func TestGroupWrecked(t *testing.T) {
	t.Parallel()
	type wreck struct {
		method, path string
		before       func(s *service, vm *armcompute.VirtualMachine)
		after        func(s *service, name string)
		want         string // of the first call
	}
	for name, w := range map[string]wreck{
		"the restore point fails": {"PUT", "/restorePoints/", nil, func(s *service, name string) { s.collections[name].fails = true }, `Azure calls it "Failed"`},
		"a disk is detached": {"PUT", "/restorePoints/", func(_ *service, vm *armcompute.VirtualMachine) {
			vm.Properties.StorageProfile.DataDisks = vm.Properties.StorageProfile.DataDisks[1:]
		}, nil, "was detached meanwhile"},
		"a disk fails": {"PUT", "-1", nil, func(s *service, name string) {
			if d := s.disks[name+"-1"]; d != nil {
				d.disk.Properties.ProvisioningState, d.looks = p("Failed"), 0
			}
		}, "it is deleted: call again"},
		"another restore point is made": {"PUT", "/restorePoints/", func(s *service, vm *armcompute.VirtualMachine) {
			s.collections["other"] = &collection{it: armcompute.RestorePointCollection{Properties: &armcompute.RestorePointCollectionProperties{
				Source: &armcompute.RestorePointCollectionSourceProperties{ID: vm.ID}}}, looks: 1}
		}, func(s *service, _ string) { delete(s.collections, "other") }, "OperationNotAllowed"},
		"too many": {"PUT", "/restorePoints/", nil, nil, "429 TooManyRequests"},
	} {
		s := newService()
		d := s.open(t, func(c *disks.Config) { c.Attempts, c.Poll = 1, time.Microsecond })
		vm, ids := s.together(2)
		s.write(t, ids, 1)
		was := vm.Properties.StorageProfile.DataDisks
		var done atomic.Bool
		s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if !r.Is(w.method, w.path) || !done.CompareAndSwap(false, true) {
				return next()
			}
			s.mu.Lock()
			if w.before != nil {
				w.before(s, vm)
			}
			s.mu.Unlock()
			if name == "too many" {
				return wire.Fault(r, 429, "TooManyRequests", "three an hour", ""), nil
			}
			resp, err := next()
			s.mu.Lock()
			defer s.mu.Unlock()
			if w.after != nil {
				i := strings.Index(r.URL.Path, "holdfast-")
				w.after(s, r.URL.Path[i:i+len("holdfast-")+40])
			}
			return resp, err
		})
		if _, err := d.CreateGroup(t.Context(), ids, inGroup); err == nil || !strings.Contains(err.Error(), w.want) || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: %v does not say %q", name, err, w.want)
		}
		if left := s.left(); w.path != "-1" && len(left) != 0 {
			t.Errorf("%s: left are %s", name, left)
		}
		vm.Properties.StorageProfile.DataDisks = was
		snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
		if err != nil {
			t.Errorf("%s: again: %v", name, err)
		}
		s.whole(t, name, snaps)
	}
}

// cut makes a call for a group that ends at the request for a restore point.
func (s *service) cut(t *testing.T, d *disks.Snapshots, ids []string, rule wire.Rule) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if !r.Is("PUT", "/restorePoints/") {
			return next()
		}
		defer cancel()
		return rule(r, next)
	})
	if _, err := d.CreateGroup(ctx, ids, inGroup); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.Clear()
}

// A machine that is gone, or has another's disks, when a call goes on.
func TestGroupMachineGone(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	vm, ids := s.together(2)
	s.write(t, ids, 1)
	s.cut(t, d, ids, wire.Lost)
	delete(s.machines, base(*vm.ID))
	for _, id := range ids {
		delete(s.disks, base(id))
	}
	snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
	if err != nil || s.points != 1 {
		t.Fatalf("the restore point was made, and then the machine and its disks were gone: %v", err)
	}
	s.whole(t, "machine gone", snaps)

	s = newService()
	d = s.open(t, nil)
	vm, ids = s.together(2)
	s.write(t, ids, 1)
	s.cut(t, d, ids, wire.Cut)
	delete(s.machines, base(*vm.ID))
	if _, err := d.CreateGroup(t.Context(), ids, inGroup); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "machine "+*vm.ID) {
		t.Errorf("a machine that is gone: %v", err)
	}
	s.machine(ids...)
	if snaps, err = d.CreateGroup(t.Context(), ids, inGroup); err != nil {
		t.Errorf("disks that have moved: %v", err)
	}
	s.whole(t, "disks moved", snaps)
}

// A call that is late makes a restore point for a group that is complete. It
// adds nothing to that, and goes.
func TestGroupLate(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	vm, ids := s.together(2)
	s.write(t, ids, 1)
	snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
	if err != nil {
		t.Fatal(err)
	}
	late := func() {
		name, tags := base(snaps[1].Ref.ID)[:len("holdfast-")+40], s.snapshots[base(snaps[1].Ref.ID)].snap.Tags
		s.putCollection(t.Context(), "", name, armcompute.RestorePointCollection{
			Tags: tags, Properties: &armcompute.RestorePointCollectionProperties{Source: &armcompute.RestorePointCollectionSourceProperties{ID: vm.ID}},
		}, nil)
		s.putPoint(t.Context(), "", name, "moment", armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{
			ConsistencyMode: p(armcompute.ConsistencyModeTypesCrashConsistent),
		}}, nil)
	}
	late()
	again, err := d.CreateGroup(t.Context(), ids, inGroup)
	if err != nil || again[0].Ref != snaps[0].Ref || again[1].Created != snaps[1].Created {
		t.Errorf("%+v, %v, want %+v", again, err, snaps)
	}
	s.whole(t, "late", again)
	if err := d.Delete(t.Context(), snaps[0].Ref); err != nil {
		t.Fatal(err)
	}
	old := base(snaps[0].Ref.ID)
	defer func() { // and a disk of an earlier moment is not taken for one of this
		if err := d.Delete(t.Context(), snaps[1].Ref); err != nil {
			t.Fatal(err)
		}
		s.disks[old] = &resource{disk: armcompute.Disk{Properties: &armcompute.DiskProperties{
			ProvisioningState: p("Succeeded"), CreationData: &armcompute.CreationData{SourceResourceID: p("older")},
		}}, content: []byte("older")}
		snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
		if err != nil {
			t.Fatal(err)
		}
		s.whole(t, "an older disk", snaps)
	}()
	late()
	if _, err := d.CreateGroup(t.Context(), ids, inGroup); !errors.Is(err, provider.ErrConflict) || len(s.snapshots) != 1 || len(s.left()) != 0 {
		t.Errorf("of a group that lacks one: %v, %d snapshots, left are %s", err, len(s.snapshots), s.left())
	}
}

// What was made and is not yet shown is waited for, and no volume that is not
// there.
func TestGroupNotYetShown(t *testing.T) {
	t.Parallel()
	hidden := wire.Answers(404, `{"error":{"code":"ResourceNotFound","message":"not found"}}`)
	for _, path := range []string{"/restorePoints/", "/disks/holdfast-", "/snapshots/"} {
		for looks, ok := range map[int32]bool{4: true, 1000: false} {
			s := newService()
			first, _ := wire.First(looks, "GET", path, hidden)
			s.Add(first)
			_, ids := s.together(1)
			_, err := s.open(t, nil).CreateGroup(t.Context(), ids, inGroup)
			if ok != (err == nil) || errors.Is(err, provider.ErrNotFound) || s.points != 1 || s.n > 1 {
				t.Errorf("%s, %d looks: %v, %d restore points, %d snapshots", path, looks, err, s.points, s.n)
			}
		}
	}
}

// Under a lock the snapshots are made, and what they were made of stays until
// the lock is off.
func TestGroupLocked(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	_, ids := s.together(2)
	s.write(t, ids, 1)
	s.scopeLock = true
	if _, err := d.CreateGroup(t.Context(), ids, inGroup); !errors.Is(err, provider.ErrLocked) || s.n != 2 || len(s.Seen("DELETE", "")) != 3 {
		t.Errorf("%v, %d snapshots, %d requests to delete", err, s.n, len(s.Seen("DELETE", "")))
	}
	s.scopeLock = false
	snaps, err := d.CreateGroup(t.Context(), ids, inGroup)
	if err != nil || s.n != 2 || s.points != 1 {
		t.Errorf("%v, %d snapshots, %d restore points", err, s.n, s.points)
	}
	s.whole(t, "lock off", snaps)
}

// What Azure does not allow is said as such. A reply that is lost costs nothing,
// and a request that was not carried out is no success.
func TestGroupRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/restorePointCollections/", "/restorePoints/", "/disks/", "/snapshots/"} {
		for name, rule := range map[string]wire.Rule{
			"lost": wire.Lost, "cut": wire.Cut, "refused": wire.Answers(403, `{"error":{"code":"AuthorizationFailed","message":"no"}}`),
		} {
			s := newService()
			first, _ := wire.First(1, "PUT", path, rule)
			s.Add(first)
			_, ids := s.together(1)
			_, err := s.open(t, func(c *disks.Config) { c.Attempts = 1 }).CreateGroup(t.Context(), ids, inGroup)
			if (name == "lost") != (err == nil) || (name == "refused") != errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s, %s: %v", path, name, err)
			}
		}
	}
}

// Of two calls that race with other volumes, each finds part of what the other
// has made: the collection, or the restore point. It is a conflict, and no group.
func TestGroupCrossed(t *testing.T) {
	t.Parallel()
	s := newService()
	d := s.open(t, nil)
	_, ids := s.together(3)
	conflict := func(when string, of []string, points int) {
		t.Helper()
		if _, err := d.CreateGroup(t.Context(), of, inGroup); !errors.Is(err, provider.ErrConflict) || s.points != points || s.n != 0 {
			t.Errorf("%s: %v, %d restore points, %d snapshots", when, err, s.points, s.n)
		}
	}
	s.cut(t, d, ids[:2], wire.Cut)
	conflict("the collection of others", ids[1:], 0)
	s.cut(t, d, ids[:2], wire.Lost)
	conflict("the restore point of others", ids[1:], 1)
	var first *collection
	var name string
	for name, first = range s.collections {
	}
	delete(s.collections, name)
	s.cut(t, d, ids[1:], wire.Cut)
	second := s.collections[name]
	tags := second.it.Tags
	second.point, second.content, second.looks = first.point, first.content, first.looks
	conflict("the collection is ours, and the restore point not", ids[1:], 1)
	second.it.Tags = first.it.Tags
	s.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Is("GET", "/restorePoints/") {
			second.it.Tags = tags
		}
		return next()
	})
	conflict("the collection becomes that of others", ids[:2], 1)
}

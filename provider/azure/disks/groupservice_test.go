package disks_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
)

// collection is one of restore points: of one, since there is one in those of
// this package. What Azure documents of them is in putPoint.
type collection struct {
	it      armcompute.RestorePointCollection
	point   *armcompute.RestorePoint
	content map[string][]byte // of disk restore points, by the last part of their ID
	looks   int               // until the restore point is made
	removed int               // looks until it is gone; 0: not removed
	fails   bool              // the restore point will be Failed
}

// machine makes a virtual machine with a disk of its own that disks are attached
// to.
func (s *service) machine(ids ...string) *armcompute.VirtualMachine {
	boot := s.newDisk([]byte("boot"))
	s.mu.Lock()
	defer s.mu.Unlock()
	name := "machine-" + strings.ToLower(rand.Text()[:8])
	vm := &armcompute.VirtualMachine{
		ID: p(group + "/providers/Microsoft.Compute/virtualMachines/" + name), Location: p(here),
		Properties: &armcompute.VirtualMachineProperties{
			HardwareProfile: &armcompute.HardwareProfile{VMSize: p(armcompute.VirtualMachineSizeTypes("Standard_D4s_v5"))},
			StorageProfile: &armcompute.StorageProfile{OSDisk: &armcompute.OSDisk{
				Caching: p(armcompute.CachingTypesReadWrite), ManagedDisk: &armcompute.ManagedDiskParameters{ID: &boot},
			}},
		},
	}
	s.disks[base(boot)].disk.ManagedBy = vm.ID
	s.machines[name] = vm
	for _, id := range ids {
		s.attach(vm, id)
	}
	return vm
}

func (s *service) attach(vm *armcompute.VirtualMachine, id string) {
	s.disks[base(id)].disk.ManagedBy = vm.ID
	all := &vm.Properties.StorageProfile.DataDisks
	*all = append(*all, &armcompute.DataDisk{Caching: p(armcompute.CachingTypesReadOnly), ManagedDisk: &armcompute.ManagedDiskParameters{ID: p(strings.ToUpper(id))}})
}

// together makes n disks and a machine that they are attached to, with one more.
func (s *service) together(n int) (vm *armcompute.VirtualMachine, ids []string) {
	for i := range n + 1 {
		ids = append(ids, s.newDisk([]byte{byte(i)}))
	}
	return s.machine(ids...), ids[:n]
}

// left is what there is beside snapshots, and disks that are attached.
func (s *service) left() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.collections {
		all = append(all, "collection "+name)
	}
	for name, r := range s.disks {
		if r.disk.ManagedBy == nil && r.disk.Properties.CreationData != nil && r.removed == 0 {
			all = append(all, "disk "+name)
		}
	}
	return all
}

func (s *service) deleteDisk(_ context.Context, _, name string, _ *armcompute.DisksClientBeginDeleteOptions) (resp azfake.PollerResponder[armcompute.DisksClientDeleteResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch r := s.disks[strings.ToLower(name)]; {
	case s.scopeLock:
		errResp.SetResponseError(409, "ScopeLocked")
		return
	case r != nil && (r.disk.ManagedBy != nil || r.removed > 0):
		errResp.SetResponseError(409, "OperationNotAllowed")
		return
	case r != nil:
		r.removed = 2
	}
	resp.SetTerminalResponse(200, armcompute.DisksClientDeleteResponse{}, nil)
	return
}

func (s *service) getMachine(_ context.Context, _, name string, _ *armcompute.VirtualMachinesClientGetOptions) (resp azfake.Responder[armcompute.VirtualMachinesClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	vm := s.machines[strings.ToLower(name)]
	if vm == nil {
		errResp.SetResponseError(404, "ResourceNotFound")
		return
	}
	resp.SetResponse(200, armcompute.VirtualMachinesClientGetResponse{VirtualMachine: *vm}, nil)
	return
}

// at is a collection, unless it is gone.
func (s *service) at(name string) *collection {
	c := s.collections[strings.ToLower(name)]
	if c != nil && c.removed > 0 {
		if c.removed--; c.removed == 0 {
			delete(s.collections, strings.ToLower(name))
			return nil
		}
	}
	return c
}

func (s *service) getCollection(_ context.Context, _, name string, _ *armcompute.RestorePointCollectionsClientGetOptions) (resp azfake.Responder[armcompute.RestorePointCollectionsClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.at(name)
	if c == nil {
		errResp.SetResponseError(404, "ResourceNotFound")
		return
	}
	resp.SetResponse(200, armcompute.RestorePointCollectionsClientGetResponse{RestorePointCollection: c.it}, nil)
	return
}

func (s *service) putCollection(_ context.Context, _, name string, in armcompute.RestorePointCollection, _ *armcompute.RestorePointCollectionsClientCreateOrUpdateOptions) (resp azfake.Responder[armcompute.RestorePointCollectionsClientCreateOrUpdateResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.collections[name]
	switch {
	case now != nil && now.removed > 0:
		errResp.SetResponseError(409, "OperationNotAllowed")
		return
	case now != nil && !strings.EqualFold(*now.it.Properties.Source.ID, *in.Properties.Source.ID):
		errResp.SetResponseError(409, "PropertyChangeNotAllowed")
		return
	case s.machines[base(*in.Properties.Source.ID)] == nil:
		errResp.SetResponseError(404, "NotFound")
		return
	case now == nil:
		now = &collection{content: map[string][]byte{}}
		s.collections[name] = now
	}
	now.it = in
	resp.SetResponse(201, armcompute.RestorePointCollectionsClientCreateOrUpdateResponse{RestorePointCollection: in}, nil)
	return
}

func (s *service) deleteCollection(_ context.Context, _, name string, _ *armcompute.RestorePointCollectionsClientBeginDeleteOptions) (resp azfake.PollerResponder[armcompute.RestorePointCollectionsClientDeleteResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c := s.collections[strings.ToLower(name)]; {
	case s.scopeLock:
		errResp.SetResponseError(409, "ScopeLocked")
		return
	case c != nil && c.removed > 0:
		errResp.SetResponseError(409, "OperationNotAllowed")
		return
	case c != nil:
		c.removed, c.content = 2, nil
	}
	resp.SetTerminalResponse(200, armcompute.RestorePointCollectionsClientDeleteResponse{}, nil)
	return
}

func (s *service) getPoint(_ context.Context, _, name, _ string, _ *armcompute.RestorePointsClientGetOptions) (resp azfake.Responder[armcompute.RestorePointsClientGetResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.at(name)
	if c == nil || c.point == nil {
		errResp.SetResponseError(404, "ResourceNotFound")
		return
	}
	if c.looks > 0 {
		if c.looks--; c.looks == 0 {
			c.point.Properties.ProvisioningState = p("Succeeded")
			if c.fails {
				c.point.Properties.ProvisioningState = p("Failed")
			}
		}
	}
	point, props := *c.point, *c.point.Properties
	point.Properties = &props
	resp.SetResponse(200, armcompute.RestorePointsClientGetResponse{RestorePoint: point}, nil)
	return
}

// putPoint freezes all disks of the machine but those that are excluded. No two
// restore points of a machine are made at a time, and none is changed.
func (s *service) putPoint(_ context.Context, _, name, at string, in armcompute.RestorePoint, _ *armcompute.RestorePointsClientBeginCreateOptions) (resp azfake.PollerResponder[armcompute.RestorePointsClientCreateResponse], errResp azfake.ErrorResponder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.collections[name]
	if c == nil || c.removed > 0 {
		errResp.SetResponseError(404, "ParentResourceNotFound")
		return
	}
	vm := s.machines[base(*c.it.Properties.Source.ID)]
	for _, other := range s.collections {
		if other.looks > 0 && strings.EqualFold(*other.it.Properties.Source.ID, *c.it.Properties.Source.ID) {
			errResp.SetResponseError(409, "OperationNotAllowed")
			return
		}
	}
	switch {
	case vm == nil:
		errResp.SetResponseError(404, "NotFound")
		return
	case c.point != nil:
		errResp.SetResponseError(409, "Conflict")
		return
	case *in.Properties.ConsistencyMode != armcompute.ConsistencyModeTypesCrashConsistent:
		errResp.SetResponseError(400, "InvalidParameter")
		return
	}
	s.points++
	of := vm.Properties.StorageProfile
	seen := &armcompute.RestorePointSourceVMStorageProfile{OSDisk: &armcompute.RestorePointSourceVMOSDisk{
		ManagedDisk: of.OSDisk.ManagedDisk, DiskRestorePoint: s.freeze(c, at, of.OSDisk.ManagedDisk, in.Properties.ExcludeDisks),
	}}
	for _, d := range of.DataDisks {
		seen.DataDisks = append(seen.DataDisks, &armcompute.RestorePointSourceVMDataDisk{
			ManagedDisk: d.ManagedDisk, DiskRestorePoint: s.freeze(c, at, d.ManagedDisk, in.Properties.ExcludeDisks),
		})
	}
	in.Properties.SourceMetadata = &armcompute.RestorePointSourceMetadata{StorageProfile: seen}
	in.Properties.TimeCreated, in.Properties.ProvisioningState = p(time.Now().UTC()), p("Creating")
	c.point, c.looks = &in, 3
	resp.SetTerminalResponse(201, armcompute.RestorePointsClientCreateResponse{
		RestorePoint: armcompute.RestorePoint{Properties: &armcompute.RestorePointProperties{ProvisioningState: p("Creating")}}, // what it shares is not locked
	}, nil)
	return
}

// freeze is nil for a disk that is excluded.
func (s *service) freeze(c *collection, at string, disk *armcompute.ManagedDiskParameters, excluded []*armcompute.APIEntityReference) *armcompute.DiskRestorePointAttributes {
	if slices.ContainsFunc(excluded, func(e *armcompute.APIEntityReference) bool { return strings.EqualFold(*e.ID, *disk.ID) }) {
		return nil
	}
	name := strings.ToLower(fmt.Sprintf("%s_%s", base(*disk.ID), rand.Text()))
	c.content[name] = slices.Clone(s.disks[base(*disk.ID)].content)
	return &armcompute.DiskRestorePointAttributes{ID: p(group + "/providers/Microsoft.Compute/restorePointCollections/c/restorePoints/" + at + "/diskRestorePoints/" + name)}
}

// frozen is the content of a disk restore point.
func (s *service) frozen(id string) ([]byte, bool) {
	for _, c := range s.collections {
		if content, ok := c.content[base(id)]; ok && c.looks == 0 {
			return content, true
		}
	}
	return nil, false
}

package disks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// together returns the machine that the volumes are attached to, and its other
// disks. If Azure does not document that it freezes the volumes at one moment,
// the error says why, and matches [errors.ErrUnsupported].
//
// https://learn.microsoft.com/azure/virtual-machines/concepts-restore-points and
// .../virtual-machines-create-restore-points#limitations
func (s *Snapshots) together(ctx context.Context, volumes []string) (machine string, others []*armcompute.APIEntityReference, err error) {
	var why, where []string
	apart := false
	for i, v := range volumes {
		disk, err := s.attached(ctx, v)
		if err != nil {
			return "", nil, err
		}
		at := value(disk.ManagedBy)
		if i == 0 {
			machine = at
		}
		apart = apart || at == "" || !strings.EqualFold(at, machine)
		where = append(where, fmt.Sprintf("%s to %s", v, cmp.Or(at, "nothing")))
		why = append(why, unfit(v, disk)...)
	}
	if apart {
		why = append(why, "they are attached thus: "+strings.Join(where, ", "))
	}
	if len(why) == 0 {
		others, why, err = s.others(ctx, machine, volumes)
	}
	if err == nil && len(why) > 0 {
		err = fmt.Errorf("not frozen at one moment by Azure: %s: %w", strings.Join(why, "; "), errors.ErrUnsupported)
	}
	return machine, others, err
}

func (s *Snapshots) attached(ctx context.Context, volume string) (armcompute.Disk, error) {
	group, name, err := s.split(volume, "disks")
	if err != nil {
		return armcompute.Disk{}, err
	}
	out, err := s.disks.Get(ctx, group, name, nil)
	switch {
	case isMissing(err):
		return out.Disk, fmt.Errorf("volume %s: %w: %w", volume, provider.ErrNotFound, conn.Answered(err))
	case err != nil:
		return out.Disk, err
	case !strings.EqualFold(value(out.Location), s.c.Region):
		return out.Disk, fmt.Errorf("disk %s is in region %s, and these snapshots are of %s", volume, value(out.Location), s.c.Region)
	}
	if p := out.Properties; p != nil && p.Encryption != nil && value(p.Encryption.DiskEncryptionSetID) != "" && s.c.EncryptionSets[s.c.Region] == "" {
		// The restore point is not encrypted by it, nor is what is made of that.
		return out.Disk, fmt.Errorf("disk %s is encrypted by %s, and Config.EncryptionSets has none for %s to encrypt the snapshots of a group",
			volume, *p.Encryption.DiskEncryptionSetID, s.c.Region)
	}
	return out.Disk, nil
}

// unfit says why a disk cannot be in a group.
func unfit(volume string, disk armcompute.Disk) (why []string) {
	if at := value(disk.ManagedBy); at != "" {
		if m := resourceID.FindStringSubmatch(at); m == nil || !strings.EqualFold(m[3], "virtualMachines") {
			why = append(why, fmt.Sprintf("%s is attached to %s, which is no virtual machine by itself", volume, at))
		}
	}
	if disk.SKU != nil {
		switch kind := value(disk.SKU.Name); kind {
		case armcompute.DiskStorageAccountTypesUltraSSDLRS, armcompute.DiskStorageAccountTypesPremiumV2LRS:
			why = append(why, fmt.Sprintf("%s is of the kind %s", volume, kind))
		}
	}
	if p := disk.Properties; p != nil && value(p.MaxShares) > 1 {
		why = append(why, volume+" is a shared disk")
	}
	return why
}

// others are the disks of a machine that are not among volumes.
func (s *Snapshots) others(ctx context.Context, machine string, volumes []string) (others []*armcompute.APIEntityReference, why []string, err error) {
	group, name, err := s.split(machine, "virtualMachines")
	if err != nil {
		return nil, nil, err
	}
	out, err := s.machines.Get(ctx, group, name, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("machine %s: %w", machine, conn.Answered(err))
	}
	p := out.Properties
	if p == nil || p.StorageProfile == nil {
		return nil, nil, fmt.Errorf("machine %s is shown without its disks", machine)
	}
	if p.SecurityProfile != nil && value(p.SecurityProfile.SecurityType) == armcompute.SecurityTypesConfidentialVM {
		why = append(why, machine+" is a confidential virtual machine")
	}
	if size := p.HardwareProfile; size != nil && len(volumes) > 1 && len(p.StorageProfile.DataDisks) > 1 && inTurn(string(value(size.VMSize))) {
		why = append(why, fmt.Sprintf("%s has the size %s and more than one data disk", machine, *size.VMSize))
	}
	found := 0
	add := func(disk *armcompute.ManagedDiskParameters, caching *armcompute.CachingTypes, accelerated *bool, ephemeral bool) {
		if disk == nil {
			return
		}
		at := slices.IndexFunc(volumes, func(v string) bool { return strings.EqualFold(v, value(disk.ID)) })
		if at < 0 {
			others = append(others, &armcompute.APIEntityReference{ID: disk.ID})
			return
		}
		found++
		if value(caching) == armcompute.CachingTypesReadWrite {
			why = append(why, volumes[at]+" is cached by the host for writing")
		}
		if value(accelerated) {
			why = append(why, volumes[at]+" is write-accelerated")
		}
		if ephemeral {
			why = append(why, volumes[at]+" is ephemeral")
		}
	}
	if os := p.StorageProfile.OSDisk; os != nil {
		add(os.ManagedDisk, os.Caching, os.WriteAcceleratorEnabled, os.DiffDiskSettings != nil)
	}
	for _, d := range p.StorageProfile.DataDisks {
		add(d.ManagedDisk, d.Caching, d.WriteAcceleratorEnabled, false)
	}
	if found != len(volumes) {
		return nil, nil, fmt.Errorf("what is attached to %s is changing: call again", machine)
	}
	return others, why, nil
}

var (
	generation = regexp.MustCompile(`_v([0-9]+)$`)
	byAMD      = regexp.MustCompile(`^Standard_[A-Z]+[0-9]+(-[0-9]+)?[b-z]*a[a-z]*_v`)
)

// inTurn: a machine of this size may freeze its disks one after the other. Azure
// says so of those of Intel from generation 6, and of AMD from 7. Of others of
// generation 6 it says nothing, and they are taken for those of Intel.
func inTurn(size string) bool {
	m := generation.FindStringSubmatch(size)
	if m == nil {
		return false
	}
	n, err := strconv.Atoi(m[1])
	return err != nil || n >= 7 || n == 6 && !byAMD.MatchString(size)
}

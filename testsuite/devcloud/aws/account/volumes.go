package account

import (
	"slices"
	"strconv"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// States of volumes and snapshots.
const (
	VolumeInUse       = "in-use"
	SnapshotPending   = "pending"
	SnapshotCompleted = "completed"
)

// Volume is an EBS volume. One that is attached names its instance.
type Volume struct {
	Record
	Zone, Type, Snapshot string
	SizeGB               int
	Encrypted            bool
	Instance, Device     string
	DeleteOnTermination  bool
}

// State says whether the volume is attached.
func (v *Volume) State() string {
	if v.Instance != "" {
		return VolumeInUse
	}
	return Available
}

// Snapshot is an EBS snapshot of the account.
type Snapshot struct {
	Record
	Description, State string
	SizeGB             int
	// Guest is what a machine boots from it, once it is complete.
	Guest guest.Image

	sealed bool // no more blocks
	blocks map[int][]byte
	sums   map[int][32]byte // of blocks
}

// DeviceSpec is one entry of a block device mapping.
type DeviceSpec struct {
	Device, Snapshot, Type string
	SizeGB                 int // zero means the snapshot's
	Encrypted              bool
	// Delete says whether it goes with its instance; by default only the root
	// volume does.
	Delete *bool
}

func orElse(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }

func tooSmall(gb int, s *Snapshot) error {
	return query.Refuse("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", gb, s.ID, s.SizeGB)
}

// devices completes a block device mapping: the root device comes first, with
// what the request does not say taken from the image.
func devices(img *Image, asked []DeviceSpec) ([]DeviceSpec, error) {
	root := DeviceSpec{Device: img.RootDevice, Snapshot: img.Snapshot, Type: img.RootType, SizeGB: img.RootGB}
	out := []DeviceSpec{root}
	for _, d := range asked {
		if d.Type != "" && !slices.Contains([]string{"gp2", "gp3", "io1", "io2", "st1", "sc1", "standard"}, d.Type) {
			return nil, query.Refuse("InvalidParameterValue", "Value (%s) for parameter volumeType is invalid.", d.Type)
		}
		if d.Device != img.RootDevice {
			if slices.ContainsFunc(out, func(o DeviceSpec) bool { return o.Device == d.Device }) {
				return nil, query.Refuse("InvalidBlockDeviceMapping", "The device '%s' is used in more than one block-device mapping", d.Device)
			}
			if d.SizeGB == 0 {
				return nil, query.Refuse("MissingParameter", "The request must contain the parameter size or snapshotId")
			}
			d.Type = orElse(d.Type, "gp2")
			out = append(out, d)
			continue
		}
		if d.Snapshot != "" && d.Snapshot != img.Snapshot {
			return nil, query.Refuse("InvalidBlockDeviceMapping", "snapshotId can only be modified on EBS devices that are not the root device")
		}
		if d.SizeGB != 0 && d.SizeGB < img.RootGB {
			return nil, tooSmall(d.SizeGB, &Snapshot{Record: Record{ID: img.Snapshot}, SizeGB: img.RootGB})
		}
		if d.SizeGB != 0 {
			out[0].SizeGB = d.SizeGB
		}
		out[0].Type, out[0].Delete, out[0].Encrypted = orElse(d.Type, img.RootType), d.Delete, d.Encrypted
	}
	return out, nil
}

// Volumes returns the volumes.
func (v View) Volumes() []Volume {
	return list(v, func(a *Account) *table[*Volume] { return &a.volumes })
}

// DeleteVolume removes a volume that is not attached.
func (v View) DeleteVolume(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	vol, err := find(v, &v.a.volumes, "InvalidVolume.NotFound", "volume", id)
	if err != nil {
		return err
	}
	if vol.Instance != "" {
		return query.Refuse("VolumeInUse", "Volume %s is currently attached to %s", id, vol.Instance)
	}
	remove(v.a, &v.a.volumes, id)
	v.a.note(v.Action, id)
	return nil
}

// Snapshots returns the snapshots of the account.
func (v View) Snapshots() []Snapshot {
	return list(v, func(a *Account) *table[*Snapshot] { return &a.snapshots })
}

// DeleteSnapshot removes a snapshot that no image needs.
func (v View) DeleteSnapshot(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if _, err := find(v, &v.a.snapshots, "InvalidSnapshot.NotFound", "snapshot", id); err != nil {
		return err
	}
	for _, i := range v.a.images.all() {
		if i.Snapshot == id {
			return query.Refuse("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", id, i.ID)
		}
	}
	remove(v.a, &v.a.snapshots, id)
	v.a.note(v.Action, id)
	return nil
}

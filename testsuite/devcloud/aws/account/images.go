package account

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// TalosOwner is the account that publishes the images of Talos.
const TalosOwner = "540036508848"

// amazonOwner is the account of Amazon's own images.
const amazonOwner = "137112412989"

// States of images.
const (
	Available    = "available"
	ImagePending = "pending"
)

// Image is an AMI.
type Image struct {
	Record
	Name, Description, Owner string
	Arch                     string // "x86_64" or "arm64"
	State                    string
	Public                   bool
	BootMode, IMDS           string // "uefi", "v2.0"
	RootDevice               string
	Snapshot                 string // of the root volume
	RootGB                   int
	RootType                 string
	Guest                    guest.Image
}

// fixedID makes ids of published resources the same in every account.
func fixedID(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + "-0" + hex.EncodeToString(sum[:])[:16]
}

// talosGB is the size of a published image's root volume.
const talosGB = 4

// publish adds what others have published long ago.
func (a *Account) publish() {
	past := time.Now().UTC().Add(-30 * 24 * time.Hour)
	for n, version := range a.opts.TalosVersions {
		for arch, ec2 := range map[string]string{"amd64": "x86_64", "arm64": "arm64"} {
			name := "talos-" + version + "-" + Region + "-" + arch
			img := &Image{
				Record: Record{fixedID("ami", name), past.Add(time.Duration(n) * time.Hour)}, Name: name, Owner: TalosOwner,
				Description: "Talos AMI", Arch: ec2, State: Available, Public: true, BootMode: "uefi", IMDS: "v2.0", RootDevice: "/dev/xvda",
				Snapshot: fixedID("snap", name), RootGB: talosGB, RootType: "gp2",
			}
			img.Guest = guest.Image{
				UUID: img.ID, Schematic: a.opts.StockSchematic, TalosVersion: version, Platform: "aws", Arch: arch,
				UserDataHandling: "pass-through", Firmware: "uefi",
			}
			a.images.add(img)
		}
	}
	name := "al2023-ami-2023.9.20260831.0-kernel-6.1-x86_64"
	a.images.add(&Image{
		Record: Record{fixedID("ami", name), past}, Name: name, Description: "Amazon Linux 2023 AMI", Owner: amazonOwner, Arch: "x86_64",
		State: Available, Public: true, BootMode: "uefi-preferred", IMDS: "v2.0", RootDevice: "/dev/xvda", Snapshot: fixedID("snap", name),
		RootGB: 8, RootType: "gp3", Guest: guest.Image{UUID: fixedID("ami", name), Arch: "amd64", Platform: "aws"},
	})
	slices.SortStableFunc(a.images.order, func(x, y string) int { return a.images.rows[x].Created.Compare(a.images.rows[y].Created) })
}

// Images returns the images of the account and those that are public.
func (v View) Images() []Image { return list(v, func(a *Account) *table[*Image] { return &a.images }) }

// ImageSpec asks for an image of a snapshot.
type ImageSpec struct {
	Name, Description, Arch, BootMode, IMDS string
	RootDevice                              string
	Root                                    DeviceSpec
}

// RegisterImage makes an image of a snapshot's root volume. Names are unique in
// the account.
func (v View) RegisterImage(spec ImageSpec, tags []Tag) (Image, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	switch {
	case len(spec.Name) < 3 || len(spec.Name) > 128:
		return Image{}, query.Refuse("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long")
	case spec.Root.Snapshot == "":
		return Image{}, query.Refuse("InvalidBlockDeviceMapping", "No snapshot is mapped to the root device %s", spec.RootDevice)
	case !slices.Contains([]string{"x86_64", "arm64"}, spec.Arch):
		return Image{}, query.Refuse("InvalidParameterValue", "Value (%s) for parameter architecture is invalid.", spec.Arch)
	case !slices.Contains([]string{"", "uefi", "uefi-preferred", "legacy-bios"}, spec.BootMode):
		return Image{}, query.Refuse("InvalidParameterValue", "Value (%s) for parameter bootMode is invalid.", spec.BootMode)
	}
	for _, i := range v.a.images.all() {
		if i.Owner == AccountID && i.Name == spec.Name {
			return Image{}, query.Refuse("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", spec.Name, i.ID)
		}
	}
	s, err := find(v, &v.a.snapshots, "InvalidSnapshot.NotFound", "snapshot", spec.Root.Snapshot)
	if err != nil {
		return Image{}, err
	}
	if s.State != SnapshotCompleted {
		return Image{}, query.Refuse("IncorrectState", "The snapshot '%s' is not in the state completed", s.ID)
	}
	if spec.Root.SizeGB == 0 {
		spec.Root.SizeGB = s.SizeGB
	}
	if spec.Root.SizeGB < s.SizeGB {
		return Image{}, tooSmall(spec.Root.SizeGB, s)
	}
	img := &Image{
		Record: newRecord("ami"), Name: spec.Name, Description: spec.Description, Owner: AccountID, Arch: spec.Arch, State: ImagePending,
		BootMode: spec.BootMode, IMDS: spec.IMDS, RootDevice: spec.RootDevice, Snapshot: s.ID, RootGB: spec.Root.SizeGB,
		RootType: orElse(spec.Root.Type, "gp2"), Guest: s.Guest,
	}
	img.Guest.UUID, img.Guest.UserDataHandling, img.Guest.Firmware = img.ID, "pass-through", "uefi"
	if spec.BootMode == "legacy-bios" || spec.BootMode == "" && spec.Arch == "x86_64" {
		img.Guest.Firmware = "bios"
	}
	v.a.images.add(img)
	v.a.setTags(img.ID, tags)
	v.a.note(v.Action, img.ID)
	v.a.background(func() {
		if v.a.clock.Sleep(v.a.ctx, v.a.lat.Register) != nil {
			return
		}
		v.a.mu.Lock()
		defer v.a.mu.Unlock()
		img.State = Available
		v.a.note("image_is_available", img.ID)
	})
	return *img, nil
}

// DeregisterImage removes an image of the account; instances and the snapshot
// stay.
func (v View) DeregisterImage(id string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	i, err := find(v, &v.a.images, "InvalidAMIID.NotFound", "image id", id)
	if err != nil {
		return err
	}
	if i.Owner != AccountID {
		return query.Refuse("AuthFailure", "Not authorized for image:%s", id)
	}
	remove(v.a, &v.a.images, id)
	v.a.note(v.Action, id)
	return nil
}

// bootable returns an image that instances of a type can be launched from.
func (v View) bootable(id string, t InstanceType) (*Image, error) {
	i, ok := v.a.images.rows[id]
	switch {
	case !ok:
		return nil, query.Refuse("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
	case i.State != Available:
		return nil, query.Refuse("InvalidAMIID.Unavailable", "The image id '[%s]' is not available", id)
	case i.Arch != t.Arch:
		return nil, query.Refuse("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture "+
			"'%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.", t.Arch, i.Arch)
	}
	return i, nil
}

package ec2

import (
	"slices"
	"strconv"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

type imageDisk struct {
	Device   string `xml:"deviceName"`
	Snapshot string `xml:"ebs>snapshotId"`
	SizeGB   int    `xml:"ebs>volumeSize"`
	Type     string `xml:"ebs>volumeType"`
	Delete   bool   `xml:"ebs>deleteOnTermination"`
}

type image struct {
	ID             string      `xml:"imageId"`
	Location       string      `xml:"imageLocation"`
	State          string      `xml:"imageState"`
	Owner          string      `xml:"imageOwnerId"`
	Created        string      `xml:"creationDate"`
	Public         bool        `xml:"isPublic"`
	Arch           string      `xml:"architecture"`
	Kind           string      `xml:"imageType"`
	Name           string      `xml:"name"`
	Description    string      `xml:"description,omitempty"`
	RootType       string      `xml:"rootDeviceType"`
	RootName       string      `xml:"rootDeviceName"`
	Disks          []imageDisk `xml:"blockDeviceMapping>item"`
	Virtualization string      `xml:"virtualizationType"`
	Hypervisor     string      `xml:"hypervisor"`
	ENA            bool        `xml:"enaSupport"`
	BootMode       string      `xml:"bootMode,omitempty"`
	IMDS           string      `xml:"imdsSupport,omitempty"`
	Tags           []tag       `xml:"tagSet>item"`
}

func (f *face) image(i account.Image) image {
	return image{
		i.ID, i.Owner + "/" + i.Name, i.State, i.Owner, stamp(i.Created), i.Public, i.Arch, "machine", i.Name, i.Description, "ebs", i.RootDevice,
		[]imageDisk{{i.RootDevice, i.Snapshot, i.RootGB, i.RootType, true}},
		"hvm", "xen", true, i.BootMode, i.IMDS, f.tagsOf(i.ID),
	}
}

var byImage = lookup[account.Image]{
	prefix: "ami", code: "InvalidAMIID.NotFound", missing: "The image id '[%s]' does not exist",
	ids: "ImageId", set: "imagesSet", least: 1,
	id: func(i account.Image) string { return i.ID },
	fields: func(i account.Image) fields {
		return fields{
			"image-id": one(i.ID), "name": one(i.Name), "owner-id": one(i.Owner), "architecture": one(i.Arch), "state": one(i.State),
			"is-public": one(strconv.FormatBool(i.Public)), "root-device-name": one(i.RootDevice), "root-device-type": one("ebs"),
			"virtualization-type": one("hvm"), "description": one(i.Description), "image-type": one("machine"),
			"block-device-mapping.snapshot-id": one(i.Snapshot), "creation-date": one(stamp(i.Created)),
		}
	},
}

// owned says whether an image or snapshot belongs to one of the owners that a
// request names.
func owned(owner string, by []string) bool {
	return len(by) == 0 || slices.Contains(by, owner) || owner == account.AccountID && slices.Contains(by, "self") ||
		owner == "137112412989" && slices.Contains(by, "amazon")
}

func (f *face) images(to map[string]query.Action) {
	on(f, to, "DescribeImages", func(v account.View, in struct {
		asked
		ImageID           []string `query:"ImageId"`
		Owner             []string
		ExecutableBy      []string
		IncludeDeprecated *bool
		IncludeDisabled   *bool
	},
	) (found[image], error) {
		return look(f, v.Images(), byImage, in.ImageID, in.asked, f.image, func(i account.Image) bool { return owned(i.Owner, in.Owner) })
	})
	on(f, to, "RegisterImage", func(v account.View, in struct {
		Name, Description, Architecture, BootMode, ImdsSupport string
		RootDeviceName, VirtualizationType, SriovNetSupport    string
		EnaSupport                                             *bool
		BlockDeviceMapping                                     []mapping
		TagSpecification                                       []tagSpec
	},
	) (any, error) {
		tags, err := tagsFor(in.TagSpecification, "image")
		if err != nil {
			return nil, err
		}
		spec := account.ImageSpec{
			Name: in.Name, Description: in.Description, Arch: in.Architecture, BootMode: in.BootMode, IMDS: in.ImdsSupport, RootDevice: in.RootDeviceName,
		}
		if in.VirtualizationType != "hvm" {
			return nil, query.Refuse("InvalidParameterCombination", "Images of the virtualization type '%s' are not supported", in.VirtualizationType)
		}
		for _, m := range in.BlockDeviceMapping {
			if m.DeviceName == in.RootDeviceName {
				spec.Root = m.spec()
			}
		}
		made, err := v.RegisterImage(spec, tags)
		return struct {
			ID string `xml:"imageId"`
		}{made.ID}, err
	})
	on(f, to, "DeregisterImage", func(v account.View, in struct {
		ImageID string `query:"ImageId"`
	},
	) (done, error) {
		return ok(v.DeregisterImage(in.ImageID))
	})
	f.snapshots(to)
	f.volumes(to)
}

type snapshot struct {
	ID          string `xml:"snapshotId"`
	Status      string `xml:"status"`
	Started     string `xml:"startTime"`
	Progress    string `xml:"progress"`
	Owner       string `xml:"ownerId"`
	SizeGB      int    `xml:"volumeSize"`
	Volume      string `xml:"volumeId"`
	Description string `xml:"description"`
	Tags        []tag  `xml:"tagSet>item"`
}

func (f *face) snapshot(s account.Snapshot) snapshot {
	return snapshot{
		s.ID, s.State, stamp(s.Created), word(s.State == account.SnapshotCompleted, "100%", ""), account.AccountID, s.SizeGB, "vol-ffffffff", s.Description, f.tagsOf(s.ID),
	}
}

var bySnapshot = lookup[account.Snapshot]{
	prefix: "snap", code: "InvalidSnapshot.NotFound", missing: "The snapshot '%s' does not exist.",
	ids: "SnapshotId", set: "snapshotSet",
	id: func(s account.Snapshot) string { return s.ID },
	fields: func(s account.Snapshot) fields {
		return fields{
			"snapshot-id": one(s.ID), "status": one(s.State), "description": one(s.Description), "owner-id": one(account.AccountID),
			"volume-size": one(strconv.Itoa(s.SizeGB)),
		}
	},
}

func (f *face) snapshots(to map[string]query.Action) {
	on(f, to, "DescribeSnapshots", func(v account.View, in struct {
		asked
		SnapshotID   []string `query:"SnapshotId"`
		Owner        []string
		RestorableBy []string
	},
	) (found[snapshot], error) {
		return look(f, v.Snapshots(), bySnapshot, in.SnapshotID, in.asked, f.snapshot,
			func(account.Snapshot) bool { return owned(account.AccountID, in.Owner) })
	})
	on(f, to, "DeleteSnapshot", func(v account.View, in struct {
		SnapshotID string `query:"SnapshotId"`
	},
	) (done, error) {
		return ok(v.DeleteSnapshot(in.SnapshotID))
	})
}

type volume struct {
	ID          string             `xml:"volumeId"`
	SizeGB      int                `xml:"size"`
	Snapshot    string             `xml:"snapshotId"`
	Zone        string             `xml:"availabilityZone"`
	Status      string             `xml:"status"`
	Created     string             `xml:"createTime"`
	Type        string             `xml:"volumeType"`
	Encrypted   bool               `xml:"encrypted"`
	Attachments []volumeAttachment `xml:"attachmentSet>item"`
	Tags        []tag              `xml:"tagSet>item"`
}

type volumeAttachment struct {
	Volume   string `xml:"volumeId"`
	Instance string `xml:"instanceId"`
	Device   string `xml:"device"`
	Status   string `xml:"status"`
	Delete   bool   `xml:"deleteOnTermination"`
}

func (f *face) volume(v account.Volume) volume {
	out := volume{
		ID: v.ID, SizeGB: v.SizeGB, Snapshot: v.Snapshot, Zone: v.Zone, Status: v.State(), Created: stamp(v.Created), Type: v.Type,
		Encrypted: v.Encrypted, Tags: f.tagsOf(v.ID),
	}
	if v.Instance != "" {
		out.Attachments = []volumeAttachment{{v.ID, v.Instance, v.Device, "attached", v.DeleteOnTermination}}
	}
	return out
}

var byVolume = lookup[account.Volume]{
	prefix: "vol", code: "InvalidVolume.NotFound", missing: "The volume '%s' does not exist.",
	ids: "VolumeId", set: "volumeSet",
	id: func(v account.Volume) string { return v.ID },
	fields: func(v account.Volume) fields {
		return fields{
			"volume-id": one(v.ID), "status": one(v.State()), "attachment.instance-id": one(v.Instance), "attachment.device": one(v.Device),
			"availability-zone": one(v.Zone), "snapshot-id": one(v.Snapshot), "volume-type": one(v.Type), "size": one(strconv.Itoa(v.SizeGB)),
		}
	},
}

func (f *face) volumes(to map[string]query.Action) {
	describe(f, to, "DescribeVolumes", byVolume, account.View.Volumes, f.volume)
	on(f, to, "DeleteVolume", func(v account.View, in struct {
		VolumeID string `query:"VolumeId"`
	},
	) (done, error) {
		return ok(v.DeleteVolume(in.VolumeID))
	})
}

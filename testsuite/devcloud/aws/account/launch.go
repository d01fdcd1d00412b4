package account

import (
	"context"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// MaxUserData is the largest user data, before base64.
const MaxUserData = 16384

// LaunchSpec asks for one instance.
type LaunchSpec struct {
	Type, Image, Subnet, Placement string
	// Zone must be the subnet's if it is given.
	Zone    string
	Groups  []string // empty means the VPC's default group
	Private string   // empty means any
	// Public overrides what the subnet says about public addresses.
	Public      *bool
	Description string // of the interface
	UserData    []byte
	Devices     []DeviceSpec
	Metadata    Metadata
	Profile     string
	Spot        bool
	Monitoring  bool
	Tags        map[string][]Tag // by kind of resource
	ClientToken string
	// Request is the whole request in canonical form, without its token: the same
	// token must come with the same request.
	Request string
}

// Launch makes an instance, which is pending first. A client token that has been
// used returns the instance that it made: ever the same one, whatever its state,
// until it is terminated.
func (v View) Launch(spec LaunchSpec) (Instance, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	a := v.a
	if id, err := v.replay(spec.ClientToken, spec.Request); err != nil {
		return Instance{}, err
	} else if id != "" {
		i, ok := a.instances.rows[id]
		if !ok || i.State == Terminated {
			return Instance{}, query.Refuse("IdempotentInstanceTerminated",
				"The request to launch an instance uses the same client token as a previous request for which the instance has been terminated.")
		}
		return a.shown(i), nil
	}
	t, img, err := v.launchable(&spec)
	if err != nil {
		return Instance{}, err
	}
	devs, err := devices(img, spec.Devices)
	if err != nil {
		return Instance{}, err
	}
	if err := v.fits(t, spec.Zone, spec.Placement, spec.Spot); err != nil {
		return Instance{}, err
	}
	subnet := a.subnets.rows[spec.Subnet]
	public := subnet.MapPublic
	if spec.Public != nil {
		public = *spec.Public
	}
	n, err := a.newInterface(InterfaceSpec{
		Subnet: spec.Subnet, Private: spec.Private, Public: public, Groups: spec.Groups, Description: spec.Description,
	})
	if err != nil {
		return Instance{}, err
	}
	a.takeCapacity(t.Name, spec.Zone)
	i := &Instance{
		Record: newRecord("i"), State: Pending, Type: t, Image: img.ID, Zone: spec.Zone, Placement: spec.Placement, Profile: spec.Profile,
		ClientName: spec.ClientToken, RootDevice: img.RootDevice, BootMode: img.BootMode, Metadata: spec.Metadata, Spot: spec.Spot,
		Monitoring: spec.Monitoring, userData: spec.UserData, boots: img.Guest, machine: &guest.Machine{},
	}
	i.Launched = i.Created
	if !t.UEFI() {
		i.boots.Firmware = "bios"
	}
	if spec.Spot {
		i.SpotID = NewID("sir")
	}
	i.ctx, i.cancel = context.WithCancel(a.ctx)
	n.Instance = i.ID
	a.instances.add(i)
	a.setTags(i.ID, spec.Tags["instance"])
	a.setTags(n.ID, spec.Tags["network-interface"])
	for n, d := range devs {
		vol := &Volume{
			Record: newRecord("vol"), Zone: i.Zone, Type: d.Type, Snapshot: d.Snapshot, SizeGB: d.SizeGB, Encrypted: d.Encrypted,
			Instance: i.ID, Device: d.Device, DeleteOnTermination: n == 0,
		}
		if d.Delete != nil {
			vol.DeleteOnTermination = *d.Delete
		}
		a.volumes.add(vol)
		a.setTags(vol.ID, spec.Tags["volume"])
	}
	v.keep(spec.ClientToken, i.ID, spec.Request)
	a.note(v.Action, i.ID)
	v.boot(i)
	return a.shown(i), nil
}

// launchable checks what a launch names and completes it.
func (v View) launchable(spec *LaunchSpec) (InstanceType, *Image, error) {
	t, ok := TypeByName(spec.Type)
	if !ok {
		return t, nil, query.Refuse("InvalidParameterValue", "Invalid value '%s' for InstanceType.", spec.Type)
	}
	img, err := v.bootable(spec.Image, t)
	if err != nil {
		return t, nil, err
	}
	if spec.Subnet == "" {
		return t, nil, query.Refuse("VPCIdNotSpecified", "No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.")
	}
	subnet, err := v.subnet(spec.Subnet)
	if err != nil {
		return t, nil, err
	}
	if spec.Zone != "" && spec.Zone != subnet.Zone {
		return t, nil, query.Refuse("InvalidParameterValue", "The availability zone '%s' of the request is not the subnet's, '%s'", spec.Zone, subnet.Zone)
	}
	spec.Zone = subnet.Zone
	if !slices.Contains(t.Zones, spec.Zone) {
		return t, nil, query.Refuse("Unsupported", "Your requested instance type (%s) is not supported in your requested Availability Zone (%s). "+
			"Please retry your request by not specifying an Availability Zone or choosing another one.", t.Name, spec.Zone)
	}
	for _, id := range spec.Groups {
		if _, err := v.group(id); err != nil {
			return t, nil, err
		}
	}
	for _, g := range v.a.groups.all() {
		if len(spec.Groups) == 0 && g.VPC == subnet.VPC && g.isDefault() {
			spec.Groups = []string{g.ID}
		}
	}
	if slices.Contains(v.a.settings.MissingProfiles, spec.Profile) {
		return t, nil, query.Refuse("InvalidParameterValue",
			"Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", spec.Profile)
	}
	if len(spec.UserData) > MaxUserData {
		return t, nil, query.Refuse("InvalidParameterValue", "User data is limited to %d bytes", MaxUserData)
	}
	for kind, tags := range spec.Tags {
		if !slices.Contains([]string{"instance", "volume", "network-interface", "spot-instances-request"}, kind) {
			return t, nil, query.Refuse("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", kind)
		}
		if err := CheckTags(tags); err != nil {
			return t, nil, err
		}
	}
	return t, img, nil
}

// fits checks placement, quota and capacity for one more running instance.
func (v View) fits(t InstanceType, zone, placement string, spot bool) error {
	if err := v.fitsPlacement(placement, zone); err != nil {
		return err
	}
	a := v.a
	limits, code := a.settings.VCPUs, "VcpuLimitExceeded"
	if spot {
		limits, code = a.settings.SpotVCPUs, "MaxSpotInstanceCountExceeded"
	}
	used := t.VCPUs
	for _, i := range a.instances.all() {
		if i.counts() && i.Spot == spot && i.Type.bucket() == t.bucket() {
			used += i.Type.VCPUs
		}
	}
	if limit, ok := limits[t.bucket()]; ok && used > limit {
		if spot {
			return query.Refuse(code, "Max spot instance count exceeded")
		}
		return query.Refuse(code, "You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that "+
			"the specified instance type belongs to. Please visit the AWS console to request an adjustment to this limit.", limit)
	}
	for _, key := range []string{t.Name + "@" + zone, t.Name} {
		if left, ok := a.settings.Capacity[key]; ok && left <= 0 {
			return query.Refuse("InsufficientInstanceCapacity", "We currently do not have sufficient %s capacity in the Availability Zone you "+
				"requested (%s). Our system will be working on provisioning additional capacity.", t.Name, zone)
		}
	}
	return nil
}

func (a *Account) takeCapacity(name, zone string) {
	for _, key := range []string{name + "@" + zone, name} {
		if left, ok := a.settings.Capacity[key]; ok {
			a.settings.Capacity[key] = left - 1
		}
	}
}

// boot takes a pending instance on to running, or wherever the view bends it.
func (v View) boot(i *Instance) {
	i.turn++
	turn := i.turn
	if v.Stuck && v.StuckFor == 0 {
		return
	}
	a := v.a
	a.background(func() {
		if a.clock.Sleep(i.ctx, a.lat.Launch+v.StuckFor) != nil {
			return
		}
		a.mu.Lock()
		booter := a.booter
		if i.turn != turn {
			a.mu.Unlock()
			return
		}
		if v.Fails {
			i.Reason = Reason{"Server.InternalError", "Server.InternalError: Internal error on launch"}
			a.gone(i)
			a.mu.Unlock()
			return
		}
		i.State = Running
		a.note("instance_is_running", i.ID)
		spec := a.guestSpec(i)
		a.mu.Unlock()
		if booter != nil {
			i.machine.PowerOn(func() guest.Guest { return booter.Boot(spec) })
		}
	})
}

// guestSpec is what firmware and metadata tell the guest.
func (a *Account) guestSpec(i *Instance) guest.Server {
	shown := a.shown(i)
	s := guest.Server{
		UUID: i.ID, Name: PrivateName(shown.Private), Label: a.tags[i.ID]["Name"], Zone: i.Zone, Flavor: i.Type.Name,
		VCPUs: i.Type.VCPUs, MemoryMiB: i.Type.MemoryMiB, Image: i.boots, Platform: "aws", ProviderID: "aws:///" + i.Zone + "/" + i.ID,
	}
	if g := i.Type.GPU; g != nil {
		s.GPUs, s.GPU = g.Count, g.Manufacturer+" "+g.Name
	}
	if i.Metadata.Endpoint != "disabled" {
		s.UserData = i.userData
	}
	for _, n := range shown.Interfaces {
		s.Loopback, s.Public = n.Loopback, s.Public || n.Public
		s.Private = append(s.Private, n.Private)
	}
	for _, vol := range shown.Volumes {
		if vol.Device == i.RootDevice {
			s.DiskGiB = vol.SizeGB
		}
	}
	return s
}

// gone ends an instance: what belongs to it goes, itself stays to be seen for a
// while. The caller holds the lock.
func (a *Account) gone(i *Instance) {
	i.State = Terminated
	i.turn++
	for _, n := range a.interfaces.all() {
		if n.Instance == i.ID {
			a.dropInterface(n)
		}
	}
	for _, vol := range a.volumes.all() {
		switch {
		case vol.Instance != i.ID:
		case vol.DeleteOnTermination:
			remove(a, &a.volumes, vol.ID)
		default:
			vol.Instance, vol.Device = "", ""
		}
	}
	a.note("instance_is_terminated", i.ID)
	a.background(func() {
		if a.clock.Sleep(i.ctx, a.lat.Retention) != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		remove(a, &a.instances, i.ID)
	})
}

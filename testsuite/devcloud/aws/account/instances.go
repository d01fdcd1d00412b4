package account

import (
	"context"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// States of instances.
const (
	Pending      = "pending"
	Running      = "running"
	ShuttingDown = "shutting-down"
	Terminated   = "terminated"
	Stopping     = "stopping"
	Stopped      = "stopped"
)

// Reason says why an instance changed its state; empty while it runs.
type Reason struct{ Code, Message string }

// Metadata are the options of the instance metadata service.
type Metadata struct {
	Endpoint, Tokens, Tags, IPv6 string
	HopLimit                     int
}

// Instance is a virtual machine.
type Instance struct {
	Record
	State      string
	Reason     Reason
	Type       InstanceType
	Image      string // id
	Zone       string
	Placement  string // name of the placement group
	Profile    string // name of the instance profile
	ClientName string // client token
	RootDevice string
	BootMode   string // of the image
	Metadata   Metadata
	Spot       bool
	SpotID     string // of the request for a Spot instance
	Monitoring bool
	Launched   time.Time // last start

	// What follows is gone once the instance is terminated.
	VPC, Subnet string
	Private     string
	Interfaces  []Interface
	Volumes     []Volume

	userData []byte
	boots    guest.Image
	machine  *guest.Machine
	ctx      context.Context
	cancel   context.CancelFunc
	turn     int // counts transitions: one that was overtaken ends without effect
}

// counts says whether the instance uses its quota and its place.
func (i *Instance) counts() bool { return i.State != Terminated && i.State != Stopped }

// PrivateName is the host name inside the VPC.
func PrivateName(private string) string {
	if private == "" {
		return ""
	}
	return "ip-" + strings.ReplaceAll(private, ".", "-") + "." + Region + ".compute.internal"
}

// PublicName is the host name of a public address. Nothing resolves it.
func PublicName(public string) string {
	return "ec2-" + strings.ReplaceAll(public, ".", "-") + "." + Region + ".compute.amazonaws.com"
}

// Instances returns the instances that the view sees, with their interfaces and
// volumes.
func (v View) Instances() []Instance {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	out := []Instance{}
	for _, i := range v.a.instances.all() {
		if v.sees(&i.Record) {
			out = append(out, v.a.shown(i))
		}
	}
	return out
}

// Instance returns one instance, whatever a view sees.
func (a *Account) Instance(id string) (Instance, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i, err := find(a.Omniscient(), &a.instances, "InvalidInstanceID.NotFound", "instance ID", id)
	if err != nil {
		return Instance{}, err
	}
	return a.shown(i), nil
}

// Omniscient is a view without lag, for what AWS itself does.
func (a *Account) Omniscient() View { return View{a: a, Action: "devcloud", all: true} }

// shown copies an instance with what belongs to it, without its innards.
func (a *Account) shown(i *Instance) Instance {
	c := Instance{
		Record: i.Record, State: i.State, Reason: i.Reason, Type: i.Type, Image: i.Image, Zone: i.Zone, Placement: i.Placement,
		Profile: i.Profile, ClientName: i.ClientName, RootDevice: i.RootDevice, BootMode: i.BootMode, Metadata: i.Metadata,
		Spot: i.Spot, SpotID: i.SpotID, Monitoring: i.Monitoring, Launched: i.Launched, Interfaces: []Interface{}, Volumes: []Volume{},
	}
	for _, n := range a.interfaces.all() {
		if n.Instance == i.ID {
			c.Interfaces = append(c.Interfaces, *n)
		}
	}
	for _, vol := range a.volumes.all() {
		if vol.Instance == i.ID {
			c.Volumes = append(c.Volumes, *vol)
		}
	}
	if len(c.Interfaces) > 0 {
		c.VPC, c.Subnet, c.Private = c.Interfaces[0].VPC, c.Interfaces[0].Subnet, c.Interfaces[0].Private.String()
	}
	return c
}

// Public returns the public address, empty without one.
func (i *Instance) Public() string {
	for _, n := range i.Interfaces {
		if n.Public {
			return n.Loopback.String()
		}
	}
	return ""
}

// Console returns what an instance's console shows.
func (a *Account) Console(id string) ([]string, error) {
	a.mu.Lock()
	i, err := find(a.Omniscient(), &a.instances, "InvalidInstanceID.NotFound", "instance ID", id)
	a.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return i.machine.Console(), nil
}

package world

import (
	"context"
	"encoding/base64"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Statuses of a server.
const (
	Changing = "changing"
	Running  = "running"
	Stopped  = "stopped"
	Failed   = "error"
)

// MaxUserData is the largest base64 form of user data that the hypervisor's
// metadata service takes (OpenStack Nova: 65535 bytes).
const MaxUserData = 65535

// Server is a virtual machine.
type Server struct {
	Meta
	Status     string
	Flavor     Flavor
	Image      BootImage
	VolumeIDs  []string // the root volume first
	Interfaces []Interface
	Groups     []string
	// Loopback is where the guest listens; it is the public IPv4 address when
	// there is a public interface.
	Loopback netip.Addr
	IPv6     netip.Addr // zero without public IPv6

	userData []byte
	deleting bool
	machine  *guest.Machine
	ctx      context.Context
	cancel   context.CancelFunc
}

// BootImage is what a server was created from.
type BootImage struct {
	Slug, Name, OperatingSystem, Username string
	Guest                                 guest.Image
}

// Interface is one network interface; Network is empty for the public one.
type Interface struct {
	Network   string
	Addresses []Address
}

// Public says whether the interface is in the public network.
func (i Interface) Public() bool { return i.Network == "" }

// Address is one address of a private interface.
type Address struct {
	Subnet string
	Addr   netip.Addr
}

// InterfaceSpec asks for an interface: Network is "public" or a network's UUID.
// Nil Addresses mean one from every subnet of the network, empty ones none.
type InterfaceSpec struct {
	Network   string
	Addresses []AddressSpec
	HasAddrs  bool
}

// AddressSpec asks for an address of a subnet; an empty Address means any.
type AddressSpec struct{ Subnet, Address string }

// VolumeSpec asks for a volume.
type VolumeSpec struct {
	SizeGB int
	Type   string
}

// Quirk bends the creation of a server, for faults.
type Quirk struct {
	Stuck     bool          // stays changing for ever, or for StuckFor
	StuckFor  time.Duration // simulated, beyond the usual time
	Status    string        // ends in this status instead of running
	WrongZone bool          // lands in another zone than asked
}

// ServerSpec is a request for a server.
type ServerSpec struct {
	Name, Zone, Flavor, Image string
	Tags                      map[string]string
	RootGB                    int
	Volumes                   []VolumeSpec
	Interfaces                []InterfaceSpec
	NoIPv6                    bool
	Groups                    []string
	UserData                  []byte
	Quirk                     Quirk
}

var hostLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func validHostName(name string) bool {
	if name == "" || len(name) > 255 {
		return false
	}
	for l := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(l) {
			return false
		}
	}
	return true
}

// CreateServer creates a server, which becomes running later.
func (w *World) CreateServer(spec ServerSpec) (Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !validHostName(spec.Name) {
		return Server{}, invalid("name", "Name must be a valid hostname or FQDN.")
	}
	zone, err := pickZone(spec.Zone)
	if err != nil {
		return Server{}, err
	}
	if spec.Quirk.WrongZone {
		all := Zones()
		zone = all[(slices.Index(all, zone)+1)%len(all)]
		spec.Groups = nil
	}
	flavor, ok := flavorBySlug(spec.Flavor)
	if !ok {
		return Server{}, invalid("flavor", "Object with slug=%s does not exist.", spec.Flavor)
	}
	image, err := w.bootImage(spec.Image, zone)
	if err != nil {
		return Server{}, err
	}
	if base64.StdEncoding.EncodedLen(len(spec.UserData)) > MaxUserData {
		return Server{}, invalid("user_data", "User data too large, it must not exceed %d bytes base64-encoded.", MaxUserData)
	}
	if spec.RootGB == 0 {
		spec.RootGB = 10
	}
	if spec.RootGB < 10 {
		return Server{}, invalid("volume_size_gb", "Ensure this value is greater than or equal to 10.")
	}
	spec.Volumes = slices.Clone(spec.Volumes)
	for i := range spec.Volumes {
		if err := checkVolume(&spec.Volumes[i]); err != nil {
			return Server{}, err
		}
	}
	if err := w.fitsServer(spec, flavor, zone); err != nil {
		return Server{}, err
	}
	if err := w.fitsGroups(spec.Groups, zone); err != nil {
		return Server{}, err
	}
	loopback, err := w.pool.take()
	if err != nil {
		return Server{}, err
	}
	if spec.Interfaces == nil {
		spec.Interfaces = []InterfaceSpec{{Network: PublicNetwork}}
	}
	ifaces, err := w.attach(spec.Interfaces, zone, nil)
	if err != nil {
		w.pool.give(loopback)
		return Server{}, err
	}
	s := &Server{
		Meta: w.newMeta(spec.Name, zone, spec.Tags), Status: Changing, Flavor: flavor, Image: image,
		Interfaces: ifaces, Groups: spec.Groups, Loopback: loopback, userData: spec.UserData, machine: &guest.Machine{},
	}
	if !spec.NoIPv6 {
		s.IPv6 = ipv6For(zone, loopback)
	}
	s.ctx, s.cancel = context.WithCancel(w.ctx)
	w.addServerVolumes(s, spec)
	w.servers.add(s)
	w.record("server_create", s.Meta)
	if spec.Quirk.Stuck && spec.Quirk.StuckFor == 0 {
		return *s, nil
	}
	target := Running
	if spec.Quirk.Status != "" {
		target = spec.Quirk.Status
	}
	boot := w.guestSpec(s)
	w.background(func(context.Context) {
		if w.clock.Sleep(s.ctx, w.lat.ServerCreate+spec.Quirk.StuckFor) != nil {
			return
		}
		w.finish(s, target)
		if target == Running {
			s.machine.PowerOn(func() guest.Guest { return w.boot(boot) })
		}
	})
	return *s, nil
}

// finish ends a transition of a server that still exists.
func (w *World) finish(s *Server, status string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !s.deleting {
		s.Status = status
		w.note("server_is_"+status, s.Meta)
	}
}

// guestSpec is what firmware and metadata tell the guest.
func (w *World) guestSpec(s *Server) guest.Server {
	g := guest.Server{
		UUID: s.UUID, Name: s.Name, Zone: s.Zone, Flavor: s.Flavor.Slug,
		VCPUs: s.Flavor.VCPUs, MemoryMiB: s.Flavor.MemoryGB * 1024,
		Loopback: s.Loopback, UserData: s.userData, Image: s.Image.Guest,
	}
	if gpu := s.Flavor.GPU; gpu != nil {
		g.GPUs, g.GPU = gpu.Count, gpu.Name
	}
	if v, err := w.volumes.get(s.VolumeIDs[0]); err == nil {
		g.DiskGiB = v.SizeGB
	}
	for _, i := range s.Interfaces {
		g.Public = g.Public || i.Public()
		for _, a := range i.Addresses {
			g.Private = append(g.Private, a.Addr)
		}
	}
	return g
}

func (w *World) boot(spec guest.Server) guest.Guest {
	w.mu.Lock()
	booter := w.booter
	w.mu.Unlock()
	if spec.Image.UUID == "" {
		return newStockGuest(spec, w.log)
	}
	if booter == nil {
		return idleGuest{}
	}
	return booter.Boot(spec)
}

// Servers returns all servers in order of creation.
func (w *World) Servers() []Server {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copies(w.servers.all())
}

// Server returns one server.
func (w *World) Server(id string) (Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.servers.get(id)
	if err != nil {
		return Server{}, err
	}
	return *s, nil
}

// Console returns what the server's console shows.
func (w *World) Console(id string) ([]string, error) {
	w.mu.Lock()
	s, err := w.servers.get(id)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return s.machine.Console(), nil
}

// ServerPatch changes exactly one thing about a server; nil means unchanged.
type ServerPatch struct {
	Name       *string
	Flavor     *string
	Tags       map[string]string
	Interfaces []InterfaceSpec
}

// UpdateServer applies a patch.
func (w *World) UpdateServer(id string, p ServerPatch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.servers.get(id)
	if err != nil {
		return err
	}
	switch {
	case p.Name != nil:
		if *p.Name == "" || len(*p.Name) > 255 {
			return invalid("name", "Ensure this field has between 1 and 255 characters.")
		}
		s.Name = *p.Name
	case p.Tags != nil:
		s.Tags = p.Tags
	case p.Flavor != nil:
		if s, err = w.idle(id); err != nil {
			return err
		}
		if s.Status != Stopped {
			return refuse(Invalid, "The server must be stopped to change its flavor.")
		}
		f, ok := flavorBySlug(*p.Flavor)
		if !ok {
			return invalid("flavor", "Object with slug=%s does not exist.", *p.Flavor)
		}
		s.Flavor = f
	case p.Interfaces != nil:
		if s, err = w.idle(id); err != nil {
			return err
		}
		ifaces, err := w.attach(p.Interfaces, s.Zone, s)
		if err != nil {
			return err
		}
		s.Interfaces = ifaces
	}
	w.record("server_update", s.Meta)
	return nil
}

func copies[T any](in []*T) []T {
	out := make([]T, 0, len(in))
	for _, v := range in {
		out = append(out, *v)
	}
	return out
}

package world

import (
	"net/netip"

	"github.com/google/uuid"
)

// FloatingIP is an address that can be moved between servers and load
// balancers. Its address is its id.
type FloatingIP struct {
	Meta
	Prefix       netip.Prefix
	Type         string // "regional" or "global"
	Region       string // empty for global ones
	Server       string
	LoadBalancer string
	NextHop      string
	ReversePtr   string
}

// FloatingSpec asks for a floating IP.
type FloatingSpec struct {
	IPVersion, PrefixLength                        int
	Region, Type, Server, LoadBalancer, ReversePtr string
	Tags                                           map[string]string
}

// CreateFloating creates a floating IP, optionally with a target.
func (w *World) CreateFloating(spec FloatingSpec) (FloatingIP, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if over(w.limits.FloatingIPs, w.floating.len()+1) {
		return FloatingIP{}, refuse(Quota, QuotaText)
	}
	f := &FloatingIP{Type: spec.Type, Region: spec.Region, ReversePtr: spec.ReversePtr}
	switch f.Type {
	case "":
		f.Type = "regional"
	case "regional", "global":
	default:
		return FloatingIP{}, invalid("type", "%q is not a valid choice.", f.Type)
	}
	if f.Type == "global" {
		f.Region = ""
	}
	hop, err := w.target(f, spec.Server, spec.LoadBalancer)
	if err != nil {
		return FloatingIP{}, err
	}
	if f.Type == "regional" && f.Region == "" {
		f.Region = RegionOf(DefaultZone)
	}
	if f.Prefix, err = w.floatingPrefix(spec); err != nil {
		return FloatingIP{}, err
	}
	f.Meta = w.newMeta("", "", spec.Tags)
	f.UUID = f.Prefix.Addr().String()
	f.Server, f.LoadBalancer, f.NextHop = spec.Server, spec.LoadBalancer, hop
	w.floating.add(f)
	w.record("floating_ip_create", f.Meta)
	w.reconfigureID(f.LoadBalancer)
	return *f, nil
}

func (w *World) floatingPrefix(spec FloatingSpec) (netip.Prefix, error) {
	switch spec.IPVersion {
	case 4:
		if spec.PrefixLength != 0 && spec.PrefixLength != 32 {
			return netip.Prefix{}, invalid("prefix_length", "Only 32 is possible for IPv4.")
		}
		a, err := w.pool.take()
		return netip.PrefixFrom(a, 32), err
	case 6:
		bits := spec.PrefixLength
		if bits == 0 {
			bits = 128
		}
		if bits != 128 && bits != 56 {
			return netip.Prefix{}, invalid("prefix_length", "Only 128 and 56 are possible for IPv6.")
		}
		b := netip.MustParseAddr("2a06:c01:ff::").As16()
		id := uuid.New()
		copy(b[5:], id[:])
		return netip.PrefixFrom(netip.AddrFrom16(b), bits).Masked(), nil
	default:
		return netip.Prefix{}, invalid("ip_version", "%d is not a valid choice.", spec.IPVersion)
	}
}

// target checks a target and returns the first address of it. It sets the
// region of a floating IP that has none yet.
func (w *World) target(f *FloatingIP, server, balancer string) (string, error) {
	var zone, hop string
	switch {
	case server != "" && balancer != "":
		return "", refuse(Invalid, "Only one of server and load_balancer is possible.")
	case server != "":
		s, err := w.servers.get(server)
		if err != nil || s.deleting {
			return "", invalid("server", "Object with uuid=%s does not exist.", server)
		}
		for _, i := range s.Interfaces {
			if i.Public() {
				hop = s.Loopback.String()
			}
		}
		if hop == "" {
			return "", invalid("server", "The server has no public interface.")
		}
		zone = s.Zone
	case balancer != "":
		b, err := w.balancers.get(balancer)
		if err != nil || b.deleting {
			return "", invalid("load_balancer", "Object with uuid=%s does not exist.", balancer)
		}
		zone, hop = b.Zone, b.VIPs[0].Addr.String()
	default:
		return "", nil
	}
	region := RegionOf(zone)
	if f.Type == "global" {
		return hop, nil
	}
	if f.Region == "" {
		f.Region = region
	}
	if f.Region != region {
		return "", invalid("region", "The target is not in region %s.", f.Region)
	}
	return hop, nil
}

// FloatingIPs returns all floating IPs.
func (w *World) FloatingIPs() []FloatingIP { return all(w, &w.floating) }

// FloatingIP returns one floating IP by its address.
func (w *World) FloatingIP(addr string) (FloatingIP, error) { return find(w, &w.floating, addr) }

// FloatingPatch changes a floating IP; nil means unchanged.
type FloatingPatch struct {
	Tags                             map[string]string
	Server, LoadBalancer, ReversePtr *string
}

// UpdateFloating applies a patch.
func (w *World) UpdateFloating(addr string, p FloatingPatch) error {
	return change(w, &w.floating, addr, "floating_ip_update", func(f *FloatingIP) error {
		if p.Server != nil || p.LoadBalancer != nil {
			var server, balancer string
			if p.Server != nil {
				server = *p.Server
			}
			if p.LoadBalancer != nil {
				balancer = *p.LoadBalancer
			}
			hop, err := w.target(f, server, balancer)
			if err != nil {
				return err
			}
			old := f.LoadBalancer
			f.Server, f.LoadBalancer, f.NextHop = server, balancer, hop
			w.reconfigureID(old)
			w.reconfigureID(balancer)
		}
		if p.ReversePtr != nil {
			f.ReversePtr = *p.ReversePtr
		}
		MetaPatch{Tags: p.Tags}.apply(&f.Meta)
		return nil
	})
}

// DeleteFloating removes a floating IP.
func (w *World) DeleteFloating(addr string) error {
	return change(w, &w.floating, addr, "floating_ip_delete", func(f *FloatingIP) error {
		w.floating.remove(addr)
		if f.Prefix.Addr().Is4() {
			w.pool.give(f.Prefix.Addr())
		}
		w.reconfigureID(f.LoadBalancer)
		return nil
	})
}

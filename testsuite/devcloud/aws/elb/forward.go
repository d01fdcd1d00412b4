package elb

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/lb"
)

// forwarder gives a balancer what really forwards.
func (s *Service) forwarder(b *balancer) {
	source, vpc := b.address, b.vpc
	b.forward = lb.New(lb.Options{
		Source: source, Identities: s.account.Identities, Report: s.report, Log: s.log,
		Reach: func(_ string, to netip.AddrPort) (netip.Addr, error) { return s.account.Reach(source, vpc, to) },
		ReachFrom: func(client netip.Addr, _ string, to netip.AddrPort) (netip.Addr, error) {
			return s.account.Reach(client, vpc, to)
		},
	})
}

// report takes the result of a health check.
func (s *Service) report(member string, up bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		for _, t := range g.targets {
			if t.member(g) == member {
				t.known, t.up = true, up
			}
		}
	}
}

// settle brings targets up to date with their instances and forwarding with
// everything. The caller holds the lock.
func (s *Service) settle() {
	now := time.Now()
	for _, g := range s.groups {
		g.draining = slices.DeleteFunc(g.draining, func(t *target) bool { return !now.Before(t.until) })
		if g.kind == byInstance {
			s.followInstances(g)
		}
	}
	var rules []account.SecurityGroup
	for _, b := range s.balancers {
		if len(b.groups) > 0 && rules == nil {
			rules = s.account.Omniscient().SecurityGroups()
		}
		c := s.config(b, rules)
		if !reflect.DeepEqual(c, b.applied) {
			b.applied = c
			b.forward.Apply(c)
		}
	}
}

// followInstances drops targets whose instance is gone, and stops those whose
// instance does not run.
func (s *Service) followInstances(g *targetGroup) {
	s.dropTargets(g, time.Time{}, func(t *target) bool {
		i, err := s.account.Instance(t.id)
		if err != nil || i.State == account.ShuttingDown || i.State == account.Terminated {
			return true
		}
		if t.stopped = i.State != account.Running; t.stopped {
			t.known, t.up = false, false
		}
		return false
	})
}

// config is everything that a balancer has to do now.
func (s *Service) config(b *balancer, rules []account.SecurityGroup) lb.Config {
	c := lb.Config{Binds: []netip.Addr{b.address}}
	if b.state != active {
		return c
	}
	var done []*targetGroup
	for _, l := range s.listeners {
		if l.balancer != b {
			continue
		}
		c.Listeners = append(c.Listeners, lb.Listener{
			ID: l.arn, Port: uint16(l.port), Pool: l.group.arn, Allowed: s.allowed(b, uint16(l.port), rules),
		})
		if slices.Contains(done, l.group) {
			continue
		}
		done = append(done, l.group)
		c.Pools = append(c.Pools, s.pool(b, l.group))
	}
	return c
}

func (s *Service) pool(b *balancer, g *targetGroup) lb.Pool {
	p := lb.Pool{
		ID: g.arn, Algorithm: lb.RoundRobin, Monitor: s.monitor(g.check),
		Preserve: g.attributes[preserveClientIP] == "true", FailOpen: true,
	}
	var port uint16
	if g.check.port != trafficPort {
		port = checkPort(g.check.port)
	}
	for _, t := range g.targets {
		if s.ready(b, t) {
			p.Members = append(p.Members, lb.Member{ID: t.member(g), Address: t.address, Port: uint16(t.port), MonitorPort: port})
		}
	}
	return p
}

// nobody is an allowed client that does not exist: a list without any allows
// everybody.
var nobody = netip.PrefixFrom(netip.IPv4Unspecified(), 32)

// allowed are the clients that the groups of a balancer let in at a port; nil
// means all, for a balancer without groups.
func (s *Service) allowed(b *balancer, port uint16, rules []account.SecurityGroup) []netip.Prefix {
	if len(b.groups) == 0 {
		return nil
	}
	out := []netip.Prefix{nobody}
	for _, g := range rules {
		if !slices.Contains(b.groups, g.ID) {
			continue
		}
		for _, r := range g.Ingress {
			switch {
			case r.Protocol != "-1" && (r.Protocol != "tcp" && r.Protocol != "6" || int(port) < r.From || int(port) > r.To):
			case r.CIDR.IsValid():
				out = append(out, r.CIDR)
			default:
				for _, i := range s.account.Omniscient().Interfaces() {
					if slices.Contains(i.Groups, r.Group) {
						out = append(out, netip.PrefixFrom(i.Private, 32))
					}
				}
			}
		}
	}
	return out
}

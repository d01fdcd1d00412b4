package world

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestPrivateNetwork(t *testing.T) {
	w, p, image := newWorld(t, nil)
	n, err := w.CreateNetwork("n", "", 0, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := w.CreateSubnet(SubnetSpec{Network: n.UUID, CIDR: "10.1.0.0/24", Gateway: "10.1.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(addr string) []InterfaceSpec {
		return []InterfaceSpec{{HasAddrs: true, Addresses: []AddressSpec{{Subnet: sub.UUID, Address: addr}}}}
	}
	a := mustServer(t, w, ServerSpec{Name: "a", Image: image, Interfaces: append([]InterfaceSpec{{Network: "public"}}, InterfaceSpec{Network: n.UUID})})
	b := mustServer(t, w, ServerSpec{Name: "b", Image: image, Interfaces: at("10.1.0.77")})
	for name, spec := range map[string][]InterfaceSpec{"taken": at("10.1.0.77"), "outside": at("10.2.0.1")} {
		if _, err := w.CreateServer(ServerSpec{Name: "c", Flavor: "flex-8-4", Image: image, Interfaces: spec}); !IsKind(err, Invalid) {
			t.Errorf("%s address: %v, want invalid", name, err)
		}
	}
	private := a.Interfaces[1].Addresses[0].Addr
	if !sub.CIDR.Contains(private) || private == sub.Gateway {
		t.Errorf("address %s", private)
	}
	addr := netip.MustParseAddr
	if got := w.Identities(a.Loopback); !slices.Equal(got, []netip.Addr{a.Loopback, a.IPv6, private}) {
		t.Errorf("identities of a: %v", got)
	}
	if got := w.Identities(b.Loopback); !slices.Equal(got, []netip.Addr{addr("10.1.0.77")}) {
		t.Errorf("identities of b, which is not public: %v", got)
	}
	if got := w.Identities(addr("127.0.0.1")); !slices.Equal(got, []netip.Addr{addr("127.0.0.1")}) {
		t.Errorf("identities of a stranger: %v", got)
	}
	for from, to := range map[netip.Addr]netip.Addr{private: a.Loopback, addr("10.1.0.77"): b.Loopback, a.Loopback: a.Loopback} {
		if got, ok := w.Loopback(from); !ok || got != to {
			t.Errorf("loopback of %s: %s %v, want %s", from, got, ok, to)
		}
	}
	if _, ok := w.Loopback(b.Loopback); ok {
		t.Error("the loopback address of a private server is routed as a public one")
	}
	if err := w.DeleteNetwork(n.UUID); !IsKind(err, InUse) {
		t.Errorf("delete of a network in use: %v", err)
	}
	for _, s := range []Server{a, b} {
		eventually(t, "running", func() bool { return w.status(s.UUID) == Running })
		if err := w.DeleteServer(s.UUID); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.DeleteNetwork(n.UUID); err != nil {
		t.Errorf("delete of a network whose servers are being deleted: %v", err)
	}
	eventually(t, "boot", func() bool { return strings.Contains(p.log("b"), "destroy") })
	if s := p.spec("b"); s.Public || !slices.Equal(s.Private, []netip.Addr{addr("10.1.0.77")}) {
		t.Errorf("b was told %+v", s)
	}
}

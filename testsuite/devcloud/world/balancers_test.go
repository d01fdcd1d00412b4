package world

import (
	"net"
	"net/netip"
	"testing"
)

// A load balancer in front of a stock server shows health, and its connections
// come from its address in the members' subnet.
func TestLoadBalancer(t *testing.T) {
	w, _, image := newWorld(t, nil)
	n, err := w.CreateNetwork("n", "", 0, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, Interfaces: []InterfaceSpec{{Network: n.UUID}}})
	seen := make(chan netip.Addr, 10)
	l, err := net.Listen("tcp", netip.AddrPortFrom(s.Loopback, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello")) // a health check does not listen
			seen <- netip.MustParseAddrPort(c.RemoteAddr().String()).Addr()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	b, err := w.CreateBalancer("lb", "", BalancerFlavor, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreatePool("p", b.UUID, "round_robin", "tcp", nil); !IsKind(err, Busy) {
		t.Errorf("pool of a changing balancer: %v, want busy", err)
	}
	status := func(want string) {
		t.Helper()
		eventually(t, "balancer "+want, func() bool { got, err := w.Balancer(b.UUID); return err == nil && got.Status == want })
	}
	status(Running)
	p, err := w.CreatePool("p", b.UUID, "round_robin", "tcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	name := "m"
	port := int(netip.MustParseAddrPort(l.Addr().String()).Port())
	spec := MemberSpec{
		MetaPatch: MetaPatch{Name: &name}, Subnet: n.Subnets[0], Address: s.Interfaces[0].Addresses[0].Addr.String(), Port: port,
	}
	m, err := w.CreateMember(p.UUID, spec)
	if err != nil {
		t.Fatal(err)
	}
	if m.Status != MemberNoMonitor {
		t.Errorf("member status %s", m.Status)
	}
	if _, err := w.CreateMember(p.UUID, spec); !IsKind(err, Invalid) {
		t.Errorf("second member of the same address: %v", err)
	}
	if _, err := w.CreateListener(ListenerSpec{MetaPatch: MetaPatch{Name: &name}, Pool: p.UUID, Protocol: "tcp", Port: port}); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", netip.AddrPortFrom(b.VIPs[0].Bind, uint16(port)).String())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	from := <-seen
	ids := w.Identities(from)
	if len(ids) != 1 || !netip.MustParsePrefix("10.100.0.0/24").Contains(ids[0]) {
		t.Errorf("the member sees %s, known as %v; want an address of its subnet", from, ids)
	}
	if _, err := w.CreateMonitor(MonitorSpec{Pool: p.UUID, Type: "tcp"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "member up", func() bool { got, err := w.Member(p.UUID, m.UUID); return err == nil && got.Status == MemberUp })
	down := spec
	down.Port = 1
	if _, err := w.CreateMember(p.UUID, down); err != nil {
		t.Fatal(err)
	}
	status(Degraded)
	if err := w.DeleteMember(p.UUID, m.UUID); err != nil {
		t.Fatal(err)
	}
	status(Failed)
	if err := w.DeleteNetwork(n.UUID); !IsKind(err, InUse) {
		t.Errorf("network with a member: %v", err)
	}
	if err := w.DeleteBalancer(b.UUID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "gone", func() bool { return len(w.Balancers()) == 0 })
	if st := w.State(); len(st.Pools)+len(st.Members)+len(st.Listeners)+len(st.Monitors) != 0 {
		t.Errorf("left of a deleted balancer: %+v", st)
	}
}

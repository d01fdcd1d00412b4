package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
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

func TestImports(t *testing.T) {
	w, _, image := newWorld(t, nil)
	newer, err := w.ImportImage(ImportSpec{URL: "http://factory" + talosURL, Name: "newer", Slug: "talos", UserDataHandling: "pass-through", Zones: []string{"lpg1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Image(newer.UUID); !IsKind(err, NotFound) {
		t.Errorf("the image exists before its import is done: %v", err)
	}
	eventually(t, "image", func() bool { _, err := w.Image(newer.UUID); return err == nil })
	s := mustServer(t, w, ServerSpec{Name: "a", Image: "custom:talos"})
	if s.Image.Guest.UUID != newer.UUID {
		t.Errorf("custom:talos is %s, want the newest, %s", s.Image.Guest.UUID, newer.UUID)
	}
	if _, err := w.CreateServer(ServerSpec{Name: "a", Flavor: "flex-8-4", Zone: "rma1", Image: newer.UUID}); !IsKind(err, Invalid) {
		t.Errorf("image of another zone: %v", err)
	}
	for _, tt := range []struct{ path, format, message string }{
		{"/nothing", "raw", "Expected HTTP 200, got HTTP 404"},
		{"/disk.raw.xz", "raw", "the image is compressed, which is not supported"},
		{"/disk.qcow2", "raw", "the image is not in raw format"},
		{"/disk.raw", "qcow2", "the image is not in qcow2 format"},
	} {
		i, err := w.ImportImage(ImportSpec{URL: "http://factory" + tt.path, Name: "x", Format: tt.format, UserDataHandling: "pass-through"})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, tt.path, func() bool {
			got, err := w.Import(i.UUID)
			return err == nil && got.Status == ImportFailed && got.ErrorMessage == tt.message
		})
	}
	if err := w.DeleteImage(image); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Import(image); !IsKind(err, NotFound) {
		t.Errorf("the import outlives its image: %v", err)
	}
}

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

// Many clients at once; run with -race.
func TestConcurrentUse(t *testing.T) {
	w, _, image := newWorld(t, nil)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 10 {
				s, err := w.CreateServer(ServerSpec{Name: fmt.Sprintf("n%d-%d", n, i), Flavor: "flex-4-1", Image: image, Tags: map[string]string{"n": "x"}})
				if err != nil {
					t.Error(err)
					return
				}
				if err := w.UpdateServer(s.UUID, ServerPatch{Tags: map[string]string{"n": "y"}}); err != nil {
					t.Error(err)
				}
				for _, x := range w.Servers() {
					if x.Tags["n"] == "" {
						t.Error("a server without its tag")
					}
				}
				for w.DeleteServer(s.UUID) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all gone", func() bool { return len(w.Servers()) == 0 })
	if n := len(w.Journal(time.Time{})); n < 240 {
		t.Errorf("%d entries in the journal, want at least 240", n)
	}
}

func TestResetForgetsEverything(t *testing.T) {
	w, p, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image})
	eventually(t, "running", func() bool { return p.log("a") == "boot" })
	if lines, err := w.Console(s.UUID); err != nil || !slices.Equal(lines, []string{"a booted"}) {
		t.Errorf("console %q, %v", lines, err)
	}
	if _, err := w.CreateBalancer("lb", "", BalancerFlavor, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateFloating(FloatingSpec{IPVersion: 4}); err != nil {
		t.Fatal(err)
	}
	w.Reset()
	if got := w.State().Count; got != 0 {
		t.Errorf("%d resources after a reset", got)
	}
	if got := p.log("a"); got != "boot destroy" {
		t.Errorf("machine saw %q", got)
	}
}

func TestClock(t *testing.T) {
	c := NewClock(60)
	if got := c.Scale(time.Minute); got != time.Second {
		t.Errorf("a minute lasts %s, want 1s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, 1000*time.Hour); err == nil {
		t.Error("slept on in a context that has ended")
	}
}

func TestLoopbackPool(t *testing.T) {
	for _, bad := range []string{"127.0", "10.0", "127", "127.300", "x"} {
		if _, err := newPool(bad); err == nil {
			t.Errorf("prefix %q was accepted", bad)
		}
	}
	p, err := newPool("127.77")
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.take()
	if err != nil {
		t.Fatal(err)
	}
	p.give(first)
	seen := map[netip.Addr]bool{}
	for n := range poolSize {
		a, err := p.take()
		if err != nil || seen[a] || a.As4()[3] == 0 || a.As4()[3] == 255 {
			t.Fatalf("address %d: %s, %v", n, a, err)
		}
		if n == 0 && a == first {
			t.Error("an address was used again at once")
		}
		seen[a] = true
	}
	if _, err := p.take(); err == nil {
		t.Error("an empty pool gave an address")
	}
}

func TestFloatingIPs(t *testing.T) {
	w, _, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Zone: "rma1", Image: image})
	b, err := w.CreateBalancer("lb", "rma1", BalancerFlavor, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := w.CreateFloating(FloatingSpec{IPVersion: 4, Server: s.UUID})
	if err != nil {
		t.Fatal(err)
	}
	if f.Region != "rma" || f.NextHop != s.Loopback.String() {
		t.Errorf("region %s, next hop %s; want those of the server", f.Region, f.NextHop)
	}
	if err := w.UpdateFloating(f.UUID, FloatingPatch{LoadBalancer: &b.UUID}); err != nil {
		t.Fatal(err)
	}
	got, err := w.FloatingIP(f.UUID)
	if err != nil || got.Server != "" || got.LoadBalancer != b.UUID || got.NextHop != b.VIPs[0].Addr.String() {
		t.Errorf("moved to %+v, %v", got, err)
	}
	for name, spec := range map[string]FloatingSpec{
		"version": {IPVersion: 5}, "prefix": {IPVersion: 6, PrefixLength: 64}, "region": {IPVersion: 4, Region: "lpg", Server: s.UUID},
		"two targets": {IPVersion: 4, Server: s.UUID, LoadBalancer: b.UUID}, "nobody": {IPVersion: 4, Server: "x"}, "type": {IPVersion: 4, Type: "local"},
	} {
		if _, err := w.CreateFloating(spec); !IsKind(err, Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	eventually(t, "running", func() bool { v, err := w.Balancer(b.UUID); return err == nil && v.Status == Running })
	if err := w.DeleteBalancer(b.UUID); err != nil {
		t.Fatal(err)
	}
	if got, err := w.FloatingIP(f.UUID); err != nil || got.LoadBalancer != "" {
		t.Errorf("after its target is gone: %+v, %v", got, err)
	}
	if err := w.DeleteFloating(f.UUID); err != nil {
		t.Error(err)
	}
}

func TestVolumes(t *testing.T) {
	w, _, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, Volumes: []VolumeSpec{{SizeGB: 100, Type: "bulk"}}})
	size := func(n int) *int { return &n }
	v, err := w.CreateVolume("data", "", VolumeSpec{SizeGB: 20}, "", []string{s.UUID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"shrink":      func() error { return w.UpdateVolume(v.UUID, VolumePatch{SizeGB: size(10)}) },
		"two servers": func() error { return w.UpdateVolume(v.UUID, VolumePatch{Attach: true, Servers: []string{s.UUID, "x"}}) },
		"root detach": func() error { return w.UpdateVolume(s.VolumeIDs[0], VolumePatch{Attach: true}) },
		"bulk size": func() error {
			_, err := w.CreateVolume("x", "", VolumeSpec{SizeGB: 50, Type: "bulk"}, "", nil, nil)
			return err
		},
		"other zone": func() error {
			_, err := w.CreateVolume("x", "rma1", VolumeSpec{SizeGB: 50}, "", []string{s.UUID}, nil)
			return err
		},
	} {
		if err := do(); !IsKind(err, Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if err := w.DeleteVolume(s.VolumeIDs[0]); !IsKind(err, InUse) {
		t.Errorf("delete of a root volume: %v", err)
	}
	snap, err := w.CreateSnapshot("snap", v.UUID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteVolume(v.UUID); !IsKind(err, InUse) {
		t.Errorf("delete of a volume with a snapshot: %v", err)
	}
	eventually(t, "running", func() bool { return w.status(s.UUID) == Running })
	if err := errors.Join(w.DeleteServer(s.UUID), w.DeleteSnapshot(snap.UUID)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "snapshot gone", func() bool { return len(w.Snapshots()) == 0 })
	left := w.Volumes()
	if len(left) != 2 || len(left[0].Servers) != 0 || len(left[1].Servers) != 0 {
		t.Errorf("volumes left of a deleted server: %+v; want the two that are no root volume, detached", left)
	}
	if err := errors.Join(w.DeleteVolume(left[0].UUID), w.DeleteVolume(left[1].UUID)); err != nil {
		t.Error(err)
	}
}

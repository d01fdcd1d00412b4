package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// park is a booter that remembers what happened to its machines.
type park struct {
	mu     sync.Mutex
	events []string
	specs  map[string]guest.Server
}

type parked struct {
	park *park
	name string
}

func (p *park) note(name, event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, name+" "+event)
}

func (p *park) log(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		if n, what, _ := strings.Cut(e, " "); n == name {
			out = append(out, what)
		}
	}
	return strings.Join(out, " ")
}

func (p *park) spec(name string) guest.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.specs[name]
}

func (p *park) Boot(s guest.Server) guest.Guest {
	p.note(s.Name, "boot")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.specs[s.Name] = s
	return parked{p, s.Name}
}

func (g parked) PowerOn()      { g.park.note(g.name, "on") }
func (g parked) PowerOff()     { g.park.note(g.name, "off") }
func (g parked) Reboot()       { g.park.note(g.name, "reboot") }
func (g parked) Destroy()      { g.park.note(g.name, "destroy") }
func (g parked) Log() []string { return []string{g.name + " booted"} }

const talosURL = "/image/abc/v1.13.5/openstack-amd64.raw"

// newWorld returns a fast world with a Talos image, and the image's UUID.
func newWorld(t *testing.T, change func(*Options)) (*World, *park, string) {
	t.Helper()
	images := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, ".xz"):
			_, _ = rw.Write([]byte("\xfd7zXZ\x00")) // the client shows what is missing
		case strings.HasSuffix(r.URL.Path, ".qcow2"):
			_, _ = rw.Write([]byte("QFI\xfb…")) // likewise
		case strings.HasSuffix(r.URL.Path, ".raw"):
			_, _ = rw.Write([]byte("raw disk")) // likewise
		default:
			http.NotFound(rw, r)
		}
	}))
	p := &park{specs: map[string]guest.Server{}}
	o := Options{
		Speed: 5000, LoopbackPrefix: "127.202", Booter: p, ImageClient: images.Client(),
		ImageURL: func(u string) (string, error) { return images.URL + strings.TrimPrefix(u, "http://factory"), nil },
		Describe: func(u string) (guest.Image, bool) {
			return guest.Image{Schematic: "abc", TalosVersion: "v1.13.5", Platform: "openstack", Arch: "amd64"}, strings.HasSuffix(u, talosURL)
		},
	}
	if change != nil {
		change(&o)
	}
	w, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); images.CloseClientConnections(); images.Close() })
	imp, err := w.ImportImage(ImportSpec{
		URL: "http://factory" + talosURL, Name: "talos", Slug: "talos", UserDataHandling: "pass-through", Firmware: "uefi",
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the image", func() bool { _, err := w.Image(imp.UUID); return err == nil })
	return w, p, imp.UUID
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never happened", what)
		}
	}
}

func (w *World) status(id string) string {
	s, err := w.Server(id)
	if err != nil {
		return "gone"
	}
	return s.Status
}

func mustServer(t *testing.T, w *World, spec ServerSpec) Server {
	t.Helper()
	if spec.Flavor == "" {
		spec.Flavor = "flex-8-4"
	}
	s, err := w.CreateServer(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestServerLife(t *testing.T) {
	w, p, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, UserData: []byte("config"), RootGB: 50})
	if s.Status != Changing {
		t.Errorf("created in status %s", s.Status)
	}
	steps := []struct {
		name string
		do   func(string) error
		want string
	}{
		{"create", nil, Running},
		{"reboot", w.RebootServer, Running},
		{"stop", w.StopServer, Stopped},
		{"stop again", w.StopServer, Stopped},
		{"start", w.StartServer, Running},
		{"delete", w.DeleteServer, "gone"},
	}
	for _, st := range steps {
		if st.do != nil {
			if err := st.do(s.UUID); err != nil {
				t.Fatalf("%s: %v", st.name, err)
			}
		}
		eventually(t, st.name, func() bool { return w.status(s.UUID) == st.want })
	}
	if got, want := p.log("a"), "boot reboot off on destroy"; got != want {
		t.Errorf("machine saw %q, want %q", got, want)
	}
	want := guest.Server{
		UUID: s.UUID, Name: "a", Zone: DefaultZone, Flavor: "flex-8-4", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 50,
		Loopback: s.Loopback, Public: true, UserData: []byte("config"),
		Image: guest.Image{
			UUID: image, Schematic: "abc", TalosVersion: "v1.13.5", Platform: "openstack", Arch: "amd64",
			UserDataHandling: "pass-through", Firmware: "uefi",
		},
	}
	if d := cmp.Diff(want, p.spec("a"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if n := len(w.Volumes()); n != 0 {
		t.Errorf("%d volumes are left of a deleted server", n)
	}
}

func TestChangingServersRefuse(t *testing.T) {
	w, _, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, Quirk: Quirk{Stuck: true}})
	for name, do := range map[string]func(string) error{
		"delete": w.DeleteServer, "stop": w.StopServer, "start": w.StartServer, "reboot": w.RebootServer,
	} {
		if err := do(s.UUID); !IsKind(err, Busy) {
			t.Errorf("%s: %v, want busy", name, err)
		}
	}
	if err := w.Vanish(s.UUID); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(string) error{"delete": w.DeleteServer, "vanish": w.Vanish} {
		if err := do(s.UUID); !IsKind(err, NotFound) {
			t.Errorf("%s of a vanished server: %v, want not found", name, err)
		}
	}
}

func TestQuirks(t *testing.T) {
	w, p, image := newWorld(t, nil)
	failed := mustServer(t, w, ServerSpec{Name: "failed", Image: image, Quirk: Quirk{Status: Failed}})
	eventually(t, "error state", func() bool { return w.status(failed.UUID) == Failed })
	if err := w.DeleteServer(failed.UUID); err != nil {
		t.Errorf("a failed server cannot be deleted: %v", err)
	}
	lost := mustServer(t, w, ServerSpec{Name: "lost", Zone: "rma1", Image: image, Quirk: Quirk{WrongZone: true}})
	if lost.Zone == "rma1" {
		t.Error("the server is in the zone that was asked for")
	}
	if p.log("failed") != "" {
		t.Errorf("a machine that failed saw %q", p.log("failed"))
	}
}

func TestRefusals(t *testing.T) {
	w, _, image := newWorld(t, func(o *Options) {
		o.Limits = Limits{VCPUs: 10, StorageGB: 100, Networks: 1, LoadBalancers: 1, CustomImages: 1, FloatingIPs: 1, OutOfStock: []string{"flex-4-1@lpg1"}}
	})
	ok := ServerSpec{Name: "ok", Flavor: "flex-8-4", Image: image}
	for _, tt := range []struct {
		name   string
		change func(*ServerSpec)
		kind   Kind
		field  string
	}{
		{"upper case name", func(s *ServerSpec) { s.Name = "Node" }, Invalid, "name"},
		{"long label", func(s *ServerSpec) { s.Name = strings.Repeat("a", 64) }, Invalid, "name"},
		{"unknown zone", func(s *ServerSpec) { s.Zone = "zrh1" }, Invalid, "zone"},
		{"unknown flavor", func(s *ServerSpec) { s.Flavor = "flex-1-1" }, Invalid, "flavor"},
		{"unknown image", func(s *ServerSpec) { s.Image = "custom:nothing" }, NotFound, ""},
		{"small disk", func(s *ServerSpec) { s.RootGB = 9 }, Invalid, "volume_size_gb"},
		{"user data", func(s *ServerSpec) { s.UserData = make([]byte, 49150) }, Invalid, "user_data"},
		{"cpu quota", func(s *ServerSpec) { s.Flavor = "flex-48-12" }, Quota, ""},
		{"storage quota", func(s *ServerSpec) { s.RootGB = 101 }, Quota, ""},
		{"no stock", func(s *ServerSpec) { s.Flavor = "flex-4-1" }, NoStock, ""},
		{"unknown group", func(s *ServerSpec) { s.Groups = []string{"x"} }, Invalid, "server_groups"},
		{"unknown network", func(s *ServerSpec) { s.Interfaces = []InterfaceSpec{{Network: "x"}} }, Invalid, "interfaces"},
		{"no interface", func(s *ServerSpec) { s.Interfaces = []InterfaceSpec{} }, Invalid, "interfaces"},
		{"two public", func(s *ServerSpec) { s.Interfaces = []InterfaceSpec{{Network: "public"}, {Network: "public"}} }, Invalid, "interfaces"},
	} {
		spec := ok
		tt.change(&spec)
		_, err := w.CreateServer(spec)
		var e *Error
		if !IsKind(err, tt.kind) {
			t.Errorf("%s: %v, want kind %d", tt.name, err, tt.kind)
		} else if errors.As(err, &e) && e.Field != tt.field {
			t.Errorf("%s: field %q, want %q", tt.name, e.Field, tt.field)
		}
	}
	spec := ok
	spec.UserData = make([]byte, 49149)
	mustServer(t, w, spec)
	if _, err := w.ImportImage(ImportSpec{URL: "http://factory/x.raw", Name: "x", UserDataHandling: "pass-through"}); !IsKind(err, Quota) {
		t.Errorf("second image: %v, want quota", err)
	}
	if _, err := w.CreateNetwork("n", "", 0, true, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateNetwork("n", "", 0, true, nil); !IsKind(err, Quota) {
		t.Errorf("second network: %v, want quota", err)
	}
	if got := w.State().Count; got != 3 {
		t.Errorf("%d resources, want the image, the server and the network", got)
	}
}

func TestServerGroupHoldsFour(t *testing.T) {
	w, _, image := newWorld(t, nil)
	g, err := w.CreateGroup("g", "anti-affinity", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var first Server
	for n := range 4 {
		s := mustServer(t, w, ServerSpec{Name: fmt.Sprintf("n%d", n), Image: image, Groups: []string{g.UUID}})
		if n == 0 {
			first = s
		}
	}
	fifth := ServerSpec{Name: "n4", Flavor: "flex-8-4", Image: image, Groups: []string{g.UUID}}
	if _, err := w.CreateServer(fifth); !IsKind(err, Quota) {
		t.Fatalf("fifth server: %v, want quota", err)
	}
	eventually(t, "running", func() bool { return w.status(first.UUID) == Running })
	if err := w.DeleteServer(first.UUID); err != nil {
		t.Fatal(err)
	}
	mustServer(t, w, fifth) // a deleted server leaves its place at once
	wrong := fifth
	wrong.Zone = "rma1"
	if _, err := w.CreateServer(wrong); !IsKind(err, Invalid) {
		t.Errorf("group in another zone: %v, want invalid", err)
	}
}

// Names are not unique, and creation times tell the older of two twins.
func TestTwins(t *testing.T) {
	w, _, image := newWorld(t, nil)
	a := mustServer(t, w, ServerSpec{Name: "twin", Image: image})
	b := mustServer(t, w, ServerSpec{Name: "twin", Image: image})
	if a.UUID == b.UUID || !a.CreatedAt.Before(b.CreatedAt) || a.Loopback == b.Loopback {
		t.Errorf("twins %+v and %+v are not apart", a.Meta, b.Meta)
	}
}

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

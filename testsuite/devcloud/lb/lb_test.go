package lb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds waits for something that must happen; it is no measure of
// speed.
const patience = 20 * time.Second

// site is a balancer with members that answer with their name.
type site struct {
	t       *testing.T
	b       *Balancer
	vip     netip.Addr
	config  Config
	mu      sync.Mutex
	where   map[netip.Addr]netip.Addr
	reports chan string
	ids     map[netip.Addr][]netip.Addr
}

// The tests of this package own 127.200.0.0/16.
var (
	vip    = netip.MustParseAddr("127.200.0.1")
	subnet = "net"
)

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{
		t: t, vip: vip, where: map[netip.Addr]netip.Addr{}, reports: make(chan string, 100), ids: map[netip.Addr][]netip.Addr{},
	}
	s.b = New(Options{
		Source: vip,
		Reach: func(sub string, a netip.AddrPort) (netip.Addr, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			at, ok := s.where[a.Addr()]
			if !ok || sub != subnet {
				return at, errors.New("no such machine")
			}
			return at, nil
		},
		Identities: func(a netip.Addr) []netip.Addr {
			s.mu.Lock()
			defer s.mu.Unlock()
			if ids, ok := s.ids[a]; ok {
				return ids
			}
			return []netip.Addr{a}
		},
		Report: func(m string, up bool) { s.reports <- fmt.Sprintf("%s %v", m, up) },
	})
	t.Cleanup(s.b.Close)
	s.config = Config{Binds: []netip.Addr{vip}, Pools: []Pool{{ID: "pool", Algorithm: RoundRobin}}}
	return s
}

// member adds a machine at 10.0.0.n whose program answers every connection with
// the source it sees, then echoes.
func (s *site) member(n byte) *echo {
	s.t.Helper()
	private, loopback := netip.AddrFrom4([4]byte{10, 0, 0, n}), netip.AddrFrom4([4]byte{127, 200, 1, n})
	e := startEcho(s.t, netip.AddrPortFrom(loopback, 0), fmt.Sprintf("m%d", n))
	s.mu.Lock()
	s.where[private] = loopback
	s.mu.Unlock()
	p := &s.config.Pools[0]
	p.Members = append(p.Members, Member{ID: e.name, Subnet: subnet, Address: private, Port: e.addr.Port()})
	return e
}

// listen opens a listener on a free port of the VIP.
func (s *site) listen(change func(*Listener)) string {
	s.t.Helper()
	probe, err := net.Listen("tcp", netip.AddrPortFrom(s.vip, 0).String())
	if err != nil {
		s.t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(probe.Addr().String())
	if err := probe.Close(); err != nil {
		s.t.Fatal(err)
	}
	l := Listener{ID: "listener", Port: addr.Port(), Pool: "pool"}
	if change != nil {
		change(&l)
	}
	s.config.Listeners = []Listener{l}
	s.b.Apply(s.config)
	if p := s.b.Problems(); len(p) > 0 {
		s.t.Fatal(p)
	}
	return addr.String()
}

func (s *site) report(want string) {
	s.t.Helper()
	select {
	case got := <-s.reports:
		if got != want {
			s.t.Fatalf("report %q, want %q", got, want)
		}
	case <-time.After(patience):
		s.t.Fatalf("no report, want %q", want)
	}
}

type echo struct {
	name string
	addr netip.AddrPort
	l    net.Listener
}

func startEcho(t *testing.T, at netip.AddrPort, name string) *echo {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{name: name, addr: netip.MustParseAddrPort(l.Addr().String()), l: l}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				from := netip.MustParseAddrPort(c.RemoteAddr().String()).Addr()
				_, errHello := fmt.Fprintf(c, "%s %s\n", name, from)
				_, errCopy := io.Copy(c, c)
				if err := errors.Join(errHello, errCopy, c.Close()); err != nil {
					t.Logf("%s: %v", name, err)
				}
			})
		}
	})
	t.Cleanup(func() { e.stop(); wg.Wait() })
	return e
}

func (e *echo) stop() {
	if err := e.l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		panic(err)
	}
}

// ask returns what the program behind the balancer says first, or "" when the
// connection is closed without a word.
func ask(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, c)
	return firstLine(t, c)
}

func firstLine(t *testing.T, c net.Conn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil || b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

func closeConn(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestForwardsFromItsOwnAddress(t *testing.T) {
	s := newSite(t)
	s.member(1)
	if got, want := ask(t, s.listen(nil)), "m1 "+vip.String(); got != want {
		t.Errorf("member says %q, want %q", got, want)
	}
}

func TestBothDirectionsAndHalfClose(t *testing.T) {
	s := newSite(t)
	s.member(1)
	c, err := net.Dial("tcp", s.listen(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, c)
	firstLine(t, c)
	payload := strings.Repeat("x", 1<<20)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, payload)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if string(got) != payload {
		t.Errorf("got %d bytes back, want %d", len(got), len(payload))
	}
}

func TestAlgorithms(t *testing.T) {
	for _, tt := range []struct {
		algorithm string
		hold      bool // keep the connections open
		want      string
	}{
		{RoundRobin, false, "m1 m2 m1 m2"},
		{LeastConnections, true, "m1 m2 m1 m2"},
	} {
		t.Run(tt.algorithm, func(t *testing.T) {
			s := newSite(t)
			s.member(1)
			s.member(2)
			s.config.Pools[0].Algorithm = tt.algorithm
			addr := s.listen(nil)
			var got []string
			for range 4 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				name, _, _ := strings.Cut(firstLine(t, c), " ")
				got = append(got, name)
				if tt.hold {
					t.Cleanup(func() { closeConn(t, c) })
				} else {
					closeConn(t, c)
				}
			}
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("members %s, want %s", g, tt.want)
			}
		})
	}
}

func TestSourceIPSticks(t *testing.T) {
	s := newSite(t)
	for n := range byte(4) {
		s.member(n + 1)
	}
	s.config.Pools[0].Algorithm = SourceIP
	addr := s.listen(nil)
	first := ask(t, addr)
	for range 8 {
		if got := ask(t, addr); got != first {
			t.Fatalf("%q after %q", got, first)
		}
	}
}

func TestDeadMemberIsPassedOver(t *testing.T) {
	s := newSite(t)
	s.member(1).stop()
	s.member(2)
	addr := s.listen(nil)
	for range 3 {
		if got := ask(t, addr); !strings.HasPrefix(got, "m2 ") {
			t.Fatalf("answer %q, want m2", got)
		}
	}
}

func TestAllowedCIDRs(t *testing.T) {
	s := newSite(t)
	s.member(1)
	s.ids[netip.MustParseAddr("127.0.0.1")] = []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	for _, tt := range []struct {
		cidr string
		ok   bool
	}{{"192.0.2.0/24", true}, {"198.51.100.0/24", false}, {"127.0.0.0/8", false}} {
		addr := s.listen(func(l *Listener) { l.Allowed = []netip.Prefix{netip.MustParsePrefix(tt.cidr)} })
		if got := ask(t, addr); (got != "") != tt.ok {
			t.Errorf("allowed %s: answer %q", tt.cidr, got)
		}
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	s := newSite(t)
	s.member(1)
	c, err := net.Dial("tcp", s.listen(func(l *Listener) { l.ClientIdle, l.MemberIdle = 50*time.Millisecond, 50*time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, c)
	firstLine(t, c)
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read of an idle connection: %v, want it closed", err)
	}
}

func TestApplyAndCloseEndThings(t *testing.T) {
	s := newSite(t)
	s.member(1)
	addr := s.listen(nil)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, c)
	firstLine(t, c)
	s.config.Listeners = nil
	s.b.Apply(s.config)
	if late, err := net.Dial("tcp", addr); err == nil {
		closeConn(t, late)
		t.Error("a removed listener still accepts")
	}
	if _, err := io.WriteString(c, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if got := firstLine(t, c); got != "still here" {
		t.Errorf("open connection says %q", got)
	}
	s.b.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a closed balancer still forwards")
	}
}

func TestPortInUseIsReported(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", "127.200.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer closeListener(t, l)
	s.config.Listeners = []Listener{{ID: "x", Port: netip.MustParseAddrPort(l.Addr().String()).Port(), Pool: "pool"}}
	s.b.Apply(s.config)
	if p := s.b.Problems(); len(p) != 1 {
		t.Errorf("problems: %v, want one", p)
	}
}

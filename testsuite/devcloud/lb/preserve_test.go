package lb

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// askAs is ask from a local address.
func askAs(t *testing.T, from, addr string) string {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t, c)
	return firstLine(t, c)
}

// preserving opens a listener in front of a pool that keeps client addresses.
func (s *site) preserving() string {
	s.b.opts.ReachFrom = func(_ netip.Addr, sub string, a netip.AddrPort) (netip.Addr, error) { return s.b.opts.Reach(sub, a) }
	s.config.Pools[0].Preserve = true
	return s.listen(nil)
}

func TestPreservedClientIsSeen(t *testing.T) {
	s := newSite(t)
	s.member(1)
	addr := s.preserving()
	for _, from := range []string{"127.0.0.1", "127.200.7.7"} {
		if got, want := askAs(t, from, addr), "m1 "+from; got != want {
			t.Errorf("member says %q, want %q", got, want)
		}
	}
}

// A member that connects through the balancer is answered by the others, and by
// nobody when its own turn comes.
func TestMemberDoesNotReachItself(t *testing.T) {
	s := newSite(t)
	s.member(1)
	s.member(2)
	addr := s.preserving()
	var got []string
	for range 4 {
		name, _, _ := strings.Cut(askAs(t, "127.200.1.1", addr), " ")
		got = append(got, name)
	}
	if g := strings.Join(got, ","); g != ",m2,,m2" {
		t.Errorf("answers %s", g)
	}
	s.config.Pools[0].Preserve = false
	s.b.Apply(s.config)
	if got := askAs(t, "127.200.1.1", addr); got == "" {
		t.Error("without preservation a member does not reach itself either")
	}
}

func TestFailOpen(t *testing.T) {
	s := newSite(t)
	e := s.member(1)
	s.config.Pools[0].Monitor = &Monitor{Type: TCP, Interval: time.Hour, Timeout: time.Second, Up: 1, Down: 1}
	e.stop()
	addr := s.listen(nil)
	s.report("m1 false")
	s.config.Pools[0].FailOpen = true
	s.b.Apply(s.config)
	back := startEcho(t, e.addr, "back")
	if got := ask(t, addr); !strings.HasPrefix(got, back.name) {
		t.Errorf("answer %q while no member is known to be healthy", got)
	}
}

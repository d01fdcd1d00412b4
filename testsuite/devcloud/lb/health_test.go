package lb

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestMonitor(t *testing.T) {
	s := newSite(t)
	e := s.member(1)
	s.config.Pools[0].Monitor = &Monitor{Type: TCP, Interval: 20 * time.Millisecond, Timeout: time.Second, Up: 2, Down: 2}
	addr := s.listen(nil)
	s.report("m1 true")
	if got := ask(t, addr); got == "" {
		t.Error("no answer from a healthy member")
	}
	e.stop()
	s.report("m1 false")
	if got := ask(t, addr); got != "" {
		t.Errorf("answer %q from a pool without healthy members", got)
	}
	startEcho(t, e.addr, "m1")
	s.report("m1 true")
}

// A member that hangs up at once, as an emulated packet filter does, is down.
func TestMonitorSeesHangUp(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", "127.200.1.9:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	t.Cleanup(func() {
		closeListener(t, l)
		<-done
	})
	s.where[netip.MustParseAddr("10.0.0.9")] = netip.MustParseAddr("127.200.1.9")
	s.config.Pools[0].Members = []Member{{
		ID: "m9", Subnet: subnet, Address: netip.MustParseAddr("10.0.0.9"), Port: netip.MustParseAddrPort(l.Addr().String()).Port(),
	}}
	s.config.Pools[0].Monitor = &Monitor{Type: TCP, Interval: time.Hour, Timeout: time.Second, Up: 1, Down: 1}
	s.listen(nil)
	s.report("m9 false")
}

func closeListener(t *testing.T, l net.Listener) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestMonitorTypes(t *testing.T) {
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Host != "api.example" {
			rw.WriteHeader(http.StatusNotFound)
		}
	})
	for _, tt := range []struct {
		name   string
		mon    Monitor
		tls    bool
		absent bool
		want   bool
	}{
		{"http", Monitor{Type: HTTP, Method: "GET", Path: "/healthz", Host: "api.example", Codes: []string{"200-204"}}, false, false, true},
		{"http status", Monitor{Type: HTTP, Method: "GET", Path: "/", Host: "api.example", Codes: []string{"200"}}, false, false, false},
		{"https", Monitor{Type: HTTPS, Method: "GET", Path: "/healthz", Host: "api.example", Codes: []string{"200"}}, true, false, true},
		{"tls-hello", Monitor{Type: TLSHello}, true, false, true},
		{"tls-hello to plain http", Monitor{Type: TLSHello}, false, false, false},
		{"ping", Monitor{Type: Ping}, false, false, true},
		{"ping nobody", Monitor{Type: Ping}, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			web := httptest.NewUnstartedServer(handler)
			web.Config.ErrorLog = nil
			if tt.tls {
				web.StartTLS()
			} else {
				web.Start()
			}
			t.Cleanup(web.Close)
			at := netip.MustParseAddrPort(web.Listener.Addr().String())
			private := netip.MustParseAddr("10.0.0.5")
			if !tt.absent {
				s.where[private] = at.Addr()
			}
			tt.mon.Interval, tt.mon.Timeout, tt.mon.Up, tt.mon.Down = time.Hour, patience, 1, 1
			s.config.Pools[0].Members = []Member{{ID: "web", Subnet: subnet, Address: private, Port: 1, MonitorPort: at.Port()}}
			s.config.Pools[0].Monitor = &tt.mon
			s.listen(nil)
			s.report(fmt.Sprintf("web %v", tt.want))
		})
	}
}

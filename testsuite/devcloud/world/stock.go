package world

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// idleGuest is a machine on which nothing listens.
type idleGuest struct{}

func (idleGuest) PowerOn()      {}
func (idleGuest) PowerOff()     {}
func (idleGuest) Reboot()       {}
func (idleGuest) Destroy()      {}
func (idleGuest) Log() []string { return []string{"no guest is emulated for this image"} }

// stockGuest is a machine with one of the cloud's own images: it answers on
// port 22 with an SSH banner, which is all that a health monitor needs.
type stockGuest struct {
	addr string
	log  *slog.Logger

	mu      sync.Mutex
	l       net.Listener
	stopped sync.WaitGroup
	lines   []string
}

func newStockGuest(s guest.Server, log *slog.Logger) *stockGuest {
	g := &stockGuest{addr: netip.AddrPortFrom(s.Loopback, 22).String(), log: log}
	g.PowerOn()
	return g
}

func (g *stockGuest) PowerOn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.l != nil {
		return
	}
	l, err := net.Listen("tcp", g.addr)
	if err != nil {
		g.lines = append(g.lines, "sshd: "+err.Error())
		g.log.Warn("stock image: no sshd", "error", err)
		return
	}
	g.l = l
	g.lines = append(g.lines, "sshd: listening on "+g.addr)
	g.stopped.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if c.SetDeadline(time.Now().Add(time.Second)) == nil {
				if _, err := c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")); err != nil {
					g.log.Debug("stock image: banner", "error", err)
				}
			}
			if err := c.Close(); err != nil {
				g.log.Debug("stock image: close", "error", err)
			}
		}
	})
}

func (g *stockGuest) PowerOff() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.l == nil {
		return
	}
	if err := g.l.Close(); err != nil {
		g.log.Debug("stock image: close", "error", err)
	}
	g.l = nil
	g.stopped.Wait()
}

func (g *stockGuest) Reboot()  { g.PowerOff(); g.PowerOn() }
func (g *stockGuest) Destroy() { g.PowerOff() }

func (g *stockGuest) Log() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string{}, g.lines...)
}

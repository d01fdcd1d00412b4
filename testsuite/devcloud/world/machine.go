package world

import (
	"sync"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// machine holds the guest of a server and runs its power operations one after
// the other, never under the world's lock: guests ask the world about the
// network while they stop.
type machine struct {
	op    sync.Mutex // held during a power operation
	mu    sync.Mutex // guards the rest
	guest guest.Guest
	gone  bool
}

// powerOn boots the machine for the first time with start, later from its disk.
func (m *machine) powerOn(start func() guest.Guest) {
	m.op.Lock()
	defer m.op.Unlock()
	g, gone := m.current()
	switch {
	case gone:
	case g != nil:
		g.PowerOn()
	default:
		g = start()
		m.mu.Lock()
		m.guest = g
		m.mu.Unlock()
	}
}

func (m *machine) powerOff() { m.do(guest.Guest.PowerOff) }

func (m *machine) reboot() { m.do(guest.Guest.Reboot) }

// destroy is final: a power-on that was under way finds the machine gone.
func (m *machine) destroy() {
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	m.gone = true
	g := m.guest
	m.mu.Unlock()
	if g != nil {
		g.Destroy()
	}
}

func (m *machine) console() []string {
	if g, _ := m.current(); g != nil {
		return g.Log()
	}
	return []string{}
}

func (m *machine) do(f func(guest.Guest)) {
	m.op.Lock()
	defer m.op.Unlock()
	if g, gone := m.current(); g != nil && !gone {
		f(g)
	}
}

func (m *machine) current() (guest.Guest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest, m.gone
}

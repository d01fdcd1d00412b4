package guest

import "sync"

// Machine holds the guest of a server for the cloud that rents it out, and runs
// its power operations one after the other. They must not be called under a lock
// that Network needs: guests ask about the network while they stop. The zero
// Machine has never been powered on.
type Machine struct {
	op    sync.Mutex // held during a power operation
	mu    sync.Mutex // guards the rest
	guest Guest
	gone  bool
}

// PowerOn boots the machine for the first time with start, later from its disk.
func (m *Machine) PowerOn(start func() Guest) {
	m.op.Lock()
	defer m.op.Unlock()
	g, gone := m.Current()
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

// PowerOff keeps the disk.
func (m *Machine) PowerOff() { m.do(Guest.PowerOff) }

// Reboot resets the machine.
func (m *Machine) Reboot() { m.do(Guest.Reboot) }

// Destroy is final: a power-on that was under way finds the machine gone.
func (m *Machine) Destroy() {
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

// Console returns what the console shows.
func (m *Machine) Console() []string {
	if g, _ := m.Current(); g != nil {
		return g.Log()
	}
	return []string{}
}

func (m *Machine) do(f func(Guest)) {
	m.op.Lock()
	defer m.op.Unlock()
	if g, gone := m.Current(); g != nil && !gone {
		f(g)
	}
}

// Current returns the guest, nil before the first PowerOn, and whether the
// machine was destroyed.
func (m *Machine) Current() (Guest, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.guest, m.gone
}

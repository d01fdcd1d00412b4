// Package lender lends loopback addresses on which nothing listens, for tests.
package lender

import (
	"net/netip"
	"sync"
)

// Lender lends the addresses of 127.NET.0.0/16. Packages whose tests run at the
// same time need different ones.
type Lender struct {
	net byte

	mu   sync.Mutex
	next uint16
	lent map[netip.Addr]bool
}

// New returns a lender that has lent nothing.
func New(net byte) *Lender { return &Lender{net: net, lent: map[netip.Addr]bool{}} }

// TakeAddress implements account.Addresses; no address is lent twice.
func (l *Lender) TakeAddress() (netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	addr := netip.AddrFrom4([4]byte{127, l.net, byte(l.next >> 8), byte(l.next)})
	l.lent[addr] = true
	return addr, nil
}

// GiveAddress implements account.Addresses.
func (l *Lender) GiveAddress(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.lent, addr)
}

// Lent is how many addresses have not been given back.
func (l *Lender) Lent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lent)
}

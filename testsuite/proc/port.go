package proc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
)

// Ports below the range from which Linux takes the ports of outgoing connections
// (32768 and up by default): a port found free here can only be lost to another
// listener, not to any connection somebody happens to open.
const (
	firstPort = 20000
	lastPort  = 32000
)

var ports = struct {
	sync.Mutex
	next int
}{next: firstPort + rand.IntN(lastPort-firstPort)}

// FreePort returns a TCP port that nobody listens on at the address. Within a
// process no port is given twice until the range has been used up. Another
// process may still take it before it is used: callers that can, pass a
// listener instead, and others start again on an early exit.
func FreePort(address netip.Addr) (uint16, error) {
	ports.Lock()
	defer ports.Unlock()
	var last error
	for range lastPort - firstPort {
		port := uint16(ports.next)
		if ports.next++; ports.next >= lastPort {
			ports.next = firstPort
		}
		listener, err := net.Listen("tcp", netip.AddrPortFrom(address, port).String())
		if err != nil {
			last = err
			continue
		}
		if err := listener.Close(); err != nil {
			return 0, fmt.Errorf("proc: probe port %d: %w", port, err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("proc: no free port at %s: %w", address, last)
}

// FreeAddress is an address of loopback with a port of FreePort.
func FreeAddress() (string, error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	port, err := FreePort(loopback)
	return netip.AddrPortFrom(loopback, port).String(), err
}

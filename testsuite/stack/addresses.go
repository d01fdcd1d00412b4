package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Public addresses of the emulated cloud are loopback addresses, a /16 for each
// system. Systems of several test processes run at once on one machine, so a /16
// is reserved by listening at its last address, which devcloud never gives out.
const (
	firstPrefix, lastPrefix = 20, 249
	reservation             = 19999
)

// reserve takes the wished two octets, or the next ones that no system uses.
func (s *Stack) reserve(ctx context.Context, wish string) (string, error) {
	first := 77
	if _, second, ok := strings.Cut(wish, "127."); ok {
		n, err := strconv.Atoi(second)
		if err != nil || n < firstPrefix || n > lastPrefix {
			return "", fmt.Errorf("loopback prefix %q: want 127.%d to 127.%d", wish, firstPrefix, lastPrefix)
		}
		first = n
	}
	var config net.ListenConfig
	for i := range lastPrefix - firstPrefix + 1 {
		second := firstPrefix + (first-firstPrefix+i)%(lastPrefix-firstPrefix+1)
		l, err := config.Listen(ctx, "tcp", fmt.Sprintf("127.%d.255.254:%d", second, reservation))
		if err == nil {
			s.reserved = l
			return fmt.Sprintf("127.%d", second), nil
		}
	}
	return "", errors.New("no loopback addresses are free")
}

package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

const (
	// gateTimeout bounds one request of a gate with its redirects: a service that
	// takes longer is not healthy.
	gateTimeout = 10 * time.Second
	// gateRedirects is how many redirects a gate follows.
	gateRedirects = 3
)

var (
	errElsewhere = errors.New("it redirects to another host or scheme, which a gate does not follow")
	errTooOften  = errors.New("it redirects again and again")
	errMetadata  = errors.New("its address is one at which clouds keep the credentials of machines")
)

// httpGate asks a URL once and looks at the status only: the body may be
// anything.
func httpGate(ctx context.Context, op string, g plan.Gate) error {
	target, err := url.Parse(g.URL)
	switch {
	case err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https":
		return fault.New(fault.Invalid, op, "the URL is not one of http or https") // not repeated: it may hold a password
	case target.User != nil:
		return fault.New(fault.Invalid, op, "the URL contains credentials, which would be stored with the gate")
	case g.Status != 0 && (g.Status < 200 || g.Status > 599):
		return fault.New(fault.Invalid, op, "%d is not a status that an answer ends with", g.Status)
	}
	if ip, err := netip.ParseAddr(target.Hostname()); err == nil && metadata(ip) { // a proxy would ask it for us
		return fault.New(fault.Invalid, op, "it is not asked: %s", errMetadata)
	}
	want := g.Status
	if want == 0 {
		want = http.StatusOK
	}
	shown := target.Scheme + "://" + target.Host + target.EscapedPath() // a query may hold a token

	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL, http.NoBody)
	if err != nil {
		return fault.New(fault.Invalid, op, "%s cannot be asked", shown)
	}
	req.Header.Set("User-Agent", FieldManager)
	dialer := &net.Dialer{Control: farOnly}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext,
		DisableKeepAlives: true, TLSHandshakeTimeout: gateTimeout, MaxResponseHeaderBytes: 64 << 10,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, via []*http.Request) error {
		wanted := g.Status >= 300 && g.Status < 400
		switch {
		case wanted:
			return http.ErrUseLastResponse
		case next.URL.Host != target.Host || next.URL.Scheme != target.Scheme:
			return errElsewhere
		case len(via) > gateRedirects:
			return errTooOften
		}
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		reason := err
		if e, ok := errors.AsType[*url.Error](err); ok {
			reason = e.Err // without the URL
		}
		if errors.Is(err, errMetadata) {
			return fault.New(fault.Invalid, op, "%s is not asked: %s", shown, errMetadata)
		}
		return fault.New(fault.NotYet, op, "%s: %s", shown, reason)
	}
	if err := resp.Body.Close(); err != nil {
		return fault.New(fault.NotYet, op, "%s: the answer broke off", shown)
	}
	if resp.StatusCode != want {
		return fault.New(fault.NotYet, op, "%s answers %d, not %d", shown, resp.StatusCode, want)
	}
	return nil
}

// metadataIPv6 is where AWS serves the metadata of machines over IPv6
// (docs.aws.amazon.com, "Use the Instance Metadata Service").
var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

// metadata reports whether clouds serve the metadata of machines at an address.
func metadata(ip netip.Addr) bool {
	ip = ip.Unmap()
	return ip.IsLinkLocalUnicast() || ip.WithZone("") == metadataIPv6
}

// farOnly refuses addresses of metadata services, after names were resolved.
func farOnly(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if metadata(at.Addr()) {
		return errMetadata
	}
	return nil
}

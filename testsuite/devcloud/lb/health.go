package lb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Types of monitors.
const (
	TCP      = "tcp"
	Ping     = "ping"
	HTTP     = "http"
	HTTPS    = "https"
	TLSHello = "tls-hello"
)

// Monitor says how members are checked. Durations are real time.
type Monitor struct {
	Type              string
	Interval, Timeout time.Duration
	// Up and Down are how many equal results in a row change the health.
	Up, Down int
	// For HTTP and HTTPS.
	Method, Path, Host string
	Codes              []string // "200", "200-204"
}

// check is the running check of one member.
type check struct {
	member  Member
	monitor Monitor
	stop    context.CancelFunc
	up      bool // guarded by the balancer's lock
	known   bool
}

func (c *check) same(m Member, mon Monitor) bool {
	return c.member == m && c.monitor.equal(mon)
}

func (m Monitor) equal(o Monitor) bool {
	return m.Type == o.Type && m.Interval == o.Interval && m.Timeout == o.Timeout && m.Up == o.Up && m.Down == o.Down &&
		m.Method == o.Method && m.Path == o.Path && m.Host == o.Host && slices.Equal(m.Codes, o.Codes)
}

func (b *Balancer) applyChecks(c Config) {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := map[string]bool{}
	for _, p := range c.Pools {
		if p.Monitor == nil {
			continue
		}
		for _, m := range p.Members {
			kept[m.ID] = true
			if old := b.checks[m.ID]; old != nil {
				if old.same(m, *p.Monitor) {
					continue
				}
				old.stop()
			}
			k := &check{member: m, monitor: *p.Monitor}
			ctx, cancel := context.WithCancel(b.ctx)
			k.stop = cancel
			b.checks[m.ID] = k
			b.wg.Go(func() { b.watch(ctx, k) })
		}
	}
	for id, k := range b.checks {
		if !kept[id] {
			k.stop()
			delete(b.checks, id)
		}
	}
}

// watch checks a member until its check is stopped. The first result counts at
// once, later ones when they are repeated as often as the monitor asks.
func (b *Balancer) watch(ctx context.Context, k *check) {
	streak := 0
	for {
		err := b.probe(ctx, k)
		if ctx.Err() != nil {
			return
		}
		up := err == nil
		b.mu.Lock()
		changed := false
		switch {
		case !k.known:
			k.known, k.up, changed = true, up, true
		case up == k.up:
			streak = 0
		default:
			need := k.monitor.Up
			if !up {
				need = k.monitor.Down
			}
			if streak++; streak >= need {
				k.up, streak, changed = up, 0, true
			}
		}
		b.mu.Unlock()
		if changed {
			b.opts.Log.Debug("load balancer: member", "address", k.member.Address, "up", up, "error", err)
			b.opts.Report(k.member.ID, up)
		}
		t := time.NewTimer(k.monitor.Interval)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// grace is how long a probe waits for a member to hang up again. A packet
// filter of a real machine would let no connection come about; an emulated one
// can only close it.
const grace = 50 * time.Millisecond

func (b *Balancer) probe(ctx context.Context, k *check) error {
	if k.monitor.Type == Ping {
		_, err := b.opts.Reach(k.member.Subnet, netip.AddrPortFrom(k.member.Address, 0))
		return err
	}
	port := k.member.MonitorPort
	if port == 0 {
		port = k.member.Port
	}
	c, err := b.dial(ctx, k.member, port, k.monitor.Timeout)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { b.closed(c.Close()) })
	defer func() {
		if stop() {
			b.closed(c.Close())
		}
	}()
	if err := c.SetDeadline(time.Now().Add(max(k.monitor.Timeout, grace))); err != nil {
		return err
	}
	switch k.monitor.Type {
	case TLSHello:
		return hello(ctx, c).err
	case HTTP:
		return k.monitor.request(ctx, c)
	case HTTPS:
		h := hello(ctx, c)
		if h.err != nil {
			return h.err
		}
		return k.monitor.request(ctx, h.conn)
	default:
		return stays(c)
	}
}

// stays waits a moment and fails if the peer closes the connection.
func stays(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(grace)); err != nil {
		return err
	}
	_, err := c.Read(make([]byte, 1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

type tlsResult struct {
	conn *tls.Conn
	err  error
}

// hello shakes hands without looking at the certificate, as monitors do.
func hello(ctx context.Context, c net.Conn) tlsResult {
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // a monitor knows no CA
	return tlsResult{t, t.HandshakeContext(ctx)}
}

func (m Monitor) request(ctx context.Context, c net.Conn) error {
	req, err := http.NewRequestWithContext(ctx, m.Method, "http://member"+m.Path, nil)
	if err != nil {
		return err
	}
	if m.Host != "" {
		req.Host = m.Host
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if !codesContain(m.Codes, res.StatusCode) {
		return fmt.Errorf("HTTP status %d", res.StatusCode)
	}
	return nil
}

func codesContain(codes []string, status int) bool {
	return slices.ContainsFunc(codes, func(c string) bool {
		from, to, isRange := strings.Cut(c, "-")
		if !isRange {
			to = from
		}
		lo, errLo := strconv.Atoi(from)
		hi, errHi := strconv.Atoi(to)
		return errLo == nil && errHi == nil && lo <= status && status <= hi
	})
}

package cloudscale

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ichor-project/ichor/internal/secrets"
)

// maxErrorBody is as much of a refusal as is kept: far more than the API sends,
// little enough for a proxy's page.
const maxErrorBody = 64 << 10

// Observe is told about every HTTP exchange: the route with ids replaced by
// ":id", the status (0 when there was no answer) and how long it took.
type Observe func(route, method string, status int, took time.Duration)

// exchange is what is known of one HTTP exchange.
type exchange struct {
	// sent is set as soon as there is a connection for the request: from then on
	// nobody can tell how much of it the other side has read.
	sent        atomic.Bool
	status      int // 0: no answer
	retryAfter  time.Duration
	requestID   string
	contentType string
	body        []byte // of refusals only
}

type exchangeKey struct{}

func withExchange(ctx context.Context, ex *exchange) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, ex)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { ex.sent.Store(true) },
	})
}

// transport adds the token, records exchanges and reports them. It sends no
// idempotency header: the API ignores them, and net/http would then repeat a
// POST by itself.
type transport struct {
	base    http.RoundTripper
	token   secrets.Value
	agent   string
	observe Observe
	now     func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+t.token.RevealString())
	req.Header.Set("User-Agent", t.agent)
	started := t.now()
	resp, err := t.base.RoundTrip(req)
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	if ex, ok := req.Context().Value(exchangeKey{}).(*exchange); ok && resp != nil {
		err = errors.Join(err, ex.record(resp, t.now()))
	}
	if t.observe != nil {
		t.observe(route(req.URL.Path), req.Method, status, t.now().Sub(started))
	}
	if err != nil {
		if resp != nil {
			err = errors.Join(err, resp.Body.Close())
		}
		return nil, err
	}
	return resp, nil
}

// record keeps what the SDK loses, and the body of a refusal.
func (ex *exchange) record(resp *http.Response, now time.Time) error {
	ex.status = resp.StatusCode
	ex.contentType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
	ex.requestID = resp.Header.Get("X-Request-Id")
	ex.retryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	if resp.StatusCode < 300 {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	ex.body = body
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		// The status is known, which is what matters; half a body is not.
		ex.body = nil
		resp.Body = http.NoBody
	}
	return nil
}

// retryAfter reads both forms of the header (RFC 9110, 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if s, err := strconv.Atoi(v); err == nil {
		return max(0, time.Duration(s)*time.Second)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

var idInPath = regexp.MustCompile(`/[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}`)

// route is the path with ids replaced, so that it can label a metric.
func route(path string) string { return idInPath.ReplaceAllString(path, "/:id") }

package exchange

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// maxBody is as much of an answer as is read: a full page of machines has about
// a tenth of it.
const maxBody = 64 << 20

// maxRefusal is as much of a refusal as is kept: far more than any API sends,
// little enough for a proxy's page.
const maxRefusal = 64 << 10

// Observe is told about every HTTP exchange: the route, of which there are few
// enough to label a metric, the method, the status (0 when there was no answer)
// and how long it took.
type Observe = func(route, method string, status int, took time.Duration)

// Exchange is what is known of one HTTP exchange.
type Exchange struct {
	// Status is 0 when there was no answer.
	Status      int
	RetryAfter  time.Duration
	RequestID   string
	ContentType string
	// Body is that of a refusal (a status of 300 and more), as far as it came.
	Body []byte

	sent atomic.Bool
}

// Sent says that there was a connection for the request: from then on nobody
// can tell how much of it the other side has read.
func (ex *Exchange) Sent() bool { return ex.sent.Load() }

// Unanswered is the kind and the message of an exchange without a status. What
// was surely not sent is Unavailable whatever the verb.
func (ex *Exchange) Unanswered(v Verb, reason string) (fault.Kind, string) {
	if !ex.Sent() {
		return fault.Unavailable, "not sent: " + reason
	}
	return v.Unknown(), reason
}

type contextKey struct{}

// with makes the exchange of a context's request be recorded in ex.
func with(ctx context.Context, ex *Exchange) context.Context {
	ctx = context.WithValue(ctx, contextKey{}, ex)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { ex.sent.Store(true) },
	})
}

// Transport records exchanges and reports them. It repeats nothing.
type Transport struct {
	Base    http.RoundTripper
	Observe Observe // may be nil
	// Route names the call for Observe.
	Route func(*http.Request) string
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	started := time.Now()
	resp, err := t.Base.RoundTrip(req)
	status := 0
	if resp != nil {
		status = resp.StatusCode
		resp.Body = bounded{io.LimitReader(resp.Body, maxBody), resp.Body}
		if ex, ok := req.Context().Value(contextKey{}).(*Exchange); ok {
			ex.record(resp, time.Now())
		}
	}
	if t.Observe != nil {
		t.Observe(t.Route(req), req.Method, status, time.Since(started))
	}
	return resp, err
}

type bounded struct {
	io.Reader
	io.Closer
}

// record keeps what SDKs lose, and the body of a refusal. Half a body is none:
// the status is known, which is what matters.
func (ex *Exchange) record(resp *http.Response, now time.Time) {
	ex.Status = resp.StatusCode
	ex.ContentType, _, _ = strings.Cut(resp.Header.Get("Content-Type"), ";")
	ex.RequestID = resp.Header.Get("X-Request-Id")
	ex.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), now)
	if resp.StatusCode < http.StatusMultipleChoices {
		return
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxRefusal))
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		body = nil
	}
	ex.Body, resp.Body = body, io.NopCloser(bytes.NewReader(body))
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

// idleConnections is how many connections are kept to one host; more calls than
// that at once are unusual.
const idleConnections = 20

// BaseTransport is that of c when there is one, and otherwise a transport that
// keeps as many connections as calls are usual at once, where net/http's default
// keeps two. How long a call takes is bounded per call.
func BaseTransport(c *http.Client) http.RoundTripper {
	if c != nil && c.Transport != nil {
		return c.Transport
	}
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost, t.MaxConnsPerHost = idleConnections, 2*idleConnections
	t.MaxResponseHeaderBytes = 256 << 10
	return t
}

// Client follows no redirects: a redirected write would be sent twice, and a
// redirected read would carry the credentials elsewhere.
func Client(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

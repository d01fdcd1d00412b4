package aws

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync/atomic"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
)

// maxBody is as much of an answer as is read: a full page of machines has about
// a tenth of it.
const maxBody = 64 << 20

// Observe is told about every HTTP exchange: the action as policies name it
// ("ec2:RunInstances"), the method, the status (0 when there was no answer) and
// how long it took.
type Observe func(route, method string, status int, took time.Duration)

// exchange is what is known of one HTTP exchange.
type exchange struct {
	// sent is set as soon as there is a connection for the request: from then on
	// nobody can tell how much of it the other side has read.
	sent       atomic.Bool
	status     int // 0: no answer
	retryAfter time.Duration
}

type exchangeKey struct{}

func withExchange(ctx context.Context, ex *exchange) context.Context {
	ctx = context.WithValue(ctx, exchangeKey{}, ex)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { ex.sent.Store(true) },
	})
}

// transport records exchanges and reports them.
type transport struct {
	base    http.RoundTripper
	observe Observe
	now     func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	started := t.now()
	resp, err := t.base.RoundTrip(req)
	status := 0
	if resp != nil {
		status = resp.StatusCode
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	if ex, ok := req.Context().Value(exchangeKey{}).(*exchange); ok && resp != nil {
		ex.status = status
		ex.retryAfter = retryAfter(resp.Header.Get("Retry-After"), t.now())
	}
	if t.observe != nil {
		t.observe(action(req.Context()), req.Method, status, t.now().Sub(started))
	}
	return resp, err
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

// services are the prefixes of actions by the SDK's service ids.
var services = map[string]string{
	"EC2": "ec2", "Elastic Load Balancing v2": "elasticloadbalancing", "EBS": "ebs", "STS": "sts",
}

// action names the call that a context of the SDK belongs to.
func action(ctx context.Context) string {
	service := awsmiddleware.GetServiceID(ctx)
	if s, ok := services[service]; ok {
		service = s
	}
	return service + ":" + awsmiddleware.GetOperationName(ctx)
}

// idleConnections is how many connections are kept to one service; more calls
// than that at once are unusual.
const idleConnections = 20

// ownTransport bounds connections and waits; how long a call takes as a whole is
// bounded per call.
func ownTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost, t.MaxConnsPerHost = idleConnections, 2*idleConnections
	t.MaxResponseHeaderBytes = 256 << 10
	return t
}

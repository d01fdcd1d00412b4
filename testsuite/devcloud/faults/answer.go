package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// Bend is what an API handler must do differently for this request.
type Bend struct {
	Stuck     bool
	StuckFor  time.Duration // simulated; zero means for ever
	State     string
	WrongZone bool
	// Stale hides resources that are younger, in real time.
	Stale time.Duration
}

type bendKey struct{}

func withBend(ctx context.Context, b Bend) context.Context {
	return context.WithValue(ctx, bendKey{}, b)
}

// FromContext returns the bend of a request; the zero Bend changes nothing.
func FromContext(ctx context.Context) Bend {
	b, _ := ctx.Value(bendKey{}).(Bend)
	return b
}

// answer records a response, so that faults can decide whether it is sent.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func newAnswer() *answer { return &answer{header: http.Header{}, status: http.StatusOK} }

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) copyTo(rw http.ResponseWriter, log *slog.Logger) {
	for k, v := range a.header {
		rw.Header()[k] = v
	}
	rw.WriteHeader(a.status)
	if _, err := rw.Write(a.body.Bytes()); err != nil {
		log.Debug("answer not delivered", "error", err)
	}
}

// hangUp closes the connection without an answer.
func hangUp(rw http.ResponseWriter) {
	h, ok := rw.(http.Hijacker)
	if !ok {
		panic(http.ErrAbortHandler)
	}
	c, _, err := h.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if t, ok := c.(*net.TCPConn); ok {
		if err := t.SetLinger(0); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	if err := c.Close(); err != nil {
		panic(http.ErrAbortHandler)
	}
}

const html429 = `<html>
<head><title>429 Too Many Requests</title></head>
<body><center><h1>429 Too Many Requests</h1></center></body>
</html>
`

const html503 = `<html>
<head><title>503 Service Temporarily Unavailable</title></head>
<body><center><h1>503 Service Temporarily Unavailable</h1></center></body>
</html>
`

// canned writes the answers of faults that never reach the API.
func canned(a *answer, f *Fault) {
	status, body := f.Status, f.Body
	def := func(s int, b string) {
		if status == 0 {
			status = s
		}
		if body == "" {
			body = b
		}
	}
	detail := func(s string) string { return fmt.Sprintf(`{"detail": %q}`, s) }
	contentType := "application/json"
	switch f.Effect {
	case HTML429:
		contentType = "text/html"
		def(http.StatusTooManyRequests, html429)
	case JSON429:
		def(http.StatusTooManyRequests, detail("Request was throttled. Expected available in 5 seconds."))
	case Window503:
		contentType = "text/html"
		def(http.StatusServiceUnavailable, html503)
	case Quota:
		def(http.StatusBadRequest, detail(world.QuotaText))
	case OutOfStock:
		def(http.StatusBadRequest, detail(world.NoStockText))
	case Image404:
		def(http.StatusNotFound, detail("Image not found."))
	case BadDelete:
		def(http.StatusBadRequest, detail(world.ChangingText))
	case TagPatch500:
		contentType = "text/html"
		def(http.StatusInternalServerError, "<h1>Server Error (500)</h1>")
	default:
		def(http.StatusInternalServerError, "")
	}
	if f.RetryAfter != "" {
		a.Header().Set("Retry-After", f.RetryAfter)
	}
	a.Header().Set("Content-Type", contentType)
	a.WriteHeader(status)
	a.body.WriteString(body)
}

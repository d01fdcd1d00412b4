package faults

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// Clock scales simulated durations.
type Clock interface {
	Sleep(ctx context.Context, d time.Duration) error
	Scale(d time.Duration) time.Duration
}

// Injector is the layer in front of the API.
type Injector struct {
	clock   Clock
	latency time.Duration
	log     *slog.Logger

	mu       sync.Mutex
	faults   []*Fault
	chaos    *Chaos
	random   map[string]*rand.Rand // per route, so that parallel routes do not disturb each other
	requests []Request
	seq      int
	hub      *hub
}

// Request is an entry of the request log. Bodies are not kept: they carry
// secrets.
type Request struct {
	Seq       int       `json:"seq"`
	ID        string    `json:"id"` // X-Request-Id of the answer
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Query     string    `json:"query,omitempty"`
	Status    int       `json:"status"` // 0: no answer was sent, or not yet
	Done      bool      `json:"done"`
	Millis    float64   `json:"millis"`
	BytesIn   int       `json:"bytesIn"`
	Fault     string    `json:"fault,omitempty"` // effect
	UserAgent string    `json:"userAgent,omitempty"`
}

// New returns an injector without faults. latency is how long every API call
// takes, before scaling.
func New(clock Clock, latency time.Duration, log *slog.Logger) *Injector {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Injector{clock: clock, latency: latency, log: log, random: map[string]*rand.Rand{}, hub: newHub()}
}

// Add installs a fault and returns it with its id.
func (in *Injector) Add(f Fault) (Fault, error) {
	if err := f.check(); err != nil {
		return Fault{}, err
	}
	if f.ID == "" {
		f.ID = uuid.NewString()
	}
	f.Seen, f.Fired, f.gone = 0, 0, make(chan struct{})
	in.mu.Lock()
	defer in.mu.Unlock()
	in.faults = append(in.faults, &f)
	return f, nil
}

// Faults lists the installed faults with their counts.
func (in *Injector) Faults() []Fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := make([]Fault, 0, len(in.faults))
	for _, f := range in.faults {
		out = append(out, *f)
	}
	return out
}

// Clear removes all faults, the chaos profile and all holds (which are
// released).
func (in *Injector) Clear() {
	in.mu.Lock()
	for _, f := range in.faults {
		close(f.gone)
	}
	in.faults, in.chaos = nil, nil
	clear(in.random)
	in.mu.Unlock()
	in.hub.releaseAll()
}

// Remove removes one fault, with its hangs and holds (which are released), and
// reports whether it existed.
func (in *Injector) Remove(id string) bool {
	in.mu.Lock()
	i := slices.IndexFunc(in.faults, func(f *Fault) bool { return f.ID == id })
	if i >= 0 {
		close(in.faults[i].gone)
		in.faults = slices.Delete(in.faults, i, i+1)
	}
	in.mu.Unlock()
	if i < 0 {
		return false
	}
	in.hub.releaseFault(id)
	return true
}

// Requests returns the log from a sequence number on.
func (in *Injector) Requests(since int) []Request {
	in.mu.Lock()
	defer in.mu.Unlock()
	out := []Request{}
	for _, r := range in.requests {
		if r.Seq >= since {
			out = append(out, r)
		}
	}
	return out
}

// ClearRequests empties the log; sequence numbers go on.
func (in *Injector) ClearRequests() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.requests = nil
}

// pick returns the fault that bends this request: the first installed one that
// fires, else one of the chaos profile.
func (in *Injector) pick(r *http.Request, body string) *Fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	var hit *Fault
	for _, f := range in.faults {
		if !f.matches(r, body) {
			continue
		}
		if f.fires(time.Now(), in.clock.Scale(time.Duration(f.Duration))) && hit == nil {
			c := *f
			hit = &c
		}
	}
	if hit == nil && in.chaos != nil {
		hit = in.chaos.roll(in.random, r)
	}
	return hit
}

// maxBody is more than any request of the API needs.
const maxBody = 8 << 20

// Canned says what a fault answers instead of an API: status, content type and
// body.
type Canned func(*Fault) (status int, contentType string, body []byte)

// api is what stands behind the injector.
type api struct {
	http.Handler
	latency time.Duration
	canned  Canned
}

// Wrap puts the injector in front of the API that it was made for.
func (in *Injector) Wrap(next http.Handler) http.Handler { return in.WrapAs(next, in.latency, nil) }

// WrapAs puts the injector in front of another API with a latency and refusals
// of its own.
func (in *Injector) WrapAs(handler http.Handler, latency time.Duration, answers Canned) http.Handler {
	next := api{handler, latency, answers}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBody))
		if err != nil {
			http.Error(rw, `{"detail": "Request body too large or incomplete."}`, http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f := in.pick(r, string(body))
		left := r.Context().Done()
		// Once a request has arrived, a client that goes away changes nothing.
		r = r.WithContext(context.WithoutCancel(r.Context()))
		a := newAnswer()
		id := uuid.NewString()
		a.Header().Set("X-Request-Id", id)
		entry := Request{
			ID: id, Time: start.UTC(), Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery,
			BytesIn: len(body), UserAgent: r.UserAgent(),
		}
		if f != nil {
			entry.Fault = f.Effect
		}
		seq := in.begin(entry)
		send := in.serve(next, a, r, f, left)
		status := 0
		if send {
			status = a.status
		}
		in.end(seq, status, time.Since(start))
		if !send {
			hangUp(rw)
			return
		}
		a.copyTo(rw, in.log)
	})
}

func (in *Injector) begin(e Request) int {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.seq++
	e.Seq = in.seq
	in.requests = append(in.requests, e)
	return e.Seq
}

func (in *Injector) end(seq, status int, took time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := len(in.requests) - 1; i >= 0; i-- {
		if in.requests[i].Seq == seq {
			in.requests[i].Status, in.requests[i].Done = status, true
			in.requests[i].Millis = float64(took.Microseconds()) / 1000
			return
		}
	}
}

// serve produces the answer and says whether to send it. left is closed when the
// client has gone.
func (in *Injector) serve(next api, a *answer, r *http.Request, f *Fault, left <-chan struct{}) bool {
	if err := in.clock.Sleep(r.Context(), next.latency); err != nil {
		return false
	}
	if f == nil {
		next.ServeHTTP(a, r)
		return true
	}
	in.log.Info("fault", "effect", f.Effect, "method", r.Method, "path", r.URL.Path)
	switch f.Effect {
	case DropBeforeCommit:
		return false
	case Hang:
		select {
		case <-f.gone:
		case <-left:
		}
		return false
	case CommitThenDrop:
		next.ServeHTTP(a, r)
		return false
	case DelayThenCommit:
		if err := in.clock.Sleep(r.Context(), time.Duration(f.Delay)); err != nil {
			return false
		}
		next.ServeHTTP(a, r)
		return true
	case HoldBefore:
		if in.hub.hold(f, r) == drop {
			return false
		}
		next.ServeHTTP(a, r)
		return true
	case HoldAfter:
		next.ServeHTTP(a, r)
		return in.hub.hold(f, r) == release
	case Kill:
		if f.When != "after" {
			in.kill(f.PID)
			return false
		}
		next.ServeHTTP(a, r)
		in.kill(f.PID)
		return false
	case CommitThenFail:
		next.ServeHTTP(newAnswer(), r)
		next.refuse(a, f)
		return true
	case StuckChanging, ErrorState, WrongZone, StaleList:
		next.ServeHTTP(a, r.WithContext(withBend(r.Context(), Bend{
			Stuck: f.Effect == StuckChanging, State: stateOf(f), WrongZone: f.Effect == WrongZone,
			Stale: in.staleFor(f), StuckFor: stuckFor(f),
		})))
		return true
	default:
		next.refuse(a, f)
		return true
	}
}

// refuse answers instead of the API.
func (next api) refuse(a *answer, f *Fault) {
	if next.canned == nil {
		canned(a, f)
		return
	}
	status, contentType, body := next.canned(f)
	if f.RetryAfter != "" {
		a.Header().Set("Retry-After", f.RetryAfter)
	}
	a.Header().Set("Content-Type", contentType)
	a.WriteHeader(status)
	a.body.Write(body)
}

func (in *Injector) kill(pid int) {
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		in.log.Error("kill", "pid", pid, "error", err)
	}
}

func stateOf(f *Fault) string {
	if f.Effect != ErrorState {
		return ""
	}
	if f.State != "" {
		return f.State
	}
	return "error"
}

func stuckFor(f *Fault) time.Duration {
	if f.Effect != StuckChanging {
		return 0
	}
	return time.Duration(f.Duration)
}

func (in *Injector) staleFor(f *Fault) time.Duration {
	if f.Effect != StaleList {
		return 0
	}
	d := time.Duration(f.Duration)
	if d == 0 {
		d = 30 * time.Second
	}
	return in.clock.Scale(d)
}

package faults

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

type verdict int

const (
	release verdict = iota
	drop
)

// Event announces something that a test waits for.
type Event struct {
	Seq    int       `json:"seq"`
	Time   time.Time `json:"time"`
	Type   string    `json:"type"` // "hold"
	Hold   string    `json:"hold"` // id for release or drop
	Fault  string    `json:"fault"`
	Effect string    `json:"effect"`
	Method string    `json:"method"`
	Path   string    `json:"path"`
}

// hub keeps held requests and announces them.
type hub struct {
	mu     sync.Mutex
	events []Event
	holds  map[string]held
	next   int
	wake   chan struct{} // closed and replaced at every event
}

// held is a request that waits, and the fault that makes it.
type held struct {
	c     chan verdict
	fault string
}

func newHub() *hub { return &hub{holds: map[string]held{}, wake: make(chan struct{})} }

// hold announces the request and waits for the verdict.
func (h *hub) hold(f *Fault, r *http.Request) verdict {
	h.mu.Lock()
	h.next++
	id := strconv.Itoa(h.next)
	c := make(chan verdict, 1)
	h.holds[id] = held{c, f.ID}
	h.events = append(h.events, Event{
		Seq: h.next, Time: time.Now().UTC(), Type: "hold", Hold: id,
		Fault: f.ID, Effect: f.Effect, Method: r.Method, Path: r.URL.Path,
	})
	close(h.wake)
	h.wake = make(chan struct{})
	h.mu.Unlock()
	return <-c
}

// decide ends a hold and reports whether it existed.
func (h *hub) decide(id string, v verdict) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	x, ok := h.holds[id]
	if ok {
		delete(h.holds, id)
		x.c <- v
	}
	return ok
}

func (h *hub) releaseAll() { h.releaseIf(func(held) bool { return true }) }

// releaseFault releases what one fault holds.
func (h *hub) releaseFault(id string) { h.releaseIf(func(x held) bool { return x.fault == id }) }

func (h *hub) releaseIf(which func(held) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, x := range h.holds {
		if which(x) {
			delete(h.holds, id)
			x.c <- release
		}
	}
}

func (h *hub) list() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := []string{}
	for id := range h.holds {
		out = append(out, id)
	}
	return out
}

// since returns the events after seq, waiting until there is one or ctx ends.
func (h *hub) since(ctx context.Context, seq int) []Event {
	for {
		h.mu.Lock()
		out := []Event{}
		for _, e := range h.events {
			if e.Seq > seq {
				out = append(out, e)
			}
		}
		wake := h.wake
		h.mu.Unlock()
		if len(out) > 0 {
			return out
		}
		select {
		case <-ctx.Done():
			return out
		case <-wake:
		}
	}
}

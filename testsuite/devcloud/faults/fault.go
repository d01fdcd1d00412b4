// Package faults makes devcloud misbehave on demand: it sits in front of the
// API, counts the requests of each route and bends the n-th of them. It also
// keeps the log of all requests.
package faults

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// The effects of a fault.
const (
	CommitThenDrop   = "commit-then-drop"   // done, but the connection closes without an answer
	CommitThenFail   = "commit-then-fail"   // done, but answered like something that broke
	DropBeforeCommit = "drop-before-commit" // not done, the connection closes
	DelayThenCommit  = "delay-then-commit"  // done after Delay, even if the client has gone
	Status           = "status"             // not done, answered with Status and Body
	HTML429          = "html-429"           // not done, 429 with a page from a proxy
	JSON429          = "json-429"           // not done, 429 with a detail
	Window503        = "503-window"         // not done; all matching requests of the next Duration get 503
	Quota            = "quota"              // not done, refused as over quota
	OutOfStock       = "out-of-stock"       // not done, refused for lack of capacity
	StuckChanging    = "stuck-changing"     // the created server stays in "changing", Duration longer or for ever
	ErrorState       = "error-state"        // the created server ends in "error" (or in State)
	WrongZone        = "wrong-zone"         // the created server lands in another zone
	StaleList        = "stale-list"         // resources younger than Duration are not seen
	Image404         = "image-404"          // not done, the image is said to be missing
	BadDelete        = "400-on-delete"      // not done, the resource is said to be changing
	TagPatch500      = "tag-patch-500"      // not done, 500; matches only changes of tags
	Kill             = "kill"               // SIGKILL to PID before or (When: "after") after the effect
	Hang             = "hang"               // not done and never answered, until the client leaves or the fault is removed
	HoldBefore       = "hold-before"        // waits before the effect until released or dropped
	HoldAfter        = "hold-after"         // waits between the effect and the answer
)

var effects = []string{
	CommitThenDrop, CommitThenFail, DropBeforeCommit, DelayThenCommit, Status, HTML429, JSON429, Window503, Quota, OutOfStock,
	StuckChanging, ErrorState, WrongZone, StaleList, Image404, BadDelete, TagPatch500, Kill, Hang, HoldBefore, HoldAfter,
}

// Fault says which requests are bent and how. The zero Nth means 1, the zero
// Count means 1, a negative Count means for ever. Delay and Duration are
// simulated time: the speed of the cloud divides them.
type Fault struct {
	ID string `json:"id"`
	// Route is a method and a path, for example "POST /v1/servers". "*" stands
	// for any method or one path segment, a final "**" for any rest.
	Route  string `json:"route"`
	Nth    int    `json:"nth,omitempty"`
	Count  int    `json:"count,omitempty"`
	Effect string `json:"effect"`

	Delay    Duration `json:"delay,omitzero"`
	Duration Duration `json:"duration,omitzero"`
	Status   int      `json:"status,omitempty"`
	Body     string   `json:"body,omitempty"`
	// Code replaces the error code of effects that answer for an API of AWS; Body
	// is its message then.
	Code       string `json:"code,omitempty"`
	RetryAfter string `json:"retryAfter,omitempty"`
	State      string `json:"state,omitempty"`
	PID        int    `json:"pid,omitempty"`
	When       string `json:"when,omitempty"`
	// Contains restricts the fault to requests whose body contains this text,
	// for example a machine's name.
	Contains string `json:"contains,omitempty"`

	// Seen and Fired count matching and bent requests so far.
	Seen  int `json:"seen"`
	Fired int `json:"fired"`

	until time.Time     // end of a 503 window
	gone  chan struct{} // closed when the fault is removed
}

// Duration marshals as text, like "90s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

func (f *Fault) check() error {
	method, path, ok := strings.Cut(f.Route, " ")
	if !ok || method == "" || !strings.HasPrefix(path, "/") && path != "**" {
		return fmt.Errorf("route %q: want METHOD /path", f.Route)
	}
	if !slices.Contains(effects, f.Effect) {
		return fmt.Errorf("effect %q: want one of %s", f.Effect, strings.Join(effects, ", "))
	}
	if f.Effect == Kill && f.PID <= 1 {
		return errors.New("effect kill needs a pid")
	}
	if f.Effect == Status && (f.Status < 100 || f.Status > 599) {
		return errors.New("effect status needs a status")
	}
	if f.Nth == 0 {
		f.Nth = 1
	}
	if f.Count == 0 {
		f.Count = 1
	}
	return nil
}

// matches says whether a request belongs to the fault's route.
func (f *Fault) matches(r *http.Request, body string) bool {
	if !routeMatches(f.Route, r.Method, r.URL.Path) {
		return false
	}
	if f.Effect == TagPatch500 && (r.Method != http.MethodPatch || !strings.Contains(body, `"tags"`)) {
		return false
	}
	return f.Contains == "" || strings.Contains(body, f.Contains)
}

func routeMatches(route, method, path string) bool {
	wantMethod, wantPath, _ := strings.Cut(route, " ")
	if wantMethod != "*" && wantMethod != method {
		return false
	}
	if wantPath == "**" {
		return true
	}
	want, have := strings.Split(wantPath, "/"), strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i, seg := range want {
		if seg == "**" {
			return true
		}
		if i >= len(have) || seg != "*" && seg != have[i] {
			return false
		}
	}
	return len(want) == len(have)
}

// fires counts a matching request and says whether it is one to bend. now is
// real time, window how long a 503 window really lasts.
func (f *Fault) fires(now time.Time, window time.Duration) bool {
	f.Seen++
	if f.Effect == Window503 {
		if f.Seen == f.Nth {
			f.until = now.Add(window)
		}
		if f.Seen < f.Nth || now.After(f.until) {
			return false
		}
	} else if f.Seen < f.Nth || f.Count > 0 && f.Seen >= f.Nth+f.Count {
		return false
	}
	f.Fired++
	return true
}

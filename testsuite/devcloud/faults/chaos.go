package faults

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Chaos bends random requests. The same seed gives the same decision for the
// n-th request of each route, whatever happens on other routes.
type Chaos struct {
	Seed uint64 `json:"seed"`
	// Rates maps effects to probabilities between 0 and 1; their sum is at
	// most 1.
	Rates map[string]float64 `json:"rates"`
	// Reads lets effects that lose or refuse a request hit GETs too.
	Reads bool `json:"reads"`
	// Delay and Duration are used by effects that need them.
	Delay    Duration `json:"delay,omitzero"`
	Duration Duration `json:"duration,omitzero"`
}

// DefaultChaos is a hostile but survivable cloud.
func DefaultChaos(seed uint64) Chaos {
	return Chaos{
		Seed: seed, Reads: true,
		Delay: Duration(90 * time.Second), Duration: Duration(20 * time.Second),
		Rates: map[string]float64{
			CommitThenDrop: 0.04, DropBeforeCommit: 0.03, HTML429: 0.02, JSON429: 0.02,
			DelayThenCommit: 0.01, BadDelete: 0.03, StaleList: 0.03, TagPatch500: 0.02,
		},
	}
}

func (c *Chaos) check() error {
	sum := 0.0
	for e, p := range c.Rates {
		if !slices.Contains(effects, e) || e == Kill || e == HoldBefore || e == HoldAfter || e == Status {
			return fmt.Errorf("effect %q cannot be random", e)
		}
		if p < 0 || p > 1 {
			return fmt.Errorf("rate of %s: want 0 to 1", e)
		}
		sum += p
	}
	if sum > 1 {
		return fmt.Errorf("rates sum up to %g, more than 1", sum)
	}
	return nil
}

var identifier = regexp.MustCompile(`/[0-9a-f]{8}-[0-9a-f-]{27}|/[0-9]+(\.[0-9]+){3}|/[0-9a-f]*:[0-9a-f:]+|/snap-[0-9a-f]{17}|/[0-9]+$`)

// RouteOf replaces the ids of a path by *.
func RouteOf(method, path string) string {
	return method + " " + identifier.ReplaceAllString(strings.TrimSuffix(path, "/"), "/*")
}

// roll decides about one request.
func (c *Chaos) roll(random map[string]*rand.Rand, r *http.Request) *Fault {
	route := RouteOf(r.Method, r.URL.Path)
	rng, ok := random[route]
	if !ok {
		h := fnv.New64a()
		if _, err := h.Write([]byte(route)); err != nil {
			return nil
		}
		rng = rand.New(rand.NewPCG(c.Seed, h.Sum64())) // reproducible by seed, not secret
		random[route] = rng
	}
	x := rng.Float64()
	for _, e := range effects {
		if p := c.Rates[e]; x >= p {
			x -= p
			continue
		}
		if !c.suits(e, r) {
			return nil
		}
		return &Fault{ID: "chaos", Effect: e, Delay: c.Delay, Duration: c.Duration, RetryAfter: "1"}
	}
	return nil
}

// method is what a request does, in words of HTTP: those of AWS are all posted
// and have their action at the end of the path.
func method(r *http.Request) string {
	if !strings.HasPrefix(r.URL.Path, "/aws/") {
		return r.Method
	}
	action := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	for prefix, m := range map[string]string{
		"Describe": http.MethodGet, "Get": http.MethodGet, "Delete": http.MethodDelete, "CreateTags": http.MethodPatch,
		"Modify": http.MethodPatch,
		// What only changes something that is there meets no quota, and is no delete.
		"Terminate": http.MethodPut, "Deregister": http.MethodPut, "Detach": http.MethodPut, "Disassociate": http.MethodPut,
		"Revoke": http.MethodPut, "Attach": http.MethodPut, "Associate": http.MethodPut,
	} {
		if strings.HasPrefix(action, prefix) {
			return m
		}
	}
	return r.Method
}

// suits says whether an effect makes sense for a request.
func (c *Chaos) suits(effect string, r *http.Request) bool {
	method := method(r)
	post := method == http.MethodPost
	path := strings.TrimSuffix(r.URL.Path, "/")
	servers := post && (path == "/v1/servers" || path == "/aws/ec2/RunInstances")
	switch effect {
	case StuckChanging, ErrorState, WrongZone, OutOfStock, Image404:
		return servers
	case Quota:
		return post
	case BadDelete:
		return method == http.MethodDelete
	case TagPatch500:
		return method == http.MethodPatch
	case StaleList:
		return method == http.MethodGet
	default:
		return c.Reads || method != http.MethodGet
	}
}

// SetChaos installs a profile; nil removes it.
func (in *Injector) SetChaos(c *Chaos) error {
	if c != nil {
		if err := c.check(); err != nil {
			return err
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.chaos = c
	clear(in.random)
	return nil
}

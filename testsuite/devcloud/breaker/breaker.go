// Package breaker breaks a stand-in in the words of the conformance suite of
// clouds, so that a provider's harness says only what is its API's own: which
// routes a call has, and how the API words its refusals.
package breaker

import (
	"net/http"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud/cloudtest"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Route is a fault's route and what tells its requests from others of the route.
type Route struct{ Route, Contains string }

// Breaker is the part of a cloudtest.Cloud that lets things go wrong.
type Breaker struct {
	Injector *faults.Injector
	// Routes are those of a sort of request.
	Routes func(cloudtest.Call) []Route
	// Effects are what the API has its own words or times for.
	Effects map[cloudtest.Effect]faults.Fault
	// Late is how long a request is held up that takes effect after its caller has
	// given up.
	Late time.Duration
}

// common are the effects that are the same whatever the API's words.
var common = map[cloudtest.Effect]faults.Fault{
	cloudtest.LostReply:    {Effect: faults.CommitThenDrop},
	cloudtest.Dropped:      {Effect: faults.DropBeforeCommit},
	cloudtest.Throttled:    {Effect: faults.JSON429},
	cloudtest.ServerError:  {Effect: faults.Status, Status: http.StatusInternalServerError},
	cloudtest.QuotaFull:    {Effect: faults.Quota},
	cloudtest.OutOfStock:   {Effect: faults.OutOfStock},
	cloudtest.ImageMissing: {Effect: faults.Image404},
}

// Inject implements cloudtest.Cloud.
func (b *Breaker) Inject(t testing.TB, f cloudtest.Fault) {
	t.Helper()
	df, ok := b.Effects[f.Effect]
	if !ok {
		df, ok = common[f.Effect]
	}
	if f.Effect == cloudtest.Late {
		df, ok = faults.Fault{Effect: faults.DelayThenCommit, Delay: faults.Duration(b.Late)}, true
	}
	if !ok {
		t.Fatalf("the cloud has no effect %q", f.Effect)
	}
	for _, r := range b.Routes(f.On) {
		df.Route, df.Contains, df.Nth, df.Count = r.Route, r.Contains, f.Nth, f.Count
		if _, err := b.Injector.Add(df); err != nil {
			t.Fatal(err)
		}
	}
}

// Heal implements cloudtest.Cloud.
func (b *Breaker) Heal() { b.Injector.Clear() }

// Fired implements cloudtest.Cloud.
func (b *Breaker) Fired() (n int) {
	for _, f := range b.Injector.Faults() {
		if f.Fired > 0 {
			n++
		}
	}
	return n
}

// Count counts the requests so far that match.
func (b *Breaker) Count(match func(faults.Request) bool) (n int) {
	for _, r := range b.Injector.Requests(0) {
		if match(r) {
			n++
		}
	}
	return n
}

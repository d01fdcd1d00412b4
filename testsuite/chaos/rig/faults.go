package rig

import (
	"context"
	"fmt"
	"net/http"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Bend installs faults in the cloud.
func (r *Rig) Bend(ctx context.Context, fs ...faults.Fault) error {
	for _, f := range fs {
		if err := r.Cloud(ctx, http.MethodPost, "_devcloud/faults", f, nil); err != nil {
			return err
		}
	}
	return nil
}

// Cramp leaves room in the account for one machine less than the cluster has.
func (r *Rig) Cramp(ctx context.Context) error { return r.site.cramp(ctx, r) }

// Unbent says which of the installed faults did not fire as often as they
// should have. A count that is negative has to fire once at least.
func (r *Rig) Unbent(ctx context.Context) error {
	var fs []faults.Fault
	if err := r.Cloud(ctx, http.MethodGet, "_devcloud/faults", nil, &fs); err != nil {
		return err
	}
	for _, f := range fs {
		if f.Fired < max(f.Count, 1) {
			return fmt.Errorf("the fault %s of %s fired %d times, want %d", f.Effect, f.Route, f.Fired, max(f.Count, 1))
		}
	}
	return nil
}

// Chaos bends random requests from now on; nil stops that.
func (r *Rig) Chaos(ctx context.Context, c *faults.Chaos) error {
	if c == nil {
		return r.Cloud(ctx, http.MethodDelete, "_devcloud/chaos", nil, nil)
	}
	return r.Cloud(ctx, http.MethodPut, "_devcloud/chaos", c, nil)
}

// Requests is the log of the cloud's API without the judge's own reads.
func (r *Rig) Requests(ctx context.Context) ([]faults.Request, error) {
	var out []faults.Request
	err := r.Cloud(ctx, http.MethodGet, "_devcloud/requests?path="+path(r.Home), nil, &out)
	return slices.DeleteFunc(out, func(q faults.Request) bool { return q.UserAgent == judgesAgent }), err
}

// judgesAgent is the user agent of stack.Cloud.
const judgesAgent = "Go-http-client/1.1"

package rig

import (
	"context"
	"fmt"
	"net/http"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Verdict is what becomes of a held request once the worker that sent it is dead.
type Verdict string

// Verdicts.
const (
	Release Verdict = "release" // it goes on
	Drop    Verdict = "drop"    // its connection breaks
)

// KillAtHolds kills the worker whenever the cloud holds a request, and then
// decides about the request. It ends with ctx.
func (r *Rig) KillAtHolds(ctx context.Context, then Verdict) error {
	since := 0
	for {
		var events []faults.Event
		if err := r.Cloud(ctx, http.MethodGet, fmt.Sprintf("_devcloud/events?since=%d&timeout=10s", since), nil, &events); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return err
		}
		for _, e := range events {
			since = max(since, e.Seq)
			r.crew.killNow()
			if err := r.Cloud(ctx, http.MethodPost, "_devcloud/holds/"+e.Hold+"/"+string(then), nil, nil); err != nil {
				return err
			}
		}
	}
}

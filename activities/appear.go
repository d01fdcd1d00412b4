package activities

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// appearing makes a look patient with a thing whose id the cloud has given out:
// reads may lag behind writes, so that it is not found means something only when
// it has been so for as long as absence takes to prove.
func appearing(caps cloud.Capabilities, f look) look {
	var missing time.Time
	return func(ctx context.Context) (bool, string, error) {
		done, saw, err := f(ctx)
		if !fault.Is(err, fault.NotFound) {
			missing = time.Time{}
			return done, saw, err
		}
		if missing.IsZero() {
			missing = time.Now()
		}
		if time.Since(missing) >= caps.Settle+caps.AbsenceWindow {
			return false, saw, err
		}
		return false, "not visible yet", nil
	}
}

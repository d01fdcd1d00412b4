package activities

import (
	"context"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// TestLastLookIsCutOff asks that a wait ends with what was seen, not with the
// timeout of the look that its end interrupted.
func TestLastLookIsCutOff(t *testing.T) {
	looks := 0
	err := (&stage{}).run(t, func(ctx context.Context) error {
		return poll(ctx, "wait", time.Millisecond, func(ctx context.Context) (bool, string, error) {
			if looks++; looks < 3 {
				return false, "two of three", nil
			}
			<-ctx.Done()
			return false, "no answer", fault.Wrap(fault.Unavailable, "ask", ctx.Err())
		})
	})
	wantType(t, err, fault.NotYet, "still waiting: two of three")
	if looks != 3 {
		t.Errorf("%d looks", looks)
	}
	err = (&stage{}).run(t, func(ctx context.Context) error {
		return poll(ctx, "wait", time.Millisecond, func(ctx context.Context) (bool, string, error) {
			<-ctx.Done()
			return false, "no answer", fault.Wrap(fault.Unavailable, "ask", ctx.Err())
		})
	})
	wantType(t, err, fault.Unavailable, "no answer")
}

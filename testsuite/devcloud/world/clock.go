package world

import (
	"context"
	"time"
)

// Clock divides every simulated duration by a constant speed. It implements
// guest.Clock.
type Clock struct{ speed float64 }

// NewClock returns a clock that runs speed times faster than real time; a speed
// of zero or less means 1.
func NewClock(speed float64) Clock {
	if speed <= 0 {
		speed = 1
	}
	return Clock{speed: speed}
}

// Speed returns the factor.
func (c Clock) Speed() float64 { return c.speed }

// Scale converts a simulated duration into a real one.
func (c Clock) Scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) / c.speed)
}

// Sleep waits for the simulated duration d and returns ctx's error if ctx ends
// first.
func (c Clock) Sleep(ctx context.Context, d time.Duration) error {
	if d = c.Scale(d); d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

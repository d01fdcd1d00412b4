package cloud

import (
	"cmp"
	"time"
)

// Waits are the times of Capabilities that operators may change, all of them
// together: they have to fit the cloud's latencies.
type Waits struct {
	Settle, AbsenceWindow, CreateTimeout, PostWindow, Poll time.Duration
}

// Or returns w with what is zero taken from d.
func (w Waits) Or(d Waits) Waits {
	return Waits{
		Settle: cmp.Or(w.Settle, d.Settle), AbsenceWindow: cmp.Or(w.AbsenceWindow, d.AbsenceWindow),
		CreateTimeout: cmp.Or(w.CreateTimeout, d.CreateTimeout), PostWindow: cmp.Or(w.PostWindow, d.PostWindow),
		Poll: cmp.Or(w.Poll, d.Poll),
	}
}

// In returns c with these waits.
func (w Waits) In(c Capabilities) Capabilities {
	c.Settle, c.AbsenceWindow, c.CreateTimeout, c.PostWindow, c.Poll = w.Settle, w.AbsenceWindow, w.CreateTimeout, w.PostWindow, w.Poll
	return c
}

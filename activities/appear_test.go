package activities

import (
	"context"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// A read that lags behind the write is waited out; absence that lasts is told.
func TestAppearing(t *testing.T) {
	missing := fault.New(fault.NotFound, "read", "not there")
	caps := cloud.Capabilities{Settle: 20 * time.Millisecond, AbsenceWindow: 20 * time.Millisecond}
	answers := []error{missing, nil}
	f := appearing(caps, func(context.Context) (bool, string, error) {
		err := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return err == nil, "", err
	})
	if done, _, err := f(t.Context()); done || err != nil {
		t.Errorf("first look: %v, %v", done, err)
	}
	if done, _, err := f(t.Context()); !done || err != nil {
		t.Errorf("second look: %v, %v", done, err)
	}
	answers = []error{missing}
	for {
		_, _, err := f(t.Context())
		if fault.Is(err, fault.NotFound) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

package autoscaler

import (
	"slices"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
)

// scenario is something that happens to groups of its own, beside the others.
type scenario struct {
	name string
	// groups it needs; their names are unique in the table.
	groups []cluster.NodeGroup
	// both says that it runs on the newer wire, too.
	both bool
	// waits says that it does little but wait for the autoscaler's look at the
	// instances of idle groups, two minutes after its start and every two minutes:
	// it begins at once, beside as many others as may.
	waits bool
	run   func(s *system)
}

// both are the scenarios that run on the newer wire, too.
func both(lists ...[]scenario) []scenario {
	return slices.DeleteFunc(slices.Concat(lists...), func(sc scenario) bool { return !sc.both })
}

func groupsOf(list []scenario) (groups []cluster.NodeGroup) {
	for _, sc := range list {
		groups = append(groups, sc.groups...)
	}
	return groups
}

// TestOldWire is a life without trouble, and requests beside the autoscaler's.
func TestOldWire(t *testing.T) { drive(t, oldWire, slices.Concat(lifecycle, requests)) }

// TestFailures is what happens when machines cannot be had, or answers are lost.
func TestFailures(t *testing.T) { drive(t, oldWire, slices.Concat(failures, measured)) }

// TestNewWire repeats with the newer wire what depends on it, or on what the
// autoscaler sees through it.
func TestNewWire(t *testing.T) { drive(t, newWire, both(lifecycle, failures, requests, measured)) }

// drive runs scenarios side by side in one system.
func drive(t *testing.T, w Wire, list []scenario) {
	t.Helper()
	s := start(t, groupsOf(list), nil)
	s.startAutoscaler(w)
	places := make(chan struct{}, scenariosAtOnce)
	t.Run("groups", func(t *testing.T) {
		for _, sc := range list {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				if !sc.waits {
					places <- struct{}{}
					defer func() { <-places }()
				}
				s := s.on(t)
				defer report(s)
				sc.run(s)
			})
		}
	})
	s.wantGPUCallsOnce()
	s.judge()
}

// report shows what the autoscaler asked for when a scenario has failed.
func report(s *system) {
	if s.t.Failed() {
		s.t.Logf("the autoscaler's last requests:\n%s", s.tail(25))
	}
}

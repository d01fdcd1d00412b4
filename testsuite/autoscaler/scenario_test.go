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
	run  func(s *system)
}

// scenarios are grouped by files: lifecycle, failures, requests, measured.
func scenarios() []scenario {
	return slices.Concat(lifecycle, failures, requests, measured)
}

func onWire(w Wire) []scenario {
	return slices.DeleteFunc(scenarios(), func(sc scenario) bool { return w == newWire && !sc.both })
}

func groupsOf(list []scenario) (groups []cluster.NodeGroup) {
	for _, sc := range list {
		groups = append(groups, sc.groups...)
	}
	return groups
}

// TestOldWire runs every scenario with the autoscaler of the older wire, and then
// what concerns all groups at once.
func TestOldWire(t *testing.T) {
	s := drive(t, oldWire)
	t.Run("gpu calls", func(t *testing.T) { s.on(t).wantGPUCallsOnce() })
	for _, d := range disturbances {
		t.Run(d.name, func(t *testing.T) {
			defer report(s.on(t))
			d.run(s.on(t))
		})
	}
	s.judge()
}

// TestNewWire runs what depends on the wire, or on what the autoscaler sees
// through it, with the autoscaler of the newer one.
func TestNewWire(t *testing.T) {
	s := drive(t, newWire)
	t.Run("gpu calls", func(t *testing.T) { s.on(t).wantGPUCallsOnce() })
	s.judge()
}

// drive runs the scenarios of a wire side by side.
func drive(t *testing.T, w Wire) *system {
	t.Helper()
	list := onWire(w)
	groups := groupsOf(list)
	if w == oldWire {
		for _, d := range disturbances {
			groups = append(groups, d.groups...)
		}
	}
	s := start(t, groups, nil)
	s.startAutoscaler(w)
	t.Run("groups", func(t *testing.T) {
		for _, sc := range list {
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				s := s.on(t)
				defer report(s)
				sc.run(s)
			})
		}
	})
	return s
}

// report shows what the autoscaler asked for when a scenario has failed.
func report(s *system) {
	if s.t.Failed() {
		s.t.Logf("the autoscaler's last requests:\n%s", s.tail(25))
	}
}

package autoscaler

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
)

// measured, with TestMany, are the cases in which other providers were measured
// to make more machines than were wanted, or to wait for minutes.
var measured = []scenario{
	{name: "a lost answer and two groups", groups: pair("twin"), both: true, run: func(s *system) { lostAnswer(s, "twin") }},
}

// TestMany has a system of its own, whose deadlines leave room for dozens of
// machines on a small host.
func TestMany(t *testing.T) {
	s := start(t, []cluster.NodeGroup{newGroup("forty", 0, 50), newGroup("warm", 0, 50)}, map[string]string{
		"ICHOR_PROVISION_DEADLINE": "4m", "ICHOR_REPLACEMENTS": "0",
	})
	s.startAutoscaler(oldWire, "--max-node-provision-time=5m")
	for _, c := range []struct {
		name, group string
		warm, more  int32
	}{{"forty from nothing", "forty", 0, 40}, {"twenty-five more", "warm", 5, 25}} {
		t.Run(c.name, func(t *testing.T) {
			s := s.on(t)
			defer report(s)
			exactly(s, c.group, c.warm, c.more)
		})
	}
	s.judge()
}

// exactly: so many more pods on so many more machines, and not one beyond, at no
// time; nothing failed, so there is no backoff. Each create takes the cloud two seconds.
func exactly(s *system, g string, warm, more int32) {
	l := s.pods(g, warm)
	l.running(int(warm))
	s.fault(g, "delay-then-commit", map[string]any{"delay": (2 * speed * time.Second).String()})
	began, mark := time.Now(), s.proxy.Mark()
	l.scale(warm + more)
	l.running(int(warm + more))
	took := time.Since(began)
	want := int(warm + more)
	if b := s.bill(g); b != (bill{want, want}) {
		s.t.Errorf("machines: %+v, want %d", b, want)
	}
	calls := s.calls(mark, mIncrease, g)
	if n := wanted(calls); n != int(more) {
		s.t.Errorf("asked for %d machines: %v", n, calls)
	}
	for _, c := range calls {
		s.t.Logf("%d pods ran after %v; %v", want, took.Round(time.Second), c)
	}
	if st, ok := s.seen(g); !ok || st.ScaleUp.Status == "Backoff" {
		s.t.Errorf("backoff although nothing failed: %+v", st)
	}
	l.scale(0)
	s.cleaned(g)
	if b := s.bill(g); b.Created != want {
		s.t.Errorf("machines: %+v", b)
	}
}

// pair are two groups on either of which the same pods fit.
func pair(name string) []cluster.NodeGroup {
	a, b := newGroup(name+"-a", 0, 10), newGroup(name+"-b", 0, 10)
	a.Labels, b.Labels = map[string]string{poolLabel: name}, map[string]string{poolLabel: name}
	return []cluster.NodeGroup{a, b}
}

// lostAnswer: the autoscaler never hears that its request was accepted. It backs
// off from the group, but counts on the machines that the group reports.
func lostAnswer(s *system, name string) {
	var once atomic.Bool
	s.proxy.Bend(func(c proxy.Call) proxy.Effect {
		if c.Method == mIncrease && (groupOf(c) == s.id(name+"-a") || groupOf(c) == s.id(name+"-b")) && once.CompareAndSwap(false, true) {
			return proxy.LoseAnswer
		}
		return proxy.Pass
	})
	l := s.pods(name, 5)
	l.running(5)
	a, b := s.bill(name+"-a"), s.bill(name+"-b")
	if a.Created+b.Created != 5 {
		s.t.Errorf("machines: %+v and %+v, want 5 in all", a, b)
	}
	if !once.Load() {
		s.t.Error("no answer was lost")
	}
	l.scale(0)
	s.cleaned(name + "-a")
	s.cleaned(name + "-b")
}

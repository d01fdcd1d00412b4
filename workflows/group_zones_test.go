package workflows

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Members are spread over the zones, each on the subnet of its own; where there is
// no capacity the other zones come first, then the alternatives.
func TestZonesAreBalanced(t *testing.T) {
	w := newFakeWorld()
	refused := map[string]bool{"b large": true, "c large": true, "a large": true}
	w.inject = func(op string, n int) (error, error) {
		if op != "create machine" || n <= 4 {
			return nil, nil
		}
		if last := w.asked[len(w.asked)-1]; refused[last.Zone+" "+last.Flavor] {
			return fault.New(fault.Capacity, op, "no %s in %s", last.Flavor, last.Zone), nil
		}
		return nil, nil
	}
	in := scalable(4, 0, 9)
	in.Zone, in.Zones, in.Flavor = "a", []string{"a", "b", "c"}, "large"
	in.Subnets = []string{"everywhere"}
	in.ZoneSubnets = []ZoneSubnet{{Zone: "a", ID: "in-a"}, {Zone: "b", ID: "in-b"}, {Zone: "c", ID: "in-c"}}
	in.Params, in.Spot = []cluster.Tag{{Key: "securityGroup", Value: "sg"}}, true
	in.Alternatives = []cluster.Alternative{{Flavor: "small"}, {Flavor: "small", Zone: "c"}}
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: more("a", 1),
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 5}) },
		3 * time.Hour: end(demoRef),
	})
	var asked []string
	for _, s := range w.asked {
		asked = append(asked, s.Zone+" "+s.Flavor)
		if !slices.Equal(s.Subnets, []string{"everywhere", "in-" + s.Zone}) || len(s.Params) != 1 || s.Params[0].Value != "sg" || !s.Spot {
			t.Errorf("a machine of zone %s: subnets %v, params %v, spot %t", s.Zone, s.Subnets, s.Params, s.Spot)
		}
	}
	slices.Sort(asked[:min(4, len(asked))])
	want := []string{"a large", "a large", "b large", "c large", "b large", "c large", "a large", "b small"}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
}

// A create of which the cloud says that its machine is gone is not repeated as it
// was: the next one is another attempt, and the first is never doubled.
func TestAttemptOfAMachineThatIsGone(t *testing.T) {
	w := newFakeWorld()
	w.inject = func(op string, n int) (error, error) {
		if op == "create machine" && n <= 2 {
			return fault.New(fault.NotFound, op, "the instance of this token is gone"), nil
		}
		return nil, nil
	}
	runGroup(t, w, scalable(1, 0, 5), map[time.Duration]act{
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
		3 * time.Hour: end(demoRef),
	})
	for i, s := range w.asked {
		if s.Attempt != i || s.ID != w.asked[0].ID {
			t.Errorf("request %d is attempt %d of %s", i, s.Attempt, s.ID)
		}
	}
	if len(w.asked) != 3 {
		t.Errorf("%d requests", len(w.asked))
	}
}

// A create that nobody answered for, and whose repetition finds no capacity, is
// looked for before the machine is asked for elsewhere: that is another request,
// which no cloud takes for the first one.
func TestElsewhereComesAfterWhatWasNotAnswered(t *testing.T) {
	for name, tc := range map[string]struct {
		made    bool
		version workflow.Version
		want    []string
	}{
		"it shows late":                 {true, 1, []string{"a", "a"}},
		"it was never there":            {false, 1, []string{"a", "a", "b"}},
		"a run of before does not look": {false, workflow.DefaultVersion, []string{"a", "a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newFakeWorld()
			w.hides = tc.made
			w.mocks = func(env *testsuite.TestWorkflowEnvironment) {
				env.OnGetVersion(changeFindFirst, workflow.DefaultVersion, workflow.Version(1)).Return(tc.version)
			}
			w.inject = func(op string, n int) (error, error) {
				lost := fault.New(fault.Ambiguous, op, "the answer was lost")
				switch {
				case op == "create machine" && n == 1 && tc.made:
					return nil, lost
				case op == "create machine" && n == 1:
					return lost, nil
				case op == "create machine" && n == 2:
					return fault.New(fault.Capacity, op, "none left here"), nil
				}
				return nil, nil
			}
			in := scalable(1, 0, 5)
			in.Zone, in.Zones = "a", []string{"a", "b"}
			in.Site.Capabilities.Idempotency = cloud.NativeToken
			runGroup(t, w, in, map[time.Duration]act{
				20 * time.Second: func(*testsuite.TestWorkflowEnvironment) { w.change(func() { w.hides = false }) },
				2 * time.Hour:    func(env *testsuite.TestWorkflowEnvironment) { expect(t, env, map[MemberPhase]int{MemberReady: 1}) },
				3 * time.Hour:    end(demoRef),
			})
			var zones []string
			for _, s := range w.asked {
				zones = append(zones, s.Zone)
			}
			if !slices.Equal(zones, tc.want) {
				t.Errorf("asked for in %v, want %v", zones, tc.want)
			}
		})
	}
}

// Machines of one placement group are made together where the cloud keeps them
// apart by itself, and one after the other where they would race for its places.
func TestSpreadTogether(t *testing.T) {
	const members = 8 // two groups of four
	for _, tc := range []struct {
		together bool
		want     int // creates under way at the same time
	}{{true, members}, {false, 2}} {
		t.Run(fmt.Sprint(tc.together), func(t *testing.T) {
			w := newFakeWorld()
			under, most, closed := 0, 0, false
			full := make(chan struct{})
			w.inject = func(op string, _ int) (error, error) {
				if op != "create machine" {
					return nil, nil
				}
				under++
				if most = max(most, under); under == tc.want && !closed {
					closed = true
					close(full)
				}
				w.mu.Unlock()                     // which the caller holds
				<-full                            // never, if fewer come at a time: the test's own limit ends it
				time.Sleep(20 * time.Millisecond) // in which one too many would come
				w.mu.Lock()
				under--
				return nil, nil
			}
			in := scalable(members, 0, members)
			in.Site.Capabilities.SpreadAtOnce = tc.together
			runGroup(t, w, in, map[time.Duration]act{
				time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
					expect(t, env, map[MemberPhase]int{MemberReady: members})
				},
				2 * time.Hour: end(demoRef),
			})
			if most != tc.want {
				t.Errorf("%d creates at the same time, want %d", most, tc.want)
			}
		})
	}
}

// A cloud may deduplicate machines and nothing else.
func TestWhatACloudDeduplicates(t *testing.T) {
	for _, tc := range []struct {
		machines, resources cloud.IdempotencyMode
		want                [2]bool
	}{
		{cloud.TagScan, "", [2]bool{false, false}},
		{cloud.NativeToken, "", [2]bool{true, true}},
		{cloud.NativeToken, cloud.TagScan, [2]bool{true, false}},
		{cloud.TagScan, cloud.NativeToken, [2]bool{false, true}},
	} {
		t.Run(fmt.Sprintf("%s,%s", tc.machines, tc.resources), func(t *testing.T) {
			c := cloud.Capabilities{Idempotency: tc.machines, Resources: tc.resources}
			if got := [2]bool{dedupes[cloud.Machine](c), dedupes[cloud.Resource](c)}; got != tc.want {
				t.Errorf("machines, resources: %v, want %v", got, tc.want)
			}
		})
	}
}

// A cloud that deduplicates takes a create that was sent twice for one; that is no
// proof that nothing was made. A machine whose create nobody answered for is found
// when its place goes, and is not forgotten because the second try was refused.
func TestNothingIsForgottenWhereCreatesMayBeRepeated(t *testing.T) {
	for name, second := range map[string]error{
		"refused for good": fault.New(fault.Quota, "create", "no more of them"),
		"throttled":        fault.New(fault.RateLimited, "create", "slow down"),
		"lost again":       fault.New(fault.Ambiguous, "create", "the connection broke"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newFakeWorld()
			// The machine exists after the first try and shows only when nobody
			// wants it any more: until then every create goes wrong.
			w.hides = true
			w.inject = func(op string, n int) (error, error) {
				switch {
				case op != "create machine":
					return nil, nil
				case n == 1:
					return nil, fault.New(fault.Ambiguous, op, "the answer was lost") // made
				}
				return second, nil
			}
			in := scalable(1, 0, 5)
			in.Site.Capabilities.Idempotency = cloud.NativeToken
			runGroup(t, w, in, map[time.Duration]act{
				time.Minute: func(env *testsuite.TestWorkflowEnvironment) {
					w.change(func() { w.hides = false })
					env.SignalWorkflow(SignalSetTarget, ScaleRequest{RequestID: "none", Target: target(0)})
				},
				// Before the group compares itself with the cloud.
				10 * time.Minute: func(*testsuite.TestWorkflowEnvironment) {
					w.change(func() {
						if len(w.machines) != 0 {
							t.Errorf("left behind: %+v", w.machines)
						}
					})
				},
				3 * time.Hour: end(demoRef),
			})
			for _, s := range w.asked {
				if s.ID != w.asked[0].ID || s.Attempt != 0 {
					t.Errorf("another request: %+v", s)
				}
			}
		})
	}
}

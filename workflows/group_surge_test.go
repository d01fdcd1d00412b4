package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

func replaceFirst(t *testing.T, machine *string) act {
	return func(env *testsuite.TestWorkflowEnvironment) {
		if *machine == "" {
			*machine = status(t, env).Members[0].ID
		}
		update(env, t, UpdateReplace, "r"+workflowNow(env), activities.ReplaceInput{Ref: demoRef, Group: "worker", Machine: *machine},
			func(_ activities.ReplaceResult, err error) {
				if err != nil {
					t.Errorf("replace: %v", err)
				}
			})
	}
}

func workflowNow(env *testsuite.TestWorkflowEnvironment) string { return env.Now().String() }

// A member is replaced by a machine that is ready before the old one is drained,
// also at max; the target never changes and the new one answers to all old names.
// Asked for again and again it happens once.
func TestReplaceMember(t *testing.T) {
	w := newFakeWorld()
	var old string
	var before GroupMember
	hold := true
	w.silent = func(m cloud.Machine) bool {
		return hold && len(w.machines) > 3 && m.Ref.Cloud == w.machines[len(w.machines)-1].Ref.Cloud
	}
	runGroup(t, w, scalable(3, 3, 3), map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			before = status(t, env).Members[0]
			replaceFirst(t, &old)(env)
		},
		time.Hour + 300*time.Millisecond: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 3, MemberBooting: 1})
			w.change(func() {
				if s.Target != 3 || len(w.drained) != 0 {
					t.Errorf("target %d, drained %v", s.Target, w.drained)
				}
			})
			replaceFirst(t, &old)(env)
			w.change(func() { hold = false })
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 3})
			if len(w.drained) != 1 || w.drained[0] != before.Name {
				t.Errorf("drained %v, want %s", w.drained, before.Name)
			}
			heir := 0
			for _, m := range s.Members {
				if m.Instance == before.Instance && len(m.Aliases) == 1 && m.Aliases[0] == before.ProviderID && !m.Surge {
					heir++
				}
			}
			if heir != 1 {
				t.Errorf("nobody has the names of %s: %+v", before.Name, s.Members)
			}
			replaceFirst(t, &old)(env) // long done
		},
		3 * time.Hour: end(demoRef),
	})
	if w.calls["create machine"] != 4 {
		t.Errorf("creates %v", w.creates)
	}
}

// A replacement that comes to nothing leaves the member where it is, and says
// why; one whose member the autoscaler deletes meanwhile is not wanted any more.
func TestReplaceThatComesToNothing(t *testing.T) {
	w := newFakeWorld()
	var first, second string
	fails, hold := false, false
	w.inject = func(op string, _ int) (error, error) {
		if op == "create machine" && fails {
			return fault.New(fault.Quota, op, "the quota is reached"), nil
		}
		return nil, nil
	}
	w.silent = func(m cloud.Machine) bool {
		return hold && len(w.machines) > 2 && m.Ref.Cloud == w.machines[len(w.machines)-1].Ref.Cloud
	}
	in := scalable(2, 0, 5)
	in.Site.Timing.Heartbeat = time.Second // so that a watch without an end is short
	runGroup(t, w, in, map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			w.change(func() { fails = true })
			replaceFirst(t, &first)(env)
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 2})
			found := ""
			for _, m := range s.Members {
				found += m.ReplaceFailed
			}
			if !strings.Contains(found, "quota") {
				t.Errorf("nobody says why: %+v", s.Members)
			}
			w.change(func() { fails, hold = false, true })
			second = s.Members[1].ID
			replaceFirst(t, &second)(env)
		},
		2*time.Hour + 300*time.Millisecond: func(env *testsuite.TestWorkflowEnvironment) {
			expect(t, env, map[MemberPhase]int{MemberReady: 2, MemberBooting: 1})
			env.SignalWorkflow(SignalDeleteNodes, ScaleRequest{RequestID: "d", Nodes: []string{second}, Origin: OriginAutoscaler})
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := expect(t, env, map[MemberPhase]int{MemberReady: 1}); s.Target != 1 {
				t.Errorf("target %d", s.Target)
			}
		},
		4 * time.Hour: end(demoRef),
	})
	if len(w.machines) != 0 {
		t.Errorf("left: %v", w.machines)
	}
}

package workflows

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

func TestUpgradeTalosAndKubernetes(t *testing.T) {
	f := newFleet(3, 4, v13, v14)
	out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{MaxUnavailable: "50%"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range f.nodes {
		if n.Talos != v14.Talos || n.Schematic != v14.Schematic || n.Kubelet != v14.Kubernetes {
			t.Errorf("%s runs %s %s", n.Name, n.Talos, n.Kubelet)
		}
		if c := f.counts["reboot "+n.Name]; c != 1 {
			t.Errorf("%s was rebooted %d times", n.Name, c)
		}
	}
	last := -1
	for _, name := range []string{"demo-cp-01", "demo-cp-02", "demo-cp-00", "demo-worker-00"} {
		at := f.index("reboot " + name)
		if at < last {
			t.Errorf("%s was rebooted too early: %v", name, f.log)
		}
		last = at
	}
	if f.index("commit v1.14.1 v1.35.2") > f.index("reboot demo-cp-01") {
		t.Error("new machines were not born new before the roll")
	}
	if i := f.index("commit v1.14.1 v1.36.3"); i < f.index("wait kube-scheduler demo-cp-02") || i > f.index("wait kubelet demo-cp-00") {
		t.Error("the record did not learn Kubernetes between control planes and kubelets")
	}
	if slices.ContainsFunc(f.log, func(s string) bool { return strings.HasPrefix(s, "SKEW") }) {
		t.Errorf("a kubelet was newer than an API server: %v", f.log)
	}
	// That two are begun at once is plan's to prove; here no more ever are.
	if f.most > 2 || out.To != v14 || out.From != v13 || !strings.Contains(out.Message, "nodes were upgraded") {
		t.Errorf("%d workers at once, result %+v", f.most, out)
	}
}

// Again, it has nothing to do; the plan of the reached state is empty.
func TestUpgradeAgainDoesNothing(t *testing.T) {
	f := newFleet(3, 1, v14, v14)
	f.record.SpecDigest = "to-" + v14.Talos + v14.Kubernetes
	out, err := f.run(t, UpgradeInput{Cluster: "demo"}, nil)
	if err != nil || out.Upgraded != 0 || !strings.Contains(out.Message, "nothing was changed") || len(f.log) != 0 {
		t.Errorf("%+v, %v, %v", out, err, f.log)
	}
}

func TestUpgradePlanOnlyChangesNothing(t *testing.T) {
	f := newFleet(3, 2, v13, v14)
	out, err := f.run(t, UpgradeInput{Cluster: "demo", PlanOnly: true}, nil)
	if err != nil || len(out.Plan.Legs) != 2 || len(f.log) != 0 || len(out.Nodes) != 5 {
		t.Errorf("%+v, %v, %v", out, err, f.log)
	}
}

func TestUpgradePreflightStopsBeforeAnything(t *testing.T) {
	f := newFleet(3, 1, v13, v14)
	f.problems = []plan.Refusal{{Field: "etcd", Reason: "alarm NOSPACE"}, {Field: "demo-worker-00", Reason: "no answer"}}
	_, err := f.run(t, UpgradeInput{Cluster: "demo"}, nil)
	if err == nil || !strings.Contains(err.Error(), "NOSPACE") || !strings.Contains(err.Error(), "no answer") || len(f.log) != 0 {
		t.Errorf("%v, %v", err, f.log)
	}
}

// A drain that a budget holds up parks the node; resume sends the reboot that
// A group that is paused, fails or waits for a person cannot take part, and is
// told with all the rest before anything changes.
func TestUpgradePreflightNamesGroups(t *testing.T) {
	for name, tc := range map[string]struct {
		trouble func(*GroupReport)
		want    string
	}{
		"paused":  {func(r *GroupReport) { r.Paused = "maintenance" }, "worker: the group is paused (maintenance)"},
		"failing": {func(r *GroupReport) { r.Failure = &Failure{Kind: fault.Quota, Message: "no more servers"} }, "worker: the group fails: no more servers (Quota)"},
		"parked":  {func(r *GroupReport) { r.Parked = "fix the credentials" }, "worker: the group waits for a person: fix the credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(3, 1, v13, v14)
			f.problems = []plan.Refusal{{Field: "certificates", Reason: "end tomorrow"}}
			f.trouble = func(r *GroupReport) {
				if r.Group == "worker" {
					tc.trouble(r)
				}
			}
			_, err := f.run(t, UpgradeInput{Cluster: "demo"}, nil)
			if err == nil || !strings.Contains(err.Error(), "2 problems, nothing was changed") || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "end tomorrow") || len(f.log) > 0 {
				t.Errorf("%v, %v", err, f.log)
			}
		})
	}
}

// would otherwise be lost, skip leaves the node as it was.
func TestUpgradeParkedDrain(t *testing.T) {
	for _, decision := range []string{SignalResume, SignalSkipNode} {
		t.Run(decision, func(t *testing.T) {
			f := newFleet(1, 2, v13, plan.Versions{Talos: v14.Talos, Schematic: "s1", Kubernetes: v13.Kubernetes})
			f.refuse = func(action, node string, n int) error {
				if action == "drain" && node == "demo-worker-00" && (n == 1 || decision == SignalSkipNode) {
					return temporal.NewNonRetryableApplicationError("pdb web allows no disruption", string(fault.NotYet), nil)
				}
				return nil
			}
			out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}}, map[time.Duration]act{
				time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
					s := upgradeStatus(t, env)
					if !strings.Contains(s.Parked, "pdb web") || !f.nodes[1].Cordoned {
						t.Errorf("status: %+v", s)
					}
					update(env, t, decision, "u1", UpgradeRequest{Node: "demo-worker-00"}, func(a UpgradeAnswer, err error) {
						if err != nil || a.Message == "" {
							t.Errorf("%s: %+v, %v", decision, a, err)
						}
					})
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			want := 1
			if decision == SignalSkipNode {
				want = 0
				if len(out.Skipped) != 1 || out.Skipped[0] != "demo-worker-00" {
					t.Errorf("skipped: %v", out.Skipped)
				}
			}
			if f.counts["reboot demo-worker-00"] != want || f.counts["reboot demo-worker-01"] != 1 {
				t.Errorf("%v", f.log)
			}
		})
	}
}

// A silent rollback is named and stops the roll; the next attempt finishes it.
func TestUpgradeSilentRollback(t *testing.T) {
	f := newFleet(3, 2, v13, plan.Versions{Talos: v14.Talos, Schematic: "s1", Kubernetes: v13.Kubernetes})
	f.refuse = func(action, node string, n int) error {
		if action == "boot" && node == "demo-cp-01" && n == 1 {
			f.nodes[1].installed = plan.Versions{}
		}
		return nil
	}
	_, err := f.run(t, UpgradeInput{Cluster: "demo"}, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := upgradeStatus(t, env)
			if !strings.Contains(s.Parked, "booted the old slot") || f.counts["reboot demo-cp-02"] != 0 {
				t.Errorf("status: %+v, %v", s.Parked, f.log)
			}
			env.SignalWorkflow(SignalResume, nil)
		},
	})
	if err != nil || f.counts["install demo-cp-01"] != 2 || f.nodes[1].Talos != v14.Talos {
		t.Errorf("%v, %v", err, f.log)
	}
}

func TestUpgradeOldPath(t *testing.T) {
	v12 := plan.Versions{Talos: "v1.12.8", Schematic: "s1", Kubernetes: "v1.34.1"}
	f := newFleet(3, 1, v12, plan.Versions{Talos: "v1.13.9", Schematic: "s1", Kubernetes: "v1.34.1"})
	if _, err := f.run(t, UpgradeInput{Cluster: "demo"}, nil); err != nil {
		t.Fatal(err)
	}
	if f.counts["pull demo-cp-00"] != 0 || f.counts["reboot demo-cp-00"] != 1 || f.nodes[3].Talos != "v1.13.9" {
		t.Errorf("%v", f.log)
	}
}

// A machine that somebody deletes under the roll is its group's to replace: while
// the roll waits for it the lease is given back, and resume goes on without it.
func TestUpgradeWithoutAMachineThatIsGone(t *testing.T) {
	f := newFleet(1, 2, v13, plan.Versions{Talos: v14.Talos, Schematic: "s1", Kubernetes: v13.Kubernetes})
	f.refuse = func(action, node string, _ int) error {
		if action == "boot" && node == "demo-cp-00" {
			f.out["demo-worker-00"] = true
		}
		return nil
	}
	out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: plan.UpgradeStrategy{SingleControlPlane: true}}, map[time.Duration]act{
		time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			if s := upgradeStatus(t, env); !strings.Contains(s.Parked, "demo-worker-00 does not answer") {
				t.Errorf("parked: %q", s.Parked)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.nodes[1].leased != "" {
				t.Error("its group cannot replace it")
			}
			f.nodes = slices.Delete(f.nodes, 1, 2)
			env.SignalWorkflow(SignalResume, nil)
		},
	})
	if err != nil || out.Upgraded != 2 {
		t.Errorf("%+v, %v, %v", out, err, f.log)
	}
}

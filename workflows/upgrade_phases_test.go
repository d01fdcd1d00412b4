package workflows

import (
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// opCancel stands for a cancellation, which is no request of ours.
const opCancel = "cancel"

// phaseColumns are what a person may do at any moment, in the order of five.
var phaseColumns = [5]string{SignalPause, SignalResume, SignalApprove, SignalSkipNode, opCancel}

// five is something about each column.
type five [5]string

// phaseRow is a moment of a roll. At it one request is made; what else the run needs
// comes from a person who looks every hour: who approves what is asked, and resumes
// what is parked or paused.
type phaseRow struct {
	name string
	// at is the activity during which the request is made, and words that its input
	// must hold; nth of such calls, the first by default. Without it, when says
	// whether the person who looks has found the moment.
	at   string
	nth  int
	when func(UpgradeStatus) bool
	// before is what was done at an activity before, and where.
	before, beforeAt string
	// fails is the activity that fails once, and how.
	fails string
	with  error

	strategy plan.UpgradeStrategy
	skips    string // the node of skip-node; demo-worker-01 by default
	answers  five   // of a cancellation there is none
	ends     five
}

// What the cells share.
const (
	isPaused  = "paused: nodes at work are finished, no other is begun"
	isNeither = "the upgrade of demo is neither paused nor parked"
	isNothing = "nothing waits for an approval"
	isUnknown = "the nodes of demo are not known yet; they are being looked at"
	isOver    = "the upgrade of demo is being cancelled"
	leaves0   = "demo-worker-00 is left out, with what it runs now"
	leaves1   = "demo-worker-01 is left out, with what it runs now"
	atWork0   = "demo-worker-00 is at work since T; it can be left out when it parks, or cancel the upgrade"
	boundCP   = "demo-cp-00 is a control plane and " + leg2 + " follows: no kubelet may be newer than an API server; cancel the upgrade instead"

	doneAll  = `done: cluster "demo": 3 nodes were upgraded`
	doneBut0 = `done: cluster "demo": 2 nodes were upgraded; left out: demo-worker-00`
	doneBut1 = `done: cluster "demo": 2 nodes were upgraded; left out: demo-worker-01`
	// Left out of the second leg only.
	doneLess0 = `done: cluster "demo": 3 nodes were upgraded; left out: demo-worker-00`
	doneLess1 = `done: cluster "demo": 3 nodes were upgraded; left out: demo-worker-01`
	again     = "; start it again to continue with what is left"
	leg1      = "Talos v1.13.9 to v1.14.1"
	leg2      = "Kubernetes v1.35.2 to v1.36.3"
	bothLeft  = "; not finished: " + leg1 + ", " + leg2 + again
	lastLeft  = "; not finished: " + leg2 + again
)

var phaseRows = []phaseRow{
	{
		name: "resolve", at: "ResolveUpgrade",
		answers: five{isPaused, isNeither, isNothing, isUnknown},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 0 nodes were upgraded" + again},
	},
	{
		name: "look", at: "ObserveNodes",
		answers: five{isPaused, isNeither, isNothing, isUnknown},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 0 nodes were upgraded" + again},
	},
	{
		name: "pre-flight", at: "CheckUpgrade",
		answers: five{isPaused, isNeither, isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneBut1, "canceled: 0 nodes were upgraded" + bothLeft},
	},
	{
		name: "asked for a leg", strategy: plan.UpgradeStrategy{Approve: plan.ApproveLeg},
		when:    func(s UpgradeStatus) bool { return s.Asks == leg1 },
		answers: five{isPaused, isNeither, "approved: " + leg1, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneBut1, "canceled: 0 nodes were upgraded" + bothLeft},
	},
	{
		name: "asked for a node", strategy: plan.UpgradeStrategy{Approve: plan.ApproveNode}, skips: "demo-worker-00",
		when:    func(s UpgradeStatus) bool { return s.Asks == "talos on demo-worker-00" },
		answers: five{isPaused, isNeither, "approved: talos on demo-worker-00", leaves0},
		ends:    five{doneAll, doneAll, doneAll, doneBut0, "canceled: 1 node was upgraded; not done: demo-worker-00, demo-worker-01" + bothLeft},
	},
	{
		name: "waiting for a window", strategy: plan.UpgradeStrategy{Windows: []plan.Window{laterToday()}},
		when:    func(s UpgradeStatus) bool { return s.Waits == "waits for the maintenance window" },
		answers: five{isPaused, isNeither, isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneBut1, "canceled: 0 nodes were upgraded; not done: demo-cp-00, demo-worker-00, demo-worker-01" + bothLeft},
	},
	{
		name: "canary soaking", strategy: plan.UpgradeStrategy{Canary: true, Soak: cluster.Duration(150 * time.Minute)},
		when:    func(s UpgradeStatus) bool { return s.Waits == "canary demo-worker-00 soaks" },
		answers: five{isPaused, isNeither, isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneBut1, "canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft},
	},
	{
		name: "draining", at: "DrainForWork demo-worker-00", skips: "demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, atWork0},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 1 node was upgraded; not done: demo-worker-00 (installed; it takes effect with its next reboot), demo-worker-01" + bothLeft},
	},
	{
		name: "draining, of one that is done with this leg", at: "DrainForWork demo-worker-01", skips: "demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, leaves0},
		ends:    five{doneAll, doneAll, doneAll, doneLess0, "canceled: 2 nodes were upgraded; not done: demo-worker-01 (installed; it takes effect with its next reboot)" + bothLeft},
	},
	{
		name: "parked drain", fails: "DrainForWork demo-worker-00", with: fault.New(fault.NotYet, "drain", "pdb web allows no disruption"), skips: "demo-worker-00",
		when:    func(s UpgradeStatus) bool { return strings.HasPrefix(s.Parked, "demo-worker-00: drain: ") },
		answers: five{isPaused, "resumed", isNothing, leaves0},
		ends: five{doneAll, doneAll, doneAll, doneBut0, "canceled: 1 node was upgraded; " +
			"not done: demo-worker-00 (installed; it takes effect with its next reboot; drain: drain: pdb web allows no disruption), demo-worker-01" + bothLeft},
	},
	{
		name: "reboot under way", at: "WaitBooted demo-worker-00", skips: "demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, atWork0},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft},
	},
	{
		name: "health gates", at: "WaitGates demo-worker-00", skips: "demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, atWork0},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft},
	},
	{
		name: "parked health gates", fails: "WaitGates demo-worker-00", with: fault.New(fault.NotYet, "gate", "front page says 502"), skips: "demo-worker-00",
		when:    func(s UpgradeStatus) bool { return strings.HasPrefix(s.Parked, "demo-worker-00: health gates: ") },
		answers: five{isPaused, "resumed", isNothing, leaves0},
		ends: five{doneAll, doneAll, doneAll, doneBut0, "canceled: 1 node was upgraded; " +
			"not done: demo-worker-00 (the reboot was sent; health gates: gate: front page says 502), demo-worker-01" + bothLeft},
	},
	{
		name: "parked for credentials", fails: "PullImage demo-worker-00", with: fault.New(fault.Unauthorized, "pull", "token revoked"), skips: "demo-worker-00",
		when:    func(s UpgradeStatus) bool { return strings.Contains(s.Parked, "token revoked") },
		answers: five{isPaused, "resumed", isNothing, leaves0},
		ends:    five{doneAll, doneAll, doneAll, doneBut0, "canceled: 1 node was upgraded; not done: demo-worker-00 (nothing was changed), demo-worker-01" + bothLeft},
	},
	{
		name: "between legs", at: "SnapshotEtcd", nth: 2,
		answers: five{isPaused, isNeither, isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneLess1, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "asked between legs", strategy: plan.UpgradeStrategy{Approve: plan.ApproveLeg},
		when:    func(s UpgradeStatus) bool { return s.Asks == leg2 },
		answers: five{isPaused, isNeither, "approved: " + leg2, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneLess1, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "between legs, of a control plane", at: "SnapshotEtcd", nth: 2, skips: "demo-cp-00",
		answers: five{isPaused, isNeither, isNothing, boundCP},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "images being pulled", at: "PullComponentImages demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneLess1, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "parked in the middle", fails: "PullComponentImages demo-worker-01", with: fault.New(fault.Invalid, "pull", "no such image"),
		when:    func(s UpgradeStatus) bool { return strings.Contains(s.Parked, "no such image") },
		answers: five{isPaused, "resumed", isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneLess1, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "parked by a failure", fails: "InstallTalos demo-worker-00", with: fault.New(fault.Internal, "install", "exit code 7"), skips: "demo-worker-00",
		when:    func(s UpgradeStatus) bool { return strings.Contains(s.Parked, "exit code 7") },
		answers: five{isPaused, "resumed", isNothing, leaves0},
		ends: five{doneAll, doneAll, doneAll, doneBut0, "canceled: 1 node was upgraded; " +
			"failed: demo-worker-00: install v1.14.1: install: exit code 7 (Internal); not done: demo-worker-01" + bothLeft},
	},
	{
		name: "API server under way", at: "WaitComponent kube-apiserver demo-cp-00", skips: "demo-cp-00",
		answers: five{isPaused, isNeither, isNothing, boundCP},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "kubelet under way", at: "WaitComponent kubelet demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneLess1, "canceled: 3 nodes were upgraded; not done: demo-worker-01" + lastLeft},
	},
	{
		name: "kubelet under way, of a control plane", at: "WaitComponent kubelet demo-worker-00", skips: "demo-cp-00",
		answers: five{isPaused, isNeither, isNothing, "demo-cp-00 is done"},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 3 nodes were upgraded; not done: demo-worker-01" + lastLeft},
	},
	{
		name: "kubelet done", at: "WaitComponent kubelet demo-worker-01", skips: "demo-worker-00",
		answers: five{isPaused, isNeither, isNothing, "demo-worker-00 is done"},
		ends:    five{doneAll, doneAll, doneAll, doneAll, "canceled: 3 nodes were upgraded" + lastLeft},
	},
	{
		name: "paused", before: SignalPause, beforeAt: "DrainForWork demo-worker-00",
		when:    func(s UpgradeStatus) bool { return s.Paused },
		answers: five{"the upgrade of demo is paused already", "resumed", isNothing, leaves1},
		ends:    five{doneAll, doneAll, doneAll, doneBut1, "canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft},
	},
	{
		name: "surge replacement under way", at: "WaitReplaced worker00", skips: "demo-worker-00",
		strategy: plan.UpgradeStrategy{Groups: []plan.GroupStrategy{{Group: "worker", Surge: 1}}},
		answers:  five{isPaused, isNeither, isNothing, atWork0},
		ends: five{doneAll, doneAll, doneAll, doneAll, "canceled: 1 node was upgraded; " +
			"not done: demo-worker-00 (a new machine was asked for; the group goes on by itself), demo-worker-01" + bothLeft},
	},
	{
		name: "being cancelled", before: opCancel, beforeAt: "WaitBooted demo-worker-00", at: "WaitBooted demo-worker-00",
		answers: five{isOver, isOver, isOver, isOver},
		ends: five{
			"canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft, "canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft,
			"canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft, "canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft,
			"canceled: 2 nodes were upgraded; not done: demo-worker-01" + bothLeft,
		},
	},
}

// laterToday is a window that opens half a day from now.
func laterToday() plan.Window {
	return plan.Window{Start: time.Now().UTC().Add(12 * time.Hour).Format("15:04"), Length: cluster.Duration(time.Hour)}
}

// TestUpgradeAtEveryPhase makes each request at each moment of a roll: its answer or
// the reason of its refusal, how the run ends, and that after a pause and after a
// cancellation no other node is begun.
func TestUpgradeAtEveryPhase(t *testing.T) {
	for _, row := range phaseRows {
		for i, op := range phaseColumns {
			t.Run(row.name+"/"+op, func(t *testing.T) {
				p := &person{t: t, row: row, op: op, f: newFleet(1, 2, v13, v14), begun: map[string]bool{}}
				answer, end := p.run()
				if answer != row.answers[i] {
					t.Errorf("answer %q\n  want %q", answer, row.answers[i])
				}
				if end != row.ends[i] {
					t.Errorf("end %q\nwant %q", end, row.ends[i])
				}
				p.wantTruth(end)
			})
		}
	}
}

// What was approved during a pause, or after the maintenance window has closed, is
// begun when that is over.
func TestUpgradeApprovedAtABadTime(t *testing.T) {
	single := plan.UpgradeStrategy{SingleControlPlane: true, Approve: plan.ApproveNode}
	windowed := single
	windowed.Windows = []plan.Window{laterToday()}
	approve := func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalApprove, UpgradeRequest{}) }
	for _, c := range []struct {
		name     string
		strategy plan.UpgradeStrategy
		asked    time.Duration
		before   act
		waits    string
	}{
		{"during a pause", single, time.Hour, func(env *testsuite.TestWorkflowEnvironment) { env.SignalWorkflow(SignalPause, UpgradeRequest{}) }, ""},
		{"after the window", windowed, 15 * time.Hour, func(*testsuite.TestWorkflowEnvironment) {}, "waits for the maintenance window"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(1, 0, v13, plan.Versions{Talos: v14.Talos, Schematic: "s1", Kubernetes: v13.Kubernetes})
			acts := map[time.Duration]act{
				c.asked: func(env *testsuite.TestWorkflowEnvironment) {
					if s := upgradeStatus(t, env); s.Asks != "talos on demo-cp-00" {
						t.Errorf("asks %q", s.Asks)
					}
					c.before(env)
				},
				c.asked + time.Hour: approve,
				c.asked + 2*time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
					if s := upgradeStatus(t, env); s.Asks != "" || s.Waits != c.waits || f.index("pull demo-cp-00") >= 0 {
						t.Errorf("asks %q, waits %q, %v", s.Asks, s.Waits, f.log)
					}
					env.SignalWorkflow(SignalResume, nil)
				},
			}
			if out, err := f.run(t, UpgradeInput{Cluster: "demo", Strategy: c.strategy}, acts); err != nil || out.Upgraded != 1 {
				t.Errorf("%+v, %v, %v", out, err, f.log)
			}
		})
	}
}

package e2e

import (
	"errors"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/converter"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// cancelAtEveryPhase cancels before anything, during a drain, during a reboot and
// between two legs: nodes land on a safe point, the report is true, and what is
// started again goes on, each node rebooting once in all.
func (h *holes) cancelAtEveryPhase() {
	before := h.allBoots(holed)
	in := workflows.UpgradeInput{UpgradeChange: change(4), Strategy: careful()}
	in.KubernetesVersion = oldKubernetes
	asking := in
	asking.Strategy.Approve = plan.ApproveLeg
	booted := func(cp, first, second int) {
		h.t.Helper()
		now := h.allBoots(holed)
		for node, want := range map[string]int{h.cp: cp, h.workers[0]: first, h.workers[1]: second} {
			if got := len(now[node]) - len(before[node]); got != want {
				h.t.Errorf("%s booted %d times, want %d", node, got, want)
			}
		}
		h.wantReleased(holed)
	}

	run := h.beginUpgrade(holed, asking)
	h.untilAsked(holed, "extensions")
	h.ichor(codeOK, nil, "cancel", holed, "--detach")
	_, err := h.endUpgrade(run)
	h.wantError(err, "canceled", "0 nodes were upgraded", "start it again")
	booted(0, 0, 0)

	run = h.beginUpgrade(holed, asking)
	h.untilAsked(holed, "extensions")
	h.workload("stays", 2)
	h.budget("stays", 2)
	h.ichor(codeOK, nil, "approve", holed)
	h.untilPending(h.workers[0], "DrainForWork")
	h.ichor(codeOK, nil, "cancel", holed, "--detach")
	_, err = h.endUpgrade(run)
	h.wantError(err, "canceled", "1 node was upgraded", "not done: "+h.workers[0]+" (installed", h.workers[1])
	booted(1, 0, 0)
	h.lift("stays")
	h.remove("stays")

	h.breakNode(holed, h.workers[0], map[string]any{"bootDelay": 3 * speed * time.Second})
	run = h.beginUpgrade(holed, in)
	h.untilPending(h.workers[0], "WaitBooted")
	h.ichor(codeOK, nil, "cancel", holed, "--detach")
	_, err = h.endUpgrade(run)
	h.wantError(err, "canceled", "1 node was upgraded", "not done: "+h.workers[1])
	booted(1, 1, 0)

	run = h.beginUpgrade(holed, asking)
	h.untilAsked(holed, "extensions")
	h.ichor(codeOK, nil, "approve", holed)
	h.untilAsked(holed, "Kubernetes")
	h.ichor(codeOK, nil, "cancel", holed, "--detach")
	_, err = h.endUpgrade(run)
	h.wantError(err, "canceled", "1 node was upgraded", "start it again")
	booted(1, 1, 1)
	h.wantVersions(holed, oldTalos, olderKubernetes)

	out, err := h.upgrade(holed, in)
	if err != nil || out.Upgraded != 3 {
		h.t.Errorf("what was left: %d nodes, %v", out.Upgraded, err)
	}
	booted(1, 1, 1)
	h.wantVersions(holed, oldTalos, oldKubernetes)
}

// untilPending waits until a node's workflow waits for an activity.
func (h *holes) untilPending(node, activity string) {
	h.t.Helper()
	h.until(activity+" of "+node, func() bool {
		d, err := h.temporal.DescribeWorkflowExecution(h.t.Context(), cluster.NodeWorkID(holed, node), "")
		if err != nil {
			return false
		}
		for _, a := range d.GetPendingActivities() {
			if a.GetActivityType().GetName() == activity {
				return true
			}
		}
		return false
	})
}

// bornOld has the autoscaler ask for nodes in the middle of the first leg and of the last: what is made
// then is made of the new image and the new kubelet, and nothing is old in the end.
func (h *holes) bornOld() {
	before := h.allBoots(holed)
	in := workflows.UpgradeInput{Strategy: careful()}
	in.TalosVersion, in.KubernetesVersion = newTalos, newKubernetes
	run := h.beginUpgrade(holed, in)
	h.untilUpgrade(holed, "a worker is at work", func(st workflows.UpgradeStatus) bool {
		return st.Leg == 1 && stateOf(st, h.workers[0]) == plan.RollRunning
	})
	h.increase("in-the-first-leg")
	h.untilUpgrade(holed, "a kubelet of a worker is at work", func(st workflows.UpgradeStatus) bool {
		return st.Leg == len(st.Plan.Legs) && stateOf(st, h.workers[0]) == plan.RollRunning
	})
	known := h.nodesOf(holed, "general")
	h.increase("in-the-last-leg")
	h.wantDone(run)
	h.until("four workers are ready", func() bool {
		st := h.status(holed)
		i := slices.IndexFunc(st.Groups, func(g workflows.GroupStatus) bool { return g.Group == "general" })
		return i >= 0 && len(st.Groups[i].Members) == 4 && !slices.ContainsFunc(st.Groups[i].Members, func(m workflows.GroupMember) bool { return m.Phase != workflows.MemberReady })
	})
	h.wantVersions(holed, newTalos, newKubernetes)
	for node, boots := range h.allBoots(holed) {
		want := []string{newTalos}
		if old, ok := before[node]; ok {
			want = append(slices.Clone(old), newTalos)
		}
		if !slices.Equal(boots, want) {
			h.t.Errorf("%s booted %q, want %q", node, boots, want)
		}
		if slices.Contains(known, node) || node == h.cp {
			continue
		}
		if h.configured(node) {
			h.t.Errorf("%s was made in the last leg with a config of an earlier one", node)
		}
	}
	h.ichor(codeOK, []string{"2 of 2 ready"}, "scale", holed+"/general", "--to", "2", "--force", "--wait")
}

// configured reports whether an upgrade has changed the config of a node. That it
// looked at one which was still on its way up is no sign of that.
func (h *holes) configured(node string) bool {
	h.t.Helper()
	applies := map[int64]bool{}
	events := h.temporal.GetWorkflowHistory(h.t.Context(), cluster.NodeWorkID(holed, node), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		var none *serviceerror.NotFound
		if errors.As(err, &none) {
			return false // nothing was ever done to it
		}
		if err != nil {
			h.t.Fatal(err)
		}
		if a := e.GetActivityTaskScheduledEventAttributes(); a.GetActivityType().GetName() == "ApplyMachineConfig" {
			applies[e.GetEventId()] = true
		}
		if a := e.GetActivityTaskCompletedEventAttributes(); applies[a.GetScheduledEventId()] {
			var out activities.ApplyConfigResult
			if err := converter.GetDefaultDataConverter().FromPayloads(a.GetResult(), &out); err != nil {
				h.t.Fatal(err)
			}
			if out.Changed {
				return true
			}
		}
	}
	return false
}

// increase asks for one node more, as the autoscaler does.
func (h *holes) increase(id string) {
	h.t.Helper()
	err := h.temporal.SignalWorkflow(h.t.Context(), cluster.GroupID(holed, "general"), "", workflows.SignalIncreaseSize,
		map[string]any{"requestID": id, "origin": "autoscaler", "delta": 1})
	if err != nil {
		h.t.Fatal(err)
	}
}

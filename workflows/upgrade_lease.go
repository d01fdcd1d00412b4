package workflows

import (
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/fault"
)

// runNode runs the workflow of one node, waiting for its lock: one of a roll that
// was terminated may still be on its way to a safe point.
func (d *desk) runNode(ctx workflow.Context, id string, in NodeUpgradeInput) (NodeUpgradeResult, error) {
	for {
		var out NodeUpgradeResult
		err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
			WorkflowID:            id,
			WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
			WaitForCancellation:   true,
			StaticSummary:         fmt.Sprintf("%s on %s", in.Work, in.Target.Node.Name),
		}), UpgradeNode, in).Get(ctx, &out)
		if !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			return out, err
		}
		if err := workflow.Sleep(ctx, d.timing().Backoff); err != nil {
			return out, err
		}
	}
}

// lease takes or returns the node's lease.
func (n *nodeUpgrade) lease(ctx workflow.Context, release bool) error {
	err := n.askLease(ctx, "lease of "+n.name(), fmt.Sprint(release), activities.LeaseInput{Release: release, Reason: "upgrade: " + string(n.in.Work)})
	n.leased = err == nil && !release
	n.lost = kindOf(err) == fault.NotFound && !release
	return err
}

// askLease asks the group that owns the node. Each attempt has a request id of its
// own, which counts once.
func (n *nodeUpgrade) askLease(ctx workflow.Context, summary, attempt string, in activities.LeaseInput) error {
	self := workflow.GetInfo(ctx).WorkflowExecution
	in.Ref, in.Group, in.Machine = n.in.Ref, n.in.Target.Group, n.in.Target.Node.MachineID
	in.Holder, in.RequestID = self.ID, self.RunID+"-"+attempt
	_, err := call(ctx, &n.desk, n.short(summary), aUpgrades.LeaseMember, in)
	return err
}

// patient is patiently with the roll told, and the lease renewed meanwhile.
func (n *nodeUpgrade) patient(ctx workflow.Context, what string, f func(workflow.Context) error) error {
	return patiently(ctx, f, func(ctx workflow.Context, why string) error {
		seen := n.resumed
		n.parked = what + ": " + why
		n.tell(ctx, n.parked)
		err := n.parkedUntil(ctx, func() bool { return n.resumed > seen || n.stopped() != nil })
		if stop := n.stopped(); stop != nil {
			n.note, err = n.note+"; "+n.parked, stop
		}
		n.parked = ""
		n.tell(ctx, "")
		return err
	})
}

// parkedUntil waits, renewing the lease, for as long as nobody decides.
func (n *nodeUpgrade) parkedUntil(ctx workflow.Context, decided func() bool) error {
	if n.lends {
		if err := n.lease(ctx, true); err != nil {
			return err
		}
		if err := workflow.Await(ctx, decided); err != nil {
			return err
		}
		return n.lease(ctx, false)
	}
	for renewals := 1; ; renewals++ {
		ok, err := workflow.AwaitWithTimeout(ctx, leaseTime/2, decided)
		if ok || err != nil {
			return err
		}
		if err := n.askLease(ctx, "renew the lease of "+n.name(), fmt.Sprint(renewals), activities.LeaseInput{Reason: "upgrade: parked"}); err != nil {
			return err
		}
	}
}

// tell lets the roll know that the node parks or goes on.
func (n *nodeUpgrade) tell(ctx workflow.Context, parked string) {
	n.page(ctx)
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	// A roll that has ended need not know.
	_ = workflow.SignalExternalWorkflow(calm, n.in.Roll, "", SignalNode,
		NodeReport{Machine: n.in.Target.Node.MachineID, Parked: parked != "", Note: parked}).Get(calm, nil)
}

// giveBack uncordons the node and returns its lease, whatever happened.
func (n *nodeUpgrade) giveBack(ctx workflow.Context) {
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if n.held {
		err := do(calm, &n.desk, n.waiting("release "+n.name(), n.timing().Bootstrap), aUpgrades.ReleaseNode, n.work())
		if err != nil {
			n.note += "; it is still held: " + messageOf(err)
		}
	}
	if n.leased {
		if err := n.lease(calm, true); err != nil {
			n.note += "; its lease runs out by itself: " + messageOf(err)
		}
	}
}

package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Steps that repairs share, as people read them.
const (
	stepOpen     = "read the record"
	stepFindNode = "find the node"
)

// repair is what the workflows share that work on single nodes of a cluster that
// exists: the cluster's record, its members, and waits that park and ask.
type repair struct {
	lifecycle
	record cluster.Record
	// working is the workflow id of the work on a node, empty while there is none.
	working string
}

// take takes the cluster's lock and begins the progress.
func (r *repair) take(ctx workflow.Context, kind, name, node, problem string, steps []string) error {
	switch {
	case problem != "":
		return fail(fault.Invalid, "the input of %s is not understood: %s", kind, problem)
	case name == "":
		return fail(fault.Invalid, "cluster: is required, the name of the cluster")
	case node == "" && kind != TypeRestoreCluster:
		return fail(fault.Invalid, "node: is required, the name or the machine id of a node")
	}
	if err := checkID(ctx, cluster.LifecycleID(name), kind); err != nil {
		return err
	}
	return r.begin(ctx, kind, cluster.Ref{Name: name}, cluster.PhaseRepairing, steps)
}

// open reads the record of a cluster that is ready, and where it is.
func (r *repair) open(ctx workflow.Context) error {
	name := r.ref().Name
	rec, err := call(ctx, &r.desk, r.short("read the record"), aRecords.GetRecord, activities.GetRecordInput{Name: name})
	switch {
	case kindOf(err) == fault.NotFound:
		return fail(fault.NotFound, "there is no cluster %q", name)
	case err != nil:
		return err
	case rec.Phase != cluster.PhaseReady:
		return fail(fault.Conflict, "cluster %q is %s; only a ready one is repaired", name, rec.Phase)
	}
	r.record, r.spec, r.progress.Cluster, r.progress.Endpoint = rec, rec.Spec, rec.Ref, rec.Endpoint
	site, err := call(ctx, &r.desk, r.short("open the cloud account"), aCloud.OpenAccount, activities.OpenAccountInput{Cloud: rec.Spec.Cloud})
	if err != nil {
		return err
	}
	r.site, r.parks = Site{Account: site.Account, Capabilities: site.Capabilities, Timing: site.Timing}, true
	r.phase(ctx, cluster.PhaseRepairing)
	return nil
}

// find returns the member that a name or a machine id means.
func (r *repair) find(node string) (MemberStatus, bool) {
	for _, name := range r.groupNames() {
		for _, m := range r.groups[name].members {
			if m.Name == node || m.ID == node {
				return m, true
			}
		}
	}
	return MemberStatus{}, false
}

// groupNamed is the group to which a machine's name belongs, or would: names are
// made of the cluster's, the group's and the machine's.
func (r *repair) groupNamed(node string) string {
	for _, id := range r.record.Entities {
		rest, ok := strings.CutPrefix(node, cluster.MachineName(r.ref().Name, groupOf(id), ""))
		if ok && !strings.Contains(rest, "-") {
			return groupOf(id)
		}
	}
	return ""
}

// staying are the members of a group that have a machine with an address and are
// not about to go, sorted by name.
func (r *repair) staying(group string) []MemberStatus {
	var out []MemberStatus
	for _, m := range r.group(group).members {
		if m.Address != "" && !(GroupMember{MemberStatus: m}).Leaving() && m.Phase != MemberGone {
			out = append(out, m)
		}
	}
	return out
}

func (r *repair) controlPlanes() []activities.UpgradeTarget {
	var out []activities.UpgradeTarget
	for _, m := range r.staying(cluster.ControlPlaneGroup) {
		out = append(out, targetOf(m))
	}
	return out
}

func targetOf(m MemberStatus) activities.UpgradeTarget {
	return activities.UpgradeTarget{Node: addressOf(m), Group: m.Group, Role: m.Role}
}

func addressOf(m MemberStatus) cluster.NodeAddress {
	return cluster.NodeAddress{MachineID: m.ID, Name: m.Name, Address: m.Address, Private: m.Private}
}

// patient is patiently with a page for people.
func (r *repair) patient(ctx workflow.Context, what string, f func(workflow.Context) error) error {
	return patiently(ctx, f, func(ctx workflow.Context, why string) error {
		seen := r.resumed
		r.parked = what + ": " + why + " — send the signal " + SignalResume + " to try again, or cancel"
		r.details(ctx)
		if err := workflow.Await(ctx, func() bool { return r.resumed > seen }); err != nil {
			return err
		}
		r.parked = ""
		r.details(ctx)
		return nil
	})
}

// handleNode hears from the workflow that works on the node, and hands resume on to
// it while it is parked.
func (r *repair) handleNode(ctx workflow.Context) {
	reports := workflow.GetSignalChannel(ctx, SignalNode)
	workflow.GoNamed(ctx, "node", func(ctx workflow.Context) {
		var rep NodeReport
		for reports.Receive(ctx, &rep) {
			r.parked = ""
			if rep.Parked {
				r.parked = rep.Note + " — send the signal " + SignalResume + " to try again, or cancel"
			}
			r.details(ctx)
			rep = NodeReport{}
		}
	})
	workflow.GoNamed(ctx, "resumed", func(ctx workflow.Context) {
		for seen := r.resumed; ; seen = r.resumed {
			if workflow.Await(ctx, func() bool { return r.resumed > seen }) != nil {
				return
			}
			if r.working != "" && r.parked != "" {
				// One that has ended meanwhile needs no signal.
				_ = workflow.SignalExternalWorkflow(ctx, r.working, "", SignalResume, nil).Get(ctx, nil)
			}
		}
	})
}

// frozen is the record as a node's work renders it.
func (r *repair) frozen() activities.FreezeLegResult {
	return activities.FreezeLegResult{Spec: r.record.Spec, SpecDigest: r.record.SpecDigest, Frozen: r.record.Frozen}
}

// have are the cluster's own resources in the cloud.
func (r *repair) have(ctx workflow.Context) ([]cloud.Resource, error) {
	owned, err := call(ctx, &r.desk, r.short("list what the cluster owns"), aCloud.ListOwned,
		activities.ListOwnedInput{Cloud: r.spec.Cloud, Owner: r.owner()})
	return owned.Resources, err
}

// over ends a repair: its phase is that of the cluster again.
func (r *repair) over(ctx workflow.Context, err error) error {
	r.progress.Failure = failureOf(err)
	if r.ref().UID != "" {
		r.phase(ctx, cluster.PhaseReady)
	}
	r.details(ctx)
	return err
}

package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Steps of ReplaceNode.
const (
	stepOut     = "take it out of etcd"
	stepNew     = "new machine"
	stepForward = "endpoint and record"
	stepAnswers = "machine API of the new one"
	stepVotes   = "it votes in etcd"
	stepNode    = "its node is ready"
	stepGone    = "the old one is gone"
	stepAsk     = "ask for a new machine"
	stepTaken   = "wait until it has taken over"
)

// ReplaceNode puts a new machine in the place of a node that is gone or broken. It
// runs under cluster.LifecycleID, the lock of the cluster. A control plane leaves
// etcd before anything else, and only while the others have quorum. Run again it
// goes on where it was, and changes nothing when all is done.
func ReplaceNode(ctx workflow.Context, in ReplaceNodeInput) (ReplaceNodeResult, error) {
	p := &replacement{in: in}
	if err := p.take(ctx, TypeReplaceNode, in.Cluster, in.Node, in.problem, []string{stepOpen, stepFindNode}); err != nil {
		return ReplaceNodeResult{}, err
	}
	err := p.step(ctx, stepOpen, p.open)
	if err == nil {
		err = p.step(ctx, stepFindNode, p.findNode)
	}
	if err == nil {
		err = p.runbook(ctx)
	}
	return p.result, p.over(ctx, err)
}

// replacement is a running ReplaceNode.
type replacement struct {
	repair
	in ReplaceNodeInput
	// old is the node that goes, group its group; known says that it is still a
	// member, named that the record names it as a control plane.
	old          cluster.NodeAddress
	group        string
	known, named bool
	result       ReplaceNodeResult
}

func (p *replacement) runbook(ctx workflow.Context) error {
	if p.group != cluster.ControlPlaneGroup {
		return p.worker(ctx)
	}
	for _, ph := range []phase{
		{stepOut, p.takeOut},
		{stepNew, p.machine},
		{stepForward, p.forward},
		{stepAnswers, p.answers},
		{stepVotes, p.votes},
		{stepNode, p.nodeReady},
		{stepGone, p.gone},
	} {
		if err := p.step(ctx, ph.name, ph.do); err != nil {
			return err
		}
	}
	p.result.Message = fmt.Sprintf("control plane %s has taken the place of %s: it votes in etcd, the endpoint forwards to it, and its node is ready", p.result.By, p.old.Name)
	switch {
	case p.result.By == "":
		p.result.Unchanged = true
		p.result.Message = fmt.Sprintf("control plane %s has left before; all %d control planes vote in etcd", p.old.Name, len(p.staying(p.group)))
	case p.result.Unchanged:
		p.result.Message = fmt.Sprintf("control plane %s had taken the place of %s before; nothing was to be done", p.result.By, p.old.Name)
	}
	return nil
}

// findNode looks whose node it is. One that is gone is known by its name, or by the
// record.
func (p *replacement) findNode(ctx workflow.Context) error {
	if err := p.askGroups(ctx, p.record.Entities); err != nil {
		return err
	}
	p.old, p.group = cluster.NodeAddress{Name: p.in.Node}, p.groupNamed(p.in.Node)
	if i := slices.IndexFunc(p.record.ControlPlanes, func(n cluster.NodeAddress) bool { return n.Name == p.in.Node || n.MachineID == p.in.Node }); i >= 0 {
		p.old, p.group, p.named = p.record.ControlPlanes[i], cluster.ControlPlaneGroup, true
	}
	if m, ok := p.find(p.in.Node); ok {
		switch {
		case m.Surge:
			return fail(fault.Conflict, "%s is itself being added in the place of another", m.Name)
		case m.Role == cluster.RoleControlPlane && p.old.Address == "":
			p.old = addressOf(m)
		}
		p.group, p.old.MachineID, p.old.Name = m.Group, m.ID, m.Name
		p.known = !(GroupMember{MemberStatus: m}).Leaving() && m.Phase != MemberGone
	}
	if p.group == "" {
		return fail(fault.NotFound, "cluster %q has no node %q and had none of that name", p.in.Cluster, p.in.Node)
	}
	p.result.Cluster, p.result.Node = p.ref(), p.old.Name
	p.at(ctx, stepFindNode, "%s of group %s", p.old.Name, p.group)
	return nil
}

// ask has the group replace the node.
func (p *replacement) ask(ctx workflow.Context, out, lost bool) error {
	machine := p.old.MachineID
	if machine == "" {
		machine = p.old.Name
	}
	res, err := call(ctx, &p.desk, p.short("replace "+p.old.Name), aUpgrades.ReplaceMember, activities.ReplaceInput{
		Ref: p.ref(), Group: p.group, Machine: machine, Out: out, Lost: lost, RequestID: workflow.GetInfo(ctx).WorkflowExecution.RunID,
	})
	p.result.By = res.By
	return err
}

// worker lets the group add a machine before it drains the old one.
func (p *replacement) worker(ctx workflow.Context) error {
	if err := p.step(ctx, stepAsk, func(ctx workflow.Context) error { return p.ask(ctx, false, false) }); err != nil {
		return err
	}
	limit := p.timing().Joined + orDefault(p.timing().Drain, activities.DefaultTiming().Drain)
	err := p.step(ctx, stepTaken, func(ctx workflow.Context) error {
		return p.patient(ctx, "replacement of "+p.old.Name, func(ctx workflow.Context) error {
			return do(ctx, &p.desk, p.waiting("replacement of "+p.old.Name, limit), aUpgrades.WaitReplaced,
				activities.ReplaceInput{Ref: p.ref(), Group: p.group, Machine: p.old.MachineID})
		})
	})
	p.result.Message = fmt.Sprintf("worker %s has taken the place of %s", p.result.By, p.old.Name)
	if p.result.By == "" {
		p.result.Unchanged = true
		p.result.Message = "worker " + p.old.Name + " has left before; nothing was to be done"
	}
	return err
}

// takeOut removes the node's member of etcd, unless an earlier run has: the group
// knows an heir, or that it has left.
func (p *replacement) takeOut(ctx workflow.Context) error {
	if !p.known {
		err := p.ask(ctx, false, false)
		if err == nil || kindOf(err) != fault.NotFound || !p.named {
			p.result.Unchanged = err == nil && !p.named
			p.at(ctx, stepOut, "an earlier run has")
			return err
		}
	}
	nodes := p.controlPlanes()
	if !slices.ContainsFunc(nodes, func(t activities.UpgradeTarget) bool { return t.Node.Name == p.old.Name }) {
		nodes = append(nodes, activities.UpgradeTarget{Node: p.old, Group: p.group, Role: cluster.RoleControlPlane})
	}
	return p.patient(ctx, "etcd", func(ctx workflow.Context) error {
		return do(ctx, &p.desk, p.waiting("take "+p.old.Name+" out of etcd", p.timing().Bootstrap), aUpgrades.RemoveEtcdMember,
			activities.RemoveEtcdMemberInput{Ref: p.ref(), Nodes: nodes, Name: p.old.Name})
	})
}

// machine waits until the new machine runs and has an address.
func (p *replacement) machine(ctx workflow.Context) error {
	if p.known || p.result.By == "" && p.named {
		if err := p.ask(ctx, true, p.named); err != nil {
			return err
		}
	}
	if p.result.By == "" {
		return nil // it has left before
	}
	m, err := p.awaitMember(ctx, p.result.By, runs)
	p.at(ctx, stepNew, "%s at %s", m.Name, m.Address)
	return err
}

// forward has the endpoint forward to the control planes that stay, and the record
// name them. The machine that etcd was bootstrapped on stays in the record though it
// may be the one that goes: as long as it does, nothing bootstraps a second etcd.
func (p *replacement) forward(ctx workflow.Context) error {
	return p.publishControlPlanes(ctx)
}

// answers waits for the machine API of the new machine, which gives it its config if
// the cloud did not.
func (p *replacement) answers(ctx workflow.Context) error {
	m, ok := p.find(p.result.By)
	if !ok {
		return nil
	}
	return p.patient(ctx, "machine API of "+m.Name, func(ctx workflow.Context) error {
		_, err := call(ctx, &p.desk, p.waiting("machine API of "+m.Name, p.timing().Joined), aTalos.WaitMachineAPI,
			activities.WaitMachineAPIInput{Ref: p.ref(), Group: p.group, Role: cluster.RoleControlPlane, Node: addressOf(m)})
		return err
	})
}

func (p *replacement) votes(ctx workflow.Context) error { return p.allVote(ctx, stepVotes) }

func (p *replacement) nodeReady(ctx workflow.Context) error {
	if p.result.By == "" {
		return nil
	}
	_, err := p.awaitMember(ctx, p.result.By, ready)
	return err
}

// gone waits until the group has proven that the old machine is gone; its Node
// object goes with it, also where the group did not know of it.
func (p *replacement) gone(ctx workflow.Context) error {
	if err := p.awaitGone(ctx, p.old.Name); err != nil {
		return err
	}
	return do(ctx, &p.desk, p.short("delete the Node object "+p.old.Name), aKube.DeleteNode, activities.DeleteNodeInput{Ref: p.ref(), Name: p.old.Name})
}

// awaitMember waits until a control plane is as wanted, or has failed.
func (r *repair) awaitMember(ctx workflow.Context, name string, ok func(MemberStatus) bool) (MemberStatus, error) {
	var m MemberStatus
	err := r.awaitGroup(ctx, func() (bool, error) {
		var known bool
		if m, known = r.find(name); !known {
			return false, nil
		}
		if m.Phase == MemberFailed {
			return true, fail(r.kindOfFailure(name), "%s came to nothing: %s; the same command again has it tried again", name, m.Note)
		}
		return ok(m), nil
	})
	return m, err
}

func (r *repair) awaitGone(ctx workflow.Context, name string) error {
	return r.awaitGroup(ctx, func() (bool, error) {
		m, known := r.find(name)
		return r.group(cluster.ControlPlaneGroup).full && (!known || m.Phase == MemberGone), nil
	})
}

// awaitGroup waits for what the control planes' group reports, and asks after a long
// silence.
func (r *repair) awaitGroup(ctx workflow.Context, over func() (bool, error)) error {
	for {
		var failed error
		ok, err := workflow.AwaitWithTimeout(ctx, askAgain, func() bool {
			done, err := over()
			failed = err
			return done
		})
		if err != nil || ok {
			return firstOf(err, failed)
		}
		if err := r.askGroup(ctx, cluster.ControlPlaneGroup); err != nil {
			return err
		}
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// kindOfFailure is the kind of a member's failure, as its group tells it.
func (r *repair) kindOfFailure(name string) fault.Kind {
	if f := r.group(cluster.ControlPlaneGroup).failure; f != nil && strings.HasPrefix(f.Message, name) {
		return f.Kind
	}
	return fault.Unavailable
}

// publishControlPlanes has the endpoint forward to the control planes that there
// are, and the record name them.
func (r *repair) publishControlPlanes(ctx workflow.Context) error {
	if err := r.syncEndpoint(ctx); err != nil {
		return err
	}
	return r.recordControlPlanes(ctx)
}

func (r *repair) syncEndpoint(ctx workflow.Context) error {
	if r.spec.Endpoint.Address != "" {
		return nil
	}
	req := cloud.SyncMembersRequest{Owner: r.owner()}
	for _, m := range r.staying(cluster.ControlPlaneGroup) {
		req.Members = append(req.Members, cloud.Member{MachineID: m.ID, Name: m.Name, Address: m.Private})
	}
	if len(req.Members) == 0 {
		return fail(fault.Internal, "no control plane has an address")
	}
	var err error
	if req.Have, err = r.have(ctx); err != nil {
		return err
	}
	_, err = call(ctx, &r.desk, r.waiting("sync endpoint members", r.timing().Running), aCloud.SyncEndpoint,
		activities.SyncEndpointInput{Cloud: r.spec.Cloud, SyncMembersRequest: req})
	return err
}

func (r *repair) recordControlPlanes(ctx workflow.Context) error {
	var addresses []cluster.NodeAddress
	for _, m := range r.staying(cluster.ControlPlaneGroup) {
		addresses = append(addresses, addressOf(m))
	}
	if len(addresses) == 0 {
		return fail(fault.Internal, "no control plane has an address")
	}
	rec, err := call(ctx, &r.desk, r.short("record the control planes"), aRecords.UpdateRecord, activities.RecordChange{Ref: r.ref(), ControlPlanes: addresses})
	if err == nil {
		r.record = rec
	}
	return err
}

// allVote waits until every control plane is a healthy voter, and there is no other
// member.
func (r *repair) allVote(ctx workflow.Context, step string) error {
	return r.patient(ctx, "etcd", func(ctx workflow.Context) error {
		out, err := call(ctx, &r.desk, r.waiting("etcd voters", r.timing().Bootstrap), aUpgrades.WaitEtcdGate,
			activities.EtcdGateInput{Ref: r.ref(), Nodes: r.controlPlanes(), Stable: defaultStable})
		if err == nil {
			r.at(ctx, step, "%d voters, led by %s", len(out.Voters), out.Leader)
		}
		return err
	})
}

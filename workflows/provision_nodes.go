package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	enumspb "go.temporal.io/api/enums/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// controlPlane starts the control plane's group and waits until all its machines
// run and have addresses.
func (p *provision) controlPlane(ctx workflow.Context) error {
	if err := p.startGroup(ctx, p.controlPlaneGroup()); err != nil {
		return err
	}
	view := p.group(cluster.ControlPlaneGroup)
	if err := p.waitGroups(ctx, stepControl, []string{cluster.ControlPlaneGroup}, runs); err != nil {
		return err
	}
	for _, m := range view.members {
		p.control = append(p.control, cluster.NodeAddress{MachineID: m.ID, Name: m.Name, Address: m.Address, Private: m.Private})
	}
	return p.save(ctx, activities.RecordChange{ControlPlanes: p.control})
}

// nodeGroups starts all groups at once; each creates its own machines.
func (p *provision) nodeGroups(ctx workflow.Context) error {
	for _, ng := range p.spec.NodeGroups {
		if err := p.startGroup(ctx, p.workerGroup(ng)); err != nil {
			return err
		}
	}
	return nil
}

func (p *provision) controlPlaneGroup() GroupInput {
	cp := p.spec.ControlPlane
	return p.resolved(GroupInput{
		Group: cluster.ControlPlaneGroup, Role: cluster.RoleControlPlane, Zone: cp.Zone, Zones: cp.Zones, Flavor: cp.Flavor, DiskGiB: cp.DiskGiB,
		Tags: tags(cp.Tags), Spread: cp.AntiAffinity == nil || *cp.AntiAffinity, Target: cp.Replicas,
	})
}

func (p *provision) workerGroup(ng cluster.NodeGroup) GroupInput {
	count := ng.Min
	if ng.Count != nil {
		count = *ng.Count
	}
	return p.resolved(GroupInput{
		Group: ng.Name, Role: cluster.RoleWorker, Zone: ng.Zone, Zones: ng.Zones, Flavor: ng.Flavor, DiskGiB: ng.DiskGiB,
		ImageID: ng.Image, Networks: ng.Networks, Tags: tags(ng.Tags), Spot: ng.Spot,
		Spread: ng.AntiAffinity == nil || *ng.AntiAffinity, Target: count,
		Min: ng.Min, Max: ng.Max, Alternatives: ng.Alternatives, Autoscaling: ng.Autoscaling,
	})
}

// resolved completes a group's input by what the cluster has resolved.
func (p *provision) resolved(in GroupInput) GroupInput {
	in.Cluster, in.Cloud, in.Site = p.ref(), p.spec.Cloud, p.site
	if in.Zone == "" {
		in.Zone = p.spec.Cloud.Zone
	}
	if in.ImageID == "" {
		in.ImageID = p.frozen.For(in.Group).ImageID
	}
	in.Resumed = p.resumed
	for _, r := range p.have {
		in.Params = append(in.Params, r.Machine...)
		switch {
		case r.Kind != cloud.KindSubnet:
		case r.Zone != "":
			in.ZoneSubnets = append(in.ZoneSubnets, ZoneSubnet{Zone: r.Zone, ID: r.ID})
		default:
			in.Subnets = append(in.Subnets, r.ID)
		}
	}
	slices.SortFunc(in.Params, func(a, b cluster.Tag) int { return strings.Compare(a.Key+"\x00"+a.Value, b.Key+"\x00"+b.Value) })
	return in
}

// startGroup starts a group's entity, or finds that it runs already.
func (p *provision) startGroup(ctx workflow.Context, in GroupInput) error {
	id := cluster.GroupID(p.ref().Name, in.Group)
	p.undo = append(p.undo, undo{what: undoGroup, group: in.Group})
	if err := p.save(ctx, activities.RecordChange{Entities: []string{id}}); err != nil {
		return err
	}
	started, err := p.launch(ctx, in)
	if err != nil || started {
		return err
	}
	*p.group(in.Group) = groupView{} // what it said before does not count
	calm, _ := workflow.NewDisconnectedContext(ctx)
	return workflow.SignalExternalWorkflow(calm, id, "", SignalAttach, GroupMessage{Cluster: p.ref()}).Get(calm, nil)
}

// launch starts a group's entity and reports whether it did; it may run already.
// The group outlives this workflow and is not cancelled with it: only SignalEnd
// ends it.
func (p *provision) launch(ctx workflow.Context, in GroupInput) (bool, error) {
	// Cancelling the context of a child cancels the child, so this one is left.
	calm, _ := workflow.NewDisconnectedContext(ctx)
	child := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(calm, workflow.ChildWorkflowOptions{
		WorkflowID:            cluster.GroupID(p.ref().Name, in.Group),
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         fmt.Sprintf("%d machines %s for %s", in.Target, in.Flavor, p.ref().Name),
	}), ScaleNodeGroup, in)
	err := child.GetChildWorkflowExecution().Get(calm, nil)
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return false, nil
	}
	return err == nil, err
}

// changeRevive is the version gate of revive.
const changeRevive = "revive-groups"

// revive starts the entities of a ready cluster again that do not run: Temporal's
// database was lost, or somebody terminated them. They adopt the machines that
// there are and make none but what a min demands.
func (p *provision) revive(ctx workflow.Context, entities []string) error {
	if workflow.GetVersion(ctx, changeRevive, workflow.DefaultVersion, 1) < 1 {
		return nil
	}
	var lost []string
	for _, id := range entities {
		err := workflow.SignalExternalWorkflow(ctx, id, "", SignalAsk, GroupMessage{Cluster: p.ref()}).Get(ctx, nil)
		switch {
		case isNotRunning(err):
			lost = append(lost, groupOf(id))
		case err != nil:
			return err
		}
	}
	if len(lost) == 0 {
		return nil
	}
	if err := p.freeze(ctx); err != nil {
		return err
	}
	owned, err := call(ctx, &p.desk, p.short("list what the cluster owns"), aCloud.ListOwned,
		activities.ListOwnedInput{Cloud: p.spec.Cloud, Owner: p.owner()})
	if err != nil {
		return err
	}
	p.have, p.resumed = owned.Resources, true
	if brought := p.spec.Network.Existing; brought != nil {
		p.have = append(p.have, cloud.Resource{Kind: cloud.KindSubnet, ID: brought.Subnet, Foreign: true})
	}
	groups := []GroupInput{p.controlPlaneGroup()}
	for _, ng := range p.spec.NodeGroups {
		groups = append(groups, p.workerGroup(ng))
	}
	for _, in := range groups {
		if !slices.Contains(lost, in.Group) {
			continue
		}
		in.Target = 0
		if _, err := p.launch(ctx, in); err != nil {
			return err
		}
	}
	p.result.Message = fmt.Sprintf("cluster %q is ready already; its groups %s did not run and were started again, with the machines that there are",
		p.ref().Name, strings.Join(lost, ", "))
	return do(ctx, &p.desk, p.short("schedule sweeps for orphans"), aSweeps.EnsureSweep, activities.EnsureSweepInput{Ref: p.ref()})
}

func tags(m map[string]string) []cluster.Tag {
	var out []cluster.Tag
	for _, k := range workflow.DeterministicKeys(m) {
		out = append(out, cluster.Tag{Key: k, Value: m[k]})
	}
	return out
}

// runs and ready are what a member can be waited for.
func runs(m MemberStatus) bool {
	return m.CloudState == cloud.MachineRunning && m.Address != "" || m.Phase == MemberReady
}

func ready(m MemberStatus) bool { return m.Phase == MemberReady }

// waitGroups returns when every member of every group satisfies ok, or with the
// first failure that a group reports.
func (p *provision) waitGroups(ctx workflow.Context, step string, names []string, ok func(MemberStatus) bool) error {
	var failure *Failure
	satisfied := func() bool {
		all := true
		for _, name := range names {
			v := p.group(name)
			if v.failure != nil && (v.full || v.foreign != "") {
				failure = v.failure
				return true
			}
			all = all && len(v.members) >= p.wanted(name) && !slices.ContainsFunc(v.members, func(m MemberStatus) bool { return !ok(m) })
		}
		return all
	}
	for {
		ok, err := workflow.AwaitWithTimeout(ctx, askAgain, satisfied)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if err := p.askGroups(ctx, names); err != nil {
			return err
		}
	}
	if failure != nil {
		return fail(failure.Kind, "%s", failure.Message)
	}
	var counts []string
	for _, name := range names {
		counts = append(counts, fmt.Sprintf("%s %d", name, len(p.group(name).members)))
	}
	p.at(ctx, step, "%s", strings.Join(counts, ", "))
	return nil
}

// askGroups asks for full reports after a long silence. A group that does not
// run any more will never finish.
func (p *provision) askGroups(ctx workflow.Context, names []string) error {
	for _, name := range names {
		id := cluster.GroupID(p.ref().Name, name)
		err := workflow.SignalExternalWorkflow(ctx, id, "", SignalAsk, GroupMessage{Cluster: p.ref()}).Get(ctx, nil)
		if isNotRunning(err) {
			return fail(fault.Internal, "%s does not run any more: somebody ended or terminated it", id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *provision) wanted(group string) int {
	if group == cluster.ControlPlaneGroup {
		return p.spec.ControlPlane.Replicas
	}
	for _, ng := range p.spec.NodeGroups {
		if ng.Name == group && ng.Count != nil {
			return *ng.Count
		}
		if ng.Name == group {
			return ng.Min
		}
	}
	return 0
}

func (p *provision) endpointMembers(ctx workflow.Context) error {
	if p.spec.Endpoint.Address != "" {
		return nil
	}
	req := cloud.SyncMembersRequest{Owner: p.owner(), Have: p.have}
	for _, n := range p.control {
		req.Members = append(req.Members, cloud.Member{MachineID: n.MachineID, Name: n.Name, Address: n.Private})
	}
	_, err := call(ctx, &p.desk, p.waiting("sync endpoint members", p.timing().Running), aCloud.SyncEndpoint,
		activities.SyncEndpointInput{Cloud: p.spec.Cloud, SyncMembersRequest: req})
	return err
}

// machineAPI waits for all control planes at once.
func (p *provision) machineAPI(ctx workflow.Context) error {
	var first error
	wg := workflow.NewWaitGroup(ctx)
	for _, n := range p.control {
		wg.Add(1)
		workflow.GoNamed(ctx, "machine API "+n.Name, func(ctx workflow.Context) {
			defer wg.Done()
			_, err := call(ctx, &p.desk, p.waiting("machine API of "+n.Name, p.timing().Joined), aTalos.WaitMachineAPI,
				activities.WaitMachineAPIInput{Ref: p.ref(), Group: cluster.ControlPlaneGroup, Role: cluster.RoleControlPlane, Node: n})
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait(ctx)
	return first
}

// bootstrap starts etcd exactly once, on one node that is recorded before the
// call and never changed by itself.
func (p *provision) bootstrap(ctx workflow.Context) error {
	out, err := call(ctx, &p.desk, p.short("read the record"), aRecords.GetRecord, activities.GetRecordInput{Name: p.ref().Name})
	if err != nil {
		return err
	}
	p.boot = p.control[0]
	if out.BootstrapMachine != "" {
		i := slices.IndexFunc(p.control, func(n cluster.NodeAddress) bool { return n.MachineID == out.BootstrapMachine })
		if i < 0 {
			return fail(fault.Unsafe, "etcd was bootstrapped on machine %s, which is not a control plane any more; a second bootstrap would make a second cluster", out.BootstrapMachine)
		}
		p.boot = p.control[i]
	}
	if err := p.save(ctx, activities.RecordChange{BootstrapMachine: p.boot.MachineID}); err != nil {
		return err
	}
	peers := slices.DeleteFunc(slices.Clone(p.control), func(n cluster.NodeAddress) bool { return n.MachineID == p.boot.MachineID })
	return do(ctx, &p.desk, p.waiting("bootstrap etcd on "+p.boot.Name, p.timing().Bootstrap), aTalos.BootstrapEtcd,
		activities.BootstrapEtcdInput{Ref: p.ref(), Node: p.boot, Peers: peers})
}

func (p *provision) kubernetesAPI(ctx workflow.Context) error {
	return do(ctx, &p.desk, p.waiting("Kubernetes API", p.timing().Bootstrap), aKube.WaitKubernetesAPI, activities.WaitAPIInput{Ref: p.ref()})
}

func (p *provision) voters(ctx workflow.Context) error {
	_, err := call(ctx, &p.desk, p.waiting(fmt.Sprintf("%d etcd voters", len(p.control)), p.timing().Bootstrap), aTalos.WaitEtcd,
		activities.WaitEtcdInput{Ref: p.ref(), Nodes: p.control})
	return err
}

func (p *provision) addons(ctx workflow.Context) error {
	_, err := call(ctx, &p.desk, p.waiting("secrets and manifests", p.timing().Joined), aKube.ApplyAddons, activities.ApplyAddonsInput{Ref: p.ref()})
	return err
}

// nodesReady waits until every node is Ready, has its provider ID and is
// initialised.
func (p *provision) nodesReady(ctx workflow.Context) error {
	names := []string{cluster.ControlPlaneGroup}
	for _, ng := range p.spec.NodeGroups {
		names = append(names, ng.Name)
	}
	return p.waitGroups(ctx, stepReady, names, ready)
}

package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Steps of RestoreCluster.
const (
	stepLost       = "prove that etcd is lost"
	stepNewPlanes  = "new control plane machines"
	stepForwardNew = "endpoint members"
	stepAnswerAll  = "machine API"
	stepRestore    = "restore etcd"
	stepAPIAgain   = "Kubernetes API"
	stepVoteAll    = "all vote in etcd"
	stepReadyAll   = "control planes ready"
	stepObjects    = "delete old Node objects"
	stepRecordNew  = "record the control planes"
)

// RestoreCluster brings a cluster back whose control planes have lost etcd for good:
// new machines take the places of all, etcd begins anew on one of them from a
// snapshot, and the others join. It runs under cluster.LifecycleID, the lock of the
// cluster. Until all is done the record names the lost machines, by which a repetition
// finds what was made for them.
func RestoreCluster(ctx workflow.Context, in RestoreInput) (RestoreResult, error) {
	s := &restoration{in: in}
	steps := []phase{
		{stepOpen, s.open},
		{stepLost, s.lost},
		{stepNewPlanes, s.machines},
		{stepForwardNew, s.syncEndpoint},
		{stepAnswerAll, s.answer},
		{stepRestore, s.restore},
		{stepAPIAgain, s.kubernetes},
		{stepVoteAll, s.vote},
		{stepReadyAll, s.ready},
		{stepObjects, s.objects},
		{stepRecordNew, s.recordControlPlanes},
	}
	var names []string
	for _, ph := range steps {
		names = append(names, ph.name)
	}
	if err := s.take(ctx, TypeRestoreCluster, in.Cluster, "", in.problem, names); err != nil {
		return RestoreResult{}, err
	}
	if in.Snapshot.Key == "" {
		return RestoreResult{}, s.over(ctx, fail(fault.Invalid, "snapshot.key: is required, the store key of a snapshot"))
	}
	for _, ph := range steps {
		if err := s.step(ctx, ph.name, ph.do); err != nil {
			return s.result, s.over(ctx, err)
		}
	}
	s.result.Message = fmt.Sprintf("cluster %q is back, as it was in the snapshot %s: control planes %s; what changed since then is lost",
		in.Cluster, in.Snapshot.Key, strings.Join(s.result.ControlPlanes, ", "))
	return s.result, s.over(ctx, nil)
}

// restoration is a running RestoreCluster.
type restoration struct {
	repair
	in RestoreInput
	// old are the machines that etcd was lost on.
	old    []cluster.NodeAddress
	result RestoreResult
}

// lost asks those of the old machines that there still are.
func (s *restoration) lost(ctx workflow.Context) error {
	s.old, s.result.Cluster = s.record.ControlPlanes, s.ref()
	if len(s.old) == 0 {
		return fail(fault.Unsafe, "the record names no control planes")
	}
	if err := s.askGroups(ctx, s.record.Entities); err != nil {
		return err
	}
	nodes := slices.DeleteFunc(s.controlPlanes(), func(t activities.UpgradeTarget) bool {
		return !slices.ContainsFunc(s.old, func(n cluster.NodeAddress) bool { return n.MachineID == t.Node.MachineID })
	})
	return do(ctx, &s.desk, s.waiting("prove that etcd is lost", s.timing().Bootstrap), aUpgrades.ProveEtcdLost,
		activities.EtcdGateInput{Ref: s.ref(), Nodes: nodes})
}

// machines gives the places of all to new machines, once for each old one, and waits
// until they run.
func (s *restoration) machines(ctx workflow.Context) error {
	s.result.ControlPlanes = nil
	for _, n := range s.old {
		res, err := call(ctx, &s.desk, s.short("replace "+n.Name), aUpgrades.ReplaceMember, activities.ReplaceInput{
			Ref: s.ref(), Group: cluster.ControlPlaneGroup, Machine: n.MachineID, Out: true, Lost: true, RequestID: workflow.GetInfo(ctx).WorkflowExecution.RunID,
		})
		switch {
		case err != nil:
			return err
		case res.By == "":
			return fail(fault.Conflict, "%s has left, and nothing took its place; run: ichor status %s", n.Name, s.in.Cluster)
		}
		s.result.ControlPlanes = append(s.result.ControlPlanes, res.By)
	}
	slices.Sort(s.result.ControlPlanes)
	for _, name := range s.result.ControlPlanes {
		if _, err := s.awaitMember(ctx, name, runs); err != nil {
			return err
		}
	}
	for _, n := range s.old {
		if err := s.awaitGone(ctx, n.Name); err != nil {
			return err
		}
	}
	return nil
}

func (s *restoration) answer(ctx workflow.Context) error {
	for _, t := range s.controlPlanes() {
		err := s.patient(ctx, "machine API of "+t.Node.Name, func(ctx workflow.Context) error {
			_, err := call(ctx, &s.desk, s.waiting("machine API of "+t.Node.Name, s.timing().Joined), aTalos.WaitMachineAPI,
				activities.WaitMachineAPIInput{Ref: s.ref(), Group: t.Group, Role: t.Role, Node: t.Node})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// restore begins etcd anew on one machine, which the record names before the first
// call; a repetition uses the same.
func (s *restoration) restore(ctx workflow.Context) error {
	nodes := s.controlPlanes()
	at := slices.IndexFunc(nodes, func(t activities.UpgradeTarget) bool { return t.Node.MachineID == s.record.BootstrapMachine })
	target := nodes[max(at, 0)]
	peers := slices.DeleteFunc(slices.Clone(nodes), func(t activities.UpgradeTarget) bool { return t.Node.MachineID == target.Node.MachineID })
	s.at(ctx, stepRestore, "on %s", target.Node.Name)
	return s.patient(ctx, "etcd", func(ctx workflow.Context) error {
		return do(ctx, &s.desk, s.waiting("restore etcd on "+target.Node.Name, s.timing().Bootstrap), aUpgrades.RestoreEtcd, activities.RestoreEtcdInput{
			NodeWorkInput: activities.NodeWorkInput{Ref: s.ref(), Target: target, Holder: workflow.GetInfo(ctx).WorkflowExecution.ID},
			Snapshot:      s.in.Snapshot, Peers: peers, Replaces: s.record.BootstrapMachine,
		})
	})
}

func (s *restoration) kubernetes(ctx workflow.Context) error {
	return s.patient(ctx, "Kubernetes API", func(ctx workflow.Context) error {
		return do(ctx, &s.desk, s.waiting("Kubernetes API", s.timing().Bootstrap), aKube.WaitKubernetesAPI, activities.WaitAPIInput{Ref: s.ref()})
	})
}

func (s *restoration) vote(ctx workflow.Context) error { return s.allVote(ctx, stepVoteAll) }

func (s *restoration) ready(ctx workflow.Context) error {
	for _, name := range s.result.ControlPlanes {
		if _, err := s.awaitMember(ctx, name, ready); err != nil {
			return err
		}
	}
	return nil
}

// objects deletes the Node objects of the old control planes, which the snapshot
// brought back.
func (s *restoration) objects(ctx workflow.Context) error {
	for _, n := range s.old {
		err := do(ctx, &s.desk, s.short("delete the Node object "+n.Name), aKube.DeleteNode, activities.DeleteNodeInput{Ref: s.ref(), Name: n.Name})
		if err != nil {
			return err
		}
	}
	return nil
}

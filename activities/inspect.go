package activities

import (
	"context"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// InspectGroup compares what the entity knows of its members with the cloud and
// with the cluster, once, and returns the differences. It writes nothing. When
// the Kubernetes API cannot be read, the answer says so and holds what the cloud
// says; an incomplete answer of the cloud is an error. Unauthorized when machines
// are missing in an account that may be another one.
func (w *Watch) InspectGroup(ctx context.Context, in InspectGroupInput) (InspectGroupResult, error) {
	defer alive(ctx, "comparing the group with the cloud")()
	var out InspectGroupResult
	p, account, err := w.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return out, err
	}
	machines, err := p.ListMachines(ctx, in.Owner)
	if err != nil {
		return out, err
	}
	running := make([]MemberFact, 0, len(in.Known))
	for _, f := range in.Known {
		at := slices.IndexFunc(machines, func(m cloud.Machine) bool { return m.Ref.ID == f.ID && m.Ref.Cloud == f.CloudID })
		if at < 0 {
			gone, err := absent(ctx, p, in.Owner, f)
			if err != nil {
				return InspectGroupResult{}, err
			}
			if gone {
				out.Missing = append(out.Missing, f.ID)
			}
			continue
		}
		switch machines[at].State {
		case cloud.MachineStopped, cloud.MachineFailed, cloud.MachineDeleting:
			out.Stopped = append(out.Stopped, f.ID)
		case cloud.MachineRunning:
			f.ProviderID = machines[at].ProviderID
			running = append(running, f)
		case cloud.MachineCreating, cloud.MachineUnknown: // on its way to something else
		}
	}
	if len(out.Missing) > 0 {
		if err := (accounts{store: w.Kube.Store, known: in.Account}).prove(ctx, in.Owner.Cluster, p, account); err != nil {
			return InspectGroupResult{}, err
		}
	}
	out.Duplicates, out.Unknown = strangers(machines, in.Known, out.Missing)
	// Whatever is wrong with the Kubernetes API, what the cloud says holds.
	nodes, err := w.Kube.lookFor(ctx, in.Kube, running)
	out.NotReady, out.Observed = nodes.notReady, nodes.observed
	if err != nil {
		out.Unseen = err.Error()
	}
	return out, nil
}

// strangers are machines of the group that are no known member's machine. One
// that carries the id of a member whose own machine is gone is not called a
// duplicate: it may be the one that is left.
func strangers(machines []cloud.Machine, known []MemberFact, missing []string) (duplicates []cloud.MachineRef, unknown []cloud.Machine) {
	for _, m := range machines {
		at := slices.IndexFunc(known, func(f MemberFact) bool { return f.ID == m.Ref.ID })
		switch {
		case at < 0:
			unknown = append(unknown, m)
		case known[at].CloudID == m.Ref.Cloud, slices.Contains(missing, m.Ref.ID):
		default:
			duplicates = append(duplicates, m.Ref)
		}
	}
	slices.SortFunc(duplicates, func(a, b cloud.MachineRef) int { return strings.Compare(a.ID+a.Cloud, b.ID+b.Cloud) })
	return duplicates, unknown
}

// nodeView is what a look at the nodes of members found.
type nodeView struct {
	notReady []string
	observed *Observed
}

// lookFor judges the nodes of members whose machines run.
func (k *Kube) lookFor(ctx context.Context, target KubeTarget, facts []MemberFact) (nodeView, error) {
	var out nodeView
	if target.None || len(facts) == 0 {
		return out, nil
	}
	api, err := k.open(ctx, target)
	if err != nil {
		return out, err
	}
	nodes, err := k.list(ctx, target, api)
	if err != nil {
		return out, err
	}
	for _, f := range facts {
		ready := false
		at := slices.IndexFunc(nodes, func(n KubeNode) bool { return n.Name == f.Name })
		if at >= 0 {
			ready, _ = judgeNode(nodes[at], f.ProviderID)
		}
		if ready {
			out.observed = out.observed.least(nodes[at])
		} else if f.NodeReady {
			out.notReady = append(out.notReady, f.ID)
		}
	}
	return out, nil
}

// least returns o with each amount lowered to what n has, leaving o unchanged. A
// node that has not reported its amounts changes nothing; GPUs are not reported
// until their device plugin runs, so none of them says nothing.
func (o *Observed) least(n KubeNode) *Observed {
	if n.Capacity.MemoryBytes == 0 || n.Allocatable.MemoryBytes == 0 {
		return o
	}
	if o == nil {
		return &Observed{Capacity: n.Capacity, Allocatable: n.Allocatable}
	}
	return &Observed{Capacity: leastOf(o.Capacity, n.Capacity), Allocatable: leastOf(o.Allocatable, n.Allocatable)}
}

func leastOf(a, b cluster.NodeResources) cluster.NodeResources {
	out := cluster.NodeResources{
		MilliCPU: min(a.MilliCPU, b.MilliCPU), MemoryBytes: min(a.MemoryBytes, b.MemoryBytes),
		StorageBytes: min(a.StorageBytes, b.StorageBytes), Pods: min(a.Pods, b.Pods),
		GPUs: a.GPUs, GPUResource: a.GPUResource,
	}
	if b.GPUs > 0 && (a.GPUs == 0 || b.GPUs < a.GPUs) {
		out.GPUs, out.GPUResource = b.GPUs, b.GPUResource
	}
	return out
}

package nimbus

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

const machines = "/v1/machines"

// EnsureMachine implements cloud.Provider. It looks, and creates when there is none
// and the workflow allows it, with one request. There are never several to repair:
// the API refuses the second machine of a name.
func (p *Provider) EnsureMachine(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	// Before anything takes time: a create that leaves too late may meet somebody
	// else's.
	sendBy := p.calls.SendBy()
	spec, op := req.Spec, "create machine "+req.Spec.Name
	if req.Create {
		if err := req.Valid(op, p.Capabilities()); err != nil {
			return cloud.MachineLook{}, err
		}
	}
	found, err := p.list(ctx, machines, "name", spec.Name)
	if err != nil { // a look that failed is not an empty one
		return cloud.MachineLook{}, err
	}
	// What is going away keeps its name until it is gone; the create says so.
	if len(found) > 0 && (!req.Create || stateOf(found[0]) != cloud.MachineDeleting) {
		return p.accept(ctx, spec, found[0], false)
	}
	if !req.Create {
		return cloud.MachineLook{}, nil
	}
	in, err := machineRequest(req)
	if err != nil {
		return cloud.MachineLook{}, err
	}
	var made object
	if err := p.do(ctx, exchange.Request{Op: op, Verb: exchange.Create, SendBy: sendBy}, http.MethodPost, machines, in, &made); err != nil {
		return cloud.MachineLook{}, err
	}
	return p.accept(ctx, spec, made, true)
}

// accept makes a fact of what the cloud has under the machine's name. What is not
// ours is left alone; what the cloud made otherwise than it was told is deleted.
func (p *Provider) accept(ctx context.Context, spec cloud.MachineSpec, o object, created bool) (cloud.MachineLook, error) {
	op := "look for machine " + spec.Name
	ref := cloud.MachineRef{Owner: spec.Owner, ID: spec.ID}
	if !ref.Named(o.Labels) {
		return cloud.MachineLook{}, fault.New(fault.Conflict, op, "the name belongs to %s, which is not this machine", o.ID)
	}
	// The fingerprint tells a cloud that did something else from a workflow that now
	// wants something else.
	if o.Labels[cloud.TagRequest] == fingerprint(spec) && (o.Zone != spec.Zone || o.Size != spec.Flavor) {
		if err := p.remove(ctx, machines, o.ID); err != nil {
			return cloud.MachineLook{}, err
		}
		return cloud.MachineLook{Removed: 1}, fault.New(fault.Conflict, op, "%s is a %s in zone %q; its deletion was asked for", o.ID, o.Size, o.Zone)
	}
	m := machineOf(o)
	return cloud.MachineLook{Machine: &m, Created: created}, nil
}

func fingerprint(s cloud.MachineSpec) string {
	return cloud.Fingerprint(s.Zone, s.Flavor, s.ImageID, fmt.Sprint(s.DiskGiB))
}

// machineRequest is the one request of a create, identity included: a machine that
// exists can be recognised from its first moment.
func machineRequest(req cloud.EnsureMachineRequest) (object, error) {
	s := req.Spec
	labels := map[string]string{}
	for _, t := range s.Tags {
		labels[t.Key] = t.Value
	}
	maps.Copy(labels, s.Owner.Tags())
	labels[cluster.TagMachine], labels[cluster.TagRole] = s.ID, string(s.Role)
	labels[cloud.TagRequest] = fingerprint(s)
	o := object{
		Name: s.Name, Zone: s.Zone, Size: s.Flavor, Image: s.ImageID, DiskGiB: s.DiskGiB,
		Labels: labels, UserData: req.UserData.RevealString(),
	}
	switch networks := slices.Concat(s.Subnets, s.Networks); len(networks) {
	case 0:
	case 1:
		o.Network = networks[0]
	default:
		return o, fault.New(fault.Invalid, "create machine "+s.Name, "a machine of this cloud has one private network, not %d", len(networks))
	}
	return o, nil
}

// machinesOf lists what carries the identity of ref: usually one, none when it is
// gone. Labels can be copied by hand, so that there may be more.
func (p *Provider) machinesOf(ctx context.Context, ref cloud.MachineRef) ([]object, error) {
	if ref.Owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "look for machine", "a machine needs a cluster uid")
	}
	found, err := p.list(ctx, machines, "label", cluster.TagMachine+"="+ref.ID)
	return slices.DeleteFunc(found, func(o object) bool { return !ref.Named(o.Labels) }), err
}

// GetMachine implements cloud.Provider.
func (p *Provider) GetMachine(ctx context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	const op = "read machine"
	if ref.Cloud == "" {
		found, err := p.machinesOf(ctx, ref)
		if err != nil {
			return cloud.Machine{}, err
		}
		if len(found) == 0 {
			return cloud.Machine{}, fault.New(fault.NotFound, op, "none carries the label of %s", ref.ID)
		}
		return machineOf(found[0]), nil
	}
	o, err := p.get(ctx, machines, ref.Cloud)
	if err == nil && !ref.Named(o.Labels) {
		err = fault.New(fault.Conflict, op, "%s does not carry the labels of machine %s", ref.Cloud, ref.ID)
	}
	if err != nil {
		return cloud.Machine{}, err
	}
	return machineOf(o), nil
}

// ListMachines implements cloud.Provider: one request for all machines of a cluster,
// however many wait for theirs.
func (p *Provider) ListMachines(ctx context.Context, owner cloud.Owner) ([]cloud.Machine, error) {
	found, err := p.list(ctx, machines, "label", cluster.TagCluster+"="+owner.Cluster.UID)
	if err != nil {
		return nil, err
	}
	out := []cloud.Machine{}
	for _, o := range found {
		if owner.Has(o.Labels) && o.Labels[cluster.TagMachine] != "" {
			out = append(out, machineOf(o))
		}
	}
	slices.SortFunc(out, cloud.CompareMachines)
	return out, nil
}

// DeleteMachine implements cloud.Provider. Gone is proven by two answers: the list
// shows none with the identity, and reading by id says that there is none.
func (p *Provider) DeleteMachine(ctx context.Context, ref cloud.MachineRef) (bool, error) {
	found, err := p.machinesOf(ctx, ref)
	if err != nil {
		return false, err
	}
	if ref.Cloud != "" && !slices.ContainsFunc(found, func(o object) bool { return o.ID == ref.Cloud }) {
		switch m, err := p.get(ctx, machines, ref.Cloud); {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return false, err
		case !ref.Named(m.Labels):
			return false, fault.New(fault.Conflict, "delete machine", "%s does not carry the labels of machine %s", ref.Cloud, ref.ID)
		default:
			found = append(found, m)
		}
	}
	for _, o := range found {
		if stateOf(o) == cloud.MachineDeleting {
			continue
		}
		if err := p.remove(ctx, machines, o.ID); err != nil {
			return false, err
		}
	}
	return len(found) == 0, nil
}

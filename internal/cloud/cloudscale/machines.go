package cloudscale

import (
	"context"
	"slices"
	"strings"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// EnsureMachine implements cloud.Provider.
func (p *Provider) EnsureMachine(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	var out cloud.MachineLook
	begun := p.now()
	spec := req.Spec
	servers, err := p.servers(ctx, cluster.TagMachine, spec.ID)
	if err != nil {
		return out, err
	}
	mine := slices.DeleteFunc(servers, func(s sdk.Server) bool {
		return s.Tags[cluster.TagCluster] != spec.Owner.Cluster.UID || s.Tags[cluster.TagGroup] != spec.Owner.Group
	})
	if len(mine) > 0 {
		slices.SortFunc(mine, older)
		for _, extra := range mine[1:] {
			p.log.Warn("deleting a duplicate machine", "machine", spec.Name, "kept", mine[0].UUID, "duplicate", extra.UUID)
			if err := p.deleteServer(ctx, extra.UUID); err != nil && !fault.Is(err, fault.NotFound) {
				return out, err
			}
			out.Removed++
		}
		m := machine(mine[0])
		out.Machine = &m
		return out, nil
	}
	if !req.Create {
		return out, nil
	}
	if size := len(req.UserData.Reveal()); size > userDataMax {
		return out, fault.New(fault.Invalid, "create server "+spec.Name, "its user data has %d bytes; the cloud takes %d", size, userDataMax)
	}
	if late := p.now().Sub(begun); late > p.s.PostWindow {
		// Whoever gave this attempt up may have begun to settle: too late to send.
		return out, fault.New(fault.Unavailable, "create server "+spec.Name, "looking took %s, longer than the %s in which a create may be sent; nothing was sent", late, p.s.PostWindow)
	}
	return p.createServer(ctx, req)
}

func (p *Provider) createServer(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	spec := req.Spec
	op := "create server " + spec.Name
	interfaces := []sdk.InterfaceRequest{{Network: "public"}}
	for _, subnet := range spec.Subnets {
		interfaces = append(interfaces, sdk.InterfaceRequest{Addresses: &[]sdk.AddressRequest{{Subnet: subnet}}})
	}
	for _, network := range spec.Networks {
		interfaces = append(interfaces, sdk.InterfaceRequest{Network: network})
	}
	r := &sdk.ServerRequest{
		Name: spec.Name, Flavor: spec.Flavor, Image: spec.ImageID,
		Zone:         spec.Zone, // the outer field: the embedded one is dropped silently
		VolumeSizeGB: spec.DiskGiB, Interfaces: &interfaces,
		SSHKeys: []string{}, // null is refused
	}
	r.Tags = machineTags(spec)
	r.UserData = string(req.UserData.Reveal())
	if spec.PlacementGroup != "" {
		r.ServerGroups = []string{spec.PlacementGroup}
	}
	ctx, cancel := writing(ctx, p.s.CreateTimeout)
	defer cancel()
	s, err := p.sdk.Servers.Create(ctx, r)
	if err != nil {
		return cloud.MachineLook{}, createFault(ctx, op, err)
	}
	m := machine(*s)
	if s.UUID == "" || m.Ref.ID != spec.ID || m.Zone != spec.Zone || m.Flavor != spec.Flavor {
		return cloud.MachineLook{}, fault.New(fault.Ambiguous, op,
			"the cloud made something else than asked (id %q, zone %q, flavor %q)", m.Ref.ID, m.Zone, m.Flavor)
	}
	m.ImageID = spec.ImageID // the reply names a slug
	return cloud.MachineLook{Machine: &m, Created: true}, nil
}

func machineTags(spec cloud.MachineSpec) *sdk.TagMap {
	t := sdk.TagMap{}
	for _, tag := range spec.Tags {
		t[tag.Key] = tag.Value
	}
	t[cluster.TagCluster] = spec.Owner.Cluster.UID
	t[cluster.TagClusterName] = spec.Owner.Cluster.Name
	t[cluster.TagGroup] = spec.Owner.Group
	t[cluster.TagMachine] = spec.ID
	t[cluster.TagRole] = string(spec.Role)
	return &t
}

// older sorts by creation; of two made at once the lower id comes first.
func older(a, b sdk.Server) int {
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c
	}
	return strings.Compare(a.UUID, b.UUID)
}

// servers lists by one tag: the API does not AND several.
func (p *Provider) servers(ctx context.Context, key, value string) ([]sdk.Server, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	list, err := p.sdk.Servers.List(ctx, sdk.WithTagFilter(sdk.TagMap{key: value}))
	if err != nil {
		return nil, readFault(ctx, "list servers", err)
	}
	return slices.DeleteFunc(list, func(s sdk.Server) bool { return s.Tags[key] != value }), nil
}

// GetMachine implements cloud.Provider.
func (p *Provider) GetMachine(ctx context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	ctx, cancel := reading(ctx)
	defer cancel()
	s, err := p.sdk.Servers.Get(ctx, ref.Cloud)
	if err != nil {
		return cloud.Machine{}, readFault(ctx, "read server "+ref.Cloud, err)
	}
	return machine(*s), nil
}

// ListMachines implements cloud.Provider.
func (p *Provider) ListMachines(ctx context.Context, owner cloud.Owner) ([]cloud.Machine, error) {
	list, err := p.servers(ctx, cluster.TagCluster, owner.Cluster.UID)
	if err != nil {
		return nil, err
	}
	out := make([]cloud.Machine, 0, len(list))
	for _, s := range list {
		if owner.Group == "" || s.Tags[cluster.TagGroup] == owner.Group {
			out = append(out, machine(s))
		}
	}
	slices.SortFunc(out, func(a, b cloud.Machine) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Ref.Cloud, b.Ref.Cloud)
	})
	return out, nil
}

// DeleteMachine implements cloud.Provider. Gone means that the server answers
// 404: a delete that was accepted is not the end.
func (p *Provider) DeleteMachine(ctx context.Context, ref cloud.MachineRef) (bool, error) {
	err := p.deleteServer(ctx, ref.Cloud)
	if fault.Is(err, fault.NotFound) {
		return true, nil
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		return false, err
	}
	if _, gerr := p.GetMachine(ctx, ref); fault.Is(gerr, fault.NotFound) {
		return true, nil
	} else if gerr != nil {
		return false, gerr
	}
	return false, err
}

func (p *Provider) deleteServer(ctx context.Context, id string) error {
	ctx, cancel := writing(ctx, deleteTimeout)
	defer cancel()
	if err := p.sdk.Servers.Delete(ctx, id); err != nil {
		return writeFault(ctx, "delete server "+id, err)
	}
	return nil
}

func machine(s sdk.Server) cloud.Machine {
	m := cloud.Machine{
		Ref: cloud.MachineRef{
			ID: s.Tags[cluster.TagMachine], Cloud: s.UUID,
			Owner: cloud.Owner{
				Cluster: cluster.Ref{Name: s.Tags[cluster.TagClusterName], UID: s.Tags[cluster.TagCluster]},
				Group:   s.Tags[cluster.TagGroup],
			},
		},
		Name: s.Name, ProviderID: providerIDPrefix + s.UUID, Role: cluster.Role(s.Tags[cluster.TagRole]),
		Zone: s.Zone.Slug, Flavor: s.Flavor.Slug, ImageID: s.Image.Slug, State: state(s.Status),
		CreatedAt: s.CreatedAt.UTC().Truncate(time.Second),
	}
	for _, i := range s.Interfaces {
		for _, a := range i.Addresses {
			switch {
			case a.Version != 4:
			case i.Type == "public" && m.Public == "":
				m.Public = a.Address
			case i.Type == "private" && m.Private == "":
				m.Private = a.Address
			}
		}
	}
	return m
}

func state(status string) cloud.MachineState {
	switch status {
	case "changing":
		return cloud.MachineCreating
	case "running":
		return cloud.MachineRunning
	case "stopped", "paused", "rescue_running", "rescue_stopped":
		return cloud.MachineStopped
	case "error":
		return cloud.MachineFailed
	}
	return cloud.MachineUnknown
}

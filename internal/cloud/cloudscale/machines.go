package cloudscale

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// EnsureMachine implements cloud.Provider.
func (p *Provider) EnsureMachine(ctx context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	// The wall clock, so that a process that was stopped for a while counts it.
	sendBy := p.calls.SendBy()
	if req.Create {
		if err := req.Valid("create server "+req.Spec.Name, p.Capabilities()); err != nil {
			return cloud.MachineLook{}, err
		}
	}
	look, err := p.lookForMachine(ctx, req.Spec)
	if err != nil || look.Machine != nil || !req.Create {
		return look, err
	}
	return p.createMachine(ctx, req, sendBy)
}

// lookForMachine adopts the machine of spec.ID, and repairs.
func (p *Provider) lookForMachine(ctx context.Context, spec cloud.MachineSpec) (cloud.MachineLook, error) {
	found, err := p.serversOf(ctx, cloud.MachineRef{Owner: spec.Owner, ID: spec.ID})
	if err != nil || len(found) == 0 {
		return cloud.MachineLook{}, err
	}
	var look cloud.MachineLook
	var wrong []sdk.Server
	want := fingerprint(spec)
	found = slices.DeleteFunc(found, func(s sdk.Server) bool {
		// The request was the same, so the cloud did not do what it was told.
		bad := s.Tags[cloud.TagRequest] == want && misplaced(spec, &s) != ""
		if bad {
			wrong = append(wrong, s)
		}
		return bad
	})
	slices.SortFunc(found, older)
	doomed := wrong
	if len(found) > 1 {
		doomed = append(doomed, found[1:]...)
	}
	for _, s := range doomed {
		p.log.WarnContext(ctx, "removing a server that should not be", "server", s.UUID, "name", s.Name, "machine", spec.ID, "cluster", spec.Owner.Cluster.Name)
		if err := erase(ctx, p, "duplicate server "+s.Name, s.UUID, p.sdk.Servers.Delete); err != nil {
			return look, err
		}
		look.Removed++
	}
	if len(found) == 0 {
		return look, fault.New(fault.Conflict, "look for server "+spec.Name, "%s; its deletion was asked for", misplaced(spec, &wrong[0]))
	}
	m := machineOf(&found[0])
	if err := p.admit(ctx, spec.Owner, m.Public); err != nil {
		return look, err
	}
	look.Machine = &m
	return look, nil
}

// older orders duplicates: the first one stays. The vendor's clock decides, the
// id where it cannot, so that everybody keeps the same one.
func older(a, b sdk.Server) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.UUID, b.UUID))
}

func (p *Provider) createMachine(ctx context.Context, req cloud.EnsureMachineRequest, sendBy time.Time) (cloud.MachineLook, error) {
	spec := req.Spec
	op := "create server " + spec.Name
	var s *sdk.Server
	err := p.calls.Call(ctx, exchange.Request{Op: op, Verb: exchange.Create, SendBy: sendBy}, func(ctx context.Context) (err error) {
		s, err = p.sdk.Servers.Create(ctx, serverRequest(spec, req.UserData.Reveal()))
		return err
	})
	if err != nil {
		return cloud.MachineLook{}, err
	}
	problem := misplaced(spec, s)
	if problem == "" {
		problem = cloud.MissingTags(machineTags(spec), s.Tags)
	}
	if problem != "" || !plausibleID(s.UUID) {
		// Nobody may adopt it. If this deletion fails, the next look deletes it.
		if err := erase(ctx, p, "misplaced server "+s.Name, s.UUID, p.sdk.Servers.Delete); err != nil {
			p.log.WarnContext(ctx, "a misplaced server could not be deleted yet", "server", s.UUID, "error", err)
		}
		return cloud.MachineLook{}, fault.New(fault.Internal, op, "the cloud made something else: %s", cmp.Or(problem, "it has no id"))
	}
	m := machineOf(s)
	if err := p.admit(ctx, spec.Owner, m.Public); err != nil {
		// The machine exists: whoever asks again has to find it.
		return cloud.MachineLook{}, fault.New(fault.Ambiguous, op, "server %s was created, but: %v", s.UUID, err)
	}
	return cloud.MachineLook{Machine: &m, Created: true}, nil
}

func fingerprint(s cloud.MachineSpec) string {
	return cloud.Fingerprint("machine", s.Zone, s.Flavor, s.ImageID, fmt.Sprint(s.DiskGiB))
}

func machineTags(s cloud.MachineSpec) sdk.TagMap {
	tags := sdk.TagMap(s.Owner.Tags())
	for _, t := range s.Tags {
		tags[t.Key] = t.Value
	}
	tags[cluster.TagMachine] = s.ID
	tags[cluster.TagRole] = string(s.Role)
	// Replies name a custom image by slug only, so its id travels along.
	tags[cluster.TagImage] = s.ImageID
	tags[cloud.TagRequest] = fingerprint(s)
	return tags
}

func serverRequest(s cloud.MachineSpec, userData []byte) *sdk.ServerRequest {
	tags := machineTags(s)
	// The public interface comes first: it carries the default route.
	ifaces := []sdk.InterfaceRequest{{Network: "public"}}
	if len(s.Subnets) > 0 {
		for _, id := range s.Subnets {
			ifaces = append(ifaces, sdk.InterfaceRequest{Addresses: &[]sdk.AddressRequest{{Subnet: id}}})
		}
	}
	for _, id := range s.Networks {
		ifaces = append(ifaces, sdk.InterfaceRequest{Network: id})
	}
	r := &sdk.ServerRequest{
		Name: s.Name, Flavor: s.Flavor, Image: s.ImageID,
		// The embedded request has a Zone of its own that this one hides.
		Zone:         s.Zone,
		VolumeSizeGB: s.DiskGiB, Interfaces: &ifaces,
		SSHKeys:  []string{}, // nil would be sent as null, which is refused
		UserData: string(userData),
	}
	r.Tags = &tags
	if s.PlacementGroup != "" {
		r.ServerGroups = []string{s.PlacementGroup}
	}
	return r
}

// misplaced says in what a server differs from its spec, "" when it does not. An
// image asked for by id cannot be told from the reply.
func misplaced(spec cloud.MachineSpec, s *sdk.Server) string {
	switch {
	case spec.Zone != "" && s.Zone.Slug != spec.Zone:
		return fmt.Sprintf("server %s is in zone %q instead of %q", s.UUID, s.Zone.Slug, spec.Zone)
	case s.Flavor.Slug != spec.Flavor:
		return fmt.Sprintf("server %s has flavor %q instead of %q", s.UUID, s.Flavor.Slug, spec.Flavor)
	}
	return ""
}

// serversOf lists all servers with the identity of ref: an id belongs to one
// group of one cluster.
func (p *Provider) serversOf(ctx context.Context, ref cloud.MachineRef) ([]sdk.Server, error) {
	if ref.ID == "" || ref.Owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "look for server", "a machine needs an id and a cluster uid")
	}
	all, err := listTagged(ctx, p, "servers", p.sdk.Servers, cluster.TagMachine, ref.ID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(s sdk.Server) bool { return !ref.Named(s.Tags) }), nil
}

// GetMachine implements cloud.Provider. A server that exists without the
// machine's identity is a Conflict.
func (p *Provider) GetMachine(ctx context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	if ref.Cloud == "" {
		found, err := p.serversOf(ctx, ref)
		if err != nil {
			return cloud.Machine{}, err
		}
		if len(found) == 0 {
			return cloud.Machine{}, fault.New(fault.NotFound, "read server", "no server carries the tag of machine %s", ref.ID)
		}
		return machineOf(new(slices.MinFunc(found, older))), nil
	}
	s, err := get(ctx, p, "server", p.sdk.Servers, ref.Cloud)
	if err != nil {
		return cloud.Machine{}, err
	}
	if !ref.Named(s.Tags) {
		return cloud.Machine{}, notOurs("read server", ref)
	}
	return machineOf(s), nil
}

func notOurs(op string, ref cloud.MachineRef) error {
	return fault.New(fault.Conflict, op, "server %s does not carry the tags of machine %s of cluster %s", ref.Cloud, ref.ID, ref.Owner.Cluster.Name)
}

// ListMachines implements cloud.Provider.
func (p *Provider) ListMachines(ctx context.Context, owner cloud.Owner) ([]cloud.Machine, error) {
	if owner.Cluster.UID == "" {
		return nil, fault.New(fault.Internal, "list servers", "the owner has no cluster uid")
	}
	all, err := listTagged(ctx, p, "servers", p.sdk.Servers, cluster.TagCluster, owner.Cluster.UID)
	if err != nil {
		return nil, err
	}
	out := []cloud.Machine{}
	for i := range all {
		if t := all[i].Tags; owner.Has(t) && t[cluster.TagMachine] != "" {
			out = append(out, machineOf(&all[i]))
		}
	}
	slices.SortFunc(out, cloud.CompareMachines)
	return out, nil
}

// DeleteMachine implements cloud.Provider. It deletes everything that carries
// the machine's identity, duplicates included.
func (p *Provider) DeleteMachine(ctx context.Context, ref cloud.MachineRef) (bool, error) {
	found, err := p.serversOf(ctx, ref)
	if err != nil {
		return false, err
	}
	if ref.Cloud != "" && !slices.ContainsFunc(found, func(s sdk.Server) bool { return s.UUID == ref.Cloud }) {
		s, err := get(ctx, p, "server", p.sdk.Servers, ref.Cloud)
		switch {
		case fault.Is(err, fault.NotFound):
		case err != nil:
			return false, err
		case !ref.Named(s.Tags):
			return false, notOurs("delete server", ref)
		default:
			found = append(found, *s)
		}
	}
	var first error
	for _, s := range found {
		if err := erase(ctx, p, "server "+s.Name, s.UUID, p.sdk.Servers.Delete); err != nil {
			first = cmp.Or(first, err)
			continue
		}
		if err := p.expel(ctx, ref.Owner, machineOf(&s).Public); err != nil {
			// The deletion goes on; TLS still guards what an address may reach.
			p.log.WarnContext(ctx, "the address of a deleted server stays allowed at the endpoint", "server", s.UUID, "error", err)
		}
	}
	return len(found) == 0, first
}

func machineOf(s *sdk.Server) cloud.Machine {
	m := cloud.Machine{
		Ref:  cloud.RefOf(s.Tags, s.UUID),
		Name: s.Name, ProviderID: providerIDPrefix + s.UUID, Role: cluster.Role(s.Tags[cluster.TagRole]),
		Zone: s.Zone.Slug, Flavor: s.Flavor.Slug, ImageID: s.Tags[cluster.TagImage],
		State: stateOf(s.Status), CreatedAt: s.CreatedAt,
	}
	for _, version := range []int{4, 6} {
		for _, i := range s.Interfaces {
			for _, a := range i.Addresses {
				switch {
				case a.Version != version:
				case i.Type == "public":
					m.Public = cmp.Or(m.Public, a.Address)
				default:
					m.Private = cmp.Or(m.Private, a.Address)
				}
			}
		}
	}
	return m
}

// stateOf translates the API's statuses (the vendor's Cluster API provider lists
// them). "changing" is every transition, deletion included; a rescue system is
// not ours.
func stateOf(status string) cloud.MachineState {
	switch status {
	case "running":
		return cloud.MachineRunning
	case "changing":
		return cloud.MachineCreating
	case "stopped", "paused", "rescue_stopped":
		return cloud.MachineStopped
	case "error":
		return cloud.MachineFailed
	}
	return cloud.MachineUnknown
}

package talos

import (
	"net/url"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/encoder"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// RequestOf is what a cluster's record says about the configs of a role. Group, name
// and patches of a node are the caller's to add. Error: Internal while the record
// has no endpoint.
func RequestOf(rec cluster.Record, bundle secrets.Value, role cluster.Role) (RenderRequest, error) {
	u, err := url.Parse(rec.Endpoint)
	if err != nil || u.Hostname() == "" {
		return RenderRequest{}, fault.New(fault.Internal, "render machine config", "the record has no endpoint yet")
	}
	return RenderRequest{
		Bundle: bundle, Cluster: rec.Ref, Spec: rec.Spec, Frozen: rec.Frozen, Role: role,
		Endpoint: rec.Endpoint, EndpointHosts: []string{u.Hostname()}, EndpointSources: endpointSources(u.Hostname()),
	}, nil
}

// endpointSources lets the endpoint itself in: a load balancer's connections may
// come from its own address.
func endpointSources(host string) []string {
	switch {
	case strings.Contains(host, ":"):
		return []string{host + "/128"}
	case strings.Trim(host, "0123456789.") == "":
		return []string{host + "/32"}
	}
	return nil
}

// PatchSets are the kinds of nodes of a spec, the control plane first, with the
// patches of each as far as bodies, by field path, has them.
func PatchSets(spec cluster.Spec, bodies map[string][]byte) []PatchSet {
	out := []PatchSet{{Role: cluster.RoleControlPlane, Group: cluster.ControlPlaneGroup}}
	for _, g := range spec.NodeGroups {
		out = append(out, PatchSet{Role: cluster.RoleWorker, Group: g.Name})
	}
	for i, set := range out {
		for _, s := range spec.PatchesOf(set.Role, set.Group) {
			if body, ok := bodies[s.Field]; ok {
				out[i].Patches = append(out[i].Patches, Patch{Field: s.Field, Body: body})
			}
		}
	}
	return out
}

// Sample is the machine config of one node of a kind.
type Sample struct {
	Role  cluster.Role
	Group string
	// Config is plain, Shown the same without its secrets.
	Config secrets.Value
	Shown  []byte
}

// sampleMachine is the machine id in the name of a sample.
const sampleMachine = "sample"

// Preview renders a config for each kind of node of a record as a worker does for a
// new machine. The record needs what creation freezes, and an endpoint; nothing is
// read from a store. Errors: Invalid naming the field.
func Preview(rec cluster.Record, bundle secrets.Value, sets []PatchSet) ([]Sample, error) {
	bases := map[cluster.Role]secrets.Value{}
	out := make([]Sample, 0, len(sets))
	for _, set := range sets {
		req, err := RequestOf(rec, bundle, set.Role)
		if err != nil {
			return nil, err
		}
		if bases[set.Role].Empty() {
			if bases[set.Role], err = RenderBase(req); err != nil {
				return nil, err
			}
		}
		req.Base, req.Group, req.NodeName = bases[set.Role], set.Group, cluster.MachineName(rec.Ref.Name, set.Group, sampleMachine)
		if install := rec.Frozen.InstallPatch(set.Group); install != nil {
			req.Patches = append(req.Patches, Patch{Field: "the image of group " + set.Group, Body: install})
		}
		req.Patches = append(req.Patches, set.Patches...)
		r, err := Render(req)
		if err != nil {
			return nil, err
		}
		shown, err := redacted(r.UserData)
		if err != nil {
			return nil, err
		}
		out = append(out, Sample{Role: set.Role, Group: set.Group, Config: r.UserData, Shown: shown})
	}
	return out, nil
}

// redacted is a config with every secret that Talos knows as one taken out.
func redacted(config secrets.Value) ([]byte, error) {
	cfg, err := readConfig(config.Reveal())
	if err != nil {
		return nil, err
	}
	out, err := cfg.RedactSecrets("-").EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		return nil, fault.New(fault.Internal, "redact machine config", "%s", explain(err))
	}
	return out, nil
}

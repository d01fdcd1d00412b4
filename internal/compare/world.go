package compare

import (
	"crypto/sha256"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// world is a spec on a cloud. Its sources hold their documents inline, so that a
// part of a spec that moves takes them along.
type world struct {
	name  string
	spec  cluster.Spec
	cloud catalog.Cloud
	// cluster is the name in the file.
	cluster string
}

func worldOf(f File) (world, error) {
	cloud, ok := catalog.Named(f.Cluster.Spec.Cloud.Provider)
	if !ok {
		return world{}, fault.New(fault.Invalid, "compare clusters", "%s: spec.cloud.provider: is not a cloud that this Ichor knows", f.Name)
	}
	c := f.Cluster.Normalise()
	for _, s := range c.Sources() {
		if body, ok := f.Bodies[s.Field]; ok {
			sum := sha256.Sum256(body)
			*s.Source = cluster.Source{File: s.Source.File, Inline: string(body), SHA256: hex.EncodeToString(sum[:])}
		}
	}
	return world{name: f.Name, spec: c.Spec, cloud: cloud, cluster: c.Metadata.Name}, nil
}

func (w world) side() Side {
	return Side{
		File: w.name, Cluster: w.cluster, Provider: w.cloud.Name, Zone: w.spec.Cloud.Zone,
		Talos: w.spec.Talos.Version, Contract: w.spec.Talos.Contract, Kubernetes: w.spec.Kubernetes.Version,
	}
}

// Stand-ins. The address is of a range for documentation (RFC 5737), the name of a
// domain that never exists (RFC 2606).
const (
	clusterName     = "cluster"
	endpointAddress = "203.0.113.253"
	endpointName    = "load-balancer.invalid"
)

// endpoint is the host of the Kubernetes API.
func (w world) endpoint() string {
	switch {
	case w.spec.Endpoint.Address != "":
		return w.spec.Endpoint.Address
	case w.cloud.Marks.NamedEndpoint:
		return endpointName
	}
	return endpointAddress
}

// plain says what a stand-in stands for.
func (w world) plain(text *string) *string {
	if text == nil || w.spec.Endpoint.Address != "" {
		return text
	}
	what := "LOAD-BALANCER-ADDRESS"
	if w.cloud.Marks.NamedEndpoint {
		what = "LOAD-BALANCER-NAME"
	}
	out := strings.ReplaceAll(*text, w.endpoint(), what)
	return &out
}

// freeze is what creation would resolve, but for what a factory or a cloud knows:
// architectures, and whether extensions exist.
func (w world) freeze() (cluster.Frozen, error) {
	target := talos.Target{Platform: w.cloud.Marks.Platform, Arch: cluster.DefaultArch}
	out, err := talos.Factory{}.Name(w.spec.Talos, w.spec.Kubernetes.Version, target)
	if err != nil {
		return out, err
	}
	for _, g := range w.spec.NodeGroups {
		if g.Image != "" {
			continue
		}
		runs, err := talos.Factory{}.Name(w.spec.TalosOf(g.Name), w.spec.Kubernetes.Version, target)
		if err != nil {
			return out, err
		}
		out = out.Vary(g.Name, runs)
	}
	return out, nil
}

// record is what creation would record, and the patches of each kind of node.
func (w world) record() (cluster.Record, []talos.PatchSet, error) {
	frozen, err := w.freeze()
	if err != nil {
		return cluster.Record{}, nil, err
	}
	host := w.endpoint()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	rec := cluster.Record{
		Schema: 1, Ref: cluster.Ref{Name: clusterName}, Spec: w.spec, Frozen: frozen, Endpoint: "https://" + host + ":6443",
	}
	bodies := map[string][]byte{}
	c := cluster.Cluster{Spec: w.spec}
	for _, s := range c.Sources() {
		if s.Source.Inline != "" {
			bodies[s.Field] = []byte(s.Source.Inline)
		}
	}
	return rec, talos.PatchSets(w.spec, bodies), nil
}

// Render returns the record that the creation of a cluster would leave, under the
// stood-in name and endpoint, and the machine config of each kind of node.
func Render(f File, bundle secrets.Value) (cluster.Record, []talos.Sample, error) {
	w, err := worldOf(f)
	if err != nil {
		return cluster.Record{}, nil, err
	}
	return w.samples(bundle)
}

func (w world) samples(bundle secrets.Value) (cluster.Record, []talos.Sample, error) {
	rec, sets, err := w.record()
	if err != nil {
		return rec, nil, err
	}
	samples, err := talos.Preview(rec, bundle, sets)
	return rec, samples, err
}

// render returns the fields of the nodes of each group.
func (w world) render(bundle secrets.Value) (map[string]fields, error) {
	rec, samples, err := w.samples(bundle)
	if err != nil {
		return nil, err
	}
	out := map[string]fields{}
	for _, s := range samples {
		f, err := readConfig(s.Config.Reveal(), s.Shown)
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "compare clusters", err)
		}
		runs := rec.Frozen.For(s.Group)
		f["installer"], f["schematic"] = value{text: runs.InstallerImage}, value{text: runs.Schematic}
		out[s.Group] = f
	}
	return out, nil
}

// step is a part of the spec that moves from the right world into the left one.
type step struct {
	field string // empty for the cloud
	move  func(to *cluster.Spec, from cluster.Spec)
}

// moved is w after a step.
func (w world) moved(s step, from world) world {
	w.spec.NodeGroups = slices.Clone(w.spec.NodeGroups)
	s.move(&w.spec, from.spec)
	if s.field == "" {
		w.cloud = from.cloud
	}
	return w
}

// rest is the last step.
const rest = "the rest of the spec"

// steps lead from a to b: first the cloud, last all that no step before has moved.
func steps(a, b cluster.Spec, kinds []string) []step {
	out := []step{{"", func(to *cluster.Spec, from cluster.Spec) { to.Cloud = from.Cloud }}}
	add := func(field string, part func(*cluster.Spec) any, move func(to *cluster.Spec, from cluster.Spec)) {
		if !reflect.DeepEqual(part(&a), part(&b)) {
			out = append(out, step{field, move})
		}
	}
	add("spec.talos.version", func(s *cluster.Spec) any { return []string{s.Talos.Version, s.Talos.Contract} },
		func(to *cluster.Spec, from cluster.Spec) {
			to.Talos.Version, to.Talos.Contract = from.Talos.Version, from.Talos.Contract
		})
	add("spec.kubernetes", func(s *cluster.Spec) any { return s.Kubernetes },
		func(to *cluster.Spec, from cluster.Spec) { to.Kubernetes = from.Kubernetes })
	add("spec.talos.extensions", func(s *cluster.Spec) any { return append([]string{s.Talos.Schematic}, s.Talos.Extensions...) },
		func(to *cluster.Spec, from cluster.Spec) {
			to.Talos.Schematic, to.Talos.Extensions = from.Talos.Schematic, from.Talos.Extensions
		})
	add("spec.talos.patches", func(s *cluster.Spec) any { return s.Talos.Patches },
		func(to *cluster.Spec, from cluster.Spec) { to.Talos.Patches = from.Talos.Patches })
	add("spec.network.cidr", func(s *cluster.Spec) any { return s.Network.PrivateCIDR() },
		func(to *cluster.Spec, from cluster.Spec) {
			to.Network.CIDR, to.Network.Existing = from.Network.CIDR, from.Network.Existing
		})
	add("spec.network.podCIDR", func(s *cluster.Spec) any { return s.Network.PodCIDR },
		func(to *cluster.Spec, from cluster.Spec) { to.Network.PodCIDR = from.Network.PodCIDR })
	add("spec.network.serviceCIDR", func(s *cluster.Spec) any { return s.Network.ServiceCIDR },
		func(to *cluster.Spec, from cluster.Spec) { to.Network.ServiceCIDR = from.Network.ServiceCIDR })
	add("spec.network.adminCIDRs", func(s *cluster.Spec) any { return s.Network.AdminCIDRs },
		func(to *cluster.Spec, from cluster.Spec) { to.Network.AdminCIDRs = from.Network.AdminCIDRs })
	add("spec.endpoint", func(s *cluster.Spec) any { return s.Endpoint },
		func(to *cluster.Spec, from cluster.Spec) { to.Endpoint = from.Endpoint })
	add("spec.controlPlane.labels", func(s *cluster.Spec) any { return s.ControlPlane.Labels },
		func(to *cluster.Spec, from cluster.Spec) { to.ControlPlane.Labels = from.ControlPlane.Labels })
	add("spec.controlPlane.patches", func(s *cluster.Spec) any { return s.ControlPlane.Patches },
		func(to *cluster.Spec, from cluster.Spec) { to.ControlPlane.Patches = from.ControlPlane.Patches })
	for _, name := range kinds[1:] {
		out = append(out, groupSteps(a, b, name)...)
	}
	return append(out, step{rest, func(to *cluster.Spec, from cluster.Spec) { *to = from }})
}

// groupSteps are those of a group that both have.
func groupSteps(a, b cluster.Spec, name string) []step {
	group := func(s *cluster.Spec) *cluster.NodeGroup {
		return &s.NodeGroups[slices.IndexFunc(s.NodeGroups, func(g cluster.NodeGroup) bool { return g.Name == name })]
	}
	var out []step
	add := func(field string, part func(*cluster.NodeGroup) any, move func(to, from *cluster.NodeGroup)) {
		if !reflect.DeepEqual(part(group(&a)), part(group(&b))) {
			out = append(out, step{element("spec.nodeGroups", name) + "." + field, func(to *cluster.Spec, from cluster.Spec) { move(group(to), group(&from)) }})
		}
	}
	add("extensions", func(g *cluster.NodeGroup) any { return append([]string{g.Schematic, g.Image}, g.Extensions...) },
		func(to, from *cluster.NodeGroup) {
			to.Schematic, to.Extensions, to.Image = from.Schematic, from.Extensions, from.Image
		})
	add("labels", func(g *cluster.NodeGroup) any { return g.Labels }, func(to, from *cluster.NodeGroup) { to.Labels = from.Labels })
	add("taints", func(g *cluster.NodeGroup) any { return g.Taints }, func(to, from *cluster.NodeGroup) { to.Taints = from.Taints })
	add("patches", func(g *cluster.NodeGroup) any { return g.Patches }, func(to, from *cluster.NodeGroup) { to.Patches = from.Patches })
	return out
}

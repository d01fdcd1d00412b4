package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Normalise returns a copy of c in which every default is written out and the
// order of sets does not matter any more: two specs that mean the same become
// equal. It is idempotent, and harmless on a spec that is not valid.
func (c Cluster) Normalise() Cluster {
	c.Spec = c.Spec.normalise()
	return c
}

func (s Spec) normalise() Spec {
	s.Datastore = or(s.Datastore, DefaultDatastore)
	s.OnFailure = or(s.OnFailure, OnFailureRollback)
	s.Talos = s.Talos.normalise()
	s.Network = s.Network.normalise()
	s.Endpoint = s.Endpoint.normalise()

	s.ControlPlane.DiskGiB = or(s.ControlPlane.DiskGiB, DefaultDiskGiB)
	s.ControlPlane.Zones = copyList(s.ControlPlane.Zones)
	s.ControlPlane.Zone = zoneOf(s.ControlPlane.Zone, s.ControlPlane.Zones, s.Cloud.Zone)
	s.ControlPlane.AntiAffinity = orTrue(s.ControlPlane.AntiAffinity)
	s.ControlPlane.Labels = copyMap(s.ControlPlane.Labels)
	s.ControlPlane.Tags = copyMap(s.ControlPlane.Tags)
	s.ControlPlane.Patches = copyList(s.ControlPlane.Patches)

	s.NodeGroups = copyList(s.NodeGroups)
	for i := range s.NodeGroups {
		s.NodeGroups[i] = s.NodeGroups[i].normalise(s.Cloud.Zone)
	}
	s.Manifests = copyList(s.Manifests)
	s.Secrets = copyList(s.Secrets)
	return s
}

func (t Talos) normalise() Talos {
	if t.Contract == "" {
		t.Contract = minorOf(t.Version)
	}
	t.Extensions = copyList(t.Extensions)
	slices.Sort(t.Extensions)
	t.Patches = copyList(t.Patches)
	return t
}

func (n Network) normalise() Network {
	n.CIDR = canonicalCIDR(n.CIDR)
	if n.Existing != nil {
		e := *n.Existing
		e.CIDR = canonicalCIDR(e.CIDR)
		n.Existing = &e
	}
	n.AdminCIDRs = copyList(n.AdminCIDRs)
	for i := range n.AdminCIDRs {
		n.AdminCIDRs[i] = canonicalCIDR(n.AdminCIDRs[i])
	}
	slices.Sort(n.AdminCIDRs)
	n.PodCIDR = canonicalCIDR(or(n.PodCIDR, DefaultPodCIDR))
	n.ServiceCIDR = canonicalCIDR(or(n.ServiceCIDR, DefaultServiceCIDR))
	return n
}

func (e Endpoint) normalise() Endpoint {
	switch {
	case e.LoadBalancer != nil:
		lb := *e.LoadBalancer
		e.LoadBalancer = &lb
	case e.Address == "":
		e.LoadBalancer = &LoadBalancer{}
	}
	return e
}

// zoneOf is the zone of a group: its own, the first of several, or the cluster's.
func zoneOf(own string, several []string, cluster string) string {
	if own == "" && len(several) > 0 {
		own = several[0]
	}
	return or(own, cluster)
}

func (g NodeGroup) normalise(zone string) NodeGroup {
	count := g.Min
	if g.Count != nil {
		count = *g.Count
	}
	g.Count = &count
	g.Zones = copyList(g.Zones)
	g.Zone = zoneOf(g.Zone, g.Zones, zone)
	g.Extensions = copyList(g.Extensions)
	slices.Sort(g.Extensions)
	g.DiskGiB = or(g.DiskGiB, DefaultDiskGiB)
	g.AntiAffinity = orTrue(g.AntiAffinity)
	g.Networks = copyList(g.Networks)
	g.Labels = copyMap(g.Labels)
	g.Tags = copyMap(g.Tags)
	g.Taints = copyList(g.Taints)
	slices.SortFunc(g.Taints, func(a, b Taint) int {
		return strings.Compare(a.Key+"\x00"+a.Effect+"\x00"+a.Value, b.Key+"\x00"+b.Effect+"\x00"+b.Value)
	})
	g.Patches = copyList(g.Patches)
	g.Alternatives = copyList(g.Alternatives)
	if g.Autoscaling != nil {
		a := *g.Autoscaling
		g.Autoscaling = &a
	}
	return g
}

// Digest is the SHA-256, in hex, of the normalised spec as JSON: equal for specs
// that mean the same. A document counts by its content where that is known, so
// moving the store changes no digest.
func (c Cluster) Digest() string {
	c = c.Normalise()
	for _, s := range c.Spec.sources() {
		if s.Source.SHA256 != "" {
			*s.Source = Source{SHA256: s.Source.SHA256}
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		// The type has strings, numbers, lists and maps of strings only.
		panic("cluster: a spec cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// NamedSource is a document of a spec together with its field path.
type NamedSource struct {
	Field string
	// Group is the node group a patch belongs to, or empty; Role is the role it
	// is limited to, or empty for all nodes.
	Group string
	Role  Role
	// Manifest says that this is a Kubernetes manifest, not a config patch.
	Manifest bool
	Source   *Source
}

// Sources returns every document of the spec in the order in which they apply:
// patches for all nodes, for the control plane, per group, then the manifests.
// The pointers lead into c, so that a caller can replace files by references;
// call it on a copy (Normalise makes one).
func (c *Cluster) Sources() []NamedSource { return c.Spec.sources() }

func (s *Spec) sources() []NamedSource {
	var out []NamedSource
	add := func(field string, list []Source, group string, role Role) {
		for i := range list {
			out = append(out, NamedSource{Field: index(field, i), Group: group, Role: role, Source: &list[i]})
		}
	}
	add("spec.talos.patches", s.Talos.Patches, "", "")
	add("spec.controlPlane.patches", s.ControlPlane.Patches, ControlPlaneGroup, RoleControlPlane)
	for i := range s.NodeGroups {
		add(index("spec.nodeGroups", i)+".patches", s.NodeGroups[i].Patches, s.NodeGroups[i].Name, RoleWorker)
	}
	for i := range s.Manifests {
		out = append(out, NamedSource{Field: index("spec.manifests", i), Manifest: true, Source: &s.Manifests[i].Source})
	}
	return out
}

// PatchesOf returns the config patches of a machine in the order in which they
// apply: those for all nodes, then those of the control plane or of its group. The
// pointers lead into s.
func (s *Spec) PatchesOf(role Role, group string) []NamedSource {
	return slices.DeleteFunc(s.sources(), func(n NamedSource) bool {
		return n.Manifest || n.Role != "" && (n.Role != role || role == RoleWorker && n.Group != group)
	})
}

// Machines is how many machines the spec asks for at creation.
func (s Spec) Machines() int {
	n := s.ControlPlane.Replicas
	for _, g := range s.NodeGroups {
		n += g.InitialCount()
	}
	return n
}

// MaxMachines is how many machines the spec allows at most.
func (s Spec) MaxMachines() int {
	n := s.ControlPlane.Replicas
	for _, g := range s.NodeGroups {
		n += max(g.Max, 0)
	}
	return n
}

// InitialCount is how many machines the group is created with.
func (g NodeGroup) InitialCount() int {
	if g.Count != nil {
		return *g.Count
	}
	return g.Min
}

// PrivateCIDR is the range of the cluster's own subnet, created or brought.
func (n Network) PrivateCIDR() string {
	if n.Existing != nil {
		return n.Existing.CIDR
	}
	return n.CIDR
}

// canonicalCIDR writes a range in its one usual form; what cannot be read stays
// as it is, for Validate to complain about.
func canonicalCIDR(s string) string {
	p, err := netip.ParsePrefix(strings.TrimSpace(s))
	if err != nil {
		return s
	}
	return p.String()
}

// minorOf cuts "v1.13.5" to "v1.13".
func minorOf(version string) string {
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return parts[0] + "." + parts[1]
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

func orTrue(b *bool) *bool {
	v := b == nil || *b
	return &v
}

// copyList copies, and makes empty lists nil so that absent and empty are equal.
func copyList[T any](in []T) []T {
	if len(in) == 0 {
		return nil
	}
	return slices.Clone(in)
}

func copyMap(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	return maps.Clone(in)
}

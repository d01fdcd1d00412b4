package cluster

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Limits of one spec.
const (
	// MinDiskGiB is what Talos needs for its partitions and a few images.
	MinDiskGiB = 10
	// MaxGroupSize keeps one group's state small enough for one workflow.
	MaxGroupSize = 500
	// MaxGroups keeps the summary of a cluster readable and its state small.
	MaxGroups = 100
)

// DatastoreDecision explains why etcd is the only datastore.
const DatastoreDecision = "docs/decisions/0002-datastore-etcd.md"

// Validate returns everything that is wrong with the spec as far as the spec
// itself shows it, in the order of the spec. It is pure and knows no cloud and
// no version of Talos; internal/check adds those. It expects the spec as it was
// written, so that field paths and list positions are those of the author.
func (c Cluster) Validate() Problems {
	var p Problems
	if c.APIVersion != APIVersion {
		p.Add("apiVersion", "must be %s", APIVersion)
	}
	if c.Kind != Kind {
		p.Add("kind", "must be %s", Kind)
	}
	if why := badLabel(c.Metadata.Name, MaxClusterName); why != "" {
		p.Add("metadata.name", "%s", why)
	}
	s := c.Spec
	s.Cloud.validate(&p)
	s.Talos.validate(&p)
	if s.Kubernetes.Version == "" {
		p.Add("spec.kubernetes.version", "is required, for example v1.36.3")
	}
	s.Network.validate(s.MaxMachines(), &p)
	s.Endpoint.validate(&p)
	switch s.Datastore {
	case "", DefaultDatastore:
	case "kine":
		p.Add("spec.datastore", "kine is not offered: Talos runs its control plane on etcd only; %s has the reasons and the alternatives", DatastoreDecision)
	default:
		p.Add("spec.datastore", "must be etcd; see %s", DatastoreDecision)
	}
	s.ControlPlane.validate(&p)
	s.validateGroups(&p)
	s.validateManifests(&p)
	s.validateSecrets(&p)
	if s.OnFailure != "" && s.OnFailure != OnFailureRollback && s.OnFailure != OnFailureKeep {
		p.Add("spec.onFailure", "must be rollback or keep")
	}
	return p
}

func (c Cloud) validate(p *Problems) {
	if c.Provider == "" {
		p.Add("spec.cloud.provider", "is required, for example cloudscale")
	}
	if c.Zone == "" {
		p.Add("spec.cloud.zone", "is required, for example lpg1")
	}
	if c.Credentials == "" {
		p.Add("spec.cloud.credentials", "is required: a reference such as env:CLOUDSCALE_API_TOKEN, never the credential itself")
	}
}

func (t Talos) validate(p *Problems) {
	if t.Version == "" {
		p.Add("spec.talos.version", "is required, for example v1.13.5")
	}
	validateImage("spec.talos", t.Schematic, t.Extensions, p)
	validateSources("spec.talos.patches", t.Patches, p)
}

func validateImage(path, schematic string, extensions []string, p *Problems) {
	if schematic != "" {
		if !hex64.MatchString(schematic) {
			p.Add(path+".schematic", "must be an Image Factory id: 64 lower-case hexadecimal digits")
		}
		if len(extensions) > 0 {
			p.Add(path+".extensions", "cannot be combined with schematic, which already says what the image contains")
		}
	}
	seen := map[string]int{}
	for i, e := range extensions {
		field := index(path+".extensions", i)
		owner, name, ok := strings.Cut(e, "/")
		switch first, twice := seen[e]; {
		case !ok || badLabel(owner, 63) != "" || badSubdomain(name) != "":
			p.Add(field, "must have the form owner/name, for example siderolabs/intel-ucode")
		case twice:
			p.Add(field, "is listed twice, first as %s", index(path+".extensions", first))
		}
		seen[e] = i
	}
}

// validateZones judges a list of zones that stands for a single one.
func validateZones(field, zone string, zones []string, p *Problems) {
	if len(zones) > 0 && zone != "" && !slices.Contains(zones, zone) {
		p.Add(field+".zone", "is not among zones; give one or the other")
	}
	seen := map[string]int{}
	for i, z := range zones {
		at := index(field+".zones", i)
		if first, twice := seen[z]; twice {
			p.Add(at, "is listed twice, first as %s", index(field+".zones", first))
		} else if strings.TrimSpace(z) != z || z == "" {
			p.Add(at, "must be the name of a zone")
		}
		seen[z] = i
	}
}

func (e Endpoint) validate(p *Problems) {
	switch {
	case e.LoadBalancer != nil && e.Address != "":
		p.Add("spec.endpoint", "takes either loadBalancer or address, not both")
	case e.Address != "":
		if why := badHost(e.Address); why != "" {
			p.Add("spec.endpoint.address", "%s", why)
		}
	}
}

func (c ControlPlane) validate(p *Problems) {
	const field = "spec.controlPlane"
	if !slices.Contains([]int{1, 3, 5}, c.Replicas) {
		p.Add(field+".replicas", "must be 1, 3 or 5, not %d: etcd needs an odd number to keep its quorum", c.Replicas)
	}
	validateMachines(field, c.Flavor, c.DiskGiB, p)
	validateLabels(field+".labels", c.Labels, p)
	validateTags(field+".tags", c.Tags, p)
	validateSources(field+".patches", c.Patches, p)
	validateZones(field, c.Zone, c.Zones, p)
}

func (s Spec) validateGroups(p *Problems) {
	if len(s.NodeGroups) > MaxGroups {
		p.Add("spec.nodeGroups", "has %d groups; the limit is %d", len(s.NodeGroups), MaxGroups)
	}
	seen := map[string]int{}
	for i, g := range s.NodeGroups {
		field := index("spec.nodeGroups", i)
		first, twice := seen[g.Name]
		switch why := badLabel(g.Name, MaxGroupName); {
		case why != "":
			p.Add(field+".name", "%s", why)
		case g.Name == ControlPlaneGroup:
			p.Add(field+".name", "%s is the name of the control plane's own group", ControlPlaneGroup)
		case twice:
			p.Add(field+".name", "is used twice, first by spec.nodeGroups[%d]", first)
		default:
			seen[g.Name] = i
		}
		g.validate(field, p)
	}
}

func (g NodeGroup) validate(field string, p *Problems) {
	g.validateScaling(field, p)
	validateLabels(field+".labels", g.Labels, p)
	validateTaints(field+".taints", g.Taints, p)
	validateSources(field+".patches", g.Patches, p)
}

// validateScaling is what holds for every group of machines, whether or not
// Ichor renders their configs.
func (g NodeGroup) validateScaling(field string, p *Problems) {
	validateMachines(field, g.Flavor, g.DiskGiB, p)
	if g.Min < 0 {
		p.Add(field+".min", "must not be negative")
	}
	switch {
	case g.Max < 1:
		p.Add(field+".max", "must be at least 1")
	case g.Max > MaxGroupSize:
		p.Add(field+".max", "must be at most %d; split the group", MaxGroupSize)
	case g.Min > g.Max:
		p.Add(field+".min", "is %d, more than max, which is %d", g.Min, g.Max)
	case g.Count != nil && (*g.Count < g.Min || *g.Count > g.Max):
		p.Add(field+".count", "is %d, which is not between min %d and max %d", *g.Count, g.Min, g.Max)
	}
	if strings.TrimSpace(g.Image) != g.Image {
		p.Add(field+".image", "has white space around it")
	}
	if g.Image != "" && (g.Schematic != "" || len(g.Extensions) > 0) {
		p.Add(field+".image", "cannot be combined with schematic or extensions, of which an image is made")
	}
	validateImage(field, g.Schematic, g.Extensions, p)
	validateZones(field, g.Zone, g.Zones, p)
	seen := map[string]int{}
	for i, n := range g.Networks {
		at := index(field+".networks", i)
		if first, twice := seen[n]; twice {
			p.Add(at, "is listed twice, first as %s", index(field+".networks", first))
		} else if strings.TrimSpace(n) != n || n == "" {
			p.Add(at, "must be the cloud's id of a network")
		}
		seen[n] = i
	}
	validateTags(field+".tags", g.Tags, p)
	g.validateAlternatives(field+".alternatives", p)
	if g.Autoscaling != nil {
		g.Autoscaling.validate(field+".autoscaling", p)
	}
}

func validateMachines(field, flavor string, disk int, p *Problems) {
	if flavor == "" {
		p.Add(field+".flavor", "is required, for example flex-4-2")
	}
	if disk != 0 && disk < MinDiskGiB {
		p.Add(field+".diskGiB", "must be at least %d", MinDiskGiB)
	}
}

func validateLabels(field string, labels map[string]string, p *Problems) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		at := JoinField(field, key)
		if why := badQualifiedName(key); why != "" {
			p.Add(at, "%s", why)
		} else if why := reservedLabel(key); why != "" {
			p.Add(at, "%s", why)
		}
		if why := badLabelValue(labels[key]); why != "" {
			p.Add(at, "%s", why)
		}
	}
}

func validateTaints(field string, taints []Taint, p *Problems) {
	seen := map[[2]string]int{}
	for i, t := range taints {
		at := index(field, i)
		if why := badQualifiedName(t.Key); why != "" {
			p.Add(at+".key", "%s", why)
		} else if why := reservedTaint(t.Key); why != "" {
			p.Add(at+".key", "%s", why)
		}
		if why := badLabelValue(t.Value); why != "" {
			p.Add(at+".value", "%s", why)
		}
		if !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, t.Effect) {
			p.Add(at+".effect", "must be NoSchedule, PreferNoSchedule or NoExecute")
		}
		if first, twice := seen[[2]string{t.Key, t.Effect}]; twice {
			p.Add(at, "has the key and effect of %s", index(field, first))
		}
		seen[[2]string{t.Key, t.Effect}] = i
	}
}

func validateTags(field string, tags map[string]string, p *Problems) {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		at := JoinField(field, key)
		switch {
		case badTag(key, false) != "":
			p.Add(at, "key %s", badTag(key, false))
		case ReservedTag(key):
			p.Add(at, "begins with %s, which is reserved: Ichor finds its resources by those tags", TagPrefix)
		case badTag(tags[key], true) != "":
			p.Add(at, "value %s", badTag(tags[key], true))
		}
	}
}

func validateSources(field string, list []Source, p *Problems) {
	for i, s := range list {
		s.validate(index(field, i), p)
	}
}

func (s Source) validate(field string, p *Problems) {
	var forms []string
	for _, f := range []struct{ name, value string }{{"file", s.File}, {"url", s.URL}, {"inline", s.Inline}, {"ref", s.Ref}} {
		if f.value != "" {
			forms = append(forms, f.name)
		}
	}
	switch {
	case len(forms) == 0:
		p.Add(field, "needs one of file, url, inline or ref")
	case len(forms) > 1:
		p.Add(field, "takes one of file, url, inline or ref, not %s", strings.Join(forms, " and "))
	}
	switch {
	case s.SHA256 != "" && !hex64.MatchString(s.SHA256):
		p.Add(field+".sha256", "must be 64 lower-case hexadecimal digits")
	case s.Ref != "" && s.SHA256 == "":
		p.Add(field+".sha256", "is required with ref")
	}
	if s.URL != "" {
		if why := badURL(s.URL, s.SHA256 != ""); why != "" {
			p.Add(field+".url", "%s", why)
		}
	}
}

// badURL never repeats the URL, which may carry a token.
func badURL(s string, pinned bool) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return "is not an absolute URL"
	case u.User != nil:
		return "must not contain credentials"
	case u.Scheme == "http" && !pinned:
		return "must use https, or be pinned by sha256"
	case u.Scheme != "https" && u.Scheme != "http":
		return "must use https"
	}
	return ""
}

func (s Spec) validateManifests(p *Problems) {
	seen := map[string]int{}
	for i, m := range s.Manifests {
		field := index("spec.manifests", i)
		first, twice := seen[m.Name]
		switch why := badLabel(m.Name, 63); {
		case why != "":
			p.Add(field+".name", "%s", why)
		case twice:
			p.Add(field+".name", "is used twice, first by spec.manifests[%d]", first)
		default:
			seen[m.Name] = i
		}
		m.validate(field, p)
	}
}

func (s Spec) validateSecrets(p *Problems) {
	seen := map[string]int{}
	for i, k := range s.Secrets {
		field := index("spec.secrets", i)
		if why := badLabel(k.Namespace, 63); why != "" {
			p.Add(field+".namespace", "%s", why)
		}
		if why := badSubdomain(k.Name); why != "" {
			p.Add(field+".name", "%s", why)
		}
		if !secretKey.MatchString(k.Key) || len(k.Key) > 253 {
			p.Add(field+".key", "must be letters, digits, '-', '_' and '.', for example access-token")
		}
		if k.From == "" {
			p.Add(field+".from", "is required: a reference such as env:CLOUDSCALE_API_TOKEN, never the secret itself")
		}
		id := fmt.Sprintf("%s/%s#%s", k.Namespace, k.Name, k.Key)
		if first, twice := seen[id]; twice {
			p.Add(field, "fills the same key as spec.secrets[%d]", first)
		}
		seen[id] = i
	}
}

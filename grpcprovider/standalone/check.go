package standalone

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

// group is a checked group in our spelling.
type group struct {
	cluster.NodeGroup
	// field is its path in the file.
	field    string
	adopt    *cluster.Tag
	also     []cluster.Tag
	subnets  []string
	params   map[string]string
	userData string
}

// settings is a checked file in our spelling.
type settings struct {
	name, cloud, credentials, kubeconfig string
	groups                               []group
	prices                               map[string]float64
	// clusterTag is on all servers, if not empty.
	clusterTag string
	notes      []string
}

// Check returns everything that is wrong with the file as far as the file
// itself shows it, in the order of the file.
func (f File) Check() cluster.Problems {
	_, p := f.resolve()
	return p
}

func (f File) resolve() (settings, cluster.Problems) {
	var p cluster.Problems
	s := settings{
		name: cmp.Or(f.Cluster, f.ClusterTag), cloud: cmp.Or(f.Cloud, "cloudscale"), clusterTag: f.ClusterTag,
		kubeconfig: cmp.Or(f.Kubeconfig, KubeconfigInCluster), prices: f.Prices,
	}
	if why := cluster.BadClusterName(s.name); why != "" {
		field := "cluster"
		if f.Cluster == "" && f.ClusterTag != "" {
			field, why = "clusterTag", why+"; it names the cluster unless the field cluster does"
		}
		p.Add(field, "%s", why)
	}
	known, ok := catalog.Named(s.cloud)
	if !ok {
		p.Add("cloud", "%s", catalog.Unknown(catalog.Clouds()))
	}
	s.credentials = f.credentials(known, &p)
	if s.kubeconfig != KubeconfigNone && s.kubeconfig != KubeconfigInCluster {
		if err := secrets.Ref(s.kubeconfig).Validate(); err != nil {
			p.Add("kubeconfig", "%v; or write %s or %s", err, KubeconfigInCluster, KubeconfigNone)
		}
	}
	if f.Listen != "" || f.TLS != nil {
		s.notes = append(s.notes, "listen and tls have no effect: they are settings of the command")
	}
	if f.ClusterTag != "" {
		tagProblems("clusterTag", cluster.Tag{Key: otherClusterTag, Value: f.ClusterTag}, &p)
	}
	switch n := len(f.NodeGroups); {
	case n == 0:
		p.Add("nodeGroups", "needs at least one group")
	case n > cluster.MaxGroups:
		p.Add("nodeGroups", "has %d groups; the limit is %d", n, cluster.MaxGroups)
	}
	seen, adopted := map[string]int{}, map[cluster.Tag]int{}
	for i, g := range f.NodeGroups {
		field := fmt.Sprintf("nodeGroups[%d]", i)
		if first, twice := seen[g.Name]; twice && g.Name != "" {
			p.Add(field+".name", "is used twice, first by nodeGroups[%d]", first)
		} else {
			seen[g.Name] = i
		}
		r := g.resolve(f, field, known, &s, &p)
		if r.adopt != nil {
			if first, twice := adopted[*r.adopt]; twice {
				p.Add(field+".tag", "is also the tag of nodeGroups[%d]; a server belongs to one group", first)
			} else {
				adopted[*r.adopt] = i
			}
		}
		s.groups = append(s.groups, r)
	}
	s.checkPrices(&p)
	return s, p
}

var variable = regexp.MustCompile(`^\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))$`)

// credentials returns the reference to the account's credentials.
func (f File) credentials(known catalog.Cloud, p *cluster.Problems) string {
	const advice = "a reference such as env:CLOUDSCALE_API_TOKEN, never the credential itself"
	switch {
	case f.Credentials != "" && f.CloudscaleAPIToken != "":
		p.Add("cloudscaleAPIToken", "cannot be combined with credentials")
	case known.Chain && secrets.Ref(f.Credentials).Scheme() == "chain":
	case f.Credentials != "":
		if err := secrets.Ref(f.Credentials).Validate(); err != nil {
			p.Add("credentials", "%v", err)
		}
	case f.CloudscaleAPIToken != "":
		m := variable.FindStringSubmatch(f.CloudscaleAPIToken)
		if m == nil {
			p.Add("cloudscaleAPIToken", "is taken as ${NAME} of an environment variable only; write credentials: %s", advice)
			return ""
		}
		return "env:" + m[1] + m[2]
	default:
		p.Add("credentials", "is required: %s", advice)
	}
	return f.Credentials
}

// either takes a value from one of two spellings.
func either[T any](field, ours, theirs string, a, b *T, p *cluster.Problems) (v T, at string) {
	at = field + "." + ours
	switch {
	case a != nil && b != nil:
		p.Add(field+"."+theirs, "means the same as %s; write one of them", ours)
		return *a, at
	case a != nil:
		return *a, at
	case b != nil:
		return *b, field + "." + theirs
	}
	return v, at
}

func (g Group) resolve(f File, field string, known catalog.Cloud, s *settings, p *cluster.Problems) group {
	r := group{field: field, userData: g.UserData, NodeGroup: cluster.NodeGroup{
		Name: g.Name, Flavor: g.Flavor, Zone: cmp.Or(g.Zone, f.Zone), Image: g.Image, Networks: slices.Clone(g.Networks),
		AntiAffinity: g.AntiAffinity, Labels: g.Labels, Taints: g.Taints, Tags: maps.Clone(g.Tags),
		Alternatives: g.Alternatives, Autoscaling: g.Autoscaling,
	}}
	var minAt, maxAt, diskAt string
	r.Min, minAt = either(field, "min", "minSize", g.Min, g.MinSize, p)
	r.Max, maxAt = either(field, "max", "maxSize", g.Max, g.MaxSize, p)
	r.DiskGiB, diskAt = either(field, "diskGiB", "volumeSizeGB", g.DiskGiB, g.VolumeSizeGB, p)
	written := map[string]string{field + ".min": minAt, field + ".max": maxAt, field + ".diskGiB": diskAt}
	for _, x := range r.ValidateExternal(field) {
		*p = append(*p, cluster.Problem{Field: cmp.Or(written[x.Field], x.Field), Reason: x.Reason})
	}
	if r.DiskGiB == 0 {
		r.DiskGiB = cluster.DefaultDiskGiB
	}
	if r.DiskGiB >= cluster.MinDiskGiB && r.DiskGiB < known.MinDiskGiB {
		p.Add(diskAt, "must be at least %d on %s", known.MinDiskGiB, s.cloud)
	}
	if g.Image == "" {
		p.Add(field+".image", "is required: the cloud's name of an image, for example custom:talos-v1-13")
	}
	zoneAt := field + ".zone"
	if g.Zone == "" && f.Zone != "" {
		zoneAt = "zone"
	}
	checkZone(zoneAt, r.Zone, known, p)
	for i, a := range g.Alternatives {
		if a.Zone != "" {
			checkZone(fmt.Sprintf("%s.alternatives[%d].zone", field, i), a.Zone, known, p)
		}
	}
	g.network(&r, p)
	for _, key := range slices.Sorted(maps.Keys(g.Params)) {
		if !slices.Contains(known.Params, key) {
			p.Add(field+".params."+key, "is not a parameter of machines on %s; it has %s", s.cloud, cmp.Or(strings.Join(known.Params, ", "), "none"))
		}
		if g.Params[key] == "" {
			p.Add(field+".params."+key, "must not be empty")
		}
	}
	r.params = g.Params
	g.tags(&r, f.ClusterTag, s, p)
	if r.adopt != nil && known.Name != "" && !known.Adopts {
		p.Add(field+".tag", "machines of %s that exist cannot be taken over; leave out tag and clusterTag, and the group begins empty", s.cloud)
	}
	if g.UserData == "" {
		p.Add(field+".userData", "is required: @path of a file with the machine config, or the text itself")
	}
	if g.ServerGroupUUID != "" {
		p.Add(field+".serverGroupUUID", "is not supported: a server group holds four servers, so Ichor makes as many as it needs; see antiAffinity")
	}
	if len(g.SSHKeys) > 0 {
		p.Add(field+".sshKeys", "is not supported: Talos has no SSH, and others take keys in their user data")
	}
	return r
}

func checkZone(field, zone string, known catalog.Cloud, p *cluster.Problems) {
	if zone == "" {
		p.Add(field, "is required, for example %s", cmp.Or(known.Zone, "lpg1"))
	} else if why := known.RefuseZone(zone); why != "" {
		p.Add(field, "%s", why)
	}
}

// network never gives a server an interface that its owner did not mean it to
// have: whether machines are on the internet is not a detail.
func (g Group) network(r *group, p *cluster.Problems) {
	private := g.UsePrivateNetwork != nil && *g.UsePrivateNetwork
	public := g.UsePublicNetwork != nil && *g.UsePublicNetwork
	switch {
	case (private || g.UsePublicNetwork != nil) && !public:
		p.Add(r.field+".usePublicNetwork", "must be true: Ichor's servers have a public interface beside private ones")
	case private && g.NetworkUUID == "":
		p.Add(r.field+".networkUUID", "is required with usePrivateNetwork; Ichor takes networks by their ids only")
	case g.SubnetUUID != "" && g.NetworkUUID == "":
		p.Add(r.field+".subnetUUID", "needs networkUUID")
	case g.NetworkUUID != "" && g.UsePrivateNetwork != nil && !private:
		p.Add(r.field+".networkUUID", "needs usePrivateNetwork: true")
	}
	r.subnets = slices.Clone(g.Subnets)
	seen := map[string]bool{}
	for i, id := range g.Subnets {
		at := fmt.Sprintf("%s.subnets[%d]", r.field, i)
		switch {
		case id == "" || strings.TrimSpace(id) != id:
			p.Add(at, "must be the cloud's id of a subnet")
		case seen[id]:
			p.Add(at, "is listed twice")
		}
		seen[id] = true
	}
	if g.SubnetUUID != "" {
		r.subnets = append(r.subnets, g.SubnetUUID) // an address in a subnet implies its network
	} else if g.NetworkUUID != "" {
		r.Networks = append(r.Networks, g.NetworkUUID)
	}
}

// tags resolves the tag by which servers are taken over, and puts it on new
// ones. Files in the other spelling need not name it.
func (g Group) tags(r *group, clusterTag string, s *settings, p *cluster.Problems) {
	want := map[string]string{}
	if clusterTag != "" {
		want[otherClusterTag] = clusterTag
	}
	key, value, pair := strings.Cut(g.Tag, "=")
	if !pair {
		value = g.Name
	}
	switch {
	case g.Tag == "" && clusterTag != "":
		key = otherGroupTag
	case g.Tag == "":
		s.notes = append(s.notes, fmt.Sprintf("group %s has no tag, so no server that exists is taken over", g.Name))
		key = ""
	case key == "" || value == "" && pair:
		p.Add(r.field+".tag", "must be the key of a tag, or key=value")
		key = ""
	}
	if key != "" {
		r.adopt = &cluster.Tag{Key: key, Value: value}
		tagProblems(r.field+".tag", *r.adopt, p)
		want[key] = value
		if clusterTag != "" && key != otherClusterTag {
			r.also = []cluster.Tag{{Key: otherClusterTag, Value: clusterTag}}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if have, ok := r.Tags[k]; ok && have != want[k] {
			p.Add(r.field+".tags", "sets %q to something else than the value that servers of the group carry", k)
		}
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		r.Tags[k] = want[k]
	}
}

// tagProblems applies the rules of tags to one that is written elsewhere.
func tagProblems(field string, t cluster.Tag, p *cluster.Problems) {
	one := cluster.NodeGroup{Name: "x", Flavor: "x", Max: 1, Tags: map[string]string{t.Key: t.Value}}
	for _, x := range one.ValidateExternal("") {
		p.Add(field, "%s", x.Reason)
	}
}

// checkPrices wants all flavors or none: to the autoscaler a flavor without a
// price is an error, not an unknown.
func (s settings) checkPrices(p *cluster.Problems) {
	if len(s.prices) == 0 {
		return
	}
	used := map[string]bool{}
	for _, g := range s.groups {
		if g.Flavor != "" {
			used[g.Flavor] = true
		}
		for _, a := range g.Alternatives {
			if a.Flavor != "" {
				used[a.Flavor] = true
			}
		}
	}
	for _, flavor := range slices.Sorted(maps.Keys(s.prices)) {
		field := "prices." + flavor
		switch v := s.prices[flavor]; {
		case !used[flavor]:
			p.Add(field, "is of a flavor that no group uses")
		case v <= 0 || math.IsInf(v, 0) || math.IsNaN(v):
			p.Add(field, "must be more than 0")
		}
	}
	for _, flavor := range slices.Sorted(maps.Keys(used)) {
		if _, ok := s.prices[flavor]; !ok {
			p.Add("prices", "has no price of %s; give all or none", flavor)
		}
	}
}

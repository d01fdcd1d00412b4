package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
)

// inWords are fields of a spec whose values are a cloud's own words. Where both
// sides have one, clouds that are not the same cannot have the same.
var inWords = []struct {
	field *regexp.Regexp
	why   string
}{
	{regexp.MustCompile(`^spec\.cloud\.provider$`), "this is the cloud"},
	{regexp.MustCompile(`^spec\.cloud\.credentials$`), "each cloud has credentials of its own"},
	{regexp.MustCompile(`^spec\.cloud\.zone$|\.zones$`), "zones are the cloud's own"},
	{regexp.MustCompile(`\.flavor$`), "sizes have the cloud's own names"},
	{regexp.MustCompile(`\.alternatives$`), "zones and sizes are the cloud's own"},
	{regexp.MustCompile(`\.(image|networks)$|\.existing\.(network|subnet)$`), "ids are the cloud's own"},
}

// Reasons for what a cloud's own controllers need.
const (
	ownController = "each cloud has controllers of its own; what else such a manifest holds is not compared"
	ownSecret     = "the cloud's own controllers need it"
)

// specDifferences are the fields of the specs that are not the same. Names of the
// clusters are left out: two clusters of one installation have two.
func specDifferences(a, b world) []Difference {
	left, right := a.specFields(), b.specFields()
	both := common(a.spec, b.spec)
	left.fold(a.spec, both)
	right.fold(b.spec, both)
	var out []Difference
	for _, path := range keys(left, right) {
		if !differ(left, right, path) {
			continue
		}
		d := Difference{Class: Asked, Field: path}
		d.A, d.B = show(left.at(path), right.at(path))
		if why := a.inWords(b, path, d); why != "" && a.cloud.Name != b.cloud.Name {
			d.Class, d.Why = Forced, []string{why}
		}
		out = append(out, d)
	}
	if before, after := a.order(b), b.order(a); !slices.Equal(before, after) {
		out = append(out, Difference{Class: Asked, Field: "spec.manifests", A: joined(before), B: joined(after), Why: []string{"the files apply them in another order"}})
	}
	return out
}

// fold makes one field of each group that only one side has.
func (f fields) fold(spec cluster.Spec, both []string) {
	for _, g := range spec.NodeGroups {
		if slices.Contains(both, g.Name) {
			continue
		}
		at := element("spec.nodeGroups", g.Name)
		maps.DeleteFunc(f, func(path string, _ value) bool { return strings.HasPrefix(path, at+".") })
		f[at] = value{text: fmt.Sprintf("%s, %d to %d machines", g.Flavor, g.Min, g.Max)}
	}
}

// order is how this side applies the manifests that both have.
func (w world) order(other world) []string {
	var out []string
	for _, m := range w.spec.Manifests {
		if slices.ContainsFunc(other.spec.Manifests, func(o cluster.Manifest) bool { return o.Name == m.Name }) {
			out = append(out, m.Name)
		}
	}
	return out
}

// inWords says why clouds force a field of the spec, or nothing.
func (w world) inWords(other world, path string, d Difference) string {
	zonal := w.cloud.ZonalNetworks || other.cloud.ZonalNetworks
	for _, word := range inWords {
		// A cloud without networks over several zones cannot have a list of them.
		if word.field.MatchString(path) && (d.A != nil && d.B != nil || strings.HasSuffix(path, ".zones") && zonal) {
			return word.why
		}
	}
	if name, ok := named(path, "spec.manifests"); ok && w.controls(name, d.A) && other.controls(name, d.B) {
		return ownController
	}
	if name, ok := named(path, "spec.secrets"); ok && w.needs(name, d.A) && other.needs(name, d.B) {
		return ownSecret
	}
	return ""
}

// named returns the element that a path names in a list.
func named(path, list string) (string, bool) {
	rest, ok := strings.CutPrefix(path, list+"[")
	name, _, closed := strings.Cut(rest, "]")
	return name, ok && closed
}

// controls reports whether a manifest, if this side has it, holds a controller of
// this side's cloud.
func (w world) controls(name string, has *string) bool {
	return has == nil || slices.ContainsFunc(w.spec.Manifests, func(m cluster.Manifest) bool {
		return m.Name == name && slices.ContainsFunc(w.cloud.Marks.Controllers, func(image string) bool { return strings.Contains(m.Inline, image) })
	})
}

// needs reports whether a secret, if this side has it, is for the cloud's own
// controllers.
func (w world) needs(name string, has *string) bool {
	secret, _, _ := strings.Cut(name, " ")
	return has == nil || slices.Contains(w.cloud.Marks.Secrets, secret)
}

// specFields are the fields of a spec. Documents are compared by their digests and
// shown by their sizes.
func (w world) specFields() fields {
	c := cluster.Cluster{Spec: w.spec}.Normalise() // a copy
	documents := fields{}
	for _, s := range c.Sources() {
		path := s.Field
		switch {
		case s.Manifest:
			path = ""
		case s.Role == cluster.RoleWorker:
			_, at, _ := strings.Cut(strings.TrimPrefix(path, "spec.nodeGroups["), "]")
			path = element("spec.nodeGroups", s.Group) + at
		}
		if path != "" {
			documents[path] = document(*s.Source)
		}
	}
	for _, m := range c.Spec.Manifests {
		documents[element("spec.manifests", m.Name)] = document(m.Source)
	}
	for _, s := range c.Spec.Secrets {
		documents[element("spec.secrets", s.Namespace+"/"+s.Name+" "+s.Key)] = value{text: s.From}
	}
	spec := c.Spec
	spec.Manifests, spec.Secrets, spec.Talos.Patches, spec.ControlPlane.Patches = nil, nil, nil, nil
	spec.ControlPlane.Zone, spec.ControlPlane.Zones = "", zones(spec.ControlPlane.Zone, spec.ControlPlane.Zones)
	for i := range spec.NodeGroups {
		g := &spec.NodeGroups[i]
		g.Patches, g.Zone, g.Zones = nil, "", zones(g.Zone, g.Zones)
	}
	var tree any
	body, err := json.Marshal(spec)
	if err == nil {
		err = yaml.Unmarshal(body, &tree) // YAML keeps integers as they are
	}
	if err != nil {
		panic("compare: a spec cannot be written as JSON: " + err.Error()) // strings, numbers, lists and maps of strings only
	}
	out := fields{}
	out.add("spec", tree)
	delete(out, "spec.nodeGroups") // their order says nothing, and each is there by its name
	for path, v := range documents {
		out[path] = v
	}
	return out
}

func zones(one string, several []string) []string {
	if len(several) > 0 {
		return several
	}
	return []string{one}
}

// document is a source by its digest. The text is never shown, nor the URL that it
// came from: either may hold a secret.
func document(s cluster.Source) value {
	v := value{text: s.SHA256, shows: "in the store"}
	if s.Inline != "" {
		v.shows = fmt.Sprintf("%s, %d bytes", cmp.Or(s.File, "a document"), len(s.Inline))
	}
	return v
}

// notCompared is what two files alone do not tell.
func notCompared(a, b world) []string {
	var out []string
	if a.cloud.Name != b.cloud.Name {
		out = append(out, "whether sizes that clouds name differently have as many CPUs, as much memory and the same architecture")
	}
	for _, w := range []world{a, b} {
		c := cluster.Cluster{Spec: w.spec}
		for _, s := range c.Sources() {
			if s.Source.Inline == "" && !s.Manifest {
				out = append(out, w.name+": "+s.Field+" lies in the store; it counts by its digest and is in no machine config")
			}
		}
	}
	return out
}

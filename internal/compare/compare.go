// Package compare shows in what two clusters differ, and why: because of their
// clouds, or because their specs ask for different things. It renders machine
// configs with the code of the worker, and needs neither a cloud nor a store: what
// only exists once a cluster does is stood in for, alike on both sides unless the
// clouds force a difference.
package compare

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// File is one of the two: a valid spec with the documents that belong to it.
type File struct {
	// Name is what people call it.
	Name    string
	Cluster cluster.Cluster
	// Bodies are the documents by field path ("spec.talos.patches[0]"). One that is
	// missing is compared by its digest and not rendered.
	Bodies map[string][]byte
}

// Class says where a difference comes from.
type Class string

// Classes of differences.
const (
	// Forced by the clouds, as they declare it (catalog.Marks).
	Forced Class = "cloud"
	// Asked for by the files.
	Asked Class = "file"
	// Unexplained by either: Ichor treats the clouds differently and does not say so.
	Unexplained Class = "unexplained"
)

// Difference is one field that is not the same.
type Difference struct {
	Class Class `json:"class"`
	// Nodes are the kinds of nodes in whose machine configs the field is: the name of
	// a group, or "control plane". Empty for fields of the spec.
	Nodes []string `json:"nodes,omitempty"`
	// Field is a path in the spec, or in a machine config: those of the main document
	// as they are, those of others after kind and name.
	Field string `json:"field"`
	// A and B are what the files lead to; nil for nothing. Of lists they are the
	// elements that the other side lacks.
	A *string `json:"a"`
	B *string `json:"b"`
	// Because are the fields of the spec that make a machine config differ.
	Because []string `json:"because,omitempty"`
	// Why is for people: why the clouds force it, or that nothing explains it.
	Why []string `json:"why,omitempty"`
}

// Side is what a file is about.
type Side struct {
	File       string `json:"file"`
	Cluster    string `json:"cluster"`
	Provider   string `json:"provider"`
	Zone       string `json:"zone"`
	Talos      string `json:"talos"`
	Contract   string `json:"contract"`
	Kubernetes string `json:"kubernetes"`
}

// Compared is how much of the nodes of a kind is the same.
type Compared struct {
	Nodes  string `json:"nodes"`
	Fields int    `json:"fields"`
	Same   int    `json:"same"`
}

// Result is the comparison.
type Result struct {
	A           Side         `json:"a"`
	B           Side         `json:"b"`
	Compared    []Compared   `json:"compared"`
	Differences []Difference `json:"differences"`
	// StandIns and NotCompared say what was not known.
	StandIns    []string `json:"standIns,omitempty"`
	NotCompared []string `json:"notCompared,omitempty"`
}

// Count is how many differences are of a class.
func (r Result) Count(class Class) int {
	n := 0
	for _, d := range r.Differences {
		if d.Class == class {
			n++
		}
	}
	return n
}

// Of returns the differences of a class.
func (r Result) Of(class Class) []Difference {
	return slices.DeleteFunc(slices.Clone(r.Differences), func(d Difference) bool { return d.Class != class })
}

// Compare compares what two files lead to. Errors: Invalid naming the field when a
// config cannot be rendered.
func Compare(a, b File) (Result, error) {
	left, err := worldOf(a)
	if err != nil {
		return Result{}, err
	}
	right, err := worldOf(b)
	if err != nil {
		return Result{}, err
	}
	return compareWorlds(left, right)
}

func compareWorlds(left, right world) (Result, error) {
	contract := max(left.spec.Talos.Contract, right.spec.Talos.Contract)
	bundle, err := talos.NewBundle(contract, time.Unix(0, 0))
	if err != nil {
		return Result{}, err
	}
	out := Result{A: left.side(), B: right.side(), Differences: []Difference{}, StandIns: standIns(left, right), NotCompared: notCompared(left, right)}
	out.Differences = append(out.Differences, facts(left, right)...)
	out.Differences = append(out.Differences, specDifferences(left, right)...)
	configs, compared, err := configDifferences(left, right, bundle)
	if err != nil {
		return Result{}, err
	}
	out.Differences, out.Compared = append(out.Differences, configs...), compared
	return out, nil
}

// configDifferences compares the machine configs of the kinds of nodes that both have.
func configDifferences(left, right world, bundle secrets.Value) ([]Difference, []Compared, error) {
	a, err := left.render(bundle)
	if err != nil {
		return nil, nil, fault.Wrap(fault.KindOf(err), left.name, err)
	}
	b, err := right.render(bundle)
	if err != nil {
		return nil, nil, fault.Wrap(fault.KindOf(err), right.name, err)
	}
	kinds := common(left.spec, right.spec)
	// What depends on cloud and spec together has the cause that comes first, so both
	// ways are gone.
	found := causes{}
	found.walk(left, right, a, b, kinds, bundle)
	found.walk(right, left, b, a, kinds, bundle)
	var out []Difference
	var compared []Compared
	for _, kind := range kinds {
		c := Compared{Nodes: title(kind)}
		for _, path := range keys(a[kind], b[kind]) {
			c.Fields++
			if !differ(a[kind], b[kind], path) {
				c.Same++
				continue
			}
			d := Difference{Nodes: []string{c.Nodes}, Field: path}
			d.A, d.B = show(a[kind].at(path), b[kind].at(path))
			d.A, d.B = left.plain(d.A), right.plain(d.B)
			d.explain(found[place{kind, path}])
			out = merge(out, d)
		}
		compared = append(compared, c)
	}
	return out, compared, nil
}

// place is a field of the nodes of a kind.
type place struct{ kind, path string }

// cause is why a field changed from one world to the next: a field of the spec, or
// the cloud, as why says.
type cause struct {
	class      Class
	field, why string
}

type causes map[place][]cause

// walk goes from one world to another in steps: first its cloud alone, then one field
// of the spec after the other. Each step renders anew, so every field that changes
// has a cause. A world that cannot be, such as a new config document on an old Talos,
// is left out; its step counts with the next.
func (c causes) walk(from, to world, before, end map[string]fields, kinds []string, bundle secrets.Value) {
	var pending []string
	origin := from
	for _, s := range steps(from.spec, to.spec, kinds) {
		next, now := from.moved(s, to), end
		if s.field != rest {
			pending = append(pending, s.field)
			var err error
			if now, err = next.render(bundle); err != nil {
				from = next
				continue // the last world can be: it was rendered before
			}
		} else if len(pending) == 0 {
			pending = []string{rest}
		}
		for _, kind := range kinds {
			for _, path := range keys(before[kind], now[kind]) {
				if !differ(before[kind], now[kind], path) {
					continue
				}
				at := place{kind, path}
				for _, field := range pending {
					found := cause{class: Asked, field: field}
					if field == "" {
						found = forced(origin, next, path, before[kind].at(path), now[kind].at(path))
					}
					if !slices.Contains(c[at], found) {
						c[at] = append(c[at], found)
					}
				}
			}
		}
		from, before, pending = next, now, nil
	}
}

// explain gives a difference the gravest class that one of its causes has.
func (d *Difference) explain(list []cause) {
	has := map[Class]bool{}
	for _, c := range list {
		has[c.class] = true
		if c.field != "" {
			d.Because = append(d.Because, c.field)
		}
		if c.why != "" {
			d.Why = append(d.Why, c.why)
		}
	}
	slices.Sort(d.Because)
	slices.Sort(d.Why)
	switch {
	case has[Unexplained] || len(list) == 0:
		d.Class = Unexplained
	case has[Asked]:
		d.Class = Asked
	default:
		d.Class = Forced
	}
}

// forced says whether a cloud declares that it forces a field that differs between
// two worlds: without the cloud's word, both must say the same.
func forced(a, b world, path string, was, is *value) cause {
	for _, f := range slices.Concat(a.cloud.Marks.Forced(), b.cloud.Marks.Forced()) {
		if f.Field == path && slices.Equal(a.wordless(was, f.Word), b.wordless(is, f.Word)) {
			return cause{class: Forced, why: f.Why}
		}
	}
	return cause{class: Unexplained, why: "nothing but the cloud differs, and neither cloud declares it"}
}

// wordless is a field with its cloud's word taken out; elements of a list that hold
// it are left out.
func (w world) wordless(v *value, word catalog.Word) []string {
	if v == nil {
		return nil
	}
	text := w.cloud.Marks.Platform
	if word == catalog.WordEndpoint {
		text = w.endpoint()
	}
	if v.list {
		return slices.DeleteFunc(slices.Clone(v.items), func(item string) bool { return text != "" && strings.Contains(item, text) })
	}
	return []string{strings.ReplaceAll(v.text, text, "")}
}

// merge adds a difference, to an equal one of other nodes if there is any.
func merge(list []Difference, d Difference) []Difference {
	for i, have := range list {
		if have.Field == d.Field && have.Class == d.Class && equal(have.A, d.A) && equal(have.B, d.B) && slices.Equal(have.Because, d.Because) {
			list[i].Nodes = append(list[i].Nodes, d.Nodes...)
			return list
		}
	}
	return append(list, d)
}

func equal(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// title is what people call the nodes of a group.
func title(group string) string {
	if group == cluster.ControlPlaneGroup {
		return "control plane"
	}
	return group
}

// common are the groups of both, the control plane first.
func common(a, b cluster.Spec) []string {
	out := []string{cluster.ControlPlaneGroup}
	for _, g := range a.NodeGroups {
		if slices.ContainsFunc(b.NodeGroups, func(o cluster.NodeGroup) bool { return o.Name == g.Name }) {
			out = append(out, g.Name)
		}
	}
	return out
}

// facts are what clouds do to nodes outside of their configs.
func facts(a, b world) []Difference {
	if a.cloud.Name == b.cloud.Name {
		return nil
	}
	encoding := map[bool]string{true: "gzip", false: "plain"}
	admitted := map[bool]string{true: "everybody", false: "adminCIDRs and the nodes"}
	var out []Difference
	add := func(field, why string, of func(catalog.Cloud) string) {
		if left, right := of(a.cloud), of(b.cloud); left != right {
			out = append(out, Difference{Class: Forced, Field: field, A: &left, B: &right, Why: []string{why}})
		}
	}
	if a.spec.Endpoint.Address == "" && b.spec.Endpoint.Address == "" {
		add("load balancer: who is let in", "not every cloud's load balancers can filter without shutting nodes out; certificates guard the API anyway",
			func(k catalog.Cloud) string { return admitted[k.OpenEndpoint] })
	}
	add("machines of a group on hosts of their own", "placement groups have the size that the cloud gives them; large groups get several",
		func(k catalog.Cloud) string { return "up to " + strconv.Itoa(k.SpreadLimit) + " together" })
	add("node.spec.providerID", "each cloud's controller knows its machines by a form of its own",
		func(k catalog.Cloud) string { return k.Marks.ProviderID })
	add("user data", "the same config, compressed where the cloud takes few bytes",
		func(k catalog.Cloud) string { return encoding[k.UserDataGzip] })
	return out
}

func standIns(a, b world) []string {
	out := []string{"the PKI: throw-away keys, the same on both sides", "the clusters' names and those of their nodes: the same on both sides"}
	hosts := []string{}
	for _, w := range []world{a, b} {
		if w.spec.Endpoint.Address == "" {
			hosts = append(hosts, "load balancer on "+w.cloud.Name+": "+cmp.Or(map[bool]string{true: "a DNS name"}[w.cloud.Marks.NamedEndpoint], "an address"))
		}
	}
	if len(hosts) > 0 {
		out = append(out, "the host of the Kubernetes API ("+strings.Join(slices.Compact(hosts), "; ")+")")
	}
	return out
}

// Package check is the full validation of a cluster spec: what the spec itself
// shows (package cluster), what versions of Talos and Kubernetes allow, and what
// the cloud allows. The command line and the first activity of a workflow call
// it with the same rules. It is pure: it reads no file, no clock, no network.
package check

import (
	"context"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Options say where the spec comes from and what it is checked against.
type Options struct {
	// FromTemporal refuses documents that only the caller's machine can read:
	// what reaches Temporal holds references and digests, no bodies.
	FromTemporal bool
	// Clouds are those that specs may name; nil means catalog.Clouds().
	Clouds []catalog.Cloud
	// Bodies are the documents of the spec by field path ("spec.manifests[0]"),
	// as far as the caller has them. With bodies, their content is checked too.
	Bodies map[string][]byte
	// Patches checks config patches by rendering them; nil leaves that out. It
	// is called only when nothing else is wrong. Its problems must not hold
	// text of a body.
	Patches func(c cluster.Cluster, bodies map[string][]byte) (cluster.Problems, error)
}

func (o Options) clouds() []catalog.Cloud {
	if o.Clouds == nil {
		return catalog.Clouds()
	}
	return o.Clouds
}

// MaxSpec is the largest spec, as JSON, that a workflow takes as input. Temporal
// warns at 256 KiB per payload, and the spec is part of several.
const MaxSpec = 128 << 10

// Spec returns everything that is wrong with a spec as it was written, in the
// order of the spec. No problems means that a cloud account in good order, with
// the flavors named, can run it.
func Spec(c cluster.Cluster, opt Options) cluster.Problems {
	p := c.Validate()
	references(c, opt, &p)
	versions(c.Spec, &p)
	if opt.FromTemporal {
		published(c, &p)
	}
	refsOfCluster(c, &p)
	limits(c, opt, &p)
	bodies(c, opt.Bodies, &p)
	if size := encodedSize(c, opt.FromTemporal); size > MaxSpec {
		p.Add("spec", "has %d bytes as JSON; the limit is %d: move documents into files", size, MaxSpec)
	}
	if len(p) == 0 && opt.Patches != nil && len(opt.Bodies) > 0 {
		more, err := opt.Patches(c.Normalise(), opt.Bodies)
		p = append(p, more...)
		if err != nil {
			p.Add("spec", "the config patches cannot be tried: %v", err)
		}
	}
	return inOrder(p)
}

// Error turns problems into a fault of kind Invalid; nil when there are none.
func Error(p cluster.Problems) error {
	return fault.Wrap(fault.Invalid, "check the cluster spec", p.Err())
}

// Checker checks specs that arrive through Temporal.
type Checker struct {
	// Clouds are those that specs may name; nil means catalog.Clouds().
	Clouds []catalog.Cloud
}

// Check returns the normalised spec and its digest, or a fault of kind Invalid
// that lists every problem.
func (k Checker) Check(_ context.Context, c cluster.Cluster) (normalised cluster.Cluster, digest string, err error) {
	if err := Error(Spec(c, Options{FromTemporal: true, Clouds: k.Clouds})); err != nil {
		return cluster.Cluster{}, "", err
	}
	n := c.Normalise()
	return n, n.Digest(), nil
}

// references checks every place where a spec names a secret.
func references(c cluster.Cluster, opt Options, p *cluster.Problems) {
	check := func(field, ref string) {
		if ref == "" {
			return // reported as missing
		}
		if err := secrets.Ref(ref).Validate(); err != nil {
			p.Add(field, "%v", err)
			return
		}
		if r := secrets.Ref(ref); r.Scheme() == "store" && strings.HasPrefix(r.Path(), "clusters/") {
			p.Add(field, "names an object that belongs to a cluster; put your own secrets elsewhere in the store")
		}
	}
	if k, _ := catalog.In(opt.clouds(), c.Spec.Cloud.Provider); !k.Chain || secrets.Ref(c.Spec.Cloud.Credentials).Scheme() != "chain" {
		check("spec.cloud.credentials", c.Spec.Cloud.Credentials)
	}
	for i, s := range c.Spec.Secrets {
		check(at("spec.secrets", i)+".from", s.From)
	}
}

// published notes every document that is not in the store yet. The value is
// never repeated: it may be a secret in the wrong place.
func published(c cluster.Cluster, p *cluster.Problems) {
	const remedy = "start by `ichor provision -f FILE`, or give other tools what `ichor spec publish -f FILE` prints"
	for _, s := range c.Sources() {
		if s.Source.Inline != "" {
			p.Add(s.Field+".inline", "documents do not travel through Temporal; %s", remedy)
		}
		if s.Source.File != "" {
			p.Add(s.Field+".file", "the worker cannot read files of your machine; %s", remedy)
		}
		if s.Source.URL != "" {
			p.Add(s.Field+".url", "the worker fetches no documents, so that a retry never sees another one; %s", remedy)
		}
	}
}

// refsOfCluster holds references to the cluster's own documents: deleting a
// cluster deletes what its spec refers to.
func refsOfCluster(c cluster.Cluster, p *cluster.Problems) {
	prefix := cluster.BodyPrefix(c.Metadata.Name)
	for _, s := range c.Sources() {
		if s.Source.Ref != "" && s.Source.Ref != prefix+s.Source.SHA256 {
			p.Add(s.Field+".ref", "must be %s followed by sha256, as `ichor spec publish` prints it", prefix)
		}
	}
}

// sections is the order in which problems are shown: that of the spec.
var sections = []string{
	"apiVersion", "kind", "metadata", "spec.cloud", "spec.talos", "spec.kubernetes", "spec.network", "spec.endpoint",
	"spec.datastore", "spec.controlPlane", "spec.nodeGroups", "spec.manifests", "spec.secrets", "spec.onFailure",
}

func inOrder(p cluster.Problems) cluster.Problems {
	rank := func(field string) int {
		if i := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(field, s) }); i >= 0 {
			return i
		}
		return len(sections)
	}
	slices.SortStableFunc(p, func(a, b cluster.Problem) int { return rank(a.Field) - rank(b.Field) })
	return p
}

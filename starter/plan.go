package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// planned is one thing that provisioning would create.
type planned struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Count  int    `json:"count"`
	Zone   string `json:"zone,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// planAnswer is what `ichor plan` prints.
type planAnswer struct {
	Cluster string    `json:"cluster"`
	Digest  string    `json:"digest"`
	Create  []planned `json:"create,omitempty"`
	// Exists is the phase of a cluster of this name that is recorded.
	Exists cluster.Phase `json:"exists,omitempty"`
	// Differences are the fields in which the recorded spec differs.
	Differences []string `json:"differences,omitempty"`
	Verdict     string   `json:"verdict"`
}

func newPlan(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Say what provisioning a spec would create, and where",
		Long: `plan checks a spec and says what provisioning would create. It reads the store
to see whether the cluster exists; it asks no cloud and no Temporal, and it
changes nothing.`,
		Args: cobra.NoArgs,
	}
	file := fileFlag(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := a.loadSpec(cmd.Context(), *file)
		if err != nil {
			return err
		}
		withDigests := digested(l)
		answer := planAnswer{Cluster: l.Cluster.Metadata.Name, Digest: withDigests.Digest()}
		st, err := a.openStore(cmd.Context())
		if err != nil {
			return err
		}
		defer func() { _ = st.Close() }() // nothing is buffered
		rec, _, err := st.Record(cmd.Context(), answer.Cluster)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		answer.judge(withDigests, rec, err == nil)
		if a.cfg.Output == outputJSON {
			return a.printJSON(answer)
		}
		return a.printPlan(answer, withDigests)
	}
	return c
}

// judge compares with what is recorded.
func (p *planAnswer) judge(c cluster.Cluster, rec cluster.Record, recorded bool) {
	if recorded && rec.Phase != cluster.PhaseDeleted {
		p.Exists = rec.Phase
		if rec.SpecDigest != p.Digest {
			p.Differences = differences(rec.Spec, c.Spec)
		}
	}
	same := p.Exists != "" && rec.SpecDigest == p.Digest
	switch {
	case p.Exists == "":
		p.Create = createdBy(c)
		p.Verdict = fmt.Sprintf("provision creates the cluster with %d machines", c.Spec.Machines())
	case !same:
		p.Verdict = "provision refuses: the cluster exists with another spec; delete it first or choose another name"
	case p.Exists == cluster.PhaseReady:
		p.Verdict = "provision changes nothing: the cluster exists and its spec is the same"
	case p.Exists == cluster.PhaseDeleting:
		p.Verdict = "provision refuses: the cluster is half deleted; finish with ichor delete " + p.Cluster
	default:
		p.Create = createdBy(c)
		p.Verdict = "provision goes on with what an earlier run left"
	}
}

// createdBy lists the resources of a new cluster.
func createdBy(c cluster.Cluster) []planned {
	c = c.Normalise()
	s, name := c.Spec, c.Metadata.Name
	var out []planned
	image := s.Talos.Version + " with schematic " + s.Talos.Schematic
	if s.Talos.Schematic == "" {
		image = s.Talos.Version + " with " + strings.Join(s.Talos.Extensions, ", ")
		if len(s.Talos.Extensions) == 0 {
			image = s.Talos.Version + " without extensions"
		}
	}
	out = append(out, planned{Kind: "image", Name: "Talos " + s.Talos.Version, Count: 1, Zone: s.Cloud.Zone, Detail: image + "; shared by all clusters that use it"})
	if s.Network.Existing == nil {
		out = append(out, planned{Kind: "network", Name: name, Count: 1, Zone: s.Cloud.Zone, Detail: "private subnet " + s.Network.CIDR})
	} else {
		out = append(out, planned{Kind: "network", Name: s.Network.Existing.Network, Count: 0, Zone: s.Cloud.Zone, Detail: "exists; used and never deleted"})
	}
	limits, _ := catalog.Named(s.Cloud.Provider) // nothing for a cloud that is not known
	if s.Endpoint.LoadBalancer != nil {
		who := strings.Join(s.Network.AdminCIDRs, ", ")
		if limits.OpenEndpoint {
			who = "everybody: adminCIDRs do not guard load balancers of this cloud"
		}
		out = append(out, planned{Kind: "load balancer", Name: name + "-api", Count: 1, Zone: s.Cloud.Zone, Detail: "Kubernetes API, port 6443, for " + who})
	} else {
		out = append(out, planned{Kind: "endpoint", Name: s.Endpoint.Address, Count: 0, Detail: "given; must lead to the control planes, port 6443"})
	}
	limit := limits.SpreadLimit
	machines := func(kind, group, zone, flavor string, disk, count int, spread *bool, extra string) {
		names := name + "-" + group + "-*"
		if shards := (count + max(limit, 1) - 1) / max(limit, 1); limit > 0 && spread != nil && *spread && shards > 0 {
			out = append(out, planned{Kind: "placement group", Name: names, Count: shards, Zone: zone, Detail: fmt.Sprintf("keeps up to %d machines on different hosts", limit)})
		}
		out = append(out, planned{Kind: kind, Name: names, Count: count, Zone: zone, Detail: fmt.Sprintf("%s, %d GiB%s", flavor, disk, extra)})
	}
	machines("control plane", cluster.ControlPlaneGroup, s.ControlPlane.Zone, s.ControlPlane.Flavor, s.ControlPlane.DiskGiB, s.ControlPlane.Replicas, s.ControlPlane.AntiAffinity, "")
	for _, g := range s.NodeGroups {
		machines("worker", g.Name, g.Zone, g.Flavor, g.DiskGiB, g.InitialCount(), g.AntiAffinity, scales(g))
	}
	for _, k := range s.Secrets {
		out = append(out, planned{Kind: "secret", Name: k.Namespace + "/" + k.Name, Count: 1, Detail: "key " + k.Key + " from " + k.From})
	}
	for _, m := range s.Manifests {
		out = append(out, planned{Kind: "manifest", Name: m.Name, Count: 1, Detail: "applied as soon as the API answers"})
	}
	return out
}

func scales(g cluster.NodeGroup) string {
	how := fmt.Sprintf(", scales %d to %d", g.Min, g.Max)
	if g.Spot {
		how += ", may be taken back by the cloud"
	}
	return how
}

func (a *app) printPlan(p planAnswer, c cluster.Cluster) error {
	s := c.Normalise().Spec
	fmt.Fprintf(a.out, "Cluster %s on %s, zone %s: Talos %s (config contract %s), Kubernetes %s\n",
		p.Cluster, s.Cloud.Provider, s.Cloud.Zone, s.Talos.Version, s.Talos.Contract, s.Kubernetes.Version)
	fmt.Fprintf(a.out, "Spec digest %s, on failure: %s\n", p.Digest[:12], s.OnFailure)
	if len(p.Create) > 0 {
		fmt.Fprintln(a.out)
		w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "COUNT\tKIND\tNAME\tZONE\tDETAIL")
		for _, r := range p.Create {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", r.Count, r.Kind, r.Name, r.Zone, r.Detail)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	for _, d := range p.Differences {
		fmt.Fprintf(a.out, "  differs: %s\n", d)
	}
	fmt.Fprintf(a.out, "\n%s\n", strings.ToUpper(p.Verdict[:1])+p.Verdict[1:])
	return nil
}

// digested is the spec as it would be published, without storing anything.
func digested(l loaded) cluster.Cluster {
	c := l.Cluster.Normalise()
	for _, s := range c.Sources() {
		if body, ok := l.Bodies[s.Field]; ok {
			sum := sha(body)
			*s.Source = cluster.Source{Ref: cluster.BodyPrefix(c.Metadata.Name) + sum, SHA256: sum}
		}
	}
	return c
}

// differences names the fields in which two specs differ, sorted.
func differences(a, b cluster.Spec) []string {
	fa, fb := flatten(a), flatten(b)
	keys := map[string]bool{}
	for k := range fa {
		keys[k] = true
	}
	for k := range fb {
		keys[k] = true
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		switch before, after := fa[k], fb[k]; {
		case before == after:
		case before == "":
			out = append(out, k+" is new: "+after)
		case after == "":
			out = append(out, k+" is gone, was "+before)
		default:
			out = append(out, k+" is "+after+", was "+before)
		}
	}
	return out
}

// flatten turns a normalised spec into field paths and values.
func flatten(s cluster.Spec) map[string]string {
	out := map[string]string{}
	b, err := json.Marshal(cluster.Cluster{Spec: s}.Normalise().Spec)
	if err != nil {
		return out // strings and numbers always encode
	}
	var tree any
	if json.Unmarshal(b, &tree) != nil {
		return out
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch n := v.(type) {
		case map[string]any:
			for k, inner := range n {
				walk(path+"."+k, inner)
			}
		case []any:
			for i, inner := range n {
				walk(path+"["+strconv.Itoa(i)+"]", inner)
			}
		default:
			out[path] = fmt.Sprint(n)
		}
	}
	walk("spec", tree)
	return out
}

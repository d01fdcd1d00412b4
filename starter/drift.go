package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// nodeDrift is a node and in what it differs from the cluster's record.
type nodeDrift struct {
	plan.UpgradeNode
	Differs []string `json:"differs,omitempty"`
}

// drift is what `ichor status --drift` prints.
type drift struct {
	Cluster string        `json:"cluster"`
	Want    plan.Versions `json:"want"`
	Nodes   []nodeDrift   `json:"nodes"`
	// Drifted is how many nodes differ or could not be looked at.
	Drifted int `json:"drifted"`
}

// drift compares every node with the record: versions and the digest of the
// machine config. The cluster's lock is held meanwhile, so that nothing changes
// under its eyes. Nodes that differ are an error, as for diff.
func (a *app) drift(ctx context.Context, name string) error {
	t, rec, err := a.dialRecord(ctx, name)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := free(ctx, t, name); err != nil {
		return fmt.Errorf("%w; how far it is: ichor status %s", err, name)
	}
	r, err := a.lookOnly(ctx, t, rec, workflows.UpgradeInput{Cluster: name})
	if err != nil && len(r.Nodes) == 0 {
		return err
	}
	d := driftOf(name, plan.Versions{Talos: rec.Frozen.TalosVersion, Schematic: rec.Frozen.Schematic, Kubernetes: rec.Frozen.KubernetesVersion}, r.Nodes)
	if a.cfg.Output == outputJSON {
		err = a.printJSON(d)
	} else {
		err = d.print(a.out)
	}
	if err == nil && d.Drifted > 0 {
		return &runError{Message: fmt.Sprintf("%d of %s differ from the record of cluster %q; bring them back with: ichor upgrade %s", d.Drifted, count(len(d.Nodes), "node"), name, name)}
	}
	return err
}

func driftOf(name string, want plan.Versions, nodes []plan.UpgradeNode) drift {
	d := drift{Cluster: name, Want: want, Nodes: []nodeDrift{}}
	for _, n := range nodes {
		row := nodeDrift{UpgradeNode: n, Differs: differsIn(n, want)}
		if len(row.Differs) > 0 {
			d.Drifted++
		}
		d.Nodes = append(d.Nodes, row)
	}
	return d
}

// differsIn names what of a node is not as the record says.
func differsIn(n plan.UpgradeNode, want plan.Versions) []string {
	if n.Problem != "" {
		return []string{"not seen: " + n.Problem}
	}
	parts := []struct{ what, have, want string }{
		{"Talos", n.Talos, want.Talos}, {"schematic", n.Schematic, want.Schematic}, {plan.ComponentKubelet, n.Kubelet, want.Kubernetes},
	}
	if n.Role == cluster.RoleControlPlane {
		parts = append(parts, []struct{ what, have, want string }{
			{plan.ComponentAPIServer, n.APIServer, want.Kubernetes},
			{plan.ComponentControllerManager, n.ControllerManager, want.Kubernetes},
			{plan.ComponentScheduler, n.Scheduler, want.Kubernetes},
		}...)
	}
	var out []string
	for _, p := range parts {
		if p.want != "" && p.have != p.want {
			out = append(out, p.what)
		}
	}
	if n.ConfigSHA256 != n.WantSHA256 {
		out = append(out, "config")
	}
	return out
}

func (d drift) print(out io.Writer) error {
	fmt.Fprintf(out, "The record of cluster %s says: %s\n\n", d.Cluster, versionsText(d.Want))
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tTALOS\tSCHEMATIC\tKUBELET\tAPISERVER\tCONTROLLER\tSCHEDULER\tCONFIG\tDIFFERS IN")
	dash := func(s string) string {
		if s == "" {
			return "-"
		}
		return s
	}
	for _, n := range d.Nodes {
		config := "-"
		switch {
		case n.Problem != "":
		case n.ConfigSHA256 == n.WantSHA256:
			config = "ok " + short(n.ConfigSHA256)
		default:
			config = "drifted " + short(n.ConfigSHA256)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, dash(n.Talos), dash(short(cmp.Or(n.Variant, n.Schematic))), dash(n.Kubelet),
			dash(n.APIServer), dash(n.ControllerManager), dash(n.Scheduler), config, dash(printable(strings.Join(n.Differs, ", "))))
	}
	return w.Flush()
}

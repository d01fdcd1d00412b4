package activities

import (
	"slices"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// patchWorkers adds a patch to the workers of the wanted spec.
func patchWorkers(s *scene, in *CheckUpgradeInput, body string) {
	s.bodies["p@w"] = body
	in.Last.Spec.NodeGroups = slices.Clone(in.Last.Spec.NodeGroups)
	in.Last.Spec.NodeGroups[0].Patches = []cluster.Source{source("p", "w")}
}

// TestCheckUpgradeFlags goes by the configs that nodes are given at each minor: the
// cluster's own on the way, the wanted spec's at the end.
func TestCheckUpgradeFlags(t *testing.T) {
	v := func(kubernetes string) plan.Versions {
		return plan.Versions{Talos: "v1.14.1", Schematic: schematicA, Kubernetes: kubernetes}
	}
	legs := []plan.Leg{
		{Kind: plan.LegKubernetes, From: v("v1.35.1"), To: v("v1.36.2")},
		{Kind: plan.LegKubernetes, From: v("v1.36.2"), To: v("v1.37.0")},
	}
	const first, last = "take it out first", "give that to the upgrade with -f"
	for _, tc := range []struct {
		name       string
		have, want string
		told       map[string]string // what to do by flag
	}{
		{"nothing", "kubelet:stays", "kubelet:stays", nil},
		{"in both", "kubelet:gone-in-1.36", "kubelet:gone-in-1.36", map[string]string{"gone-in-1.36": first}},
		{"taken out by the change, but needed out before", "kubelet:gone-in-1.36", "", map[string]string{"gone-in-1.36": first}},
		{"taken out by the change in time", "kubelet:gone-in-1.37", "", nil},
		{"brought by the change", "", "kubelet:gone-in-1.36 kube-proxy:gone-in-1.37", map[string]string{"gone-in-1.36": last, "gone-in-1.37": last}},
		{"one each", "kubelet:gone-in-1.36", "kubelet:gone-in-1.37", map[string]string{"gone-in-1.36": first, "gone-in-1.37": last}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene()
			s.scaler = "v1.37.0"
			in := checkInput(s)
			in.Legs, in.Last.Frozen.KubernetesVersion = legs, "v1.37.0"
			s.bodies["p@h"] = tc.have
			s.rec.Spec.NodeGroups = slices.Clone(s.rec.Spec.NodeGroups)
			s.rec.Spec.NodeGroups[0].Patches = []cluster.Source{source("p", "h")}
			patchWorkers(s, &in, tc.want)
			out, err := act(t, s.upgrades().CheckUpgrade, in)
			wantType(t, err, "")
			if len(out.Problems) != len(workers)*len(tc.told) {
				t.Errorf("problems %+v", out.Problems)
			}
			for flag, do := range tc.told {
				for _, w := range workers {
					if !slices.ContainsFunc(out.Problems, func(r plan.Refusal) bool {
						return r.Field == w.Node.Name && strings.Contains(r.Reason, flag) && strings.Contains(r.Reason, do)
					}) {
						t.Errorf("%s of %s: %+v", flag, w.Node.Name, out.Problems)
					}
				}
			}
		})
	}
}

package activities

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

const (
	schematicC    = "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
	fakeInstaller = "factory/fake-installer/"
)

// varied lets the workers of a scene run a system of their own.
func varied(s *scene, in *CheckUpgradeInput, first, last cluster.Variant) {
	first.Groups, last.Groups = []string{"worker"}, []string{"worker"}
	first.InstallerImage, last.InstallerImage = fakeInstaller+first.Schematic+":v1.13.5", fakeInstaller+last.Schematic+":v1.14.1"
	groups := slices.Clone(s.rec.Spec.NodeGroups)
	if first.Schematic != schematicA {
		groups[0].Extensions = []string{"siderolabs/nvidia"}
	}
	s.rec.Spec.NodeGroups = groups
	s.rec.Frozen.Variants = []cluster.Variant{first}
	in.Last.Spec.NodeGroups = slices.Clone(groups)
	in.Last.Frozen.Variants = []cluster.Variant{last}
}

// asked are the installers that the factory was asked for, as "version schematic".
func asked(s *scene) (out []string) {
	for _, call := range s.calls {
		if image, ok := strings.CutPrefix(call, "installer "+fakeInstaller); ok {
			schematic, version, _ := strings.Cut(image, ":")
			out = append(out, version+" "+schematic[:1])
		}
	}
	return out
}

func TestInstallersOfEveryGroupAreChecked(t *testing.T) {
	a, b, c := cluster.Variant{Schematic: schematicA, Arch: "arm64"}, cluster.Variant{Schematic: schematicB}, cluster.Variant{Schematic: schematicC}
	v := func(talos, schematic, kubernetes string) plan.Versions {
		return plan.Versions{Talos: talos, Schematic: schematic, Kubernetes: kubernetes}
	}
	for name, test := range map[string]struct {
		first, last cluster.Variant
		change      func(*CheckUpgradeInput)
		want        []string
	}{
		"another architecture":   {first: a, last: a, want: []string{"v1.13.9 a", "v1.14.1 a"}},
		"extensions of its own":  {first: b, last: b, want: []string{"v1.13.9 a", "v1.13.9 b", "v1.14.1 a", "v1.14.1 b"}},
		"extensions that change": {first: b, last: c, want: []string{"v1.13.9 a", "v1.13.9 b", "v1.14.1 a", "v1.14.1 b", "v1.14.1 c"}},
		"no node of the group":   {first: b, last: b, want: []string{"v1.13.9 a", "v1.14.1 a"}, change: func(in *CheckUpgradeInput) { in.Nodes = planes }},
		"only Kubernetes":        {first: b, last: b, change: func(in *CheckUpgradeInput) { in.Legs = in.Legs[2:] }},
		"the cluster's own changes": {first: b, last: b, want: []string{"v1.13.5 c", "v1.13.5 b", "v1.14.1 c", "v1.14.1 b"}, change: func(in *CheckUpgradeInput) {
			in.Last.Frozen.Schematic, in.Last.Frozen.InstallerImage = schematicC, fakeInstaller+schematicC+":v1.14.1"
			in.Legs = []plan.Leg{
				{Kind: plan.LegTalos, From: v("v1.13.5", schematicA, "v1.35.1"), To: v("v1.13.5", schematicC, "v1.35.1")},
				{Kind: plan.LegTalos, From: v("v1.13.5", schematicC, "v1.35.1"), To: v("v1.14.1", schematicC, "v1.36.2")},
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene()
			s.scaler = "v1.36.0"
			in := checkInput(s)
			varied(s, &in, test.first, test.last)
			if test.change != nil {
				test.change(&in)
			}
			out, err := act(t, s.upgrades().CheckUpgrade, in)
			wantType(t, err, "")
			if len(out.Problems) > 0 {
				t.Errorf("%+v", out.Problems)
			}
			if diff := cmp.Diff(test.want, asked(s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A group whose installer does not exist is named, and takes no room from others.
func TestInstallerOfAGroupIsMissing(t *testing.T) {
	s := newScene()
	s.scaler = "v1.36.0"
	in := checkInput(s)
	varied(s, &in, cluster.Variant{Schematic: schematicB}, cluster.Variant{Schematic: schematicB})
	for _, image := range []string{schematicA + ":v1.13.9", schematicA + ":v1.14.1", schematicB + ":v1.14.1"} {
		s.installers = append(s.installers, fakeInstaller+image)
	}
	s.inspected.nodes["192.0.2.11"] = NodeInspection{FreeBytes: 300 << 20, DiskBytes: 20 << 30}
	s.inspected.nodes["192.0.2.1"] = NodeInspection{FreeBytes: 300 << 20, DiskBytes: 20 << 30}
	out, err := act(t, s.upgrades().CheckUpgrade, in)
	wantType(t, err, "")
	want := map[string]string{
		"images":        fakeInstaller + schematicB + ":v1.13.9 of worker: look for the installer",
		"demo-worker-1": "needs 1862 (900 for the installer of v1.13.9, by estimate, 450 for the installer of v1.14.1, 512 for 2 images",
		"demo-cp-1":     "needs 2180 (450 for the installer of v1.13.9, 450 for the installer of v1.14.1, 1280 for 5 images",
	}
	if len(out.Problems) != len(want) {
		t.Errorf("%+v", out.Problems)
	}
	for _, p := range out.Problems {
		if !strings.Contains(p.Reason, want[p.Field]) || want[p.Field] == "" {
			t.Errorf("%s: %s, want %q", p.Field, p.Reason, want[p.Field])
		}
	}
}

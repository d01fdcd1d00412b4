package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func decode(t *testing.T, doc string) Cluster {
	t.Helper()
	c, _, err := Decode([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNormaliseWritesOutEveryDefault(t *testing.T) {
	c := decode(t, minimal+"  nodeGroups:\n  - {name: a, flavor: flex-4-1, min: 2, max: 4}\n").Normalise()
	yes, two := true, 2
	want := Spec{
		Cloud:      Cloud{Provider: "cloudscale", Zone: "lpg1", Credentials: "env:CLOUDSCALE_API_TOKEN"},
		Talos:      Talos{Version: "v1.13.5", Contract: "v1.13"},
		Kubernetes: Kubernetes{Version: "v1.36.3"},
		Network: Network{
			CIDR: "10.200.0.0/24", AdminCIDRs: []string{"192.0.2.0/24"},
			PodCIDR: "10.244.0.0/16", ServiceCIDR: "10.96.0.0/12",
		},
		Endpoint:     Endpoint{LoadBalancer: &LoadBalancer{}},
		Datastore:    "etcd",
		ControlPlane: ControlPlane{Replicas: 3, Flavor: "flex-4-2", DiskGiB: 50, Zone: "lpg1", AntiAffinity: &yes},
		NodeGroups:   []NodeGroup{{Name: "a", Flavor: "flex-4-1", Min: 2, Max: 4, Count: &two, Zone: "lpg1", DiskGiB: 50, AntiAffinity: &yes}},
		OnFailure:    "rollback",
	}
	if diff := cmp.Diff(want, c.Spec); diff != "" {
		t.Errorf("normalised spec (-want +got):\n%s", diff)
	}
}

func TestDigestIsTheMeaningNotTheWords(t *testing.T) {
	base := decode(t, minimal).Digest()
	edit := func(from, to string) string { return strings.Replace(minimal, from, to, 1) }
	for _, tc := range []struct {
		name, doc string
		same      bool
	}{
		{"itself", minimal, true},
		{"defaults written out", minimal + "    diskGiB: 50\n    zone: lpg1\n    antiAffinity: true\n  datastore: etcd\n  onFailure: rollback\n  nodeGroups: []\n  endpoint: {loadBalancer: {}}\n", true},
		{"contract written out", edit("version: v1.13.5", "version: v1.13.5\n    contract: v1.13"), true},
		{"other name", edit("name: demo", "name: other"), false},
		{"other Talos", edit("v1.13.5", "v1.13.6"), false},
		{"other failure policy", minimal + "  onFailure: keep\n", false},
		{"own endpoint", minimal + "  endpoint: {address: api.example.com}\n", false},
		{"no spreading", minimal + "    antiAffinity: false\n", false},
		{"a group", minimal + "  nodeGroups: [{name: a, flavor: f, min: 0, max: 1}]\n", false},
	} {
		if got := decode(t, tc.doc).Digest() == base; got != tc.same {
			t.Errorf("%s: same digest = %v, want %v", tc.name, got, tc.same)
		}
	}
}

func TestDigestCountsDocumentsByContent(t *testing.T) {
	sum := func(digit string) string { return strings.Repeat(digit, 64) }
	with := func(s Source) string {
		c := decode(t, minimal)
		c.Spec.Manifests = []Manifest{{Name: "ccm", Source: s}}
		before := c.Spec.Manifests[0].Source
		digest := c.Digest()
		if diff := cmp.Diff(before, c.Spec.Manifests[0].Source); diff != "" {
			t.Errorf("Digest changed its receiver:\n%s", diff)
		}
		return digest
	}
	a := with(Source{Ref: "here/1", SHA256: sum("a")})
	if b := with(Source{Ref: "there/2", SHA256: sum("a")}); a != b {
		t.Error("another place of the same content changes the digest")
	}
	if b := with(Source{Ref: "here/1", SHA256: sum("b")}); a == b {
		t.Error("other content does not change the digest")
	}
}

func TestSourcesNamesEveryDocumentInOrder(t *testing.T) {
	c := decode(t, minimal)
	c.Spec.Talos.Patches = []Source{{File: "all"}}
	c.Spec.ControlPlane.Patches = []Source{{File: "cp0"}, {File: "cp1"}}
	c.Spec.NodeGroups = []NodeGroup{{Name: "a"}, {Name: "b", Patches: []Source{{File: "b0"}}}}
	c.Spec.Manifests = []Manifest{{Name: "m", Source: Source{File: "m0"}}}
	type row struct {
		Field, Group, File string
		Role               Role
		Manifest           bool
	}
	var got []row
	for _, s := range c.Sources() {
		got = append(got, row{s.Field, s.Group, s.Source.File, s.Role, s.Manifest})
		s.Source.File = "replaced"
	}
	want := []row{
		{Field: "spec.talos.patches[0]", File: "all"},
		{Field: "spec.controlPlane.patches[0]", Group: "cp", File: "cp0", Role: RoleControlPlane},
		{Field: "spec.controlPlane.patches[1]", Group: "cp", File: "cp1", Role: RoleControlPlane},
		{Field: "spec.nodeGroups[1].patches[0]", Group: "b", File: "b0", Role: RoleWorker},
		{Field: "spec.manifests[0]", File: "m0", Manifest: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if c.Spec.Manifests[0].File != "replaced" || c.Spec.NodeGroups[1].Patches[0].File != "replaced" {
		t.Error("the pointers do not lead into the spec")
	}
}

// anyCluster draws specs that are mostly sensible, with every list, map and
// pointer both absent and present.
func anyCluster() *rapid.Generator[Cluster] {
	word := rapid.SampledFrom([]string{"", "a", "lpg1", "v1.13.5", "10.1.2.0/24", "10.1.2.3/24", "::/0", "x y"})
	words := rapid.SliceOfN(word, 0, 3)
	texts := rapid.MapOfN(word, word, 0, 3)
	source := rapid.Custom(func(t *rapid.T) Source {
		return Source{File: word.Draw(t, "file"), Inline: word.Draw(t, "inline"), Ref: word.Draw(t, "ref"), SHA256: word.Draw(t, "sha")}
	})
	sources := rapid.SliceOfN(source, 0, 2)
	small := rapid.IntRange(-1, 6)
	group := rapid.Custom(func(t *rapid.T) NodeGroup {
		return NodeGroup{
			Name: word.Draw(t, "name"), Flavor: word.Draw(t, "flavor"), Min: small.Draw(t, "min"), Max: small.Draw(t, "max"),
			Count: rapid.Ptr(small, true).Draw(t, "count"), DiskGiB: small.Draw(t, "disk"), Networks: words.Draw(t, "networks"),
			AntiAffinity: rapid.Ptr(rapid.Bool(), true).Draw(t, "spread"), Labels: texts.Draw(t, "labels"), Tags: texts.Draw(t, "tags"),
			Taints: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Taint {
				return Taint{Key: word.Draw(t, "key"), Value: word.Draw(t, "value"), Effect: word.Draw(t, "effect")}
			}), 0, 3).Draw(t, "taints"),
			Patches: sources.Draw(t, "patches"),
		}
	})
	return rapid.Custom(func(t *rapid.T) Cluster {
		return Cluster{
			APIVersion: APIVersion, Kind: Kind, Metadata: Metadata{Name: word.Draw(t, "name")},
			Spec: Spec{
				Cloud: Cloud{Provider: word.Draw(t, "provider"), Zone: word.Draw(t, "zone")},
				Talos: Talos{Version: word.Draw(t, "version"), Contract: word.Draw(t, "contract"), Extensions: words.Draw(t, "extensions"), Patches: sources.Draw(t, "patches")},
				Network: Network{
					CIDR: word.Draw(t, "cidr"), AdminCIDRs: words.Draw(t, "admins"), PodCIDR: word.Draw(t, "pods"),
					Existing: rapid.Ptr(rapid.Custom(func(t *rapid.T) ExistingNetwork { return ExistingNetwork{CIDR: word.Draw(t, "cidr")} }), true).Draw(t, "existing"),
				},
				Endpoint:     Endpoint{Address: word.Draw(t, "address")},
				ControlPlane: ControlPlane{Replicas: small.Draw(t, "replicas"), Labels: texts.Draw(t, "labels"), Patches: sources.Draw(t, "patches")},
				NodeGroups:   rapid.SliceOfN(group, 0, 3).Draw(t, "groups"),
				OnFailure:    word.Draw(t, "onFailure"),
			},
		}
	})
}

func TestNormaliseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyCluster().Draw(t, "cluster")
		before := c.Digest()
		once := c.Normalise()
		if diff := cmp.Diff(once, once.Normalise()); diff != "" {
			t.Fatalf("normalising twice differs:\n%s", diff)
		}
		if once.Digest() != before {
			t.Fatal("normalising changes the digest")
		}
		for _, s := range once.Sources() {
			*s.Source = Source{}
		}
		for i := range once.Spec.NodeGroups {
			once.Spec.NodeGroups[i].Name = "changed"
			clear(once.Spec.NodeGroups[i].Labels)
		}
		if c.Digest() != before {
			t.Fatal("changing the normalised copy changes the original")
		}
	})
}

func TestValidateAcceptsValidSpecsAndTheirNormalForm(t *testing.T) {
	base := decode(t, minimal)
	rapid.Check(t, func(t *rapid.T) {
		c := base.Normalise()
		c.Metadata.Name = rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?`).Draw(t, "name")
		c.Spec.ControlPlane.Replicas = rapid.SampledFrom([]int{1, 3, 5}).Draw(t, "replicas")
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`w[a-z0-9]{0,18}`), 0, 4, rapid.ID[string]).Draw(t, "groups")
		for _, name := range names {
			g := NodeGroup{Name: name, Flavor: "flex-4-1", Max: rapid.IntRange(1, 40).Draw(t, "max")}
			g.Min = rapid.IntRange(0, g.Max).Draw(t, "min")
			g.Count = rapid.Ptr(rapid.IntRange(g.Min, g.Max), true).Draw(t, "count")
			g.Labels = rapid.MapOfN(rapid.StringMatching(`example\.com/[a-z]{1,20}`), rapid.StringMatching(`[a-z0-9]{0,63}`), 0, 3).Draw(t, "labels")
			g.Tags = rapid.MapOfN(rapid.StringMatching(`[a-z:/]{1,40}`).Filter(func(s string) bool { return !ReservedTag(s) }), rapid.StringMatching(`[ -~]{0,9}x`).Filter(func(s string) bool { return s[0] != ' ' }), 0, 3).Draw(t, "tags")
			c.Spec.NodeGroups = append(c.Spec.NodeGroups, g)
		}
		if p := c.Validate(); len(p) > 0 {
			t.Fatalf("a valid spec has problems: %v", p)
		}
		if p := c.Normalise().Validate(); len(p) > 0 {
			t.Fatalf("normalising makes problems: %v", p)
		}
	})
}

func TestMachineNamesFitOneLabel(t *testing.T) {
	label := func(limit int) *rapid.Generator[string] {
		return rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,` + itoa(limit) + `}[a-z0-9])?`)
	}
	rapid.Check(t, func(t *rapid.T) {
		name, group := label(40).Draw(t, "cluster"), label(30).Draw(t, "group")
		id := rapid.StringMatching(`[a-z0-9]{5}`).Draw(t, "id")
		if badLabel(name, MaxClusterName) != "" || badLabel(group, MaxGroupName) != "" {
			return
		}
		if m := MachineName(name, group, id); badLabel(m, 63) != "" {
			t.Fatalf("%q is no DNS label", m)
		}
	})
}

func TestPatchesOf(t *testing.T) {
	one := []Source{{File: "p"}}
	s := Spec{
		Talos:        Talos{Patches: []Source{{File: "p"}, {File: "q"}}},
		ControlPlane: ControlPlane{Patches: one},
		NodeGroups:   []NodeGroup{{Name: "a", Patches: one}, {Name: "b"}, {Name: "c", Patches: one}},
		Manifests:    []Manifest{{Name: "m"}},
	}
	all := []string{"spec.talos.patches[0]", "spec.talos.patches[1]"}
	for group, want := range map[string][]string{
		ControlPlaneGroup: append(slices.Clone(all), "spec.controlPlane.patches[0]"),
		"a":               append(slices.Clone(all), "spec.nodeGroups[0].patches[0]"),
		"b":               all,
		"c":               append(slices.Clone(all), "spec.nodeGroups[2].patches[0]"),
	} {
		role := RoleWorker
		if group == ControlPlaneGroup {
			role = RoleControlPlane
		}
		var got []string
		for _, p := range s.PatchesOf(role, group) {
			got = append(got, p.Field)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("group %s (-want +got):\n%s", group, diff)
		}
	}
}

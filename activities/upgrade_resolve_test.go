package activities

import (
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

func source(ref, sum string) cluster.Source { return cluster.Source{Ref: ref, SHA256: sum} }

func TestResolveUpgrade(t *testing.T) {
	s := newScene()
	out, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "demo", Change: UpgradeChange{
		TalosVersion: "v1.14.1", KubernetesVersion: "v1.36.2", Extensions: []string{},
	}})
	wantType(t, err, "")
	want := s.rec.Frozen
	want.TalosVersion, want.KubernetesVersion, want.Schematic = "v1.14.1", "v1.36.2", schematicB
	want.Image, want.ImageURL, want.ImageID = "b-v1.14.1", "https://factory/bv1.14.1", ""
	want.InstallerImage, want.BaseConfig = "factory/fake-installer/"+schematicB+":v1.14.1", nil
	if diff := cmp.Diff(want, out.Frozen); diff != "" {
		t.Errorf("frozen (-want +got):\n%s", diff)
	}
	if out.Spec.Talos.Contract != "v1.13" || len(out.Spec.Talos.Extensions) != 0 || out.ConfigChanged || out.Account != "acc" || len(out.Rules.Talos) != 3 {
		t.Errorf("resolved to %+v", out)
	}
	if diff := cmp.Diff(s.rec, out.Record); diff != "" || s.rev != 7 {
		t.Errorf("resolving wrote the record: %s", diff)
	}
}

func TestResolveKeepsWhatDoesNotChange(t *testing.T) {
	s := newScene()
	s.bodies["p@1"] = "patch"
	spec := s.rec.Spec
	spec.Talos.Contract = "v1.14" // as a spec is published that names a newer version and no contract
	spec.Talos.Version = "v1.14.1"
	spec.NodeGroups = []cluster.NodeGroup{spec.NodeGroups[0]}
	spec.NodeGroups[0].Max, spec.NodeGroups[0].Labels = 9, map[string]string{"a": "b"}
	spec.Manifests = spec.Manifests[:1]
	out, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "demo", Change: UpgradeChange{Spec: &spec, TalosVersion: "v1.13.5"}})
	wantType(t, err, "")
	if s.frozen != 0 {
		t.Error("the factory was asked although the image stays")
	}
	if diff := cmp.Diff(s.rec.Frozen, out.Frozen); diff != "" {
		t.Errorf("frozen (-want +got):\n%s", diff)
	}
	if !out.ConfigChanged || out.Spec.NodeGroups[0].Max != 9 || len(out.Spec.Manifests) != 1 {
		t.Errorf("resolved to %+v", out.Spec)
	}
	for _, tc := range []struct {
		name   string
		change func(*cluster.Spec)
		config bool
	}{
		{name: "nothing", change: func(*cluster.Spec) {}},
		{name: "bounds", change: func(s *cluster.Spec) { s.NodeGroups[0].Max = 7 }},
		{name: "tags", change: func(s *cluster.Spec) { s.NodeGroups[0].Tags = map[string]string{"a": "b"} }},
		{name: "manifests", change: func(s *cluster.Spec) { s.Manifests = nil }},
		{name: "patch", change: func(s *cluster.Spec) { s.ControlPlane.Patches = []cluster.Source{source("p", "1")} }, config: true},
		{name: "taint", change: func(s *cluster.Spec) {
			s.NodeGroups[0].Taints = []cluster.Taint{{Key: "k", Effect: "NoSchedule"}}
		}, config: true},
	} {
		spec := s.rec.Spec
		spec.NodeGroups = []cluster.NodeGroup{spec.NodeGroups[0]}
		tc.change(&spec)
		out, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "demo", Change: UpgradeChange{Spec: &spec}})
		wantType(t, err, "")
		if out.ConfigChanged != tc.config {
			t.Errorf("%s: config changed %v, want %v", tc.name, out.ConfigChanged, tc.config)
		}
	}
}

func TestResolveUpgradeRefusesAllAtOnce(t *testing.T) {
	s := newScene()
	s.checkErr = fault.New(fault.Invalid, "check the cluster spec", "spec.kubernetes.version: is no version")
	spec := s.rec.Spec
	spec.Cloud = cluster.Cloud{Provider: "other", Zone: "z2", Credentials: "env:OTHER"}
	spec.Network.CIDR, spec.Network.PodCIDR, spec.Network.ServiceCIDR = "10.1.0.0/24", "10.2.0.0/16", "10.3.0.0/16"
	spec.Network.AdminCIDRs = []string{"198.51.100.0/24"}
	spec.Endpoint = cluster.Endpoint{Address: "api.example.com"}
	spec.ControlPlane.Replicas, spec.ControlPlane.Flavor = 5, "large"
	spec.NodeGroups = []cluster.NodeGroup{{Name: "gpu", Flavor: "small", Max: 1}}
	spec.Talos.Contract = "v1.12"
	spec.Secrets = []cluster.KubeSecret{{Namespace: "kube-system", Name: "x", Key: "y", From: "env:X"}}
	_, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{
		Name: "demo", Change: UpgradeChange{Spec: &spec, Schematic: schematicB, Extensions: []string{"siderolabs/b"}},
		Strategy: plan.UpgradeStrategy{MaxUnavailable: "0", Groups: []plan.GroupStrategy{{Group: "gone"}}},
	})
	wantType(t, err, fault.Invalid,
		"change.schematic: a schematic has its own extensions", "spec.talos.contract: is v1.13 for the life of the cluster",
		"spec.cloud.provider:", "spec.cloud.zone:", "spec.cloud.credentials:", "spec.network.cidr:", "spec.network.podCIDR:",
		"spec.network.serviceCIDR:", "spec.network.adminCIDRs:", "spec.endpoint:", "spec.controlPlane.replicas:", "spec.controlPlane.flavor:",
		"spec.secrets:", `spec.nodeGroups[0]: the cluster has no group "gpu"`, `group "worker" is missing`,
		"strategy.maxUnavailable:", "strategy.groups[0].group:", "spec.kubernetes.version: is no version")

	t.Run("of one group", func(t *testing.T) {
		s := newScene()
		spec := s.rec.Spec
		no, three := false, 3
		spec.NodeGroups = []cluster.NodeGroup{{
			Name: "worker", Flavor: "large", Min: 1, Max: 5, DiskGiB: 99, Zone: "z9", Image: "i", Networks: []string{"n"}, AntiAffinity: &no, Count: &three,
		}}
		_, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "demo", Change: UpgradeChange{Spec: &spec}})
		var fields []string
		for _, f := range []string{"flavor", "diskGiB", "zone", "image", "networks", "antiAffinity", "count"} {
			fields = append(fields, "spec.nodeGroups[0]."+f+": cannot be changed by an upgrade")
		}
		wantType(t, err, fault.Invalid, fields...)
	})
	t.Run("missing document", func(t *testing.T) {
		s := newScene()
		spec := s.rec.Spec
		spec.Talos.Patches = []cluster.Source{source("p", "1")}
		_, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "demo", Change: UpgradeChange{Spec: &spec}})
		wantType(t, err, fault.Invalid, "spec.talos.patches[0]:", "ichor spec publish")
	})
}

func TestResolveUpgradeNeedsAReadyCluster(t *testing.T) {
	for phase, words := range map[cluster.Phase]string{
		cluster.PhaseCreating: "still being created", cluster.PhaseFailed: "its creation failed", cluster.PhaseDeleting: "half deleted",
		cluster.PhaseDeleted: "was deleted", "later": "a newer Ichor",
	} {
		s := newScene()
		s.rec.Phase = phase
		_, err := act(t, s.upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "demo"})
		wantType(t, err, fault.Conflict, words)
	}
	_, err := act(t, newScene().upgrades().ResolveUpgrade, ResolveUpgradeInput{Name: "none"})
	wantType(t, err, fault.NotFound)
}

func freezeTo(_ *scene, spec cluster.Spec, talos, schematic, kubernetes string) FreezeLegInput {
	return FreezeLegInput{Ref: testRef, Spec: spec, To: plan.Versions{Talos: talos, Schematic: schematic, Kubernetes: kubernetes}}
}

func TestFreezeLeg(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	s.bodies["p@1"] = "patch"
	want := s.rec.Spec
	want.Talos.Version, want.Talos.Extensions, want.Kubernetes.Version = "v1.14.1", nil, "v1.36.2"
	want.Talos.Patches = []cluster.Source{source("p", "1")}
	before := s.rec

	t.Run("intermediate", func(t *testing.T) {
		out, err := act(t, u.FreezeLeg, freezeTo(s, want, "v1.14.1", schematicB, "v1.35.1"))
		wantType(t, err, "")
		f := out.Frozen
		if f.TalosVersion != "v1.14.1" || f.Schematic != schematicB || f.KubernetesVersion != "v1.35.1" || f.ImageID != "" || f.Contract != "v1.13" || f.Bundle != "bundle" {
			t.Errorf("frozen %+v", f)
		}
		if len(out.Spec.Talos.Patches) != 0 || out.Spec.Kubernetes.Version != "v1.35.1" || out.Spec.Talos.Contract != "v1.13" {
			t.Errorf("an intermediate leg has the spec %+v", out.Spec)
		}
		again, err := act(t, u.FreezeLeg, freezeTo(s, want, "v1.14.1", schematicB, "v1.35.1"))
		wantType(t, err, "")
		if diff := cmp.Diff(out, again); diff != "" {
			t.Errorf("a repetition differs:\n%s", diff)
		}
	})
	t.Run("last", func(t *testing.T) {
		out, err := act(t, u.FreezeLeg, freezeTo(s, want, "v1.14.1", schematicB, "v1.36.2"))
		wantType(t, err, "")
		if len(out.Spec.Talos.Patches) != 1 || len(out.Frozen.BaseConfig) != 2 {
			t.Errorf("the last leg is %+v", out)
		}
		for _, b := range out.Frozen.BaseConfig {
			body := s.objects[b.Ref]
			if !strings.HasPrefix(b.Ref, "base-"+string(b.Role)+"-") || !strings.HasSuffix(body, "v1.14.1 v1.36.2") || digestOf(body) != b.SHA256 {
				t.Errorf("base %+v holds %q", b, body)
			}
		}
	})
	t.Run("a schematic of neither", func(t *testing.T) {
		third := strings.Repeat("c", 64)
		out, err := act(t, u.FreezeLeg, freezeTo(s, want, "v1.13.9", third, "v1.35.1"))
		wantType(t, err, "")
		if out.Frozen.Schematic != third || out.Spec.Talos.Schematic != third {
			t.Errorf("frozen %+v", out.Frozen)
		}
	})
	t.Run("config only", func(t *testing.T) {
		spec := s.rec.Spec
		spec.Talos.Patches = []cluster.Source{source("p", "1")}
		out, err := act(t, u.FreezeLeg, freezeTo(s, spec, "v1.13.5", schematicA, "v1.35.1"))
		wantType(t, err, "")
		if diff := cmp.Diff(s.rec.Frozen, out.Frozen); diff != "" {
			t.Errorf("frozen (-want +got):\n%s", diff)
		}
	})
	t.Run("patch that does not fit", func(t *testing.T) {
		s.bodies["q@2"] = "bad"
		spec := s.rec.Spec
		spec.NodeGroups = []cluster.NodeGroup{spec.NodeGroups[0]}
		spec.NodeGroups[0].Patches = []cluster.Source{source("q", "2")}
		_, err := act(t, u.FreezeLeg, freezeTo(s, spec, "v1.13.5", schematicA, "v1.35.1"))
		wantType(t, err, fault.Invalid, "spec.nodeGroups[0].patches[0]")
	})
	t.Run("patch that pins an image", func(t *testing.T) {
		s.bodies["r@3"] = "pin-kubelet"
		spec := s.rec.Spec
		spec.Talos.Patches = []cluster.Source{source("r", "3")}
		_, err := act(t, u.FreezeLeg, freezeTo(s, spec, "v1.13.5", schematicA, "v1.35.1"))
		wantType(t, err, fault.Invalid, "keeps kubelet at v1.30.0", "v1.35.1")
	})
	if diff := cmp.Diff(before, s.rec); diff != "" {
		t.Errorf("freezing wrote the record:\n%s", diff)
	}
}

// leg is a frozen leg to other versions.
func leg(t *testing.T, s *scene, talos, kubernetes string) CommitLegInput {
	t.Helper()
	spec := s.rec.Spec
	spec.Talos.Version, spec.Kubernetes.Version = talos, kubernetes
	f, err := act(t, s.upgrades().FreezeLeg, freezeTo(s, spec, talos, schematicA, kubernetes))
	wantType(t, err, "")
	return CommitLegInput{Ref: testRef, From: s.rec.SpecDigest, Spec: f.Spec, SpecDigest: f.SpecDigest, Frozen: f.Frozen}
}

func TestCommitLeg(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	first := leg(t, s, "v1.14.1", "v1.35.1")
	// Somebody writes something else in between.
	s.meanwhile = func(rec *cluster.Record) { rec.Accounts = []string{"acc"} }
	rec, err := act(t, u.CommitLeg, first)
	wantType(t, err, "")
	if rec.SpecDigest != first.SpecDigest || rec.BootstrapMachine != "c1" || len(rec.Accounts) != 1 || !rec.UpdatedAt.Equal(u.Now()) {
		t.Errorf("recorded %+v", rec)
	}
	former := []cluster.FormerImage{{Image: "a-v1.13.5", ImageURL: "https://factory/a", Schematic: schematicA, TalosVersion: "v1.13.5"}}
	if diff := cmp.Diff(former, rec.Former); diff != "" {
		t.Errorf("former images (-want +got):\n%s", diff)
	}
	rev := s.rev
	again, err := act(t, u.CommitLeg, first)
	wantType(t, err, "")
	if diff := cmp.Diff(rec, again); diff != "" || s.rev != rev {
		t.Errorf("a repetition wrote %s", diff)
	}
	// The image's id is learned later, and by a repetition not unlearned.
	_, err = act(t, (&Records{Store: u.Store, Now: u.Now}).UpdateRecord, RecordChange{Ref: testRef, Frozen: &cluster.Frozen{Image: "a-v1.14.1", ImageID: "img-2"}})
	wantType(t, err, "")
	rec, err = act(t, u.CommitLeg, first)
	wantType(t, err, "")
	if rec.Frozen.ImageID != "img-2" {
		t.Errorf("image id %q", rec.Frozen.ImageID)
	}
	// Who knows the former image only does not bring its id back.
	rec, err = act(t, (&Records{Store: u.Store, Now: u.Now}).UpdateRecord, RecordChange{Ref: testRef, Frozen: &cluster.Frozen{Image: "a-v1.13.5", ImageID: "img-1"}, Released: "a-v1.13.5"})
	wantType(t, err, "")
	if rec.Frozen.ImageID != "img-2" || len(rec.Former) != 0 {
		t.Errorf("recorded %+v", rec)
	}

	second := leg(t, s, "v1.14.1", "v1.36.2")
	_, err = act(t, u.CommitLeg, second)
	wantType(t, err, "")
	_, err = act(t, u.CommitLeg, first)
	wantType(t, err, fault.Conflict, "this leg begins at old")
	if s.rec.Frozen.KubernetesVersion != "v1.36.2" || s.rec.Frozen.ImageID != "img-2" {
		t.Errorf("the late attempt changed %+v", s.rec.Frozen)
	}
}

func TestCommitLegRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*scene, *CommitLegInput)
		want   fault.Kind
	}{
		{"another bundle", func(_ *scene, in *CommitLegInput) { in.Frozen.Bundle = "other" }, fault.Unsafe},
		{"another contract", func(_ *scene, in *CommitLegInput) { in.Frozen.Contract = "v1.14" }, fault.Unsafe},
		{"no base configs", func(_ *scene, in *CommitLegInput) { in.Frozen.BaseConfig = nil }, fault.Internal},
		{"another cluster", func(_ *scene, in *CommitLegInput) { in.Ref.UID = "u2" }, fault.Conflict},
		{"being deleted", func(s *scene, _ *CommitLegInput) { s.rec.Phase = cluster.PhaseDeleting }, fault.Conflict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene()
			in := leg(t, s, "v1.14.1", "v1.35.1")
			tc.change(s, &in)
			_, err := act(t, s.upgrades().CommitLeg, in)
			wantType(t, err, tc.want)
			if s.rev != 7 {
				t.Error("the record was written")
			}
		})
	}
}

func TestCommitLegTwiceAtOnce(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	in := leg(t, s, "v1.14.1", "v1.35.1")
	errs := make([]error, 6)
	var both sync.WaitGroup
	for i := range errs {
		both.Go(func() { _, errs[i] = act(t, u.CommitLeg, in) })
	}
	both.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if s.rev != 8 {
		t.Errorf("%d writes", s.rev-7)
	}
}

// TestFormerDocumentsAreKept asks that what earlier specs referred to is found
// when the cluster is deleted.
func TestFormerDocumentsAreKept(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	s.bodies["m3@s3"] = "new"
	commit := func(manifests ...cluster.Manifest) {
		spec := s.rec.Spec
		spec.Manifests = manifests
		f, err := act(t, u.FreezeLeg, freezeTo(s, spec, "v1.13.5", schematicA, "v1.35.1"))
		wantType(t, err, "")
		_, err = act(t, u.CommitLeg, CommitLegInput{Ref: testRef, Spec: f.Spec, SpecDigest: f.SpecDigest, Frozen: f.Frozen})
		wantType(t, err, "")
	}
	cni, ccm := s.rec.Spec.Manifests[0], s.rec.Spec.Manifests[1]
	commit(cni, cluster.Manifest{Name: "ccm", Source: source("m3", "s3")})
	if diff := cmp.Diff([]string{"m2"}, s.rec.Documents); diff != "" {
		t.Error(diff)
	}
	commit(ccm)
	if diff := cmp.Diff([]string{"m1", "m3"}, s.rec.Documents); diff != "" {
		t.Error(diff)
	}
}

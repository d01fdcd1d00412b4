package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func (c sceneConfigs) BootstrapImages(config secrets.Value, talos string) (BootstrapImages, error) {
	v := strings.Fields(strings.SplitN(string(config.Reveal()), "|", 2)[0])[3]
	out := BootstrapImages{Proxy: "registry:5000/kube-proxy:" + v}
	if talos == "v1.14.1" { // the one release whose defaults are known
		out.CoreDNS = "registry:5000/coredns:v9"
	}
	return out, nil
}

// Nothing is rendered and nothing rolls in a scene, but in a bootScene.
func (s *scene) BootstrapManifests(context.Context, secrets.Value, string) (secrets.Value, error) {
	return secrets.Value{}, fault.New(fault.NotYet, "read bootstrap manifests", "it has rendered none yet")
}

func (k sceneKube) Bootstrap(context.Context, []byte, BootstrapOptions) ([]ObjectChange, error) {
	return nil, nil
}

func (k sceneKube) RolledOut(context.Context, WorkloadRef) error { return nil }

// bootScene is a scene whose control planes render something for Kubernetes.
type bootScene struct {
	*scene
	rendered string
	boot     func(manifest string, opts BootstrapOptions) ([]ObjectChange, error)
	rollouts map[WorkloadRef][]error // what looks at a rollout see; the last one stays
}

func newBootScene() *bootScene { return &bootScene{scene: newScene(), rendered: "objects"} }

func (s *bootScene) upgrades() *Upgrades {
	u := s.scene.upgrades()
	u.Machines, u.Kube.Kube = s, bootKube{sceneKube: sceneKube{scene: s.scene}, boot: s}
	return u
}

func (s *bootScene) BootstrapManifests(ctx context.Context, bundle secrets.Value, address string) (out secrets.Value, err error) {
	if s.rendered == "" {
		return s.scene.BootstrapManifests(ctx, bundle, address)
	}
	err = s.node("bootstrap manifests", address, func(n *fakeNode) error {
		out = secrets.NewValue([]byte(s.rendered + " by " + n.name + " " + canary))
		return nil
	})
	return out, err
}

type bootKube struct {
	sceneKube
	boot *bootScene
}

func (k bootKube) Open(context.Context, cluster.Record, secrets.Value) (KubeAPI, error) {
	return k, nil
}

func (k bootKube) Bootstrap(_ context.Context, manifest []byte, opts BootstrapOptions) ([]ObjectChange, error) {
	if k.kubeErr != nil {
		return nil, k.kubeErr
	}
	return k.boot.boot(string(manifest), opts)
}

func (k bootKube) RolledOut(_ context.Context, w WorkloadRef) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	looks := k.boot.rollouts[w]
	if len(looks) == 0 {
		return nil
	}
	if len(looks) > 1 {
		k.boot.rollouts[w] = looks[1:]
	}
	return looks[0]
}

// reach gives the control planes the config of the record.
func (s *bootScene) reach(t *testing.T, which ...UpgradeTarget) {
	t.Helper()
	for _, p := range which {
		r, _, err := s.upgrades().renderer(t.Context(), testRef, nil)
		if err != nil {
			t.Fatal(err)
		}
		config, _, err := r.config(t.Context(), p.Role, p.Group, p.Node.Name, Components{})
		if err != nil {
			t.Fatal(err)
		}
		s.nodes[p.Node.Address].facts.ConfigSHA256 = digestOf(string(config.Reveal()))
	}
}

var (
	proxy   = WorkloadRef{Kind: "DaemonSet", Namespace: "kube-system", Name: "kube-proxy"}
	coreDNS = WorkloadRef{Kind: "Deployment", Namespace: "kube-system", Name: "coredns"}
)

// someChanges are one object of each kind of change.
func someChanges() []ObjectChange {
	object := func(version, kind, name, change string, kept ...string) ObjectChange {
		return ObjectChange{APIVersion: version, Kind: kind, Namespace: "kube-system", Name: name, Change: change, Kept: kept}
	}
	return []ObjectChange{
		object("v1", "ServiceAccount", "coredns", ChangeUnchanged),
		object("v1", "Secret", "bootstrap-token", ChangeCreated),
		object("apps/v1", "DaemonSet", "kube-proxy", ChangeChanged),
		object("apps/v1", "Deployment", "coredns", ChangeUnchanged, "spec.replicas: set by kubectl"),
		object("apps/v1", "DaemonSet", "kube-flannel", ChangeAbsent),
		object("apps/v1", "Deployment", "dns", ChangeForeign),
		object("v1", "ConfigMap", "old", ChangeLeft),
		object("example.com/v1", "Deployment", "other", ChangeUnchanged),
	}
}

// Bootstrap manifests pruned by surprise: what Talos no longer renders, what
// somebody deleted and what somebody else owns is told, and left as it is.
func TestSyncBootstrapManifests(t *testing.T) {
	s := newBootScene()
	s.reach(t, planes[1], planes[2])
	s.nodes[planes[1].Node.Address].facts.Version = "v1.13.4" // was left out when Talos was upgraded
	s.boot = func(manifest string, opts BootstrapOptions) ([]ObjectChange, error) {
		if !strings.HasPrefix(manifest, "objects by demo-cp-3") || opts.DryRun || opts.Images != nil {
			t.Errorf("applied %q with %+v", manifest, opts)
		}
		return someChanges(), nil
	}
	got, err := act(t, s.upgrades().SyncBootstrapManifests, SyncBootstrapInput{Ref: testRef, Nodes: planes})
	wantType(t, err, "")
	want := SyncBootstrapResult{
		Node: "demo-cp-3", Created: []string{"Secret kube-system/bootstrap-token"}, Changed: []string{proxy.String()}, Unchanged: 3,
		Kept:   []string{"Deployment kube-system/coredns: spec.replicas: set by kubectl"},
		Absent: []string{"DaemonSet kube-system/kube-flannel"}, Foreign: []string{"Deployment kube-system/dns"}, Left: []string{"ConfigMap kube-system/old"},
		Workloads: []WorkloadRef{proxy, coreDNS},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSyncBootstrapManifestsIsBounded(t *testing.T) {
	s := newBootScene()
	s.reach(t, planes...)
	s.boot = func(string, BootstrapOptions) ([]ObjectChange, error) {
		var out []ObjectChange
		for i := range 1000 {
			out = append(out, ObjectChange{Kind: "ConfigMap", Name: fmt.Sprint("c", i), Change: ChangeCreated})
		}
		return out, nil
	}
	got, err := act(t, s.upgrades().SyncBootstrapManifests, SyncBootstrapInput{Ref: testRef, Nodes: planes})
	wantType(t, err, "")
	if len(got.Created) != mostNames+1 || got.Created[mostNames] != "and 950 more" {
		t.Errorf("%d names, the last %q", len(got.Created), got.Created[len(got.Created)-1])
	}
}

func TestSyncBootstrapManifestsThatCannot(t *testing.T) {
	for _, tc := range []struct {
		name  string
		set   func(*testing.T, *bootScene)
		want  fault.Kind
		words []string
		why   string
	}{
		{
			name: "no node has the record's config", set: func(*testing.T, *bootScene) {},
			why: "no control plane has the record's config and Talos: demo-cp-1, demo-cp-2, demo-cp-3",
		},
		{
			name: "nobody answers", set: func(_ *testing.T, s *bootScene) {
				for _, n := range s.nodes {
					n.err = fault.New(fault.Unavailable, "dial", "refused")
				}
			}, want: fault.Unavailable, words: []string{"ask demo-cp-3", "refused"},
		},
		{
			name: "one that could tell does not answer", set: func(_ *testing.T, s *bootScene) {
				s.nodes[planes[1].Node.Address].err = fault.New(fault.Unavailable, "dial", "refused")
			}, want: fault.Unavailable, words: []string{"ask demo-cp-2"},
		},
		{
			name: "not rendered yet", set: func(t *testing.T, s *bootScene) {
				s.reach(t, planes...)
				s.rendered = ""
			}, want: fault.NotYet, words: []string{"rendered none"},
		},
		{
			name: "refused by the API", set: func(t *testing.T, s *bootScene) {
				s.reach(t, planes...)
				s.boot = func(string, BootstrapOptions) ([]ObjectChange, error) {
					return someChanges(), fault.New(fault.Invalid, "apply bootstrap manifests", "1 of 9 objects: field is immutable")
				}
			}, want: fault.Invalid, words: []string{"field is immutable"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newBootScene()
			s.boot = func(string, BootstrapOptions) ([]ObjectChange, error) {
				t.Error("something was applied")
				return nil, nil
			}
			tc.set(t, s)
			got, err := act(t, s.upgrades().SyncBootstrapManifests, SyncBootstrapInput{Ref: testRef, Nodes: planes})
			wantType(t, err, tc.want, tc.words...)
			if d := cmp.Diff(SyncBootstrapResult{Reason: tc.why}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWaitRollout(t *testing.T) {
	short := fault.New(fault.NotYet, "wait for it", "1 of 3 pods are available")
	away := fault.New(fault.Unavailable, "wait for it", "refused")
	for _, tc := range []struct {
		name  string
		looks []error
		want  fault.Kind
		words []string
	}{
		{name: "at once"},
		{name: "after a while", looks: []error{short, away, nil}},
		{name: "never", looks: []error{short}, want: fault.NotYet, words: []string{"rollout of bootstrap manifests", "DaemonSet kube-system/kube-proxy: 1 of 3 pods are available"}},
		{name: "API away", looks: []error{away}, want: fault.Unavailable, words: []string{"refused"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newBootScene()
			s.rollouts = map[WorkloadRef][]error{proxy: tc.looks}
			err := do(t, s.upgrades().WaitRollout, WaitRolloutInput{Ref: testRef, Workloads: []WorkloadRef{coreDNS, proxy}})
			wantType(t, err, tc.want, tc.words...)
		})
	}
}

// leg is the scene's cluster at the end of an upgrade.
func (s *bootScene) leg(talos, kubernetes string) FreezeLegResult {
	leg := FreezeLegResult{Spec: s.rec.Spec, SpecDigest: "new", Frozen: s.rec.Frozen}
	leg.Frozen.TalosVersion, leg.Frozen.KubernetesVersion = talos, kubernetes
	s.objects["base-cp"] = canary + " base-cp " + talos + " " + kubernetes
	return leg
}

func TestDiffUpgradeManifests(t *testing.T) {
	s := newBootScene()
	s.nodes[planes[0].Node.Address].err = fault.New(fault.Unavailable, "dial", "refused")
	var images map[string]string
	s.boot = func(manifest string, opts BootstrapOptions) ([]ObjectChange, error) {
		if !strings.HasPrefix(manifest, "objects by demo-cp-2") || !opts.DryRun {
			t.Errorf("applied %q with %+v", manifest, opts)
		}
		images = opts.Images
		return someChanges(), nil
	}
	in := DiffUpgradeManifestsInput{
		Ref: testRef, Leg: s.leg("v1.14.1", "v1.36.3"), Nodes: planes, ConfigChanged: true,
		Before: []cluster.Manifest{s.rec.Spec.Manifests[0], {Name: "ccm", Source: source("m0", "s0")}},
	}
	got, err := act(t, s.upgrades().DiffUpgradeManifests, in)
	wantType(t, err, "")
	changes := slices.DeleteFunc(someChanges(), func(c ObjectChange) bool { return c.Change == ChangeUnchanged && c.Kept == nil })
	want := DiffUpgradeManifestsResult{
		Changes:   []ObjectChange{{Kind: "DaemonSet", Name: "ccm", Change: ChangeChanged, Fields: []string{"spec.ccm"}}},
		Bootstrap: changes, Unchanged: 2,
		Notes: []string{
			"Talos' own objects are compared as demo-cp-2 renders them now, with Talos v1.13.5; the images of kube-proxy, CoreDNS are those of the end of this upgrade.",
			"What else Talos v1.14.1 renders differently shows in a plan only when a control plane runs it.",
			"The changed machine configs may change more of what Talos renders; that is not compared.",
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"registry:5000/kube-proxy": "registry:5000/kube-proxy:v1.36.3", "registry:5000/coredns": "registry:5000/coredns:v9"}, images); d != "" {
		t.Error(d)
	}
	if len(s.applied) != 0 {
		t.Errorf("applied %v", s.applied)
	}
}

// What is not known is said: a diff before an upgrade must not look complete.
func TestDiffUpgradeManifestsSaysWhatItCannotTell(t *testing.T) {
	none := func(string, BootstrapOptions) ([]ObjectChange, error) { return nil, nil }
	for _, tc := range []struct {
		name  string
		set   func(*bootScene, *DiffUpgradeManifestsInput)
		want  fault.Kind
		words []string
	}{
		{
			name:  "defaults of a release that nobody knows",
			set:   func(s *bootScene, in *DiffUpgradeManifestsInput) { in.Leg = s.leg("v1.15.0", "v1.36.3") },
			words: []string{"the images of kube-proxy are", "What else Talos v1.15.0 renders differently", "its version of CoreDNS and flannel included"},
		},
		{
			name: "no control plane tells", set: func(s *bootScene, _ *DiffUpgradeManifestsInput) { s.rendered = "" },
			words: []string{"what Talos renders is not compared", "rendered none yet"},
		},
		{
			name: "the API refuses an object", set: func(s *bootScene, _ *DiffUpgradeManifestsInput) {
				s.boot = func(string, BootstrapOptions) ([]ObjectChange, error) {
					return someChanges()[:1], fault.New(fault.Invalid, "apply bootstrap manifests", "1 of 2 objects: field is immutable")
				}
			}, words: []string{"not all that Talos renders is compared", "field is immutable"},
		},
		{
			name: "the API is away", set: func(s *bootScene, _ *DiffUpgradeManifestsInput) {
				s.kubeErr = fault.New(fault.Unavailable, "apply", "refused")
			}, want: fault.Unavailable,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newBootScene()
			s.boot = none
			in := DiffUpgradeManifestsInput{Ref: testRef, Leg: s.leg("v1.13.5", "v1.35.1"), Before: s.rec.Spec.Manifests, Nodes: planes}
			tc.set(s, &in)
			got, err := act(t, s.upgrades().DiffUpgradeManifests, in)
			wantType(t, err, tc.want)
			for _, w := range tc.words {
				if text := strings.Join(got.Notes, "\n"); !strings.Contains(text, w) {
					t.Errorf("%q is not in:\n%s", w, text)
				}
			}
		})
	}
}

func TestDiffUpgradeManifestsIsBounded(t *testing.T) {
	s := newBootScene()
	s.boot = func(string, BootstrapOptions) ([]ObjectChange, error) {
		var out []ObjectChange
		for i := range 300 {
			c := ObjectChange{Kind: "ConfigMap", Name: fmt.Sprint("c", i), Change: ChangeChanged}
			for j := range 50 {
				c.Fields = append(c.Fields, fmt.Sprintf("data.%d.%s", j, strings.Repeat("é", 1000)))
			}
			out = append(out, c)
		}
		return out, nil
	}
	got, err := act(t, s.upgrades().DiffUpgradeManifests, DiffUpgradeManifestsInput{
		Ref: testRef, Leg: s.leg("v1.13.5", "v1.35.1"), Before: s.rec.Spec.Manifests, Nodes: planes,
	})
	wantType(t, err, "")
	if len(got.Bootstrap) != mostObjects || got.Omitted != 300-mostObjects {
		t.Errorf("%d objects, %d left out", len(got.Bootstrap), got.Omitted)
	}
	fields := got.Bootstrap[0].Fields
	if len(fields) != mostFields+1 || fields[mostFields] != "and 30 more" || len([]rune(fields[0])) != mostRunes+1 {
		t.Errorf("%d fields, the first of %d runes, the last %q", len(fields), len([]rune(fields[0])), fields[len(fields)-1])
	}
}

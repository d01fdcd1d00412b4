package activities

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

func TestObserveNodes(t *testing.T) {
	s := newScene()
	s.silent(workers[1])
	s.nodes["192.0.2.3"].facts = NodeFacts{Stage: "maintenance"}
	s.objectsOf["demo-worker-1"].Cordoned = true
	delete(s.objectsOf, "demo-cp-1")
	in := ObserveNodesInput{Ref: testRef, Nodes: all}
	out, err := act(t, s.upgrades().ObserveNodes, in)
	wantType(t, err, "")
	want := []plan.UpgradeNode{
		{Machine: "c1", Name: "demo-cp-1", Group: "cp", Role: "controlplane", Ready: true, Stage: "running", BootID: "boot-0", Talos: "v1.13.5", Schematic: schematicA, Kubelet: "v1.35.1", APIServer: "v1.35.1"},
		{Machine: "c2", Name: "demo-cp-2", Group: "cp", Role: "controlplane", Ready: true, Stage: "running", BootID: "boot-0", Talos: "v1.13.5", Schematic: schematicA, Kubelet: "v1.35.1", APIServer: "v1.35.1", Leader: true, NodeReady: true},
		{Machine: "c3", Name: "demo-cp-3", Group: "cp", Role: "controlplane", Stage: "maintenance", Problem: "waits for a config (maintenance mode)", NodeReady: true},
		{Machine: "w1", Name: "demo-worker-1", Group: "worker", Role: "worker", Ready: true, Stage: "running", BootID: "boot-0", Talos: "v1.13.5", Schematic: schematicA, Kubelet: "v1.35.1", Cordoned: true, NodeReady: true},
		{Machine: "w2", Name: "demo-worker-2", Group: "worker", Role: "worker", Problem: "dial: refused", NodeReady: true},
	}
	wants := map[string]bool{}
	for i := range out.Nodes {
		wants[out.Nodes[i].WantSHA256] = true
		out.Nodes[i].WantSHA256 = ""
	}
	if diff := cmp.Diff(want, out.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if len(wants) != len(all) || wants[""] {
		t.Errorf("the wanted digests are %v", wants)
	}

	t.Run("what is applied is what is wanted", func(t *testing.T) {
		s := newScene()
		u := s.upgrades()
		leg := leg(t, s, "v1.13.5", "v1.36.2")
		frozen := &FreezeLegResult{Spec: leg.Spec, SpecDigest: leg.SpecDigest, Frozen: leg.Frozen}
		target := workers[:1]
		_, err := act(t, u.ApplyMachineConfig, ApplyConfigInput{NodeWorkInput: workOn(target[0]), Leg: frozen, Components: Components{Kubelet: "v1.35.1"}})
		wantType(t, err, "")
		same := func(in ObserveNodesInput) bool {
			t.Helper()
			in.Ref, in.Nodes = testRef, target
			out, err := act(t, u.ObserveNodes, in)
			wantType(t, err, "")
			return out.Nodes[0].ConfigSHA256 == out.Nodes[0].WantSHA256
		}
		if !same(ObserveNodesInput{Leg: frozen, Wanted: Components{Kubelet: "v1.35.1"}}) || same(ObserveNodesInput{Leg: frozen}) || same(ObserveNodesInput{}) {
			t.Error("digests do not tell the leg and its components apart")
		}
	})
	t.Run("Kubernetes away", func(t *testing.T) {
		s := newScene()
		s.kubeErr = fault.New(fault.Unavailable, "list nodes", "refused")
		out, err := act(t, s.upgrades().ObserveNodes, in)
		wantType(t, err, "")
		if out.Unseen != "list nodes: refused" || out.Nodes[0].Talos != "v1.13.5" {
			t.Errorf("got %+v", out)
		}
	})
	t.Run("patch gone", func(t *testing.T) {
		s := newScene()
		s.rec.Spec.Talos.Patches = append(s.rec.Spec.Talos.Patches, source("p", "1"))
		_, err := act(t, s.upgrades().ObserveNodes, in)
		wantType(t, err, fault.NotFound)
	})
}

func TestObserveManyNodes(t *testing.T) {
	s := newScene()
	var many []UpgradeTarget
	for i := range 300 {
		w := workerNode(1)
		w.Node.Name = fmt.Sprint("demo-worker-", i)
		many = append(many, w)
	}
	out, err := act(t, s.upgrades().ObserveNodes, ObserveNodesInput{Ref: testRef, Nodes: many})
	wantType(t, err, "")
	for i, n := range out.Nodes {
		if n.Name != many[i].Node.Name {
			t.Fatalf("node %d is %s", i, n.Name)
		}
	}
}

// checkInput is an upgrade of everything by two legs.
func checkInput(s *scene) CheckUpgradeInput {
	frozen := s.rec.Frozen
	frozen.TalosVersion, frozen.KubernetesVersion = "v1.14.1", "v1.36.2"
	frozen.InstallerImage = "factory/fake-installer/" + schematicA + ":v1.14.1"
	v := func(talos, kubernetes string) plan.Versions {
		return plan.Versions{Talos: talos, Schematic: schematicA, Kubernetes: kubernetes}
	}
	return CheckUpgradeInput{
		Ref: testRef, Nodes: all, Last: FreezeLegResult{Spec: s.rec.Spec, Frozen: frozen},
		Legs: []plan.Leg{
			{Kind: plan.LegTalos, From: v("v1.13.5", "v1.35.1"), To: v("v1.13.9", "v1.35.1")},
			{Kind: plan.LegTalos, From: v("v1.13.9", "v1.35.1"), To: v("v1.14.1", "v1.35.1")},
			{Kind: plan.LegKubernetes, From: v("v1.14.1", "v1.35.1"), To: v("v1.14.1", "v1.36.2")},
		},
	}
}

func TestCheckUpgradePasses(t *testing.T) {
	s := newScene()
	s.scaler = "v1.36.0"
	out, err := act(t, s.upgrades().CheckUpgrade, checkInput(s))
	wantType(t, err, "")
	if diff := cmp.Diff(CheckUpgradeResult{}, out); diff != "" {
		t.Error(diff)
	}
	for _, call := range []string{
		"installer factory/fake-installer/" + schematicA + ":v1.13.9", "installer factory/fake-installer/" + schematicA + ":v1.14.1", "removed v1.35.1 v1.36.2",
		"size factory/fake-installer/" + schematicA + ":v1.14.1", "inspect 192.0.2.12",
	} {
		if s.count(call) != 1 {
			t.Errorf("%q: %v", call, s.calls)
		}
	}
}

// TestCheckUpgradeSaysEverything breaks one thing after the other, and then all at
// once: each is named, and none hides another.
func TestCheckUpgradeSaysEverything(t *testing.T) {
	type flaw struct {
		name    string
		set     func(*scene, *CheckUpgradeInput)
		field   string
		words   string
		warning bool
		alone   bool // it hides others by its nature
	}
	flaws := []flaw{
		{name: "unreachable", set: func(s *scene, _ *CheckUpgradeInput) { s.silent(workers[1]) }, field: "demo-worker-2", words: "cannot be reached: dial: refused"},
		{name: "disk full", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.nodes["192.0.2.11"] = NodeInspection{FreeBytes: 300 << 20, DiskBytes: 20 << 30}
		}, field: "demo-worker-1", words: "has 300 MiB free where images go, and this upgrade needs"},
		{name: "what it takes", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.nodes["192.0.2.11"] = NodeInspection{FreeBytes: 300 << 20, DiskBytes: 20 << 30}
		}, field: "demo-worker-1", words: "needs 1412 (450 for the installer of v1.13.9, 450 for the installer of v1.14.1, 512 for 2 images of Kubernetes v1.36.2, by estimate): make room", alone: true},
		{name: "disk nearly full", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.nodes["192.0.2.1"] = NodeInspection{FreeBytes: 4 << 30, DiskBytes: 20 << 30}
		}, field: "demo-cp-1", words: "of this upgrade less than 10% of the disk stay", warning: true},
		{name: "installer of unknown size", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.bytesErr = fault.New(fault.Unauthorized, "read size", "no")
			s.inspected.nodes["192.0.2.12"] = NodeInspection{FreeBytes: 1 << 30, DiskBytes: 20 << 30}
		}, field: "demo-worker-2", words: "needs 2312 (900 for the installer of v1.13.9, by estimate,", alone: true},
		{name: "machine API certificate not renewed", set: func(s *scene, _ *CheckUpgradeInput) {
			c := fresh("machine API certificate")
			c.Renewed, c.NotAfter = sceneNow.Add(-time.Hour), sceneNow.Add(5*time.Hour)
			s.inspected.nodes["192.0.2.2"] = NodeInspection{FreeBytes: -1, Certificates: []Certificate{c}}
		}, field: "demo-cp-2", words: "its machine API certificate expires at 2026-11-01 17:00 UTC and should have been renewed by 2026-11-01 11:00 UTC; check the node's clock"},
		{name: "kubelet certificate expired", set: func(s *scene, _ *CheckUpgradeInput) {
			c := fresh("kubelet client certificate")
			c.NotAfter = sceneNow.Add(-24 * time.Hour)
			s.inspected.nodes["192.0.2.3"] = NodeInspection{FreeBytes: -1, Certificates: []Certificate{fresh("machine API certificate"), c}}
		}, field: "demo-cp-3", words: "its kubelet client certificate expired at 2026-10-31 12:00 UTC; check"},
		{name: "certificates unreadable", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.nodeErr["192.0.2.12"] = fault.New(fault.Unavailable, "read", "reset")
		}, field: "demo-worker-2", words: "cannot be looked at: read: reset; try again", alone: true},
		{name: "removed flag", set: func(s *scene, in *CheckUpgradeInput) { patchWorkers(s, in, "kubelet:gone-in-1.36") }, field: "demo-worker-1", words: "the kubelet would not start: its config sets the feature gate gone-in-1.36, which Kubernetes 1.36 has no more (spec.nodeGroups[0].patches[0]); take it out of the spec, and give"},
		{name: "removed flag of a control plane", set: func(s *scene, in *CheckUpgradeInput) {
			in.Last.Spec.ControlPlane.Patches = []cluster.Source{source("p", "api")}
			s.bodies["p@api"] = "kube-apiserver:gone-in-1.36"
		}, field: "demo-cp-3", words: "the kube-apiserver would not start"},
		{name: "configs unreadable", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.flagsErr = fault.New(fault.Internal, "read config", "no")
		}, field: "flags", words: "the config of group worker cannot be looked at: read config: no", alone: true},
		{name: "worker not ready", set: func(s *scene, _ *CheckUpgradeInput) {
			s.nodes["192.0.2.11"].facts.Ready, s.nodes["192.0.2.11"].facts.Unmet = false, []string{"services"}
		}, field: "demo-worker-1", words: "is not ready: stage running, missing services", warning: true},
		{name: "control plane not ready", set: func(s *scene, _ *CheckUpgradeInput) { s.nodes["192.0.2.1"].facts.Stage = "booting" }, field: "demo-cp-1", words: "is not ready: stage booting"},
		{name: "unknown version", set: func(s *scene, _ *CheckUpgradeInput) { s.nodes["192.0.2.2"].facts.Version = "v1.99.0" }, field: "demo-cp-2", words: "runs Talos v1.99.0, of which this Ichor knows no rules"},
		{name: "cordoned", set: func(s *scene, _ *CheckUpgradeInput) { s.objectsOf["demo-cp-2"].Cordoned = true }, field: "demo-cp-2", words: "is cordoned", warning: true},
		{name: "no Node object", set: func(s *scene, _ *CheckUpgradeInput) { delete(s.objectsOf, "demo-worker-1") }, field: "demo-worker-1", words: "has no Node object"},
		{name: "alarm", set: func(s *scene, _ *CheckUpgradeInput) {
			s.nodes["192.0.2.1"].etcd.Alarms = []string{"NOSPACE on member 1"}
		}, field: "etcd", words: "NOSPACE on member 1 (demo-cp-1); end its cause"},
		{name: "member with errors", set: func(s *scene, _ *CheckUpgradeInput) { s.nodes["192.0.2.3"].etcd.Errors = []string{"corrupt"} }, field: "etcd", words: "demo-cp-3: corrupt; replace that control plane"},
		{name: "unknown member", set: func(s *scene, _ *CheckUpgradeInput) {
			for _, n := range s.nodes {
				if n.etcd.Running {
					n.etcd.Members = append(slices.Clone(n.etcd.Members), EtcdMemberView{ID: 7, Name: "ghost", Learner: true})
				}
			}
		}, field: "etcd", words: "member ghost is no control plane"},
		{name: "learner", set: func(s *scene, _ *CheckUpgradeInput) {
			for _, n := range s.nodes {
				if n.etcd.Running {
					n.etcd.Members = append([]EtcdMemberView{{ID: 1, Name: "demo-cp-1", Learner: true}}, n.etcd.Members[1:]...)
				}
			}
		}, field: "etcd", words: "demo-cp-1 does not vote yet", alone: true},
		{name: "no leader", set: func(s *scene, _ *CheckUpgradeInput) { s.lead(0) }, field: "etcd", words: "no leader"},
		{name: "store", set: func(s *scene, _ *CheckUpgradeInput) {
			s.storeErr = fault.New(fault.Unauthorized, "put object", "denied")
		}, field: "store", words: "could not be stored: put object: denied"},
		{name: "no installer", set: func(s *scene, _ *CheckUpgradeInput) {
			s.installers = []string{"factory/fake-installer/" + schematicA + ":v1.14.1"}
		}, field: "images", words: ":v1.13.9: look for the installer"},
		{name: "authorities", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.authorities[1].NotAfter = time.Date(2026, 11, 9, 0, 0, 0, 0, time.UTC)
		}, field: "certificates", words: "the etcd authority expires on 2026-11-09; Ichor cannot replace"},
		{name: "removed API", set: func(s *scene, _ *CheckUpgradeInput) {
			s.removed = []plan.Refusal{{Field: "Ingress apps/web", Reason: "extensions/v1beta1 is not served any more"}}
		}, field: "Ingress apps/web", words: "not served any more"},
		{name: "stuck budget", set: func(s *scene, _ *CheckUpgradeInput) {
			s.stuck = []plan.Refusal{{Field: "apps/web", Reason: "allows no eviction"}}
		}, field: "apps/web", words: "allows no eviction"},
		{name: "autoscaler", set: func(s *scene, _ *CheckUpgradeInput) { s.scaler = "v1.34.2" }, field: "autoscaler", words: "v1.34", warning: true},
		{name: "gate", set: func(s *scene, in *CheckUpgradeInput) {
			in.Strategy.Gates = []plan.Gate{{Name: "shop"}}
			s.gates["shop"] = fault.New(fault.NotYet, "gate", "2 of 3 replicas")
		}, field: "gate shop", words: "does not hold now: gate: 2 of 3 replicas"},
		{name: "group", set: func(_ *scene, in *CheckUpgradeInput) {
			in.Groups = []plan.Refusal{{Field: "worker", Reason: "is paused"}}
		}, field: "worker", words: "is paused"},
		{name: "authorities expired", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.authorities[0].NotAfter = time.Date(2026, 10, 9, 0, 0, 0, 0, time.UTC)
		}, field: "certificates", words: "the Talos authority expired on 2026-10-09"},
		{name: "authorities unreadable", set: func(s *scene, _ *CheckUpgradeInput) {
			s.inspected.authoritiesErr = fault.New(fault.Internal, "read bundle", "no")
		}, field: "certificates", words: "authorities cannot be read: read bundle: no", alone: true},
		{name: "maintenance", set: func(s *scene, _ *CheckUpgradeInput) { s.nodes["192.0.2.11"].facts = NodeFacts{Stage: "maintenance"} }, field: "demo-worker-1", words: "maintenance mode", alone: true},
		{name: "mute", set: func(s *scene, _ *CheckUpgradeInput) { s.nodes["192.0.2.11"].facts = NodeFacts{Stage: "running"} }, field: "demo-worker-1", words: "which version", alone: true},
		{name: "Kubernetes away", set: func(s *scene, _ *CheckUpgradeInput) {
			s.kubeErr = fault.New(fault.Unavailable, "list nodes", "refused")
		}, field: "kubernetes", words: "the nodes cannot be listed: list nodes: refused", alone: true},
		{name: "split", set: func(s *scene, _ *CheckUpgradeInput) {
			s.nodes["192.0.2.3"].etcd.Members = s.nodes["192.0.2.3"].etcd.Members[:2]
		}, field: "etcd", words: "demo-cp-3 sees voters", alone: true},
		{name: "two members", set: func(s *scene, in *CheckUpgradeInput) {
			in.Nodes = planes[:2]
			for _, n := range s.nodes {
				if n.etcd.Running {
					n.etcd.Members = n.etcd.Members[:2]
				}
			}
		}, field: "etcd", words: "two members", alone: true},
		{name: "single", set: func(s *scene, in *CheckUpgradeInput) {
			in.Nodes = planes[1:2]
			s.nodes["192.0.2.2"].etcd.Members = s.nodes["192.0.2.2"].etcd.Members[1:2]
		}, field: "strategy.singleControlPlane", words: "consent", alone: true},
		{name: "etcd down everywhere", set: func(s *scene, _ *CheckUpgradeInput) {
			for _, n := range s.nodes {
				n.etcd = EtcdHealth{}
			}
		}, field: "etcd", words: "demo-cp-1: etcd does not run there", alone: true},
	}
	find := func(t *testing.T, out CheckUpgradeResult, f flaw) {
		t.Helper()
		list := out.Problems
		if f.warning {
			list = out.Warnings
		}
		if !slices.ContainsFunc(list, func(r plan.Refusal) bool { return r.Field == f.field && strings.Contains(r.Reason, f.words) }) {
			t.Errorf("%s: %+v does not say %q of %s", f.name, list, f.words, f.field)
		}
	}
	together := newScene()
	in := checkInput(together)
	for _, f := range flaws {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.scaler = "v1.36.0"
			in := checkInput(s)
			f.set(s, &in)
			out, err := act(t, s.upgrades().CheckUpgrade, in)
			wantType(t, err, "")
			find(t, out, f)
			if f.warning != (len(out.Problems) == 0) {
				t.Errorf("problems %+v", out.Problems)
			}
		})
		if !f.alone {
			f.set(together, &in)
		}
	}
	out, err := act(t, together.upgrades().CheckUpgrade, in)
	wantType(t, err, "")
	for _, f := range flaws {
		if !f.alone {
			find(t, out, f)
		}
	}
}

func TestCheckUpgradeThatDrainsNothing(t *testing.T) {
	s := newScene()
	s.stuck = []plan.Refusal{{Field: "apps/web", Reason: "allows no eviction"}}
	in := checkInput(s)
	in.Legs = in.Legs[2:]
	out, err := act(t, s.upgrades().CheckUpgrade, in)
	wantType(t, err, "")
	if len(out.Problems) != 0 || out.Warnings[0].Field != "apps/web" {
		t.Errorf("got %+v", out)
	}
}

package activities

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

func TestHoldAndReleaseNode(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	work := workOn(workers[0])
	wantType(t, do(t, u.HoldNode, HoldNodeInput{NodeWorkInput: work, Cordon: true}), "")
	wantType(t, do(t, u.ReleaseNode, work), "")
	want := []string{"hold demo-worker-1 cluster/demo/node/demo-worker-1 true", "release demo-worker-1 cluster/demo/node/demo-worker-1"}
	if diff := cmp.Diff(want, s.held); diff != "" {
		t.Error(diff)
	}
	s.kubeErr = fault.New(fault.Conflict, "hold", "held by another")
	wantType(t, do(t, u.HoldNode, HoldNodeInput{NodeWorkInput: work}), fault.Conflict, "held by another")
}

func TestDrainForWork(t *testing.T) {
	web := PodLeft{Namespace: "apps", Name: "web", Why: "The disruption budget web needs 2 healthy pods and has 2 currently"}
	for _, tc := range []struct {
		name   string
		rounds [][]PodLeft
		err    error
		want   fault.Kind
		words  []string
	}{
		{name: "empties in rounds", rounds: [][]PodLeft{{web, web}, {web}, {}}},
		{name: "PDB deadlock", rounds: [][]PodLeft{{web}}, want: fault.NotYet, words: []string{"drain node demo-worker-1", "apps/web: The disruption budget web"}},
		{name: "options forbid", err: fault.New(fault.Invalid, "drain", "apps/bare is recreated by nobody"), want: fault.Invalid, words: []string{"apps/bare"}},
		{name: "node gone", err: fault.New(fault.NotFound, "drain", "no such node")},
		{name: "API away", err: fault.New(fault.Unavailable, "drain", "refused"), want: fault.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			s.rounds, s.drainErr = tc.rounds, tc.err
			opts := DrainOptions{Force: true, GraceSeconds: -1}
			err := do(t, s.upgrades().DrainForWork, DrainForWorkInput{NodeWorkInput: workOn(workers[0]), Options: opts})
			wantType(t, err, tc.want, tc.words...)
			for _, got := range s.options {
				if got != opts {
					t.Errorf("drained with %+v", got)
				}
			}
		})
	}
}

func TestWaitComponent(t *testing.T) {
	for _, tc := range []struct {
		name      string
		component string
		set       func(*scene)
		want      fault.Kind
		words     []string
	}{
		{name: "pod", component: "kube-apiserver", set: func(s *scene) {
			s.pods["demo-cp-1 kube-apiserver"] = StaticPodView{Version: "v1.36.2", Ready: true}
		}},
		{name: "old pod", component: "kube-apiserver", set: func(s *scene) {
			s.pods["demo-cp-1 kube-apiserver"] = StaticPodView{Version: "v1.35.1", Ready: true}
		}, want: fault.NotYet, words: []string{"it runs v1.35.1, wanted is v1.36.2"}},
		{
			name: "pod not ready", component: "kube-scheduler", set: func(s *scene) { s.pods["demo-cp-1 kube-scheduler"] = StaticPodView{Version: "v1.36.2"} },
			want: fault.NotYet, words: []string{"not ready"},
		},
		{name: "no pod", component: "kube-scheduler", want: fault.NotYet, words: []string{"it has no pod"}},
		{name: "kubelet", component: "kubelet", set: func(s *scene) { s.objectsOf["demo-cp-1"].Version = "v1.36.2" }},
		{name: "old kubelet", component: "kubelet", want: fault.NotYet, words: []string{"it runs v1.35.1"}},
		{
			name: "kubelet not Ready", component: "kubelet", set: func(s *scene) { *s.objectsOf["demo-cp-1"] = KubeNode{Version: "v1.36.2", Reason: "no CNI"} },
			want: fault.NotYet, words: []string{"not Ready: no CNI"},
		},
		{name: "API away", component: "kubelet", set: func(s *scene) { s.kubeErr = fault.New(fault.Unavailable, "read", "refused") }, want: fault.Unavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			if tc.set != nil {
				tc.set(s)
			}
			err := do(t, s.upgrades().WaitComponent, WaitComponentInput{NodeWorkInput: workOn(planes[0]), Component: tc.component, Version: "v1.36.2"})
			wantType(t, err, tc.want, tc.words...)
		})
	}
}

func TestWaitGates(t *testing.T) {
	in := GatesInput{Ref: testRef, Gates: []plan.Gate{{Name: "shop"}, {Name: "site"}}, Node: "demo-worker-1"}
	for _, tc := range []struct {
		name  string
		set   func(*scene)
		want  fault.Kind
		words []string
	}{
		{name: "all hold"},
		{name: "one does not", set: func(s *scene) { s.gates["site"] = fault.New(fault.NotYet, "gate site", "answers 503") }, want: fault.NotYet, words: []string{"gate site", "answers 503"}},
		{name: "cannot be evaluated", set: func(s *scene) { s.gates["shop"] = fault.New(fault.Invalid, "gate shop", "no such field") }, want: fault.Invalid},
		{name: "node not Ready", set: func(s *scene) { s.objectsOf["demo-worker-1"].Ready = false }, want: fault.NotYet, words: []string{"demo-worker-1: its node is not Ready"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScene()
			if tc.set != nil {
				tc.set(s)
			}
			wantType(t, do(t, s.upgrades().WaitGates, in), tc.want, tc.words...)
		})
	}
	wantType(t, do(t, newScene().upgrades().WaitGates, GatesInput{Ref: testRef}), "")
}

func TestLeaseMember(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	in := LeaseInput{Ref: testRef, Group: "worker", Machine: "w1", Holder: "h", RequestID: "r"}
	s.leases = func(got LeaseInput) (LeaseResult, error) {
		if want := in; strings.HasPrefix(got.RequestID, "r-") {
			want.RequestID = got.RequestID
			if got != want {
				t.Errorf("asked %+v", got)
			}
		} else {
			t.Errorf("the request's id is %q", got.RequestID)
		}
		return LeaseResult{Held: true}, nil
	}
	out, err := act(t, u.LeaseMember, in)
	wantType(t, err, "")
	if !out.Held {
		t.Error("not held")
	}
	s.leases = func(LeaseInput) (LeaseResult, error) {
		return LeaseResult{}, fault.New(fault.NotFound, "lease", "the entity does not run")
	}
	_, err = act(t, u.LeaseMember, in)
	wantType(t, err, fault.NotFound)
	in.Release = true
	_, err = act(t, u.LeaseMember, in)
	wantType(t, err, "")
}

func TestApplyUpgradeManifests(t *testing.T) {
	s := newScene()
	u := s.upgrades()
	before := []cluster.Manifest{s.rec.Spec.Manifests[0], {Name: "ccm", Source: source("m0", "s0")}}
	for range 2 {
		out, err := act(t, u.ApplyUpgradeManifests, ApplyUpgradeManifestsInput{Ref: testRef, Before: before})
		wantType(t, err, "")
		if d := cmp.Diff(ApplyUpgradeManifestsResult{Applied: []string{"ccm"}, Skipped: 1}, out); d != "" {
			t.Error(d)
		}
	}
	if d := cmp.Diff([]string{"ccm=ccm", "ccm=ccm"}, s.applied); d != "" {
		t.Error(d)
	}
	delete(s.bodies, "m2@s2")
	_, err := act(t, u.ApplyUpgradeManifests, ApplyUpgradeManifestsInput{Ref: testRef})
	wantType(t, err, fault.NotFound, "read manifest ccm")
}

func TestVersionsOfImages(t *testing.T) {
	for image, want := range map[string]string{
		"ghcr.io/siderolabs/kubelet:v1.36.3":         "v1.36.3",
		"ghcr.io/siderolabs/kubelet:v1.36.3-slim":    "v1.36.3",
		"host:5000/kube-apiserver:v1.36.3@sha256:00": "v1.36.3",
		"host:5000/kube-apiserver":                   "host:5000/kube-apiserver",
		"v1.36.3":                                    "v1.36.3",
		"":                                           "",
		"registry.k8s.io/kube-scheduler:v1.37.0-rc.1": "v1.37.0-rc.1",
	} {
		if got := tagOf(image); got != want {
			t.Errorf("tagOf(%q) = %q, want %q", image, got, want)
		}
	}
}

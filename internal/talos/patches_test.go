package talos

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// canary stands for a secret in a patch; no error may show it.
const canary = "s3cr3t-c4n4ry"

func TestPatchErrorsNameFieldAndNoContent(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"unknown field":       {"machine:\n  token2: " + canary + "\n", "unknown fields machine.token2"},
		"unknown in a list":   {"machine:\n  files:\n    - contnet: " + canary + "\n", "machine.files[].contnet"},
		"wrong type":          {"machine:\n  kubelet: " + canary + "\n", "is not a config patch"},
		"wrong scalar":        {"debug: " + canary + "\n", "is not a config patch"},
		"not yaml":            {"machine: [" + canary + "\n", "is not a config patch"},
		"unknown kind":        {"apiVersion: v1alpha1\nkind: NoSuchConfig\nname: " + canary + "\n", "Talos has no such kind"},
		"empty":               {"---\n", "is empty"},
		"json patch":          {`[{"op":"add","path":"/machine/token","value":"` + canary + `"}]`, "JSON patches"},
		"yaml json patch":     {"- op: add\n  path: /machine/token\n  value: " + canary + "\n", "JSON patches"},
		"kind of 1.14":        {"apiVersion: v1alpha1\nkind: SysctlConfig\nparams:\n  a: " + canary + "\n", "document SysctlConfig needs Talos v1.14"},
		"invalid result":      {"machine:\n  type: " + canary + "\n", "unknown machine type"},
		"invalid URL":         {"machine:\n  logging:\n    destinations:\n      - endpoint: 'http://u:" + canary + "@host:1'\n", "v1alpha1.Config"},
		"conflicting network": {"machine:\n  network:\n    hostname: x\n", "hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			req := testRequest(t, versions[0], cluster.RoleWorker)
			req.Patches = []Patch{
				{Field: "spec.talos.patches[0]", Body: []byte("machine:\n  sysctls:\n    vm.swappiness: '1'\n")},
				{Field: "spec.talos.patches[1]", Body: []byte(tc.body)},
				{Field: "spec.talos.patches[2]", Body: []byte("machine:\n  sysctls:\n    vm.swappiness: '2'\n")},
			}
			_, err := Render(req)
			if err == nil {
				t.Fatal("the patch was accepted")
			}
			t.Log(err)
			if fault.KindOf(err) != fault.Invalid {
				t.Errorf("kind %s", fault.KindOf(err))
			}
			if !strings.Contains(err.Error(), "spec.talos.patches[1]") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("want the field and %q, got: %v", tc.want, err)
			}
			if strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the error repeats the patch or has several lines: %v", err)
			}
		})
	}
}

func TestPatchOrderAndIdentityWins(t *testing.T) {
	for _, v := range versions {
		req := testRequest(t, v, cluster.RoleWorker)
		req.Patches = []Patch{
			{Field: "all", Body: []byte("machine:\n  certSANs: [first]\n---\napiVersion: v1alpha1\nkind: HostnameConfig\nauto: stable\n")},
			{Field: "role", Body: []byte("machine:\n  certSANs: [second]\n---\napiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: ichor-vxlan\n$patch: delete\n")},
			{Field: "group", Body: []byte("apiVersion: v1alpha1\nkind: NetworkRuleConfig\nname: mine\nportSelector: {ports: [9100], protocol: tcp}\ningress: [{subnet: 10.0.0.0/8}]\n")},
		}
		cfg := load(t, mustRender(t, req).UserData.Reveal())
		if diff := cmp.Diff([]string{"2001:db8::7", "first", "second"}, cfg.Machine().Security().CertSANs()); diff != "" {
			t.Errorf("%s: %s", v.contract, diff)
		}
		if got := cfg.NetworkHostnameConfig().Hostname(); got != req.NodeName {
			t.Errorf("%s: host name %q", v.contract, got)
		}
		var ports []uint16
		for _, r := range cfg.NetworkRules().Rules() {
			ports = append(ports, r.PortRanges()[0][0])
		}
		if diff := cmp.Diff([]uint16{50000, 10250, 30000, 30000, 9100}, ports); diff != "" {
			t.Errorf("%s: %s", v.contract, diff)
		}
	}
}

// A patch that breaks the config may be repaired by a later one: only the end
// counts.
func TestLaterPatchRepairs(t *testing.T) {
	req := testRequest(t, versions[0], cluster.RoleWorker)
	req.Patches = []Patch{
		{Field: "a", Body: []byte("machine:\n  type: nonsense\n")},
		{Field: "b", Body: []byte("machine:\n  type: worker\n")},
	}
	mustRender(t, req)
}

func TestCustomCNI(t *testing.T) {
	for i, body := range []string{
		"cluster:\n  network:\n    cni:\n      name: none\n",
		"apiVersion: v1alpha1\nkind: KubeFlannelCNIConfig\n$patch: delete\n",
	} {
		req := testRequest(t, versions[i], cluster.RoleControlPlane)
		req.Patches = []Patch{{Field: "f", Body: []byte(body)}}
		cfg := load(t, mustRender(t, req).UserData.Reveal())
		if cfg.K8sFlannelCNIConfig() != nil {
			t.Errorf("%s: flannel is still there", versions[i].contract)
		}
	}
}

func TestFlannelStaysInside(t *testing.T) {
	for i, own := range []string{
		"cluster:\n  network:\n    cni:\n      name: flannel\n      flannel:\n        extraArgs: [--iface=eth7]\n",
		"apiVersion: v1alpha1\nkind: KubeFlannelCNIConfig\nextraArgs: [--iface=eth7]\n",
	} {
		req := testRequest(t, versions[i], cluster.RoleControlPlane)
		cfg := load(t, mustRender(t, req).UserData.Reveal())
		if diff := cmp.Diff([]string{"--iface-can-reach=10.100.0.0"}, cfg.K8sFlannelCNIConfig().ExtraArgs()); diff != "" {
			t.Errorf("%s: %s", versions[i].contract, diff)
		}
		req.Patches = []Patch{{Field: "f", Body: []byte(own)}}
		cfg = load(t, mustRender(t, req).UserData.Reveal())
		if diff := cmp.Diff([]string{"--iface=eth7"}, cfg.K8sFlannelCNIConfig().ExtraArgs()); diff != "" {
			t.Errorf("%s: %s", versions[i].contract, diff)
		}
	}
}

func TestValidatePatches(t *testing.T) {
	all := Patch{Field: "spec.talos.patches[0]", Body: []byte("machine:\n  nosuch: " + canary + "\n")}
	group := Patch{Field: "spec.nodeGroups[0].patches[0]", Body: []byte("machine:\n  type: controlplane\n")}
	spec := testSpec("v1.13.5", "v1.36.3")
	for name, tc := range map[string]struct {
		spec cluster.Spec
		sets []PatchSet
		want []Problem
	}{
		"fine": {spec, []PatchSet{{Role: cluster.RoleControlPlane}, {Role: cluster.RoleWorker, Group: "workers"}}, nil},
		"one problem is told once": {
			spec,
			[]PatchSet{{Role: cluster.RoleControlPlane, Patches: []Patch{all}}, {Role: cluster.RoleWorker, Group: "workers", Patches: []Patch{all}}},
			[]Problem{{Field: "spec.talos.patches[0]", Message: "is not a config patch: document at line 1: unknown fields machine.nosuch"}},
		},
		"bad version":  {testSpec("1.13", "v1.36.3"), nil, []Problem{{Field: "spec.talos.version", Message: `talos version "1.13" is not a version like v1.13.5`}}},
		"wrong role":   {spec, []PatchSet{{Role: cluster.RoleWorker, Group: "workers", Patches: []Patch{group}}}, []Problem{{Field: group.Field, Message: ""}}},
		"bad contract": {func() cluster.Spec { s := spec; s.Talos.Contract = "v1.1"; return s }(), nil, []Problem{{Field: "spec.talos.contract", Message: `contract "v1.1" is not supported; supported are v1.13, v1.14`}}},
		"contract too new": {
			func() cluster.Spec { s := spec; s.Talos.Contract = "v1.14"; return s }(),
			[]PatchSet{{Role: cluster.RoleControlPlane}},
			[]Problem{{Field: "spec.talos.contract", Message: "v1.14 is newer than Talos v1.13.5, which cannot read it"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ValidatePatches("demo", tc.spec, tc.sets)
			if err != nil {
				t.Fatal(err)
			}
			if name == "wrong role" {
				if len(got) != 1 || got[0].Field != group.Field || got[0].Message == "" {
					t.Errorf("got %+v", got)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRestrictedLabel(t *testing.T) {
	for key, want := range map[string]bool{
		"tier": false, "example.com/a": false, "kubernetes.io/os": false, "topology.kubernetes.io/zone": false,
		"node.kubernetes.io/anything": false, "kubelet.kubernetes.io/x": false, "x.node.kubernetes.io/y": false,
		"node-role.kubernetes.io/worker": true, "kubernetes.io/other": true, "foo.k8s.io/x": true,
		"node-restriction.kubernetes.io/x": true, "notkubernetes.io/x": false,
	} {
		if got := restrictedLabel(key); got != want {
			t.Errorf("%s: %v", key, got)
		}
	}
}

// FuzzPatch looks for patches that make rendering panic, and for errors that
// are not the patch's.
func FuzzPatch(f *testing.F) {
	for _, body := range []string{
		"machine:\n  sysctls: {a: '1'}\n", "machine: null\n", "cluster: {}\n---\nmachine: {type: worker}\n", "- op: add\n",
		"apiVersion: v1alpha1\nkind: HostnameConfig\n$patch: delete\n", "apiVersion: v1alpha1\nkind: KubeletConfig\nimage: x\n",
		"cluster:\n  network:\n    cni: {name: none}\n", "machine:\n  kubelet:\n    extraConfig: {registerWithTaints: 1}\n",
		"machine:\n  $patch: delete\n", "cluster:\n  network:\n    podSubnets: [x]\n",
	} {
		f.Add(body, false)
		f.Add(body, true)
	}
	var requests [2][2]RenderRequest
	for i, v := range versions {
		b, err := NewBundle(v.contract, now)
		if err != nil {
			f.Fatal(err)
		}
		for j, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
			requests[i][j] = RenderRequest{
				Bundle: b, Cluster: cluster.Ref{Name: "demo"}, Spec: testSpec(v.talos, v.kubernetes),
				Endpoint: "https://198.51.100.7:6443", Role: role, Group: "workers", NodeName: "demo-a",
			}
		}
	}
	f.Fuzz(func(t *testing.T, body string, worker bool) {
		for _, byRole := range requests {
			req := byRole[0]
			if worker {
				req = byRole[1]
			}
			req.Patches = []Patch{{Field: "field", Body: []byte(body)}}
			if _, err := Render(req); err != nil && (fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), ": field: ")) {
				t.Errorf("%s: %v", fault.KindOf(err), err)
			}
		}
	})
}

package talos

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func TestReadFlags(t *testing.T) {
	const kubelet = `
machine:
  kubelet:
    extraArgs: {containerd: /run/c.sock}
    extraConfig: {featureGates: {B: true, A: false}}
`
	const planes = `
cluster:
  apiServer: {extraArgs: {feature-gates: "X=true,Y=true"}}
  controllerManager: {extraArgs: {feature-gates: "X=true"}}
  scheduler: {extraArgs: {v: "2"}}
  proxy: {extraArgs: {feature-gates: "Z=true"}}
`
	one := func(component, flag, value string) ComponentFlags {
		return ComponentFlags{Component: component, Args: map[string][]string{flag: {value}}}
	}
	node := ComponentFlags{Component: "kubelet", Args: map[string][]string{"containerd": {"/run/c.sock"}}, FeatureGates: []string{"A", "B"}}
	for _, tc := range []struct {
		name  string
		role  cluster.Role
		patch string
		want  []ComponentFlags
	}{
		{"worker", cluster.RoleWorker, kubelet, []ComponentFlags{node}},
		{"worker without any", cluster.RoleWorker, "", nil},
		{"control plane", cluster.RoleControlPlane, kubelet + planes[1:], []ComponentFlags{
			node, one("kube-apiserver", "feature-gates", "X=true,Y=true"), one("kube-controller-manager", "feature-gates", "X=true"),
			one("kube-scheduler", "v", "2"), one("kube-proxy", "feature-gates", "Z=true"),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := testRequest(t, versions[0], tc.role)
			if tc.patch != "" {
				req.Patches = []Patch{{Field: "p", Body: []byte(tc.patch)}}
			}
			got, err := ReadFlags(mustRender(t, req).UserData)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("documents of later contracts", func(t *testing.T) {
		req := testRequest(t, versions[1], cluster.RoleWorker)
		req.Patches = []Patch{{Field: "p", Body: []byte("apiVersion: v1alpha1\nkind: KubeletConfig\nextraArgs:\n  containerd: [/run/c.sock]\nconfig:\n  featureGates: {A: true, B: true}\n")}}
		got, err := ReadFlags(mustRender(t, req).UserData)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]ComponentFlags{node}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	if _, err := ReadFlags(secrets.NewValue([]byte(canary + ": ["))); fault.KindOf(err) != fault.Internal || strings.Contains(err.Error(), canary) {
		t.Errorf("no config: %v", err)
	}
}

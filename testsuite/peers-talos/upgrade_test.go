package peerstalos

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// TestUpgrade lets talosctl upgrade Talos and Kubernetes of nodes with a real
// Kubernetes: its own drain, its own waits, its own order of components.
func TestUpgrade(t *testing.T) {
	l := withKubernetes(t, 30)
	p := nodetest.NewPKI(t, "v1.13")
	old := func(s *guest.Server) { s.Image.TalosVersion = "v1.13.9" }

	cp := l.Server("demo-cp-0", nil, old)
	patches := []string{
		fmt.Sprintf("cluster: {controlPlane: {endpoint: 'https://%s:6443'}}", cp.Loopback),
		"machine: {kubelet: {image: 'ghcr.io/siderolabs/kubelet:v1.35.4'}}",
	}
	plane := append(patches, `cluster:
  apiServer: {image: 'registry.k8s.io/kube-apiserver:v1.35.4'}
  controllerManager: {image: 'registry.k8s.io/kube-controller-manager:v1.35.4'}
  scheduler: {image: 'registry.k8s.io/kube-scheduler:v1.35.4'}
  proxy: {image: 'registry.k8s.io/kube-proxy:v1.35.4'}`)
	cp.UserData = p.ControlPlane(plane...)
	w := l.Server("demo-w-0", p.Worker(patches...), old)

	l.Boot(cp)
	worker := l.Boot(w)

	j := newJudge(t, p, cp)
	first, second := cp.Loopback.String(), w.Loopback.String()

	j.says([]string{"-n", first, "bootstrap"})
	j.says([]string{"-n", first, "get", "machinestatus"}, "running", "true")
	j.says([]string{"-n", second, "get", "machinestatus"}, "running", "true")

	const image = "factory.talos.dev/openstack-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:"

	j.does("node uncordoned", "-n", second, "upgrade", "--image", image+"v1.14.1", "--timeout", "3m")
	j.says([]string{"-n", second, "version"}, "Tag:         v1.14.1")
	j.does("", "-n", second, "rollback")
	nodetest.Logged(t, worker, "booting Talos v1.13.9")
	j.says([]string{"-n", second, "get", "machinestatus"}, "running", "true")
	j.says([]string{"-n", second, "version"}, "Tag:         v1.13.9")

	j.does("update kube-apiserver: v1.35.4 -> 1.36.3", "-n", first, "upgrade-k8s", "--endpoint", "https://"+first+":6443", "--to", "1.36.3", "--dry-run")
	j.does("updating kubelet", "-n", first, "upgrade-k8s", "--endpoint", "https://"+first+":6443", "--to", "1.36.3")
	j.says([]string{"-n", second, "get", "kubeletspec", "-o", "yaml"}, "kubelet:v1.36.3")
}

// does runs a command for as long as it takes and wants a text in its output.
func (j *judge) does(text string, args ...string) {
	j.t.Helper()

	ctx, cancel := context.WithTimeout(j.t.Context(), 8*time.Minute)
	defer cancel()

	out, err := j.run(ctx, args...)
	if err != nil {
		j.t.Fatalf("talosctl %v: %v\n%s", args, err, out)
	}

	j.t.Logf("talosctl %v\n%s", args, out)

	if !strings.Contains(out, text) {
		j.t.Errorf("talosctl %v: missing %q", args, text)
	}
}

package talosnode_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/v1alpha1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

// apply puts a config in force without a reboot.
func apply(t *testing.T, c *client.Client, data []byte) {
	t.Helper()

	_, err := c.ApplyConfiguration(t.Context(), &machine.ApplyConfigurationRequest{Data: data, Mode: machine.ApplyConfigurationRequest_NO_REBOOT})
	if err != nil {
		t.Fatal(err)
	}
}

func configVersion(t *testing.T, c *client.Client, typ resource.Type, id resource.ID) string {
	t.Helper()

	r, err := c.COSI.Get(t.Context(), resource.NewMetadata(k8s.ControlPlaneNamespaceName, typ, id, resource.VersionUndefined))
	if err != nil {
		t.Fatal(err)
	}

	return r.Metadata().Version().String()
}

// Each component of the control plane has its own image, config version and
// readiness, and only what changed restarts.
func TestComponentsChangeOneByOne(t *testing.T) {
	for _, test := range []struct {
		contract, image, rendered string
	}{
		{"v1.13", "v1.13.5", "kube-scheduler"},
		{"v1.14", "v1.14.1", "final-kube-scheduler"},
	} {
		t.Run(test.contract, func(t *testing.T) {
			l := nodetest.New(t)
			p := nodetest.NewPKI(t, test.contract)
			s := l.Server("demo-cp-0", p.ControlPlane(), func(s *guest.Server) { s.Image.TalosVersion = test.image })
			n := l.Boot(s)
			c := p.Dial(s.Loopback)

			nodetest.Logged(t, n, "running as controlplane")
			nodetest.Eventually(t, "bootstrap", func() error { return c.Bootstrap(t.Context(), &machine.BootstrapRequest{}) })
			nodetest.Logged(t, n, "machine is running and ready")

			pods := l.Kube.StaticPods("demo-cp-0")
			for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
				if pod := pods[name]; !pod.Ready || pod.Image == "" || pod.Annotations["talos.dev/config-version"] != "1" {
					t.Errorf("%s: %+v", name, pod)
				}
			}

			const image = "registry.k8s.io/kube-scheduler:v1.35.9"

			before := configVersion(t, c, k8s.SchedulerConfigType, test.rendered)
			apply(t, c, p.ControlPlane(schedulerPatch(test.contract, image)))

			if after := configVersion(t, c, k8s.SchedulerConfigType, test.rendered); after == before {
				t.Errorf("the config version stays %s", after)
			}

			if v := configVersion(t, c, k8s.APIServerConfigType, "kube-apiserver"); v != "1" {
				t.Errorf("the API server's config version became %s", v)
			}

			nodetest.Logged(t, n, "static pod kube-scheduler changes to "+image)
			nodetest.Eventually(t, "scheduler", func() error {
				pod := l.Kube.StaticPods("demo-cp-0")["kube-scheduler"]
				if pod.Image != image || !pod.Ready || pod.Annotations["talos.dev/config-version"] != "2" {
					return fmt.Errorf("%+v", pod)
				}

				return nil
			})

			if r := l.Kube.Restarts(); len(r) != 0 {
				t.Errorf("API server restarted: %+v", r)
			}
		})
	}
}

func schedulerPatch(contract, image string) string {
	if contract == "v1.14" {
		return "apiVersion: v1alpha1\nkind: KubeSchedulerConfig\nimage: " + image
	}

	return "cluster: {scheduler: {image: '" + image + "'}}"
}

// A changed API server image restarts it, and a changed kubelet image the kubelet,
// whose service goes and comes back.
func TestAPIServerAndKubeletChange(t *testing.T) {
	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.13")
	s := l.Server("demo-cp-0", p.ControlPlane(), func(s *guest.Server) { s.Image.TalosVersion = "v1.13.5" })
	n := l.Boot(s)
	c := p.Dial(s.Loopback)

	nodetest.Logged(t, n, "running as controlplane")
	nodetest.Eventually(t, "bootstrap", func() error { return c.Bootstrap(t.Context(), &machine.BootstrapRequest{}) })
	nodetest.Logged(t, n, "machine is running and ready")

	apply(t, c, p.ControlPlane("cluster: {apiServer: {image: 'registry.k8s.io/kube-apiserver:v1.37.0'}}"))
	nodetest.Eventually(t, "restart", func() error {
		if r := l.Kube.Restarts(); len(r) != 1 || r[0].KubernetesVersion != "v1.37.0" {
			return fmt.Errorf("%+v", r)
		}

		return nil
	})

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	events := make(chan safe.WrappedStateEvent[*v1alpha1.Service])
	if err := safe.StateWatch(ctx, c.COSI, v1alpha1.NewService("kubelet").Metadata(), events); err != nil {
		t.Fatal(err)
	}

	apply(t, c, p.ControlPlane("machine: {kubelet: {image: 'ghcr.io/siderolabs/kubelet:v1.37.0'}}"))

	var seen []state.EventType

	for e := range events {
		seen = append(seen, e.Type())

		if r, err := e.Resource(); err == nil && len(seen) > 2 && r.TypedSpec().Running && r.TypedSpec().Healthy {
			break
		}
	}

	if len(seen) < 3 || seen[0] != state.Created || seen[1] != state.Destroyed || seen[2] != state.Created {
		t.Errorf("events %v", seen)
	}

	if spec := l.Kube.LastKubelet("demo-cp-0"); spec.Version != "v1.37.0" || spec.BootID == "" {
		t.Errorf("kubelet %+v", spec)
	}
}

package kube_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/gate"
)

// refusals are the kubelets that must not get into the cluster, each with the
// reason it has to give.
func refusals(t *testing.T, w *world, api *client.Client) {
	foreign := newBundle(t)
	// A second way to the same API, by an address that its certificate lacks.
	byway, err := gate.Listen(netip.MustParseAddr("127.0.0.8"), func() (netip.AddrPort, bool) { return w.endpoint.Addr(), true })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := byway.Close(); err != nil {
			t.Error(err)
		}
	})
	tests := map[string]struct {
		change func(*guest.Kubelet)
		want   string
		// registers says that the node is made all the same.
		registers bool
	}{
		"authority of another cluster": {
			change: func(spec *guest.Kubelet) { spec.CACert = foreign.Certs.K8s.Crt },
			want:   "certificate signed by unknown authority",
		},
		"no authority": {
			change: func(spec *guest.Kubelet) { spec.CACert = nil },
			want:   "not a PEM certificate",
		},
		"token of another cluster": {
			change: func(spec *guest.Kubelet) { spec.BootstrapToken = foreign.Secrets.BootstrapToken },
			want:   "Unauthorized",
		},
		"endpoint where nobody listens": {
			change: func(spec *guest.Kubelet) { spec.Endpoint = "https://127.0.0.1:1" },
			want:   "127.0.0.1:1: connect: connection refused",
		},
		"endpoint whose name is unknown": {
			change: func(spec *guest.Kubelet) { spec.Endpoint = "https://api.invalid:6443" },
			want:   "lookup api.invalid",
		},
		"endpoint that the certificate does not name": {
			change: func(spec *guest.Kubelet) { spec.Endpoint = "https://" + byway.Addr().String() },
			want:   "not 127.0.0.8",
		},
		"no endpoint": {
			change: func(spec *guest.Kubelet) { spec.Endpoint = "" },
			want:   "names no endpoint",
		},
		"label that a worker may not give itself": {
			change:    func(spec *guest.Kubelet) { spec.Labels = map[string]string{"node-role.kubernetes.io/worker": ""} },
			want:      "is not allowed to modify labels: node-role.kubernetes.io/worker",
			registers: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			spec := w.kubeletSpec("stranger-"+strings.ReplaceAll(name, " ", "-"), test.change)
			k := w.runner.StartKubelet(spec)
			t.Cleanup(k.Stop)
			eventually(t, "refused", func(context.Context) error {
				if got := k.LastError(); !strings.Contains(got, test.want) {
					return fmt.Errorf("LastError() = %q, want %q in it", got, test.want)
				}
				return nil
			})
			if k.Ready() || k.Registered() != test.registers {
				t.Errorf("ready %v, registered %v", k.Ready(), k.Registered())
			}
			_, err := api.CoreV1().Nodes().Get(t.Context(), spec.NodeName, metav1.GetOptions{})
			if notFound(err) != nil || (err == nil) != test.registers {
				t.Errorf("the Node: %v, want it to exist: %v", err, test.registers)
			}
		})
	}
}

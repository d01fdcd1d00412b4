package talosnode_test

import (
	"context"
	stdx509 "crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

func pool(t *testing.T, pem []byte) *stdx509.CertPool {
	t.Helper()

	p := stdx509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}

	return p
}

func call(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)

	return ctx
}

func bootstrap(t *testing.T, c *client.Client) {
	t.Helper()
	eventually(t, "bootstrap", func() error {
		err := c.Bootstrap(call(t), &machine.BootstrapRequest{})
		if status.Code(err) == codes.AlreadyExists {
			return nil
		}

		return err
	})
}

func machineStatus(ctx context.Context, c *client.Client) (*runtime.MachineStatusSpec, error) {
	r, err := safe.StateGetByID[*runtime.MachineStatus](ctx, c.COSI, runtime.MachineStatusID)
	if err != nil {
		return nil, err
	}

	return r.TypedSpec(), nil
}

func ready(t *testing.T, c *client.Client) {
	t.Helper()
	eventually(t, "ready", func() error {
		spec, err := machineStatus(call(t), c)
		if err != nil {
			return err
		}

		if spec.Stage != runtime.MachineStageRunning || !spec.Status.Ready {
			return fmt.Errorf("%s, ready %v: %v", spec.Stage, spec.Status.Ready, spec.Status.UnmetConditions)
		}

		return nil
	})
}

func voters(t *testing.T, c *client.Client, want int) {
	t.Helper()
	eventually(t, "voters", func() error {
		list, err := c.EtcdMemberList(call(t), &machine.EtcdMemberListRequest{})
		if err != nil {
			return err
		}

		n := 0

		for _, m := range list.GetMessages()[0].GetMembers() {
			if !m.GetIsLearner() {
				n++
			}
		}

		if n != want {
			return fmt.Errorf("%d voters, want %d: %v", n, want, list)
		}

		return nil
	})
}

func TestClusterComesUp(t *testing.T) {
	for _, version := range []string{"v1.13", "v1.14"} {
		t.Run(version, func(t *testing.T) {
			l := newLab(t)
			p := newPKI(t, version)
			image := func(s *guest.Server) { s.Image.TalosVersion = version + ".1" }

			var cps []guest.Server

			for i := range 3 {
				cps = append(cps, l.server(fmt.Sprintf("demo-cp-%d", i), p.controlPlane(), image))
			}

			w := l.server("demo-w-0", p.worker(), image)

			for _, s := range append(cps, w) {
				l.boot(s)
			}

			first := p.dial(cps[0].Loopback)
			bootstrap(t, first)
			voters(t, first, 3)

			for _, s := range append(cps, w) {
				c := p.dial(s.Loopback)
				ready(t, c)

				reply, err := c.Version(call(t))
				if err != nil {
					t.Fatal(err)
				}

				if got := reply.GetMessages()[0].GetVersion().GetTag(); got != version+".1" {
					t.Errorf("version %s", got)
				}

				members, err := safe.StateListAll[*cluster.Member](call(t), c.COSI)
				if err != nil || members.Len() != 4 {
					t.Errorf("members: %v, %v", members.Len(), err)
				}
			}

			if got := len(l.fleet.EtcdClusters()); got != 1 {
				t.Errorf("%d etcd clusters", got)
			}

			checkKubernetes(t, l, p, cps[0], w)
		})
	}
}

// checkKubernetes compares what the nodes asked of Kubernetes with what the
// config said.
func checkKubernetes(t *testing.T, l *lab, p *pki, cp, w guest.Server) {
	t.Helper()

	control, ok := l.kube.control(cp.Name)
	if !ok {
		t.Fatal("no control plane")
	}

	if control.KubernetesVersion != "v1.36.3" || !control.DefaultCNI || control.ClusterName != "demo" ||
		control.Endpoint != "https://10.11.0.200:6443" || string(control.CACert) != string(p.bundle.Certs.K8s.Crt) ||
		string(control.CAKey) != string(p.bundle.Certs.K8s.Key) || string(control.AggregatorCACert) != string(p.bundle.Certs.K8sAggregator.Crt) ||
		string(control.ServiceAccount) != string(p.bundle.Certs.K8sServiceAccount.Key) || control.BootstrapToken != p.bundle.Secrets.BootstrapToken ||
		!slices.Contains(control.CertSANs, "10.11.0.200") || !slices.Equal(control.PodCIDRs, []string{"10.244.0.0/16"}) {
		t.Errorf("control plane %+v", control)
	}

	kubelet, ok := l.kube.kubelet(cp.Name)
	if !ok || !kubelet.ControlPlane || kubelet.EtcdCluster == "" || len(kubelet.Taints) != 1 || kubelet.Taints[0].Effect != "NoSchedule" {
		t.Errorf("control plane kubelet %+v", kubelet)
	}

	kubelet, ok = l.kube.kubelet(w.Name)
	if !ok || kubelet.ControlPlane || kubelet.EtcdCluster != "" || len(kubelet.Taints) != 0 || kubelet.InternalIP != w.Private[0] ||
		kubelet.ExternalIP != w.Loopback || kubelet.Version != "v1.36.3" || string(kubelet.CACert) == "" ||
		kubelet.BootstrapToken != p.bundle.Secrets.BootstrapToken {
		t.Errorf("worker kubelet %+v", kubelet)
	}
}

func TestQuorumLossStopsTheAPI(t *testing.T) {
	l := newLab(t)
	p := newPKI(t, "v1.14")

	var cps []guest.Server

	for i := range 3 {
		s := l.server(fmt.Sprintf("cp-%d", i), p.controlPlane())
		l.boot(s)
		cps = append(cps, s)
	}

	first := p.dial(cps[0].Loopback)
	bootstrap(t, first)
	voters(t, first, 3)
	ready(t, first)

	l.fleet.Node(cps[1].UUID).PowerOff()
	l.fleet.Node(cps[2].UUID).PowerOff()

	eventually(t, "quorum lost", func() error {
		l.kube.mu.Lock()
		defer l.kube.mu.Unlock()

		if ok, said := l.kube.quorum["cp-0"]; !said || ok {
			return fmt.Errorf("quorum %v %v", ok, said)
		}

		return nil
	})

	if _, err := first.EtcdMemberList(call(t), &machine.EtcdMemberListRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("member list below quorum: %v", err)
	}

	l.fleet.Node(cps[1].UUID).PowerOn()
	ready(t, first)
}

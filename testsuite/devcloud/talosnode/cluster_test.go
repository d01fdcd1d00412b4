package talosnode_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func call(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)

	return ctx
}

func bootstrap(t *testing.T, c *client.Client) {
	t.Helper()
	nodetest.Eventually(t, "bootstrap", func() error {
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
	nodetest.Eventually(t, "ready", func() error {
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
	nodetest.Eventually(t, "voters", func() error {
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
	t.Parallel()

	for _, version := range []string{"v1.13", "v1.14"} {
		t.Run(version, func(t *testing.T) {
			l := nodetest.New(t)
			p := nodetest.NewPKI(t, version)
			image := func(s *guest.Server) { s.Image.TalosVersion = version + ".1" }

			var cps []guest.Server

			for i := range 3 {
				cps = append(cps, l.Server(fmt.Sprintf("demo-cp-%d", i), p.ControlPlane(), image))
			}

			w := l.Server("demo-w-0", p.Worker(), image)

			for _, s := range append(cps, w) {
				l.Boot(s)
			}

			first := p.Dial(cps[0].Loopback)
			bootstrap(t, first)
			voters(t, first, 3)

			for _, s := range append(cps, w) {
				c := p.Dial(s.Loopback)
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

			if got := len(l.Fleet.EtcdClusters()); got != 1 {
				t.Errorf("%d etcd clusters", got)
			}

			checkKubernetes(t, l, p, cps[0], w)
		})
	}
}

// checkKubernetes compares what the nodes asked of Kubernetes with what the
// config said.
func checkKubernetes(t *testing.T, l *nodetest.Lab, p *nodetest.PKI, cp, w guest.Server) {
	t.Helper()

	control, ok := l.Kube.Control(cp.Name)
	if !ok {
		t.Fatal("no control plane")
	}

	if control.KubernetesVersion != "v1.36.3" || !control.DefaultCNI || control.ClusterName != "demo" ||
		control.Endpoint != "https://10.11.0.200:6443" || string(control.CACert) != string(p.Bundle.Certs.K8s.Crt) ||
		string(control.CAKey) != string(p.Bundle.Certs.K8s.Key) || string(control.AggregatorCACert) != string(p.Bundle.Certs.K8sAggregator.Crt) ||
		string(control.ServiceAccount) != string(p.Bundle.Certs.K8sServiceAccount.Key) || control.BootstrapToken != p.Bundle.Secrets.BootstrapToken ||
		!slices.Contains(control.CertSANs, "10.11.0.200") || !slices.Equal(control.PodCIDRs, []string{"10.244.0.0/16"}) {
		t.Errorf("control plane %+v", control)
	}

	kubelet, ok := l.Kube.Kubelet(cp.Name)
	if !ok || !kubelet.ControlPlane || kubelet.EtcdCluster == "" || len(kubelet.Taints) != 1 || kubelet.Taints[0].Effect != "NoSchedule" {
		t.Errorf("control plane kubelet %+v", kubelet)
	}

	kubelet, ok = l.Kube.Kubelet(w.Name)
	if !ok || kubelet.ControlPlane || kubelet.EtcdCluster != "" || len(kubelet.Taints) != 0 || kubelet.InternalIP != w.Private[0] ||
		kubelet.ExternalIP != w.Loopback || kubelet.Version != "v1.36.3" || string(kubelet.CACert) == "" ||
		kubelet.BootstrapToken != p.Bundle.Secrets.BootstrapToken {
		t.Errorf("worker kubelet %+v", kubelet)
	}
}

func TestQuorumLossStopsTheAPI(t *testing.T) {
	t.Parallel()

	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.14")

	var cps []guest.Server

	for i := range 3 {
		s := l.Server(fmt.Sprintf("cp-%d", i), p.ControlPlane())
		l.Boot(s)
		cps = append(cps, s)
	}

	first := p.Dial(cps[0].Loopback)
	bootstrap(t, first)
	voters(t, first, 3)
	ready(t, first)

	l.Fleet.Node(cps[1].UUID).PowerOff()
	l.Fleet.Node(cps[2].UUID).PowerOff()

	nodetest.Eventually(t, "quorum lost", func() error {
		if ok, said := l.Kube.Quorum("cp-0"); !said || ok {
			return fmt.Errorf("quorum %v %v", ok, said)
		}

		return nil
	})

	if _, err := first.EtcdMemberList(call(t), &machine.EtcdMemberListRequest{}); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("member list below quorum: %v", err)
	}

	l.Fleet.Node(cps[1].UUID).PowerOn()
	ready(t, first)
}

func contextFor(t *testing.T, milliseconds int) (context.Context, context.CancelFunc) {
	t.Helper()

	return context.WithTimeout(t.Context(), time.Duration(milliseconds)*time.Millisecond)
}

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/gate"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/pki"
	"github.com/ichor-project/ichor/testsuite/proc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a wait that is expected to end; far above what it takes.
const patience = 2 * time.Minute

// fast is a clock at which everything happens as soon as it can.
type fast struct{}

func (fast) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
func (fast) Scale(d time.Duration) time.Duration              { return d / 60 }

// world is one runner, a cluster's keys and the endpoint in front of its control
// planes, which stands for the load balancer.
type world struct {
	t        *testing.T
	runner   *kube.Runner
	bundle   *secrets.Bundle
	endpoint *gate.Gate
	dataDir  string

	mu     sync.Mutex
	planes []guest.RunningControlPlane
}

func toolsDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	if set := os.Getenv("ICHOR_TOOLS_DIR"); set != "" {
		dir = set
	}
	for _, tool := range []string{"kine", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		if _, err := os.Stat(filepath.Join(dir, tool)); err != nil {
			t.Fatalf("%v; build the tools with: make tools", err)
		}
	}
	return dir
}

func newBundle(t *testing.T) *secrets.Bundle {
	t.Helper()
	bundle, err := secrets.NewBundle(secrets.NewClock(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}

func newWorld(t *testing.T, cloudURL string) *world {
	t.Helper()
	w := &world{t: t, bundle: newBundle(t), dataDir: t.TempDir()}
	w.runner = kube.New(kube.Options{
		ToolsDir: toolsDir(t), DataDir: w.dataDir, Clock: fast{}, CloudURL: cloudURL,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	})
	var err error
	w.endpoint, err = gate.Listen(netip.MustParseAddr("127.0.0.1"), func() (netip.AddrPort, bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, plane := range w.planes {
			if plane.Ready() {
				return plane.Backend(), true
			}
		}
		return netip.AddrPort{}, false
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.endpoint.Close(), w.runner.Close()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			w.dumpLogs()
		}
	})
	return w
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func (w *world) dumpLogs() {
	logs, err := filepath.Glob(filepath.Join(w.dataDir, "*", "logs", "*.log"))
	if err != nil {
		w.t.Error(err)
	}
	for _, log := range logs {
		w.t.Logf("=== %s\n%s", filepath.Base(log), proc.Tail(log, 15))
	}
}

func (w *world) url() string { return "https://" + w.endpoint.Addr().String() }

func (w *world) token() string {
	return w.bundle.Secrets.BootstrapToken
}

func (w *world) planeSpec(name string, change ...func(*guest.ControlPlane)) guest.ControlPlane {
	certs := w.bundle.Certs
	spec := guest.ControlPlane{
		EtcdCluster: "etcd-1", ClusterName: "demo", NodeName: name, KubernetesVersion: "v1.36.3",
		Listen: netip.MustParseAddr("127.0.0.1"), Endpoint: w.url(),
		CACert: certs.K8s.Crt, CAKey: certs.K8s.Key,
		AggregatorCACert: certs.K8sAggregator.Crt, AggregatorCAKey: certs.K8sAggregator.Key,
		ServiceAccount: certs.K8sServiceAccount.Key, BootstrapToken: w.token(),
		PodCIDRs: []string{"10.244.0.0/16"}, ServiceCIDRs: []string{"10.96.0.0/12"},
		DefaultCNI: true, Exclusive: true,
	}
	for _, f := range change {
		f(&spec)
	}
	return spec
}

func (w *world) startPlane(name string, change ...func(*guest.ControlPlane)) guest.RunningControlPlane {
	w.t.Helper()
	plane, err := w.runner.StartControlPlane(w.t.Context(), w.planeSpec(name, change...))
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.planes = append(w.planes, plane)
	return plane
}

// balance makes the endpoint forward to these.
func (w *world) balance(planes ...guest.RunningControlPlane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.planes = planes
}

func (w *world) kubeletSpec(name string, change ...func(*guest.Kubelet)) guest.Kubelet {
	spec := guest.Kubelet{
		NodeName: name, Endpoint: w.url(), CACert: w.bundle.Certs.K8s.Crt, BootstrapToken: w.token(),
		Version: "v1.36.3", TalosVersion: "v1.13.5", InternalIP: netip.MustParseAddr("10.0.0.11"),
		VCPUs: 4, MemoryMiB: 8192, DiskGiB: 50, Source: netip.MustParseAddr("127.0.0.1"),
		ServerUUID: "6ec8ba54-5a05-4c2d-9e7a-7c3c7a1f3f10",
	}
	for _, f := range change {
		f(&spec)
	}
	return spec
}

func controlPlane(spec *guest.Kubelet) {
	spec.EtcdCluster, spec.ControlPlane = "etcd-1", true
	spec.StaticPods = func() []guest.StaticPod {
		return []guest.StaticPod{{Name: "kube-apiserver", Image: "registry.k8s.io/kube-apiserver:v1.36.3", Ready: true}}
	}
	spec.Taints = append(spec.Taints, guest.Taint{Key: "node-role.kubernetes.io/control-plane", Effect: "NoSchedule"})
}

// admin is a client as the product makes one: from the authority in the bundle,
// over the endpoint.
func (w *world) admin() *client.Client {
	w.t.Helper()
	authority, err := pki.ParseAuthority(w.bundle.Certs.K8s.Crt, w.bundle.Certs.K8s.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	pair, err := authority.Issue(pki.Subject{CommonName: "admin", Organizations: []string{"system:masters"}})
	if err != nil {
		w.t.Fatal(err)
	}
	api, err := client.New(client.Options{
		Server: w.url(), CA: w.bundle.Certs.K8s.Crt, Cert: pair.Cert, Key: pair.Key, UserAgent: "test",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(api.Close)
	return api
}

// eventually polls until check returns nil.
func eventually(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	start := time.Now()
	for {
		err := check(ctx)
		if err == nil {
			t.Logf("%s after %s", what, time.Since(start).Round(10*time.Millisecond))
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func isTrue(what string, f func() bool) func(context.Context) error {
	return func(context.Context) error {
		if !f() {
			return errors.New("not yet: " + what)
		}
		return nil
	}
}

func node(ctx context.Context, api *client.Client, name string, check func(*corev1.Node) error) error {
	node, err := api.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return check(node)
}

func nodeReady(node *corev1.Node) error {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			if condition.Status == corev1.ConditionTrue {
				return nil
			}
			return fmt.Errorf("%s: %s: %s", condition.Status, condition.Reason, condition.Message)
		}
	}
	return errors.New("no Ready condition")
}

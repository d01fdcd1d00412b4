package kube_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	machinery "github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"go.yaml.in/yaml/v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/kube"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	dev "github.com/ichor-project/ichor/testsuite/devcloud/kube"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/gate"
)

// patience bounds waits that are expected to end; far above what they take.
const patience = 3 * time.Minute

// fast is a clock at which the stand-in's waits end at once.
type fast struct{}

func (fast) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
func (fast) Scale(d time.Duration) time.Duration              { return d / 60 }

// startAPI runs a real kube-apiserver with the keys of a bundle and returns its
// URL.
func startAPI(t *testing.T, bundle secrets.Value) string {
	t.Helper()
	tools, err := filepath.Abs("../../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	if set := os.Getenv("ICHOR_TOOLS_DIR"); set != "" {
		tools = set
	}
	if _, err := os.Stat(filepath.Join(tools, "kube-apiserver")); err != nil {
		t.Fatalf("%v; build the tools with: make tools", err)
	}
	var keys machinery.Bundle
	if err := yaml.Unmarshal(bundle.Reveal(), &keys); err != nil {
		t.Fatal(err)
	}
	runner := dev.New(dev.Options{ToolsDir: tools, DataDir: t.TempDir(), Clock: fast{}, Log: slog.New(slog.DiscardHandler)})
	var plane guest.RunningControlPlane
	started := make(chan struct{})
	front, err := gate.Listen(netip.MustParseAddr("127.0.0.1"), func() (netip.AddrPort, bool) {
		select {
		case <-started:
			return plane.Backend(), plane.Ready()
		default:
			return netip.AddrPort{}, false
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(front.Close(), runner.Close()); err != nil {
			t.Error(err)
		}
	})
	url := "https://" + front.Addr().String()
	plane, err = runner.StartControlPlane(t.Context(), guest.ControlPlane{
		EtcdCluster: "etcd-1", ClusterName: "demo", NodeName: "demo-cp-1", KubernetesVersion: "v1.36.3",
		Listen: netip.MustParseAddr("127.0.0.1"), Endpoint: url,
		CACert: keys.Certs.K8s.Crt, CAKey: keys.Certs.K8s.Key,
		AggregatorCACert: keys.Certs.K8sAggregator.Crt, AggregatorCAKey: keys.Certs.K8sAggregator.Key,
		ServiceAccount: keys.Certs.K8sServiceAccount.Key, BootstrapToken: keys.Secrets.BootstrapToken,
		PodCIDRs: []string{"10.244.0.0/16"}, ServiceCIDRs: []string{"10.96.0.0/12"}, DefaultCNI: true, Exclusive: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	return url
}

// eventually polls until the error is nil; errors of other kinds than the
// expected end it.
func eventually(t *testing.T, what string, f func() error, kinds ...fault.Kind) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return
		}
		if !fault.Is(err, kinds...) {
			t.Fatalf("%s: %s: %v", what, fault.KindOf(err), err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

const manifest = `apiVersion: example.com/v1
kind: Widget
metadata: {name: w, namespace: late}
spec: {size: 3}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: late}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: c, image: example.com/agent:1}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
apiVersion: v1
kind: Namespace
metadata: {name: late}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties: {spec: {type: object, properties: {size: {type: integer}}}}
`

// TestRealAPI runs everything against a real kube-apiserver, with a kubeconfig
// that was minted from the PKI bundle.
func TestRealAPI(t *testing.T) {
	ctx := t.Context()
	bundle, err := talos.NewBundle("v1.13", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	url := startAPI(t, bundle)
	kubeconfig, err := talos.Kubeconfig(talos.Access{Bundle: bundle, Cluster: "demo", TTL: time.Hour, Now: time.Now()}, url)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kube.New(kubeconfig, kube.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	eventually(t, "ready", func() error { return c.Ready(ctx) }, fault.NotYet, fault.Unavailable)

	rest, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	judge, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("apply", func(t *testing.T) {
		eventually(t, "apply", func() error { return c.Apply(ctx, "all", []byte(manifest)) }, fault.NotYet)
		before, err := judge.AppsV1().DaemonSets("late").Get(ctx, "agent", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Apply(ctx, "all", []byte(manifest)); err != nil {
			t.Fatal(err)
		}
		after, err := judge.AppsV1().DaemonSets("late").Get(ctx, "agent", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if before.Generation != after.Generation {
			t.Errorf("a repeated apply changed the object: generation %d, then %d", before.Generation, after.Generation)
		}
		if _, err := judge.CoreV1().ConfigMaps("default").Get(ctx, "settings", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})

	t.Run("apply refuses", func(t *testing.T) {
		const canary = "s3cr3t c4n4ry"
		err := c.Apply(ctx, "bad", []byte("apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\nstringData: {'"+canary+"': x}\n"))
		if fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), `"`+canary) {
			t.Errorf("%s: %v", fault.KindOf(err), err)
		}
		err = c.Apply(ctx, "homeless", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: nowhere}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: after}\n"))
		if fault.KindOf(err) != fault.NotYet || !strings.Contains(err.Error(), "1 of 2 objects wait") {
			t.Errorf("%s: %v", fault.KindOf(err), err)
		}
		if _, err := judge.CoreV1().ConfigMaps("default").Get(ctx, "after", metav1.GetOptions{}); err != nil {
			t.Errorf("an object that waits held up another: %v", err)
		}
		err = c.Apply(ctx, "strange", []byte("apiVersion: nosuch.example.com/v1\nkind: Thing\nmetadata: {name: x}\n"))
		if fault.KindOf(err) != fault.NotYet {
			t.Errorf("%s: %v", fault.KindOf(err), err)
		}
	})

	t.Run("secrets", func(t *testing.T) {
		for _, kv := range [][2]string{{"access-token", "one\n"}, {"url", "two"}, {"access-token", "three"}, {"access-token", "three"}} {
			if err := c.EnsureSecret(ctx, "cloud-system", "cloudscale", kv[0], secrets.NewValue([]byte(kv[1]))); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.EnsureSecret(ctx, "kube-system", "cloudscale", "access-token", secrets.NewValue([]byte("one\n"))); err != nil {
			t.Fatal(err)
		}
		got, err := judge.CoreV1().Secrets("cloud-system").Get(ctx, "cloudscale", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string][]byte{"access-token": []byte("three"), "url": []byte("two")}, got.Data); diff != "" {
			t.Error(diff)
		}
	})

	t.Run("nodes", func(t *testing.T) {
		for _, name := range []string{"b", "a"} {
			if _, err := judge.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{ProviderID: "cloudscale://" + name}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Cordon(ctx, "a", true); err != nil {
			t.Fatal(err)
		}
		nodes, err := c.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range nodes {
			if n.Name == "a" && !n.Unschedulable || n.Name == "b" && n.Unschedulable {
				t.Errorf("cordoned: %+v", n)
			}
			got = append(got, n.Name+" "+n.ProviderID)
		}
		if diff := cmp.Diff([]string{"a cloudscale://a", "b cloudscale://b"}, got); diff != "" {
			t.Error(diff)
		}
		if _, err := judge.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "nameless"}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"aws:///z/i-1", "aws:///z/i-1", "aws:///z/i-2"} { // the second and third change nothing
			if err := c.SetProviderID(ctx, "nameless", id); err != nil {
				t.Errorf("provider ID %s: %v", id, err)
			}
		}
		if n, err := c.Node(ctx, "nameless"); err != nil || n.ProviderID != "aws:///z/i-1" {
			t.Errorf("provider ID %q, %v", n.ProviderID, err)
		}
		if err := c.SetProviderID(ctx, "absent", "aws:///z/i-3"); fault.KindOf(err) != fault.NotFound {
			t.Errorf("provider ID of an absent node: %v", err)
		}
		for range 2 {
			if err := c.DeleteNode(ctx, "a"); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Cordon(ctx, "a", false); fault.KindOf(err) != fault.NotFound {
			t.Errorf("cordon of an absent node: %v", err)
		}
	})

	t.Run("drain", func(t *testing.T) { drains(t, c, judge) })
	t.Run("rounds", func(t *testing.T) { rounds(t, c, judge) })
	t.Run("PDB deadlock", func(t *testing.T) { budgets(t, c, judge) })
	t.Run("what an upgrade asks", func(t *testing.T) { asks(t, c, judge) })
	t.Run("bootstrap manifests pruned by surprise", func(t *testing.T) { bootstrap(t, c, judge) })
	t.Run("what Talos renders", func(t *testing.T) { talosManifests(t, c, judge) })

	t.Run("foreign bundle", func(t *testing.T) {
		other, err := talos.NewBundle("v1.13", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		kubeconfig, err := talos.Kubeconfig(talos.Access{Bundle: other, Cluster: "demo", TTL: time.Hour, Now: time.Now()}, url)
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := kube.New(kubeconfig, kube.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := stranger.Ready(ctx); fault.KindOf(err) != fault.Unauthorized {
			t.Errorf("%s: %v", fault.KindOf(err), err)
		}
	})
}

package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
)

// children are the processes that this one has started, by id.
func children(t *testing.T) map[int]string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]string{}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended since
		}
		head, tail, _ := strings.Cut(string(data), ") ")
		pid, name, _ := strings.Cut(head, " (")
		fields := strings.Fields(tail)
		if len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) {
			continue
		}
		id, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		found[id] = name
	}
	return found
}

func remember(t *testing.T, api *client.Client, name string) {
	t.Helper()
	eventually(t, "write "+name, func(ctx context.Context) error {
		_, err := api.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: name},
		}, metav1.CreateOptions{})
		return err
	})
}

func remembered(ctx context.Context, api *client.Client, name string) error {
	_, err := api.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
	return err
}

// controllersWork proves a working controller-manager: it gives each namespace
// its default service account.
func controllersWork(t *testing.T, api *client.Client, namespace string) {
	t.Helper()
	eventually(t, "controllers work", func(ctx context.Context) error {
		_, err := api.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
		if err == nil {
			return errors.New("just created")
		}
		_, err = api.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

func TestControlPlanesComeAndGo(t *testing.T) {
	w := newWorld(t, "")
	first := w.startPlane("cp-1")
	second := w.startPlane("cp-2", func(spec *guest.ControlPlane) { spec.Listen = netip.MustParseAddr("127.0.0.3") })
	eventually(t, "both ready", isTrue("ready", func() bool { return first.Ready() && second.Ready() }))
	if first.Backend().Addr().String() != "127.0.0.1" || second.Backend().Addr().String() != "127.0.0.3" {
		t.Errorf("backends %s and %s are not where they were asked to be", first.Backend(), second.Backend())
	}
	api := w.admin()
	remember(t, api, "one")

	first.Stop()
	if first.Ready() {
		t.Error("stopped and ready")
	}
	eventually(t, "the other one answers", func(ctx context.Context) error { return remembered(ctx, api, "one") })
	controllersWork(t, api, "after-one-stopped")

	second.SetQuorum(false)
	if second.Ready() {
		t.Error("ready without a quorum")
	}
	w.balance(always{second}) // a TCP check still succeeds
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	if err := remembered(ctx, api, "one"); err == nil {
		t.Error("answers without a quorum")
	}
	cancel()
	second.SetQuorum(true)
	eventually(t, "answers with a quorum", func(ctx context.Context) error { return remembered(ctx, api, "one") })
	controllersWork(t, api, "after-quorum")

	second.Stop()
	second.Stop()
	if left := children(t); len(left) > 0 {
		t.Errorf("processes are left when the last node has stopped: %v", left)
	}
	third := w.startPlane("cp-1")
	w.balance(third)
	eventually(t, "data survived", func(ctx context.Context) error { return remembered(ctx, api, "one") })
	controllersWork(t, api, "after-restart")

	w.runner.DropCluster("etcd-1")
	if left := children(t); len(left) > 0 {
		t.Errorf("processes are left of a dropped cluster: %v", left)
	}
	fourth := w.startPlane("cp-1")
	w.balance(fourth)
	eventually(t, "data is gone", func(ctx context.Context) error {
		err := remembered(ctx, api, "one")
		if err == nil {
			return errors.New("still there")
		}
		return notFound(err)
	})
}

// always is a backend that the load balancer takes for healthy.
type always struct{ guest.RunningControlPlane }

func (always) Ready() bool { return true }

func TestSharedAPIServer(t *testing.T) {
	w := newWorld(t, "")
	shared := func(listen string) func(*guest.ControlPlane) {
		return func(spec *guest.ControlPlane) {
			spec.Exclusive, spec.Listen = false, netip.MustParseAddr(listen)
		}
	}
	first := w.startPlane("cp-1", shared("127.0.0.1"))
	second := w.startPlane("cp-2", shared("127.0.0.4"))
	eventually(t, "ready", isTrue("ready", func() bool { return first.Ready() && second.Ready() }))
	count := 0
	for _, name := range children(t) {
		if name == "kube-apiserver" {
			count++
		}
	}
	if count != 1 {
		t.Errorf("%d API servers run, want 1", count)
	}
	// The certificate was extended for the second node.
	k := w.runner.StartKubelet(w.kubeletSpec("worker-1", func(spec *guest.Kubelet) {
		spec.Endpoint = fmt.Sprintf("https://%s", second.Backend())
	}))
	// Ready, too: Talos' own network needs no manifest.
	eventually(t, "joined over the second node", func(context.Context) error {
		if !k.Ready() {
			return errors.New(k.LastError())
		}
		return nil
	})
	first.Stop()
	w.balance(second)
	remember(t, w.admin(), "one")
}

// Every process is killed at once; the cluster comes back at the same address
// with what it knew.
func TestProcessesAreRestarted(t *testing.T) {
	w := newWorld(t, "")
	plane := w.startPlane("cp-1")
	eventually(t, "ready", isTrue("ready", plane.Ready))
	api, backend := w.admin(), plane.Backend()
	remember(t, api, "one")
	controllersWork(t, api, "before")
	killed := 0
	for pid := range children(t) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed != 4 {
		t.Errorf("killed %d processes, want kine, kube-apiserver, kube-controller-manager and kube-scheduler", killed)
	}
	eventually(t, "noticed", isTrue("not ready", func() bool { return !plane.Ready() }))
	eventually(t, "ready again", isTrue("ready", plane.Ready))
	if plane.Backend() != backend {
		t.Errorf("moved from %s to %s", backend, plane.Backend())
	}
	eventually(t, "data survived", func(ctx context.Context) error { return remembered(ctx, api, "one") })
	controllersWork(t, api, "after")
}

func TestCloseWhileStarting(t *testing.T) {
	w := newWorld(t, "")
	w.startPlane("cp-1")
	k := w.runner.StartKubelet(w.kubeletSpec("cp-1", controlPlane))
	if err := w.runner.Close(); err != nil {
		t.Fatal(err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	if k.Registered() || k.Ready() {
		t.Error("joined")
	}
}

func TestMissingToolsAreNamed(t *testing.T) {
	w := newWorld(t, "")
	runner := kube.New(kube.Options{ToolsDir: t.TempDir(), DataDir: t.TempDir()})
	_, err := runner.StartControlPlane(t.Context(), w.planeSpec("cp-1"))
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver") {
		t.Errorf("got %v, want the missing programs", err)
	}
	if err := runner.Close(); err != nil {
		t.Error(err)
	}
}

func TestControlPlaneIsRefused(t *testing.T) {
	w := newWorld(t, "")
	foreign := newBundle(t)
	for name, test := range map[string]struct {
		change func(*guest.ControlPlane)
		want   string
	}{
		"no etcd cluster":       {func(s *guest.ControlPlane) { s.EtcdCluster = "" }, "etcd cluster"},
		"no node name":          {func(s *guest.ControlPlane) { s.NodeName = "" }, "of its node"},
		"foreign key":           {func(s *guest.ControlPlane) { s.CAKey = foreign.Certs.K8s.Key }, "does not belong"},
		"no aggregator CA":      {func(s *guest.ControlPlane) { s.AggregatorCACert = nil }, "aggregator CA"},
		"no service account":    {func(s *guest.ControlPlane) { s.ServiceAccount = nil }, "service account key"},
		"endpoint without host": {func(s *guest.ControlPlane) { s.Endpoint = "10.0.0.1:6443" }, "endpoint"},
		"broken service CIDR":   {func(s *guest.ControlPlane) { s.ServiceCIDRs = []string{"10.96.0.0"} }, "service CIDR"},
		"address of elsewhere":  {func(s *guest.ControlPlane) { s.Listen = netip.MustParseAddr("192.0.2.7") }, "192.0.2.7"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.runner.StartControlPlane(t.Context(), w.planeSpec("cp-1", test.change))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE KEY-") {
				t.Error("the error shows a key")
			}
			if left := children(t); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
		})
	}
}

func TestClosedRunnerStartsNothing(t *testing.T) {
	w := newWorld(t, "")
	if err := w.runner.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.runner.StartControlPlane(t.Context(), w.planeSpec("cp-1")); err == nil {
		t.Error("started a control plane")
	}
	k := w.runner.StartKubelet(w.kubeletSpec("worker-1"))
	if k.Registered() || k.Ready() {
		t.Error("started a kubelet")
	}
	k.Stop()
}

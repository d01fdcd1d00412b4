package machines_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudscale-ch/cloudscale-go-sdk/v8"
	machineapi "github.com/siderolabs/talos/pkg/machinery/api/machine"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/machines"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience covers the start of real Kubernetes programs on a busy machine.
const patience = 3 * time.Minute

const emptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"

// site is a devcloud whose servers are Talos machines.
type site struct {
	t *testing.T
	*devcloud.Devcloud
	sdk    *cloudscale.Client
	subnet string
	net    string
	image  string
}

func start(t *testing.T) *site {
	t.Helper()
	tools, err := filepath.Abs("../../../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tools, "kube-apiserver")); err != nil {
		t.Fatalf("the Kubernetes programs are missing, build them with `make tools`: %v", err)
	}
	d, err := devcloud.Start(t.Context(), devcloud.Options{
		Speed: 60, LoopbackPrefix: "127.204", NewGuests: machines.New(machines.Options{ToolsDir: tools, DataDir: t.TempDir()}),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		if left := children(t); len(left) > 0 {
			t.Errorf("programs are left running: %v", left)
		}
	})
	t.Setenv("CLOUDSCALE_API_URL", d.URL())
	s := &site{t: t, Devcloud: d, sdk: cloudscale.NewClient(client)}
	s.sdk.AuthToken = "any"
	return s
}

// children returns the programs that this one has started and not yet ended.
func children(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Fatalf("no processes found: %v", err)
	}
	var out []string
	for _, f := range stats {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state ppid …; the name may contain anything but is last to close.
		text := string(data)
		i := strings.LastIndex(text, ")")
		if rest := strings.Fields(text[i+1:]); len(rest) > 1 && rest[1] == strconv.Itoa(os.Getpid()) {
			out = append(out, text[:i+1])
		}
	}
	return out
}

func (s *site) eventually(what string, ok func(context.Context) error) {
	s.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		err = ok(ctx)
		cancel()
		if err == nil {
			return
		}
	}
	for _, v := range s.World().Servers() {
		lines, errLog := s.World().Console(v.UUID)
		s.t.Logf("console of %s (%v):\n%s", v.Name, errLog, strings.Join(lines, "\n"))
	}
	s.t.Fatalf("%s: %v", what, err)
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// infra makes network, image and load balancer, and returns the balancer's
// public address and its pool.
func (s *site) infra() (netip.Addr, string) {
	s.t.Helper()
	ctx, no := s.t.Context(), false
	n := must[*cloudscale.Network](s.t)(s.sdk.Networks.Create(ctx, &cloudscale.NetworkCreateRequest{Name: "net", AutoCreateIPV4Subnet: &no}))
	sub := must[*cloudscale.Subnet](s.t)(s.sdk.Subnets.Create(ctx, &cloudscale.SubnetCreateRequest{Network: n.UUID, CIDR: "10.5.0.0/24"}))
	s.net, s.subnet = n.UUID, sub.UUID
	imp := must[*cloudscale.CustomImageImport](s.t)(s.sdk.CustomImageImports.Create(ctx, &cloudscale.CustomImageImportRequest{
		URL: s.FactoryURL() + "image/" + emptySchematic + "/v1.13.5/openstack-amd64.raw", Name: "talos", SourceFormat: "raw",
		UserDataHandling: "pass-through", FirmwareType: "uefi",
	}))
	s.image = imp.CustomImage.UUID
	lb := must[*cloudscale.LoadBalancer](s.t)(s.sdk.LoadBalancers.Create(ctx, &cloudscale.LoadBalancerRequest{Name: "api", Flavor: "lb-standard"}))
	s.eventually("balancer and image", func(ctx context.Context) error {
		v, errLB := s.sdk.LoadBalancers.Get(ctx, lb.UUID)
		i, errImage := s.sdk.CustomImageImports.Get(ctx, imp.UUID)
		if err := errors.Join(errLB, errImage); err != nil {
			return err
		}
		if v.Status != "running" || i.Status != "success" {
			return fmt.Errorf("balancer %s, import %s", v.Status, i.Status)
		}
		return nil
	})
	pool := must[*cloudscale.LoadBalancerPool](s.t)(s.sdk.LoadBalancerPools.Create(ctx, &cloudscale.LoadBalancerPoolRequest{
		Name: "api", LoadBalancer: lb.UUID, Algorithm: "round_robin", Protocol: "tcp",
	}))
	must[*cloudscale.LoadBalancerListener](s.t)(s.sdk.LoadBalancerListeners.Create(ctx, &cloudscale.LoadBalancerListenerRequest{
		Name: "api", Pool: pool.UUID, Protocol: "tcp", ProtocolPort: 6443,
	}))
	must[*cloudscale.LoadBalancerHealthMonitor](s.t)(s.sdk.LoadBalancerHealthMonitors.Create(ctx, &cloudscale.LoadBalancerHealthMonitorRequest{
		Pool: pool.UUID, Type: "tcp",
	}))
	return netip.MustParseAddr(lb.VIPAddresses[0].Address), pool.UUID
}

func (s *site) server(name string, userData []byte) *cloudscale.Server {
	s.t.Helper()
	return must[*cloudscale.Server](s.t)(s.sdk.Servers.Create(s.t.Context(), &cloudscale.ServerRequest{
		Name: name, Flavor: "flex-8-4", Image: s.image, VolumeSizeGB: 20, SSHKeys: []string{}, UserData: string(userData),
		Interfaces: &[]cloudscale.InterfaceRequest{{Network: "public"}, {Addresses: &[]cloudscale.AddressRequest{{Subnet: s.subnet}}}},
	}))
}

// From an empty account to nodes that are Ready behind the load balancer, with
// nothing but the public APIs of cloudscale, Talos and Kubernetes.
func TestClusterThroughTheLoadBalancer(t *testing.T) {
	s := start(t)
	vip, pool := s.infra()
	p := nodetest.NewPKI(t, "v1.13")
	endpoint := fmt.Sprintf("cluster: {controlPlane: {endpoint: 'https://%s:6443'}}", vip)
	cp := s.server("cp-0", p.ControlPlane(endpoint))
	worker := s.server("worker-0", p.Worker(endpoint))
	member := must[*cloudscale.LoadBalancerPoolMember](t)(s.sdk.LoadBalancerPoolMembers.Create(t.Context(), pool, &cloudscale.LoadBalancerPoolMemberRequest{
		Name: "cp-0", ProtocolPort: 6443, Address: cp.Interfaces[1].Addresses[0].Address, Subnet: s.subnet,
	}))
	node := p.Dial(netip.MustParseAddr(cp.Interfaces[0].Addresses[0].Address))
	s.eventually("bootstrap", func(ctx context.Context) error { return node.Bootstrap(ctx, &machineapi.BootstrapRequest{}) })
	s.eventually("member up", func(ctx context.Context) error {
		m, err := s.sdk.LoadBalancerPoolMembers.Get(ctx, pool, member.UUID)
		if err == nil && m.MonitorStatus != "up" {
			err = fmt.Errorf("monitor status %s", m.MonitorStatus)
		}
		return err
	})
	raw := must[[]byte](t)(node.Kubeconfig(t.Context()))
	conf := must[clientcmd.ClientConfig](t)(clientcmd.NewClientConfigFromBytes(raw))
	rest, err := conf.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("https://%s:6443", vip); rest.Host != want {
		t.Fatalf("kubeconfig points to %s, want %s", rest.Host, want)
	}
	rest.Timeout = 10 * time.Second
	api := must[*kubernetes.Clientset](t)(kubernetes.NewForConfig(rest))
	s.eventually("nodes ready", func(ctx context.Context) error { return nodesReady(ctx, api, 2) })
	if err := send(t.Context(), http.MethodGet, s.URL()+"_devcloud/guests/"+worker.UUID+"/faults", "", http.StatusOK); err != nil {
		t.Error(err)
	}
	// The load balancer notices that the control plane has gone.
	if err := s.sdk.Servers.Stop(t.Context(), cp.UUID); err != nil {
		t.Fatal(err)
	}
	s.eventually("balancer in error", func(ctx context.Context) error {
		l, err := s.sdk.LoadBalancers.List(ctx)
		if err == nil && (len(l) != 1 || l[0].Status != "error") {
			err = fmt.Errorf("balancers %+v", l)
		}
		return err
	})
}

// ingress blocks everything but the Talos API for whoever runs this test, and
// what the extra rule lets in.
func ingress(extra string) string {
	return `apiVersion: v1alpha1
kind: NetworkDefaultActionConfig
ingress: block
---
apiVersion: v1alpha1
kind: NetworkRuleConfig
name: talos
portSelector: {ports: [50000], protocol: tcp}
ingress: [{subnet: 127.0.0.0/24}]
` + extra
}

const kubernetesRule = `---
apiVersion: v1alpha1
kind: NetworkRuleConfig
name: kubernetes
portSelector: {ports: [6443], protocol: tcp}
ingress: [{subnet: 10.5.0.0/24}]
`

// Members see a load balancer as an address of their own subnet: without a rule
// for it they stay down although the API server runs.
func TestIngressRulesKeepTheLoadBalancerOut(t *testing.T) {
	s := start(t)
	vip, pool := s.infra()
	p := nodetest.NewPKI(t, "v1.13")
	endpoint := fmt.Sprintf("cluster: {controlPlane: {endpoint: 'https://%s:6443'}}", vip)
	cp := s.server("cp-0", p.ControlPlane(endpoint, ingress("")))
	member := must[*cloudscale.LoadBalancerPoolMember](t)(s.sdk.LoadBalancerPoolMembers.Create(t.Context(), pool, &cloudscale.LoadBalancerPoolMemberRequest{
		Name: "cp-0", ProtocolPort: 6443, Address: cp.Interfaces[1].Addresses[0].Address, Subnet: s.subnet,
	}))
	node := p.Dial(netip.MustParseAddr(cp.Interfaces[0].Addresses[0].Address))
	s.eventually("bootstrap", func(ctx context.Context) error { return node.Bootstrap(ctx, &machineapi.BootstrapRequest{}) })
	status := func(want string) {
		t.Helper()
		s.eventually("member "+want, func(ctx context.Context) error {
			m, err := s.sdk.LoadBalancerPoolMembers.Get(ctx, pool, member.UUID)
			if err == nil && m.MonitorStatus != want {
				err = fmt.Errorf("monitor status %s", m.MonitorStatus)
			}
			return err
		})
	}
	s.eventually("API server", func(context.Context) error {
		lines, err := s.World().Console(cp.UUID)
		if log := strings.Join(lines, "\n"); err == nil && !strings.Contains(log, "[kube] control plane") {
			err = errors.New(log)
		}
		return err
	})
	status("down")
	if _, err := node.ApplyConfiguration(t.Context(), &machineapi.ApplyConfigurationRequest{
		Data: p.ControlPlane(endpoint, ingress(kubernetesRule)), Mode: machineapi.ApplyConfigurationRequest_NO_REBOOT,
	}); err != nil {
		t.Fatal(err)
	}
	status("up")
}

// A machine that was born broken says why on its console, and the cloud keeps
// calling it running.
func TestDefects(t *testing.T) {
	s := start(t)
	s.infra()
	p := nodetest.NewPKI(t, "v1.13")
	if err := send(t.Context(), http.MethodPost, s.URL()+"_devcloud/guests/defects", `{"name": "dark", "faults": {"neverBoots": true}}`, http.StatusCreated); err != nil {
		t.Fatal(err)
	}
	dark := s.server("dark-0", p.ControlPlane())
	s.eventually("the first has a machine", func(ctx context.Context) error {
		return send(ctx, http.MethodGet, s.URL()+"_devcloud/guests/"+dark.UUID+"/faults", "", http.StatusOK)
	})
	fine := s.server("dark-1", p.ControlPlane()) // the defect has been used up
	s.eventually("the second boots", func(ctx context.Context) error {
		c := p.Dial(netip.MustParseAddr(fine.Interfaces[0].Addresses[0].Address))
		_, err := c.Version(ctx)
		return err
	})
	if v, err := s.sdk.Servers.Get(t.Context(), dark.UUID); err != nil || v.Status != "running" {
		t.Errorf("dark server: %+v, %v", v, err)
	}
	for path, status := range map[string]int{fine.UUID: http.StatusOK, "nothing": http.StatusNotFound} {
		if err := send(t.Context(), http.MethodPut, s.URL()+"_devcloud/guests/"+path+"/faults", `{"neverJoins": true}`, status); err != nil {
			t.Error(err)
		}
	}
	if err := send(t.Context(), http.MethodPut, s.URL()+"_devcloud/guests/"+fine.UUID+"/faults", `{"nonsense": true}`, http.StatusBadRequest); err != nil {
		t.Error(err)
	}
}

func nodesReady(ctx context.Context, api kubernetes.Interface, want int) error {
	nodes, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	ready := 0
	for _, n := range nodes.Items {
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	if ready != want {
		return fmt.Errorf("%d of %d nodes are ready, want %d", ready, len(nodes.Items), want)
	}
	return nil
}

func send(ctx context.Context, method, url, body string, want int) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		return err
	}
	if res.StatusCode != want {
		return fmt.Errorf("%s %s: %s: %s", method, url, res.Status, answer)
	}
	return nil
}

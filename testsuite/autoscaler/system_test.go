package autoscaler

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// speed is how many times faster than real the cloud runs.
const speed = 40

// The autoscaler's times, and the group's own deadlines below them. A machine
// needs three seconds here, and more when the host is busy.
const (
	caProvision = 75 * time.Second
	// provision is shared by a machine and its replacement.
	provision = 50 * time.Second
	// caBackoff is the first pause, which doubles once.
	caBackoff = 10 * time.Second
)

// settings are the worker's for this suite.
func settings() map[string]string {
	all := stack.Scaled(speed)
	maps.Copy(all, map[string]string{
		"ICHOR_PROVISION_DEADLINE": provision.String(),
		"ICHOR_REPLACEMENTS":       "1",
		"ICHOR_GROUP_BACKOFF":      "4s",
		"ICHOR_DRAIN_DEADLINE":     "20s",
		"ICHOR_RECONCILE_INTERVAL": "10s",
	})
	return all
}

// system is a whole Ichor with a cluster that an autoscaler watches.
type system struct {
	*stack.Stack
	t        *testing.T
	whole    *testing.T // for what outlives a subtest
	dir      string
	name     string // of the cluster
	temporal client.Client
	kube     kubernetes.Interface

	trust *certs.Authority
	tls   certs.Files // of the provider
	// listen is the provider's address, the same after each restart.
	listen string
	// outage are the times of TestOutages.
	outage times
	*processes
}

// processes are what tests stop and start.
type processes struct {
	workers    []*proc.Process
	provider   *proc.Process
	autoscaler *proc.Process
	proxy      *proxy.Proxy
}

// start brings up a cluster with one control plane node and the groups, and the
// provider behind the proxy; the autoscaler is not started yet.
func start(t *testing.T, groups []cluster.NodeGroup, override map[string]string) *system {
	t.Helper()
	s := startCluster(t, groups, override)
	s.startProvider()
	s.startProxy()
	return s
}

// startCluster brings up a cluster and nothing that scales it.
func startCluster(t *testing.T, groups []cluster.NodeGroup, override map[string]string) *system {
	t.Helper()
	t.Parallel()
	enter(t)
	dir := t.TempDir()
	all := settings()
	maps.Copy(all, override)
	st, err := stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: dir, Speed: speed, UIPort: -1, Settings: all,
	})
	s := &system{Stack: st, t: t, whole: t, dir: dir, name: "ca", processes: &processes{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the logs:\n%s", st.Tail(15))
			for _, name := range []string{"provider", "autoscaler"} {
				t.Logf("--- %s\n%s", name, proc.Tail(st.Log(name), 30))
			}
		}
		if err := st.Close(); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	s.must(err)
	s.temporal, err = s.Dial(t.Context())
	s.must(err)
	t.Cleanup(s.temporal.Close)
	s.startWorker()

	spec, err := chosen.Spec(root, s.name)
	s.must(err)
	spec = chosen.Small(spec)
	flavor := spec.Spec.NodeGroups[0].Flavor // of four CPUs
	spec.Spec.NodeGroups = slices.Clone(groups)
	for i := range spec.Spec.NodeGroups {
		spec.Spec.NodeGroups[i].Flavor = flavor
	}
	file, err := s.WriteSpec(spec)
	s.must(err)
	s.ichor("provision", "-f", file)
	kubeconfig := s.kubeconfig()
	s.ichor("kubeconfig", s.name, "--write", kubeconfig)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	s.must(err)
	config.QPS, config.Burst = 200, 400
	s.kube, err = kubernetes.NewForConfig(config)
	s.must(err)

	s.trust, err = certs.NewAuthority("autoscaling")
	s.must(err)
	s.tls = s.issue("provider", "provider", "127.0.0.1", "localhost")
	s.listen = s.address()
	return s
}

// on makes the helpers report to a subtest.
func (s *system) on(t *testing.T) *system {
	sub := *s
	sub.t = t
	return &sub
}

func (s *system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) kubeconfig() string { return filepath.Join(s.dir, "kubeconfig") }

// ctx lives as long as the test, also in its clean-up.
func (s *system) ctx() context.Context { return context.WithoutCancel(s.t.Context()) }

// id is a group as the autoscaler knows it.
func (s *system) id(group string) string { return s.name + "/" + group }

func (s *system) address() string {
	s.t.Helper()
	address, err := proc.FreeAddress()
	s.must(err)
	return address
}

func (s *system) issue(folder, name string, hosts ...string) certs.Files {
	s.t.Helper()
	pair, err := s.trust.Issue(name, hosts...)
	s.must(err)
	f, err := s.trust.Write(filepath.Join(s.dir, "tls", folder), pair)
	s.must(err)
	return f
}

func (s *system) startWorker() {
	s.t.Helper()
	w, err := s.StartWorker(s.ctx())
	s.must(err)
	s.workers = append(s.workers, w)
}

// startProvider runs the provider on its address and returns when it is ready.
func (s *system) startProvider(args ...string) {
	s.t.Helper()
	health := s.address()
	p, err := proc.Start(proc.Spec{
		Name: "ichor-grpcprovider", Path: filepath.Join(bin, "ichor-grpcprovider"), Log: s.Log("provider"), Env: s.Env(),
		Args: append([]string{
			"--listen", s.listen, "--cluster", s.name, "--metrics-listen", health,
			"--tls-cert", s.tls.Cert, "--tls-key", s.tls.Key, "--tls-client-ca", s.tls.CA,
			"--request-rate", "50", "--log-level", "debug",
		}, args...),
	})
	s.must(err)
	s.provider = p
	s.whole.Cleanup(func() { s.noError(p.Stop()) })
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	s.must(p.WaitReady(ctx, 50*time.Millisecond, func(ctx context.Context) error { return httpOK(ctx, "http://"+health+"/readyz") }))
}

func httpOK(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}

func (s *system) noError(err error) {
	s.whole.Helper()
	if err != nil {
		s.whole.Error(err)
	}
}

// startProxy puts the recording proxy before the provider.
func (s *system) startProxy() {
	s.t.Helper()
	pair, err := s.trust.Issue("proxy", "127.0.0.1")
	s.must(err)
	config, err := s.trust.Config(pair)
	s.must(err)
	client := config.Clone()
	client.ServerName = "127.0.0.1"
	s.proxy, err = proxy.Start(s.t.Context(), proxy.Options{Backend: s.listen, Server: config, Client: client})
	s.must(err)
	p := s.proxy
	s.whole.Cleanup(func() { s.noError(p.Close()) })
}

// cloudConfig writes the autoscaler's --cloud-config for an address.
func (s *system) cloudConfig(address string) string {
	s.t.Helper()
	return s.cloudConfigIn("autoscaler", address)
}

// cloudConfigIn does so in a folder of its own.
func (s *system) cloudConfigIn(folder, address string) string {
	s.t.Helper()
	f := s.issue(folder, "autoscaler")
	body, err := json.Marshal(map[string]string{"address": address, "cert": f.Cert, "key": f.Key, "cacert": f.CA})
	s.must(err)
	return s.file(filepath.Join("tls", folder, "cloud-config.json"), body)
}

// autoscalerArgs are the flags of the autoscaler with shortened times.
func (s *system) autoscalerArgs(address string) []string {
	return []string{
		"--kubeconfig=" + s.kubeconfig(), "--cloud-provider=externalgrpc", "--cloud-config=" + s.cloudConfig(address),
		"--leader-elect=false", "--address=" + s.address(), "--namespace=kube-system", "--v=4",
		"--scan-interval=1s", "--expander=least-waste",
		"--scale-down-delay-after-add=1s", "--scale-down-delay-after-delete=0s", "--scale-down-delay-after-failure=2s",
		"--scale-down-unneeded-time=5s", "--scale-down-unready-time=30s",
		"--node-delete-delay-after-taint=0s", "--unremovable-node-recheck-timeout=1s",
		"--initial-node-group-backoff-duration=" + caBackoff.String(), "--max-node-group-backoff-duration=" + (2 * caBackoff).String(),
		"--node-group-backoff-reset-timeout=10m", "--max-node-provision-time=" + caProvision.String(),
		"--ok-total-unready-count=100", "--skip-nodes-with-system-pods=false",
		"--startup-taint=node.cloudprovider.kubernetes.io/uninitialized",
		"--kube-client-qps=100", "--kube-client-burst=200",
	}
}

// startAutoscaler runs the real autoscaler against the proxy.
func (s *system) startAutoscaler(w Wire, args ...string) *proc.Process {
	s.t.Helper()
	p, err := proc.Start(proc.Spec{
		Name: string(w), Path: filepath.Join(bin, "tools", string(w)), Log: s.Log("autoscaler"),
		Args: append(s.autoscalerArgs(s.proxy.Address), args...),
	})
	s.must(err)
	s.autoscaler = p
	s.whole.Cleanup(func() { s.noError(p.Stop()) })
	return p
}

// ichor runs the command line, which must succeed.
func (s *system) ichor(args ...string) stack.Result {
	s.t.Helper()
	r, err := s.Ichor(s.t.Context(), args...)
	s.must(err)
	if r.Code != 0 {
		s.t.Fatalf("ichor %s: %s", strings.Join(args, " "), r)
	}
	return r
}

// group asks the entity; a worker has to run.
func (s *system) group(name string) workflows.GroupStatus {
	s.t.Helper()
	v, err := s.temporal.QueryWorkflow(s.ctx(), cluster.GroupID(s.name, name), "", workflows.QueryGroup)
	s.must(err)
	var g workflows.GroupStatus
	s.must(v.Get(&g))
	return g
}

// patience bounds every wait; it only matters when something is broken.
const patience = 3 * time.Minute

// until polls for a state that is bound to come.
func (s *system) until(what string, ok func() bool) {
	s.t.Helper()
	s.within(patience+s.outage.limit+s.outage.backoff, what, ok)
}

func (s *system) within(d time.Duration, what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("it never happened: %s", what)
		}
	}
}

func (s *system) file(name string, body []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	s.must(os.WriteFile(path, body, 0o600))
	return path
}

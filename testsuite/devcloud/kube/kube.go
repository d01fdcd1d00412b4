// Package kube gives devcloud's clusters a real Kubernetes: kube-apiserver,
// kube-controller-manager and kube-scheduler on kine, run as processes with the
// keys and names of the machine configs, and kubelets that join them over the
// network as real ones do.
//
// What is real: every API object and rule, certificates, bootstrap tokens, the
// Node authorizer and NodeRestriction, scheduling, controllers. What is played:
// containers. A kubelet here reports pods as running that nobody runs.
//
// One process of kine, controller-manager and scheduler serves a whole cluster;
// each control plane node has its own kube-apiserver. There is one version of the
// programs: they emulate the minor version that the machine configs name, the
// API server of each node its own, the controllers the oldest of these. In /version
// such a server says so (emulationMinor); minor and gitVersion stay the program's.
// The exact version that a node was told is on its static pods.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/kubelet"
)

// Options says where things are.
type Options struct {
	// ToolsDir holds kine, kube-apiserver, kube-controller-manager and
	// kube-scheduler.
	ToolsDir string
	// DataDir gets one folder per etcd cluster, with its database, keys and logs.
	DataDir string
	// Clock scales the times after which a silent node is NotReady and its pods
	// are evicted.
	Clock guest.Clock
	// CloudURL is where the cloud controller finds the cloud's API if its
	// manifest names none.
	CloudURL string
	// AWS is where the vendor's cloud controller finds its account, which runs as a
	// process of its own for clusters there.
	AWS AWS
	// Log gets one line per event of interest; nil discards.
	Log *slog.Logger
}

// Runner implements guest.Kubernetes.
type Runner struct {
	opts Options
	log  *slog.Logger
	// tempo holds the times derived from the clock.
	tempo tempo
	// programs is the version of the Kubernetes programs.
	programs func() (minor, error)

	mu       sync.Mutex
	closed   bool
	clusters map[string]*cluster
	kubelets map[*kubelet.Kubelet]struct{}
}

var _ guest.Kubernetes = (*Runner)(nil)

// New makes a Runner that runs nothing yet.
func New(opts Options) *Runner {
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// The processes run in folders of their own.
	for _, dir := range []*string{&opts.ToolsDir, &opts.DataDir} {
		if absolute, err := filepath.Abs(*dir); err == nil {
			*dir = absolute
		}
	}
	r := &Runner{
		opts: opts, log: log, tempo: newTempo(opts.Clock),
		clusters: map[string]*cluster{}, kubelets: map[*kubelet.Kubelet]struct{}{},
	}
	r.programs = sync.OnceValues(func() (minor, error) {
		return askVersion(context.Background(), r.tool("kube-apiserver"))
	})
	return r
}

// StartControlPlane implements guest.Kubernetes.
func (r *Runner) StartControlPlane(ctx context.Context, spec guest.ControlPlane) (guest.RunningControlPlane, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if spec.EtcdCluster == "" || spec.NodeName == "" {
		return nil, errors.New("kube: a control plane needs the name of its etcd cluster and of its node")
	}
	if err := r.checkTools(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, errors.New("kube: closed")
	}
	c, ok := r.clusters[spec.EtcdCluster]
	if !ok {
		c = newCluster(r, spec.EtcdCluster)
		r.clusters[spec.EtcdCluster] = c
	}
	r.mu.Unlock()
	cp, err := c.start(spec)
	if err != nil {
		return nil, fmt.Errorf("kube: control plane %s of %s: %w", spec.NodeName, spec.ClusterName, err)
	}
	return cp, nil
}

// StartKubelet implements guest.Kubernetes.
func (r *Runner) StartKubelet(spec guest.Kubelet) guest.RunningKubelet {
	opts := kubelet.Options{
		HeartbeatEvery: r.tempo.heartbeat,
		Log:            r.log.With("node", spec.NodeName),
		Scale:          r.scale(),
		Admin:          func() (kubernetes.Interface, bool) { return r.admin(spec.EtcdCluster) },
	}
	k := kubelet.New(spec, opts)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		k.Stop()
		return k
	}
	r.kubelets[k] = struct{}{}
	k.Start(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.kubelets, k)
	})
	return k
}

// DropCluster implements guest.Kubernetes.
func (r *Runner) DropCluster(etcdCluster string) {
	r.mu.Lock()
	c := r.clusters[etcdCluster]
	delete(r.clusters, etcdCluster)
	r.mu.Unlock()
	if c == nil {
		return
	}
	if err := c.drop(); err != nil {
		r.log.Error("drop cluster", "cluster", etcdCluster, "error", err)
	}
}

// Close stops every process and every kubelet and returns when they are gone.
// Logs and databases stay in DataDir.
func (r *Runner) Close() error {
	r.mu.Lock()
	r.closed = true
	kubelets, clusters := r.kubelets, r.clusters
	r.kubelets, r.clusters = map[*kubelet.Kubelet]struct{}{}, map[string]*cluster{}
	r.mu.Unlock()

	var work sync.WaitGroup
	for k := range kubelets {
		work.Go(k.Stop)
	}
	errs := make(chan error, len(clusters))
	for _, c := range clusters {
		work.Go(func() { errs <- c.stop() })
	}
	work.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}

// checkTools names the programs that are missing: a supervisor would try to
// start them for ever.
func (r *Runner) checkTools() error {
	var all error
	for _, name := range []string{"kine", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		if _, err := exec.LookPath(r.tool(name)); err != nil {
			all = errors.Join(all, err)
		}
	}
	if all != nil {
		return fmt.Errorf("kube: programs are missing: %w", all)
	}
	return nil
}

// scale is nil without a clock.
func (r *Runner) scale() func(time.Duration) time.Duration {
	if r.opts.Clock == nil {
		return nil
	}
	return r.opts.Clock.Scale
}

func (r *Runner) tool(name string) string { return filepath.Join(r.opts.ToolsDir, name) }

func (r *Runner) cluster(etcdCluster string) *cluster {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clusters[etcdCluster]
}

// admin is the identity that Talos holds on control plane nodes: the machine
// config carries the authority's key.
func (r *Runner) admin(etcdCluster string) (kubernetes.Interface, bool) {
	if c := r.cluster(etcdCluster); c != nil {
		return c.admin()
	}
	return nil, false
}

// tempo is how fast a cluster reacts. Kubernetes' defaults are scaled by the
// clock, but not below what a busy machine with two cores keeps up with.
type tempo struct {
	// nodeGrace: a node whose kubelet is silent for so long is NotReady
	// (node-monitor-grace-period, 50 s by default).
	nodeGrace time.Duration
	// nodeMonitor: how often that is looked at (node-monitor-period, 5 s).
	nodeMonitor time.Duration
	// heartbeat: how often a kubelet renews its lease (10 s).
	heartbeat time.Duration
	// eviction: pods leave a dead node after so long (the toleration of 300 s
	// that admission gives every pod).
	eviction time.Duration
	// cloudNodes: how often the cloud controller looks for dead servers (5 s).
	cloudNodes time.Duration
}

func newTempo(clock guest.Clock) tempo {
	scale := func(usual, least time.Duration) time.Duration {
		if clock == nil {
			return usual
		}
		return min(usual, max(least, clock.Scale(usual)))
	}
	t := tempo{
		nodeGrace:   scale(50*time.Second, 16*time.Second),
		nodeMonitor: scale(5*time.Second, 2*time.Second),
		eviction:    scale(300*time.Second, 10*time.Second).Truncate(time.Second),
		cloudNodes:  scale(5*time.Second, time.Second),
	}
	t.heartbeat = min(10*time.Second, t.nodeGrace/4)
	return t
}

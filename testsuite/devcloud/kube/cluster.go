package kube

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/gate"
)

// cluster is one etcd cluster and what runs on it.
type cluster struct {
	r   *Runner
	log *slog.Logger
	dir string
	// wake tells the running backend that an API server became ready or not.
	wake chan struct{}

	// life serialises starting and stopping; state is below mu, so that it can
	// be read meanwhile.
	life   sync.Mutex
	ended  bool
	starts int
	// shared are the API servers that several nodes use, by the version they
	// serve: while a cluster is being upgraded there are two.
	shared  map[minor]*apiServer
	backend *backend

	mu      sync.Mutex
	nodes   []*controlPlane
	front   *gate.Gate
	clients kubernetes.Interface
}

func newCluster(r *Runner, id string) *cluster {
	return &cluster{
		r: r, log: r.log.With("cluster", id),
		// Escaped, a name cannot leave the folder.
		dir:  filepath.Join(r.opts.DataDir, "etcd-"+url.PathEscape(id)),
		wake: make(chan struct{}, 1), shared: map[minor]*apiServer{},
	}
}

func (c *cluster) logFile(name string) string { return filepath.Join(c.dir, "logs", name+".log") }

// start runs the API server of one control plane node.
func (c *cluster) start(spec guest.ControlPlane) (*controlPlane, error) {
	c.life.Lock()
	defer c.life.Unlock()
	if c.ended {
		return nil, errors.New("the cluster has been dropped")
	}
	if c.backend == nil {
		b, err := startBackend(c, spec)
		if err != nil {
			return nil, err
		}
		c.backend = b
	}
	cp, err := c.startNode(spec)
	if err != nil {
		return nil, errors.Join(err, c.stopIfIdle())
	}
	c.mu.Lock()
	c.nodes = append(c.nodes, cp)
	c.mu.Unlock()
	c.backend.follow(c.oldest())
	return cp, nil
}

func (c *cluster) startNode(spec guest.ControlPlane) (*controlPlane, error) {
	cp := &controlPlane{c: c, name: spec.NodeName}
	api, err := c.acquire(spec)
	if err != nil {
		return nil, err
	}
	cp.api.Store(api)
	if cp.gate, err = gate.Listen(spec.Listen, cp.target); err != nil {
		c.release(api)
		return nil, err
	}
	return cp, nil
}

// acquire returns the API server that serves one more node. It is called with
// life held.
func (c *cluster) acquire(spec guest.ControlPlane) (*apiServer, error) {
	have, err := c.r.programs()
	if err != nil {
		return nil, err
	}
	version, err := emulation(spec.KubernetesVersion, have)
	if err != nil {
		return nil, err
	}
	if shared := c.shared[version]; shared != nil && !spec.Exclusive {
		if err := shared.serve(spec); err != nil {
			return nil, err
		}
		shared.users++
		return shared, nil
	}
	c.starts++
	// A folder for each start: an old process that is being killed must not
	// find the keys of the new one.
	dir := filepath.Join(c.dir, "node-"+url.PathEscape(spec.NodeName)+"-"+strconv.Itoa(c.starts))
	api, err := startAPIServer(c, spec, dir, version)
	if err != nil {
		return nil, err
	}
	api.users = 1
	if !spec.Exclusive {
		c.shared[version] = api
	}
	return api, nil
}

// release ends an API server with its last node. It is called with life held.
func (c *cluster) release(api *apiServer) {
	if api.users--; api.users > 0 {
		return
	}
	if c.shared[api.version] == api {
		delete(c.shared, api.version)
	}
	api.stop()
}

// restartNode gives a node an API server of a new spec.
func (c *cluster) restartNode(cp *controlPlane, spec guest.ControlPlane) error {
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	present := slices.Contains(c.nodes, cp)
	c.mu.Unlock()
	if !present {
		return errors.New("the control plane has been stopped")
	}
	if old := cp.api.Swap(nil); old != nil {
		cp.gate.Cut()
		c.changed()
		c.release(old)
	}
	api, err := c.acquire(spec)
	if err != nil {
		return err
	}
	cp.api.Store(api)
	c.changed()
	c.backend.follow(c.oldest())
	return nil
}

// oldest is the lowest version that an API server of the cluster serves: what
// its controllers must keep to.
func (c *cluster) oldest() minor {
	c.mu.Lock()
	defer c.mu.Unlock()
	var least minor
	for _, cp := range c.nodes {
		if api := cp.api.Load(); api != nil && (least == 0 || api.version < least) {
			least = api.version
		}
	}
	return least
}

// stopNode takes one control plane node away, and with the last one all that
// runs for the cluster; the database stays on disk.
func (c *cluster) stopNode(cp *controlPlane) error {
	c.life.Lock()
	defer c.life.Unlock()
	c.mu.Lock()
	at := slices.Index(c.nodes, cp)
	if at >= 0 {
		c.nodes = slices.Delete(c.nodes, at, at+1)
	}
	last := len(c.nodes) == 0
	c.mu.Unlock()
	if at < 0 {
		return nil
	}
	if last {
		c.backend.halt()
	}
	err := cp.gate.Close()
	if api := cp.api.Swap(nil); api != nil {
		c.release(api)
	}
	if !last {
		c.backend.follow(c.oldest())
	}
	return errors.Join(err, c.stopIfIdle())
}

// stopIfIdle is called with life held.
func (c *cluster) stopIfIdle() error {
	c.mu.Lock()
	idle := len(c.nodes) == 0
	c.mu.Unlock()
	if !idle || c.backend == nil {
		return nil
	}
	b := c.backend
	c.backend = nil
	b.halt()
	return b.stop()
}

// stop ends everything, for good.
func (c *cluster) stop() error {
	c.life.Lock()
	c.ended = true
	c.life.Unlock()
	var all error
	for {
		c.mu.Lock()
		var cp *controlPlane
		if len(c.nodes) > 0 {
			cp = c.nodes[0]
		}
		c.mu.Unlock()
		if cp == nil {
			return all
		}
		all = errors.Join(all, c.stopNode(cp))
	}
}

// drop ends everything and removes the database and the keys; logs stay.
func (c *cluster) drop() error {
	err := c.stop()
	entries, readErr := os.ReadDir(c.dir)
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		err = errors.Join(err, readErr)
	}
	for _, entry := range entries {
		if entry.Name() != "logs" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.dir, entry.Name())))
		}
	}
	return err
}

// changed wakes whoever waits for an API server.
func (c *cluster) changed() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// answering is an API server that answers, for the cluster's own processes.
func (c *cluster) answering() (netip.AddrPort, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cp := range c.nodes {
		if cp.Ready() {
			return cp.target()
		}
	}
	return netip.AddrPort{}, false
}

// cutOwn breaks the connections of the cluster's own processes, which then find
// an API server that answers, if there is one.
func (c *cluster) cutOwn() {
	c.mu.Lock()
	front := c.front
	c.mu.Unlock()
	if front != nil {
		front.Cut()
	}
}

func (c *cluster) setFront(front *gate.Gate, clients kubernetes.Interface) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.front, c.clients = front, clients
}

func (c *cluster) admin() (kubernetes.Interface, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clients, c.clients != nil
}

// controlPlane implements guest.RunningControlPlane.
type controlPlane struct {
	c    *cluster
	name string
	// api is nil while it is being replaced.
	api  atomic.Pointer[apiServer]
	gate *gate.Gate
}

var _ guest.RunningControlPlane = (*controlPlane)(nil)

func (cp *controlPlane) target() (netip.AddrPort, bool) {
	if api := cp.api.Load(); api != nil {
		return api.target()
	}
	return netip.AddrPort{}, false
}

// Backend implements guest.RunningControlPlane.
func (cp *controlPlane) Backend() netip.AddrPort { return cp.gate.Addr() }

// Ready implements guest.RunningControlPlane.
func (cp *controlPlane) Ready() bool {
	api := cp.api.Load()
	return api != nil && api.ready.Load() && cp.gate.IsOpen()
}

// Restart implements guest.RunningControlPlane.
func (cp *controlPlane) Restart(spec guest.ControlPlane) error {
	if err := cp.c.restartNode(cp, spec); err != nil {
		return fmt.Errorf("kube: restart control plane %s of %s: %w", cp.name, spec.ClusterName, err)
	}
	return nil
}

// SetQuorum implements guest.RunningControlPlane: without a quorum connections
// are accepted and get no answer, and the ones that exist break.
func (cp *controlPlane) SetQuorum(ok bool) {
	cp.gate.SetOpen(ok)
	if !ok {
		cp.c.cutOwn()
	}
	cp.c.changed()
}

// Stop implements guest.RunningControlPlane.
func (cp *controlPlane) Stop() {
	if err := cp.c.stopNode(cp); err != nil {
		cp.c.log.Error("stop control plane", "node", cp.name, "error", fmt.Sprint(err))
	}
}

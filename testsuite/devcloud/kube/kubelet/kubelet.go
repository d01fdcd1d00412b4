// Package kubelet joins a node to a cluster as Talos' kubelet does: TLS
// bootstrap with a token, registration, heartbeats, and the reports about pods
// that a container runtime would give rise to. It holds only what a node holds:
// its certificate, under the Node authorizer and NodeRestriction. A kubelet that
// is stopped goes silent, as a machine without power does: its node becomes
// NotReady when the controllers notice and its pods stay until evicted by force.
// That is why every node has a kubelet of its own here and not one simulator for
// all nodes, such as kwok, in the cluster: that would go on ending the pods of
// machines that are off, with an administrator's rights.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
)

// retryEvery is the pause before a kubelet that could not join tries again.
const retryEvery = time.Second

// Options are the surroundings of a kubelet.
type Options struct {
	// HeartbeatEvery is how often the node's lease is renewed.
	HeartbeatEvery time.Duration
	// Admin is the administrator's client that Talos has on control plane nodes;
	// false while there is none.
	Admin func() (kubernetes.Interface, bool)
	// Scale turns simulated durations into real ones; nil leaves them.
	Scale func(time.Duration) time.Duration
	Log   *slog.Logger
}

// Kubelet implements guest.RunningKubelet.
type Kubelet struct {
	spec guest.Kubelet
	opts Options

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu         sync.Mutex
	registered bool
	ready      bool
	errs       map[string]error // by what fails: "join", "labels", …
	api        *client.Client   // while joined
}

var _ guest.RunningKubelet = (*Kubelet)(nil)

// New makes a kubelet that does nothing yet.
func New(spec guest.Kubelet, opts Options) *Kubelet {
	if opts.Scale == nil {
		opts.Scale = func(d time.Duration) time.Duration { return d }
	}
	k := &Kubelet{spec: spec, opts: opts, errs: map[string]error{}}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	return k
}

// Start begins to join; onEnd is called when the kubelet has been stopped.
func (k *Kubelet) Start(onEnd func()) {
	k.work.Go(func() {
		defer onEnd()
		k.run()
	})
}

// Stop implements guest.RunningKubelet: silence, at once.
func (k *Kubelet) Stop() {
	k.cancel()
	k.work.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ready = false
}

// Registered implements guest.RunningKubelet: the Node object exists.
func (k *Kubelet) Registered() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.registered
}

// Ready implements guest.RunningKubelet: the API has been told that the node is
// ready.
func (k *Kubelet) Ready() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ready
}

// LastError implements guest.RunningKubelet: what does not work now, empty when
// all does.
func (k *Kubelet) LastError() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, what := range []string{"join", "labels", "status", "static pods", "pods"} {
		if err := k.errs[what]; err != nil {
			return what + ": " + err.Error()
		}
	}
	return ""
}

// note records whether something works, and logs when that changes.
func (k *Kubelet) note(what string, err error) {
	if k.ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	was := k.errs[what]
	k.errs[what] = err
	k.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		k.opts.Log.Warn("kubelet", "doing", what, "error", err)
	case err == nil && was != nil:
		k.opts.Log.Info("kubelet", "doing", what, "error", nil)
	}
}

func (k *Kubelet) set(registered, ready bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.registered, k.ready = registered, ready
}

func (k *Kubelet) setAPI(api *client.Client) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.api = api
}

// run joins and stays joined until the kubelet is stopped.
func (k *Kubelet) run() {
	for k.ctx.Err() == nil {
		err := k.session()
		k.note("join", err)
		select {
		case <-k.ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// session gets a certificate and works with it until it is refused.
func (k *Kubelet) session() error {
	cert, key, err := k.bootstrap()
	if err != nil {
		return fmt.Errorf("certificate from %s: %w", k.spec.Endpoint, err)
	}
	api, err := k.client(client.Options{Cert: cert, Key: key})
	if err != nil {
		return err
	}
	defer api.Close()
	j := &joined{k: k, api: api, bootID: k.spec.BootID}
	j.pods.scale = k.opts.Scale
	if err := j.register(); err != nil {
		return fmt.Errorf("register with %s: %w", k.spec.Endpoint, err)
	}
	k.note("join", nil)
	k.setAPI(api)
	defer k.setAPI(nil)
	err = j.work()
	k.set(k.Registered(), false)
	if k.ctx.Err() != nil {
		return nil
	}
	return err
}

func (k *Kubelet) client(opts client.Options) (*client.Client, error) {
	if k.spec.Endpoint == "" {
		return nil, errors.New("the machine config names no endpoint")
	}
	opts.Server, opts.CA, opts.Source, opts.TLS = k.spec.Endpoint, k.spec.CACert, k.spec.Source, k.spec.TLS
	opts.UserAgent = "kubelet/" + k.spec.Version
	return client.New(opts)
}

package kube

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/ccm"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/gate"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/pki"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// datastore is the socket of kine, relative to the cluster's folder in which the
// processes run: absolute paths of test folders can exceed what a socket's name
// may have, and a port could be taken by others.
const datastore = "unix://kine.sock"

// idleControllers are the controllers of kube-controller-manager that nothing in
// devcloud can need: cloud disks, metrics, device allocation, migrations. Each
// costs watches and start-up time.
var idleControllers = []string{
	"persistentvolume-attach-detach-controller", "persistentvolume-expander-controller",
	"ephemeral-volume-controller", "horizontal-pod-autoscaler-controller",
	"endpointslice-mirroring-controller", "replicationcontroller-controller",
	"podcertificaterequest-cleaner-controller", "device-taint-eviction-controller",
	"resourceclaim-controller", "storageversion-garbage-collector-controller",
	"legacy-serviceaccount-token-cleaner-controller", "validatingadmissionpolicy-status-controller",
	"volumeattributesclass-protection-controller", "persistentvolumeclaim-protection-controller",
	"persistentvolume-protection-controller", "ttl-controller", "podgroup-protection-controller",
	"kube-apiserver-serving-clustertrustbundle-publisher-controller",
	"resourcepoolstatusrequest-controller", "selinux-warning-controller",
	"storage-version-migrator-controller",
}

// backend is what a cluster runs once, whatever the number of its nodes: the
// datastore, the controllers, the scheduler and the cloud controller.
type backend struct {
	c    *cluster
	spec guest.ControlPlane
	keys authorities

	kine *supervisor
	// front is how the cluster's own processes reach any API server that
	// answers: on a real node each has its own beside it.
	front   *gate.Gate
	clients *client.Client

	cancel context.CancelFunc
	work   sync.WaitGroup

	mu sync.Mutex
	// version is what the controllers and the scheduler keep to.
	version    minor
	supervised []*supervisor
}

func startBackend(c *cluster, spec guest.ControlPlane) (*backend, error) {
	keys, err := parseAuthorities(spec)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	b := &backend{c: c, spec: spec, keys: keys}
	if b.front, err = gate.Listen(netip.AddrFrom4([4]byte{127, 0, 0, 1}), c.answering); err != nil {
		return nil, err
	}
	b.kine = supervise("kine", c.log, b.kineCommand)
	if err := b.connect(); err != nil {
		b.kine.stop()
		return nil, errors.Join(err, b.front.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.work.Go(func() { b.run(ctx) })
	return b, nil
}

func (b *backend) kineCommand() (proc.Spec, error) {
	return proc.Spec{
		Path: b.c.r.tool("kine"), Env: toolEnv(), Dir: b.c.dir, Log: b.c.logFile("kine"),
		Args: []string{
			"--listen-address=" + datastore,
			// Losing power is played by keeping or dropping the whole database,
			// so nothing has to reach the disk.
			"--endpoint=sqlite://state.db?_journal_mode=WAL&_busy_timeout=30000&_synchronous=OFF&_txlock=immediate&_kine_disable_startup_vacuum",
			"--metrics-bind-address=0",
		},
	}, nil
}

// connect makes the administrator's client and the kubeconfig of the processes.
func (b *backend) connect() error {
	pair, err := b.keys.cluster.Issue(pki.Subject{CommonName: "devcloud", Organizations: []string{"system:masters"}})
	if err != nil {
		return err
	}
	server := b.server()
	if err := writeFiles(b.c.dir, map[string][]byte{
		"ca.crt": b.keys.cluster.PEM(), "service-account.key": b.keys.serviceAccount,
		"ca.key": b.spec.CAKey,
	}); err != nil {
		return err
	}
	if err := writeKubeconfig(b.file("kubeconfig"), server, b.keys.cluster.PEM(), pair); err != nil {
		return err
	}
	b.clients, err = client.New(client.Options{
		Server: server, CA: b.keys.cluster.PEM(), Cert: pair.Cert, Key: pair.Key, UserAgent: "devcloud",
	})
	if err != nil {
		return err
	}
	b.c.setFront(b.front, b.clients)
	return nil
}

func (b *backend) file(name string) string { return filepath.Join(b.c.dir, name) }

// run brings the cluster up as Talos does once the first API server answers, and
// keeps its controllers running.
func (b *backend) run(ctx context.Context) {
	if !b.waitReady(ctx) || !b.bootstrap(ctx) {
		return
	}
	b.mu.Lock()
	manager := supervise("kube-controller-manager", b.c.log, b.managerCommand)
	scheduler := supervise("kube-scheduler", b.c.log, b.schedulerCommand)
	b.supervised = []*supervisor{manager, scheduler}
	b.mu.Unlock()
	defer manager.stop()
	defer scheduler.stop()
	// Controllers do not wait for what the nodes render.
	b.work.Go(func() { b.persist(ctx, b.applyManifests) })
	b.work.Go(func() { b.awsController(ctx) })
	if err := b.cloudController(ctx); err != nil {
		b.c.log.Error("cloud controller", "error", err)
	}
}

// follow makes the controllers and the scheduler keep to what the oldest API
// server of the cluster serves: newer ones wait for ever for what it lacks. It
// does nothing while there is none.
func (b *backend) follow(oldest minor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if oldest == 0 || oldest == b.version {
		return
	}
	b.version = oldest
	for _, s := range b.supervised {
		s.restart()
	}
}

// emulate are the arguments for the version to keep to.
func (b *backend) emulate() ([]string, error) {
	have, err := b.c.r.programs()
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return emulate(b.version, have), nil
}

// cloudController plays the cloud controller until ctx ends. It logs to a file
// beside those of the processes.
func (b *backend) cloudController(ctx context.Context) error {
	file, err := os.OpenFile(b.c.logFile(ccm.Name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	ccm.Run(ctx, b.clients, ccm.Options{
		URL: b.c.r.opts.CloudURL, MonitorEvery: b.c.r.tempo.cloudNodes, Identity: b.identity,
		Log: slog.New(slog.NewMultiHandler(b.c.log.Handler(), slog.NewTextHandler(file, nil))),
	})
	return file.Close()
}

// identity is a client with a token of a service account, as pods get one.
func (b *backend) identity(ctx context.Context, account string) (kubernetes.Interface, func(), error) {
	token, err := b.token(ctx, account, ccm.TokenLifetime)
	if err != nil {
		return nil, nil, err
	}
	api, err := client.New(client.Options{
		Server: b.server(), CA: b.keys.cluster.PEM(), Token: token, UserAgent: ccm.Name,
	})
	if err != nil {
		return nil, nil, err
	}
	return api, api.Close, nil
}

// token is one of a service account of kube-system.
func (b *backend) token(ctx context.Context, account string, lifetime time.Duration) (string, error) {
	seconds := int64(lifetime / time.Second)
	token, err := b.clients.CoreV1().ServiceAccounts(metav1.NamespaceSystem).CreateToken(ctx, account, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return token.Status.Token, nil
}

func (b *backend) server() string { return "https://" + b.front.Addr().String() }

// waitReady waits until an API server answers and is false when ctx ends first.
func (b *backend) waitReady(ctx context.Context) bool {
	for {
		if _, ok := b.c.answering(); ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-b.c.wake:
		case <-time.After(probeEvery):
		}
	}
}

func (b *backend) managerCommand() (proc.Spec, error) {
	tempo := b.c.r.tempo
	args := []string{
		"--kubeconfig=" + b.file("kubeconfig"),
		"--leader-elect=false",
		// No port: nobody asks for its health or metrics.
		"--secure-port=0",
		"--profiling=false",
		"--cluster-signing-cert-file=" + b.file("ca.crt"),
		"--cluster-signing-key-file=" + b.file("ca.key"),
		"--root-ca-file=" + b.file("ca.crt"),
		"--service-account-private-key-file=" + b.file("service-account.key"),
		"--node-monitor-grace-period=" + tempo.nodeGrace.String(),
		"--node-monitor-period=" + tempo.nodeMonitor.String(),
		"--controllers=*,-" + strings.Join(idleControllers, ",-"),
		"--kube-api-qps=200", "--kube-api-burst=400",
	}
	if len(b.spec.PodCIDRs) > 0 {
		args = append(args, "--allocate-node-cidrs=true", "--cluster-cidr="+strings.Join(b.spec.PodCIDRs, ","))
	}
	if len(b.spec.ServiceCIDRs) > 0 {
		args = append(args, "--service-cluster-ip-range="+strings.Join(b.spec.ServiceCIDRs, ","))
	}
	version, err := b.emulate()
	if err != nil {
		return proc.Spec{}, err
	}
	return proc.Spec{
		Path: b.c.r.tool("kube-controller-manager"), Args: append(args, version...), Env: toolEnv(),
		Dir: b.c.dir, Log: b.c.logFile("kube-controller-manager"),
	}, nil
}

func (b *backend) schedulerCommand() (proc.Spec, error) {
	args := []string{
		"--kubeconfig=" + b.file("kubeconfig"), "--leader-elect=false",
		"--secure-port=0", "--profiling=false", "--kube-api-qps=200", "--kube-api-burst=400",
	}
	version, err := b.emulate()
	if err != nil {
		return proc.Spec{}, err
	}
	return proc.Spec{
		Path: b.c.r.tool("kube-scheduler"), Env: toolEnv(), Args: append(args, version...),
		Dir: b.c.dir, Log: b.c.logFile("kube-scheduler"),
	}, nil
}

// halt ends the controllers, so that they do not see the API servers go.
func (b *backend) halt() {
	b.c.setFront(nil, nil)
	b.cancel()
	b.work.Wait()
	b.clients.Close()
}

// stop ends what the API servers need, after halt.
func (b *backend) stop() error {
	err := b.front.Close()
	b.kine.stop()
	return err
}

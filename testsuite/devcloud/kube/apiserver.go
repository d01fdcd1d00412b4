package kube

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/pki"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// probeEvery is how often a kube-apiserver is asked whether it is ready, as
// Talos' static pod asks, only faster.
const probeEvery = 250 * time.Millisecond

// apiServer is one kube-apiserver process with its keys.
type apiServer struct {
	c    *cluster
	spec guest.ControlPlane
	dir  string
	keys authorities
	// version is what it serves, and users are the nodes that share it; the
	// cluster's life guards them.
	version minor
	users   int

	ready   atomic.Bool
	address atomic.Pointer[netip.AddrPort]
	client  *http.Client
	process *supervisor
	cancel  context.CancelFunc
	probing sync.WaitGroup

	mu    sync.Mutex
	names servingNames
}

// authorities are the parsed keys of a control plane's machine config.
type authorities struct {
	cluster, aggregator *pki.Authority
	serviceAccount      []byte
	serviceAccountPub   []byte
}

func parseAuthorities(spec guest.ControlPlane) (authorities, error) {
	ca, err := pki.ParseAuthority(spec.CACert, spec.CAKey)
	if err != nil {
		return authorities{}, fmt.Errorf("cluster CA: %w", err)
	}
	aggregator, err := pki.ParseAuthority(spec.AggregatorCACert, spec.AggregatorCAKey)
	if err != nil {
		return authorities{}, fmt.Errorf("aggregator CA: %w", err)
	}
	key, err := pki.ParseKey(spec.ServiceAccount)
	if err != nil {
		return authorities{}, fmt.Errorf("service account key: %w", err)
	}
	public, err := pki.EncodePublicKey(key)
	if err != nil {
		return authorities{}, fmt.Errorf("service account key: %w", err)
	}
	private, err := pki.EncodeKey(key)
	if err != nil {
		return authorities{}, fmt.Errorf("service account key: %w", err)
	}
	return authorities{cluster: ca, aggregator: aggregator, serviceAccount: private, serviceAccountPub: public}, nil
}

// startAPIServer writes the keys and starts the process.
func startAPIServer(c *cluster, spec guest.ControlPlane, dir string, version minor) (*apiServer, error) {
	keys, err := parseAuthorities(spec)
	if err != nil {
		return nil, err
	}
	a := &apiServer{c: c, spec: spec, dir: dir, keys: keys, version: version}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := a.serve(spec); err != nil {
		return nil, err
	}
	if err := a.writeKeys(); err != nil {
		return nil, err
	}
	if a.client, err = a.probeClient(); err != nil {
		return nil, err
	}
	a.process = supervise("kube-apiserver "+spec.NodeName, c.log, a.command)
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.probing.Go(func() { a.probe(ctx) })
	return a, nil
}

func (a *apiServer) file(name string) string { return filepath.Join(a.dir, name) }

// serve makes the serving certificate cover one more control plane node: its
// process reads the file anew.
func (a *apiServer) serve(spec guest.ControlPlane) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.names.add(spec); err != nil {
		return err
	}
	pair, err := a.keys.cluster.Issue(pki.Subject{
		CommonName: "kube-apiserver", Organizations: []string{"kube-master"},
		DNSNames: a.names.dns, Addresses: a.names.addresses,
	})
	if err != nil {
		return err
	}
	return writeFiles(a.dir, map[string][]byte{"apiserver.key": pair.Key, "apiserver.crt": pair.Cert})
}

func (a *apiServer) writeKeys() error {
	kubelet, err := a.keys.cluster.Issue(pki.Subject{
		CommonName: "apiserver-kubelet-client", Organizations: []string{"system:masters"},
	})
	if err != nil {
		return err
	}
	proxy, err := a.keys.aggregator.Issue(pki.Subject{CommonName: "front-proxy-client"})
	if err != nil {
		return err
	}
	return writeFiles(a.dir, map[string][]byte{
		"ca.crt":              a.keys.cluster.PEM(),
		"aggregator-ca.crt":   a.keys.aggregator.PEM(),
		"service-account.key": a.keys.serviceAccount,
		"service-account.pub": a.keys.serviceAccountPub,
		"kubelet-client.crt":  kubelet.Cert,
		"kubelet-client.key":  kubelet.Key,
		"front-proxy.crt":     proxy.Cert,
		"front-proxy.key":     proxy.Key,
		"admission.yaml":      []byte(admissionConfig),
	})
}

// command is built at each start, with a port that is free then.
func (a *apiServer) command() (proc.Spec, error) {
	port, err := proc.FreePort(a.spec.Listen)
	if err != nil {
		return proc.Spec{}, err
	}
	address := netip.AddrPortFrom(a.spec.Listen, port)
	a.address.Store(&address)
	eviction := strconv.Itoa(int(a.c.r.tempo.eviction.Seconds()))
	args := []string{
		"--etcd-servers=" + datastore,
		"--bind-address=" + a.spec.Listen.String(),
		"--secure-port=" + strconv.Itoa(int(port)),
		// Only announced in the endpoints of the service "kubernetes", which
		// may not be loopback addresses: so nothing is announced.
		"--advertise-address=192.0.2.1",
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + a.file("apiserver.crt"),
		"--tls-private-key-file=" + a.file("apiserver.key"),
		"--client-ca-file=" + a.file("ca.crt"),
		"--kubelet-client-certificate=" + a.file("kubelet-client.crt"),
		"--kubelet-client-key=" + a.file("kubelet-client.key"),
		"--requestheader-client-ca-file=" + a.file("aggregator-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + a.file("front-proxy.crt"),
		"--proxy-client-key-file=" + a.file("front-proxy.key"),
		"--service-account-issuer=" + a.spec.Endpoint,
		"--api-audiences=" + a.spec.Endpoint,
		"--service-account-key-file=" + a.file("service-account.pub"),
		"--service-account-signing-key-file=" + a.file("service-account.key"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--admission-control-config-file=" + a.file("admission.yaml"),
		"--enable-bootstrap-token-auth=true",
		"--anonymous-auth=false",
		"--allow-privileged=true",
		"--default-not-ready-toleration-seconds=" + eviction,
		"--default-unreachable-toleration-seconds=" + eviction,
		"--profiling=false",
		// Fair queueing has nothing to do with a handful of clients and costs
		// a third of a second of start-up.
		"--enable-priority-and-fairness=false",
		"--etcd-count-metric-poll-period=0",
		"--etcd-db-metric-poll-interval=0",
	}
	have, err := a.c.r.programs()
	if err != nil {
		return proc.Spec{}, err
	}
	args = append(args, emulate(a.version, have)...)
	if len(a.spec.ServiceCIDRs) > 0 {
		args = append(args, "--service-cluster-ip-range="+strings.Join(a.spec.ServiceCIDRs, ","))
	}
	return proc.Spec{
		Name: "kube-apiserver", Path: a.c.r.tool("kube-apiserver"), Args: args, Env: toolEnv(),
		Dir: a.c.dir, Log: a.c.logFile("kube-apiserver-" + a.spec.NodeName),
	}, nil
}

// target is where the process listens while it answers.
func (a *apiServer) target() (netip.AddrPort, bool) {
	address := a.address.Load()
	if address == nil {
		return netip.AddrPort{}, false
	}
	return *address, true
}

func (a *apiServer) probeClient() (*http.Client, error) {
	admin, err := a.keys.cluster.Issue(pki.Subject{CommonName: "probe", Organizations: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(admin.Cert, admin.Key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.keys.cluster.PEM())
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: roots,
		}},
	}, nil
}

// probe keeps ready up to date.
func (a *apiServer) probe(ctx context.Context) {
	defer a.client.CloseIdleConnections()
	every, was := time.NewTicker(probeEvery), false
	defer every.Stop()
	for {
		err := a.healthy(ctx)
		a.ready.Store(err == nil)
		if now := err == nil; now != was && ctx.Err() == nil {
			was = now
			a.c.log.Info("kube-apiserver", "node", a.spec.NodeName, "ready", now, "reason", err)
			a.c.changed()
		}
		if err == nil {
			every.Reset(time.Second)
		} else {
			every.Reset(probeEvery)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

func (a *apiServer) healthy(ctx context.Context) error {
	address, ok := a.target()
	if !ok || a.process.pid() == 0 {
		return errors.New("not running")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address.String()+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	_, readErr := io.Copy(io.Discard, response.Body)
	if err := errors.Join(readErr, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %s", response.Status)
	}
	return nil
}

func (a *apiServer) stop() {
	a.cancel()
	a.process.stop()
	a.probing.Wait()
	a.ready.Store(false)
}

// servingNames are the names and addresses by which clients reach an API server.
type servingNames struct {
	dns       []string
	addresses []netip.Addr
}

// add names what Talos puts into the certificate of a control plane node.
func (n *servingNames) add(spec guest.ControlPlane) error {
	names := append([]string{
		"localhost", spec.NodeName, "kubernetes", "kubernetes.default",
		"kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	}, spec.CertSANs...)
	host, err := endpointHost(spec.Endpoint)
	if err != nil {
		return err
	}
	names = append(names, host, "127.0.0.1", spec.Listen.String())
	for _, cidr := range spec.ServiceCIDRs {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return fmt.Errorf("service CIDR: %w", err)
		}
		names = append(names, prefix.Masked().Addr().Next().String())
	}
	for _, name := range names {
		if address, err := netip.ParseAddr(name); err == nil {
			if !slices.Contains(n.addresses, address) {
				n.addresses = append(n.addresses, address)
			}
		} else if name != "" && !slices.Contains(n.dns, name) {
			n.dns = append(n.dns, name)
		}
	}
	return nil
}

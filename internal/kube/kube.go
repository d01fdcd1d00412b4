// Package kube is what Ichor does in a cluster through its Kubernetes API: wait
// for it, create secrets, apply manifests, look at nodes and remove them.
//
// Every call may be repeated: applying, patching and deleting the same thing
// twice ends in the same state. Therefore an answer that got lost is Unavailable
// and not Ambiguous. Errors carry a fault.Kind and repeat neither secrets nor
// the values that the API server quotes.
package kube

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	policyv1 "k8s.io/client-go/kubernetes/typed/policy/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// FieldManager owns the fields that Ichor applies.
const FieldManager = "ichor"

// DefaultTimeout bounds one request. A request through a load balancer whose
// control planes are gone would otherwise wait for the kernel's timeout.
const DefaultTimeout = 15 * time.Second

// Options of a client.
type Options struct {
	// Timeout of one request, DefaultTimeout when zero.
	Timeout time.Duration
}

// Client speaks to the API of one cluster. It is safe for concurrent use.
type Client struct {
	all     kubernetes.Interface
	core    corev1.CoreV1Interface
	policy  policyv1.PolicyV1Interface
	dynamic dynamic.Interface
	rest    rest.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
	http    *http.Client
	config  *rest.Config
	now     func() time.Time
}

// New makes a client from a kubeconfig that carries its credentials inline; it
// does not connect. Error: Invalid, without content.
func New(kubeconfig secrets.Value, opts Options) (*Client, error) {
	const op = "read kubeconfig"
	invalid := fault.New(fault.Invalid, op, "it is not a kubeconfig with inline credentials (its content is not repeated here)")
	cfg, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig.Reveal())
	if err != nil || cfg.Host == "" || cfg.ExecProvider != nil || cfg.AuthProvider != nil {
		return nil, invalid
	}
	// Whoever writes a kubeconfig must not choose what this process reads.
	if cfg.CAFile != "" || cfg.CertFile != "" || cfg.KeyFile != "" || cfg.BearerTokenFile != "" {
		return nil, invalid
	}
	return open(cfg, opts, invalid)
}

// NewInCluster makes a client for the cluster that this process runs in, as its
// service account; renewed tokens are picked up. Error: Invalid when it does not
// run in a pod.
func NewInCluster(opts Options) (*Client, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, fault.New(fault.Invalid, "open the cluster of this process", "this process does not run in a Kubernetes pod: %s", err)
	}
	return open(cfg, opts, fault.New(fault.Invalid, "open the cluster of this process", "the pod's service account cannot be used"))
}

// open makes a client; invalid is what it answers when cfg cannot be used.
func open(cfg *rest.Config, opts Options, invalid error) (*Client, error) {
	cfg.UserAgent = FieldManager
	cfg.Timeout = opts.Timeout
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	// The server limits requests fairly by itself; a second limit here would
	// only hide how long a call really takes.
	cfg.QPS = -1
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return oneAttempt{next} })
	h, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, invalid
	}
	all, err := kubernetes.NewForConfigAndClient(cfg, h)
	if err != nil {
		return nil, invalid
	}
	dyn, err := dynamic.NewForConfigAndClient(cfg, h)
	if err != nil {
		return nil, invalid
	}
	disc, err := discovery.NewDiscoveryClientForConfigAndClient(cfg, h)
	if err != nil {
		return nil, invalid
	}
	return &Client{
		all: all, core: all.CoreV1(), policy: all.PolicyV1(), dynamic: dyn, rest: disc.RESTClient(), http: h, config: cfg, now: time.Now,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disc)),
	}, nil
}

// oneAttempt keeps client-go from repeating refused requests by itself, up to
// ten times, which it does when an answer carries Retry-After: whoever called
// decides that, and shows it. The API's own answers say in their body, too, how
// long to wait.
type oneAttempt struct{ next http.RoundTripper }

func (o oneAttempt) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(req)
	if resp != nil {
		resp.Header.Del("Retry-After")
	}
	return resp, err
}

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ready returns nil when the API server is ready to serve. Errors: NotYet naming
// the checks that fail, Unavailable when nothing answers, Unauthorized when the
// credentials or the server's certificate are wrong.
func (c *Client) Ready(ctx context.Context) error {
	const op = "look at the Kubernetes API"
	var status int
	res := c.rest.Get().AbsPath("/readyz").Param("verbose", "").Do(ctx).StatusCode(&status)
	body, err := res.Raw()
	if err == nil {
		return nil
	}
	if failing := failedChecks(string(body)); len(failing) > 0 {
		return fault.New(fault.NotYet, op, "not ready: %s", strings.Join(failing, ", "))
	}
	if status == http.StatusInternalServerError {
		return fault.New(fault.NotYet, op, "not ready")
	}
	return apiError(op, err)
}

// failedChecks reads the lines "[-]name failed: …" of a verbose /readyz.
func failedChecks(body string) []string {
	var out []string
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			name, _, _ := strings.Cut(rest, " ")
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

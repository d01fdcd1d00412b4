// Package ccm stands in for cloudscale.ch's cloud controller manager 1.3: its
// container is played like every other, but what it does to nodes is done here,
// from what its manifest and the cloud's API say. Like the real one it does
// nothing before a manifest has been applied, its secret exists and a pod of it
// runs.
package ccm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/klog/v2"
)

// Name is how the workload of the cloud controller manager is called and
// labelled in its vendor's manifest.
const Name = "cloudscale-cloud-controller-manager"

// lookEvery is how often new nodes are looked for; the real one is told at once.
const lookEvery = 500 * time.Millisecond

// Options are the settings of the controller.
type Options struct {
	// URL is the cloud's API if the manifest sets no CLOUDSCALE_API_URL. There
	// is no other default: devcloud must never reach the real cloud.
	URL string
	// Identity makes a client that acts as a service account of kube-system, so
	// that what the manifest forgot to allow is refused.
	Identity func(ctx context.Context, serviceAccount string) (kubernetes.Interface, func(), error)
	// MonitorEvery is how often nodes that are not ready are looked up in the
	// cloud (node-monitor-period).
	MonitorEvery time.Duration
	Log          *slog.Logger
}

// controller is the state of one run.
type controller struct {
	opts Options
	// api reads what a kubelet would hand to the container; acts is the
	// container's own.
	api         kubernetes.Interface
	acts        identity
	nodes       corelisters.NodeLister
	daemons     appslisters.DaemonSetLister
	deployments appslisters.DeploymentLister
	// said is the last line said about a subject, so that each is said once.
	said      map[string]string
	monitored time.Time
	// retries are the nodes that could not be initialised.
	retries map[types.UID]retry
}

// retry spaces the attempts at a node like the work queue of the real
// controller, so that a node that cannot be initialised does not flood the
// cloud's API.
type retry struct {
	at   time.Time
	wait time.Duration
}

// longestRetry is short, since devcloud makes minutes of seconds.
const longestRetry = 3 * time.Second

func (r retry) next() retry {
	r.wait = min(max(2*r.wait, lookEvery), longestRetry)
	r.at = time.Now().Add(r.wait)
	return r
}

// Run controls the cluster's nodes until ctx ends.
func Run(ctx context.Context, api kubernetes.Interface, opts Options) {
	all := informers.NewSharedInformerFactory(api, 0)
	system := informers.NewSharedInformerFactoryWithOptions(api, 0, informers.WithNamespace(metav1.NamespaceSystem))
	c := &controller{
		opts: opts, api: api, said: map[string]string{}, retries: map[types.UID]retry{},
		nodes:       all.Core().V1().Nodes().Lister(),
		daemons:     system.Apps().V1().DaemonSets().Lister(),
		deployments: system.Apps().V1().Deployments().Lister(),
	}
	// What client-go has to say of its watches goes to our log.
	ctx, cancel := context.WithCancel(klog.NewContext(ctx, logr.FromSlogHandler(opts.Log.Handler())))
	defer func() { c.acts.close() }()
	defer all.Shutdown()
	defer system.Shutdown()
	defer cancel()
	all.StartWithContext(ctx)
	system.StartWithContext(ctx)
	all.WaitForCacheSync(ctx.Done())
	system.WaitForCacheSync(ctx.Done())

	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		c.say("controller", c.look(ctx))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// look is one round. It returns why the controller as a whole does not work.
func (c *controller) look(ctx context.Context) error {
	template, err := c.workload()
	if err != nil || template == nil {
		// Whoever comes next has an identity of its own.
		c.acts.close()
		return err
	}
	nodes, err := c.nodes.List(labels.Everything())
	if err != nil {
		return err
	}
	var pending, sick []*corev1.Node
	monitor := time.Since(c.monitored) >= c.opts.MonitorEvery
	for _, node := range nodes {
		if isUninitialized(node) && !time.Now().Before(c.retries[node.UID].at) {
			pending = append(pending, node)
		}
		if monitor && (!isReady(node) || hasTaint(node, shutDown)) {
			sick = append(sick, node)
		}
	}
	if len(pending)+len(sick) == 0 {
		return nil
	}
	settings, err := c.settings(ctx, template)
	if err != nil {
		return err
	}
	if err := c.become(ctx, template.ServiceAccountName); err != nil {
		return err
	}
	cloud := newCloud(settings)
	defer cloud.close()
	if monitor {
		c.monitored = time.Now()
		c.monitor(ctx, cloud, sick)
	}
	return c.initialize(ctx, cloud, pending)
}

// identity is a client that acts as a service account.
type identity struct {
	kubernetes.Interface
	account string
	until   time.Time
	end     func()
}

// TokenLifetime is how long the token of an Identity has to last.
const TokenLifetime = time.Hour

func (i *identity) close() {
	if i.end != nil {
		i.end()
	}
	*i = identity{}
}

// become makes the controller act as the service account of its pods.
func (c *controller) become(ctx context.Context, account string) error {
	if account == "" {
		account = "default"
	}
	if c.acts.Interface != nil && c.acts.account == account && time.Now().Before(c.acts.until) {
		return nil
	}
	c.acts.close()
	api, end, err := c.opts.Identity(ctx, account)
	if err != nil {
		return fmt.Errorf("service account %q: %w", account, err)
	}
	c.acts = identity{Interface: api, account: account, until: time.Now().Add(TokenLifetime / 2), end: end}
	return nil
}

// workload finds the manifest; nil if there is none, an error if none of its
// pods runs.
func (c *controller) workload() (*corev1.PodSpec, error) {
	daemons, err := c.daemons.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	deployments, err := c.deployments.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(daemons, func(d *appsv1.DaemonSet) bool { return isOurs(d) }); at >= 0 {
		if daemons[at].Status.NumberReady == 0 {
			return nil, errors.New("no pod of the daemon set runs")
		}
		return &daemons[at].Spec.Template.Spec, nil
	}
	if at := slices.IndexFunc(deployments, func(d *appsv1.Deployment) bool { return isOurs(d) }); at >= 0 {
		if deployments[at].Status.ReadyReplicas == 0 {
			return nil, errors.New("no pod of the deployment runs")
		}
		return &deployments[at].Spec.Template.Spec, nil
	}
	return nil, nil
}

func isOurs(object metav1.Object) bool {
	have := object.GetLabels()
	return object.GetName() == Name || slices.Contains(
		[]string{have["k8s-app"], have["app"], have["app.kubernetes.io/name"]}, Name)
}

// settings are the environment variables of the container.
func (c *controller) settings(ctx context.Context, pod *corev1.PodSpec) (settings, error) {
	s := settings{url: c.opts.URL}
	for _, container := range pod.Containers {
		if url, ok, err := c.variable(ctx, container, "CLOUDSCALE_API_URL"); err != nil {
			return s, err
		} else if ok {
			s.url = url
		}
		if token, ok, err := c.variable(ctx, container, "CLOUDSCALE_ACCESS_TOKEN"); err != nil {
			return s, err
		} else if ok {
			s.token = token
		}
	}
	switch {
	case s.token == "":
		return s, errors.New("its manifest sets no CLOUDSCALE_ACCESS_TOKEN")
	case s.url == "":
		return s, errors.New("its manifest sets no CLOUDSCALE_API_URL, and devcloud has no other")
	}
	return s, nil
}

// variable resolves a variable of a container as the kubelet would. Errors name
// the secret, never its content.
func (c *controller) variable(ctx context.Context, container corev1.Container, name string) (value string, ok bool, err error) {
	for _, variable := range container.Env {
		if variable.Name != name {
			continue
		}
		if variable.ValueFrom == nil {
			return variable.Value, true, nil
		}
		if ref := variable.ValueFrom.SecretKeyRef; ref != nil {
			value, err := c.secret(ctx, ref.Name, ref.Key)
			return value, err == nil, err
		}
		return "", false, fmt.Errorf("its variable %s comes from a source that is not supported", name)
	}
	for _, source := range container.EnvFrom {
		if source.SecretRef == nil || !strings.HasPrefix(name, source.Prefix) {
			continue
		}
		if value, err := c.secret(ctx, source.SecretRef.Name, strings.TrimPrefix(name, source.Prefix)); err == nil {
			return value, true, nil
		}
	}
	return "", false, nil
}

func (c *controller) secret(ctx context.Context, name, key string) (string, error) {
	secret, err := c.api.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	value, ok := secret.Data[key]
	if !ok {
		return "", fmt.Errorf("secret %q has no key %q", name, key)
	}
	return strings.TrimSpace(string(value)), nil
}

// say logs what hinders the controller at a subject, once per change.
func (c *controller) say(subject string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if c.said[subject] == text {
		return
	}
	c.said[subject] = text
	if err != nil {
		c.opts.Log.Warn("cloud controller", "subject", subject, "error", err)
		return
	}
	c.opts.Log.Info("cloud controller", "subject", subject, "error", nil)
}

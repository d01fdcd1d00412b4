package resolve

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// kubeTimeout bounds one read of a Secret.
const kubeTimeout = 10 * time.Second

// Kube reads Kubernetes Secrets. It finds its cluster at the first read.
type Kube struct {
	config func() (*rest.Config, error)
	mu     sync.Mutex
	client corev1.SecretsGetter
}

var _ SecretReader = (*Kube)(nil)

// NewKube reads Secrets of the cluster that kubeconfig, a file, names. When it
// is empty the usual rules hold: $KUBECONFIG, ~/.kube/config, or the service
// account of the pod that this process runs in.
func NewKube(kubeconfig string) *Kube {
	return &Kube{config: func() (*rest.Config, error) {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = kubeconfig
		return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	}}
}

// ReadSecret returns one key of a Secret. NotFound when the Secret or the key
// is absent, Unauthorized when it may not be read, Invalid when no cluster is
// configured.
func (k *Kube) ReadSecret(ctx context.Context, namespace, name, key string) (secrets.Value, error) {
	client, err := k.connect()
	if err != nil {
		return secrets.Value{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, kubeTimeout)
	defer cancel()
	secret, err := client.Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return secrets.Value{}, kubeFault(err)
	}
	body, ok := secret.Data[key]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "", "the Secret has no such key")
	}
	return secrets.NewValue(body), nil
}

func (k *Kube) connect() (corev1.SecretsGetter, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.client != nil {
		return k.client, nil
	}
	const connecting = "find a Kubernetes API"
	cfg, err := k.config()
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, connecting, err)
	}
	client, err := corev1.NewForConfig(cfg)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, connecting, err)
	}
	k.client = client
	return client, nil
}

func kubeFault(err error) error {
	const reading = "read the Secret"
	switch {
	case apierrors.IsNotFound(err):
		return fault.Wrap(fault.NotFound, reading, err)
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		return fault.Wrap(fault.Unauthorized, reading, err)
	case apierrors.IsTooManyRequests(err):
		f := &fault.Error{Kind: fault.RateLimited, Op: reading, Err: err}
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
			f.RetryAfter = time.Duration(seconds) * time.Second
		}
		return f
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return fault.Wrap(fault.Invalid, reading, err)
	default:
		return fault.Wrap(fault.Unavailable, reading, err)
	}
}

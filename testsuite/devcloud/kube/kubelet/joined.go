package kubelet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
)

const (
	// leaseSeconds is the kubelet's default lease duration.
	leaseSeconds = 40
	// statusEvery is how often an unchanged status is reported all the same
	// (nodeStatusReportFrequency).
	statusEvery = 5 * time.Minute
	// callTimeout bounds one call: an API without a quorum never answers.
	callTimeout = 10 * time.Second
	// housekeeping is how often a kubelet looks at its pods when nothing
	// happens.
	housekeeping = time.Second
)

// joined is a kubelet with a certificate.
type joined struct {
	k      *Kubelet
	api    *client.Client
	bootID string

	uid         types.UID
	lease       *coordinationv1.Lease
	podCIDR     string
	pods        podSet
	labelled    bool
	uncordoned  bool
	network     bool
	reported    time.Time
	heartbeatAt time.Time
}

// register creates the Node object, or takes over the one of this name as after
// a reboot: labels of its own are brought up to date, taints are left alone.
func (j *joined) register() error {
	ctx, cancel := context.WithTimeout(j.k.ctx, callTimeout)
	defer cancel()
	spec := j.k.spec
	node, err := j.api.CoreV1().Nodes().Create(ctx, newNode(spec, j.bootID), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		node, err = j.api.CoreV1().Nodes().Get(ctx, spec.NodeName, metav1.GetOptions{})
		if err == nil {
			j.pods.rebooted = node.Status.NodeInfo.BootID != j.bootID
			err = patchLabels(ctx, j.api, node, ownLabels(spec))
		}
		if err == nil {
			err = j.report(ctx, node)
		}
	}
	if err != nil {
		return err
	}
	j.uid, j.podCIDR = node.UID, node.Spec.PodCIDR
	j.k.set(true, false)
	j.k.opts.Log.Info("kubelet registered", "node", spec.NodeName)
	return nil
}

// work keeps the node alive until the kubelet is stopped or the API refuses its
// certificate.
func (j *joined) work() error {
	// What client-go has to say of its watches goes to our log.
	ctx, cancel := context.WithCancel(klog.NewContext(j.k.ctx, logr.FromSlogHandler(j.k.opts.Log.Handler())))
	defer cancel()
	stop, events := j.pods.watch(ctx, j.api, j.k.spec.NodeName)
	defer stop()
	defer cancel()
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	for {
		if err := j.round(ctx); err != nil {
			return fmt.Errorf("the API at %s refuses the node's certificate: %w", j.k.spec.Endpoint, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-tick.C:
		}
	}
}

// round does what is due. It fails only when the API does not accept the
// node's certificate; everything else is tried again.
func (j *joined) round(ctx context.Context) error {
	var refused error
	note := func(what string, err error) {
		j.k.note(what, err)
		if apierrors.IsUnauthorized(err) {
			refused = err
		}
	}
	if !j.labelled {
		err := j.label(ctx)
		j.labelled = err == nil
		note("labels", err)
	}
	if !j.uncordoned {
		err := j.uncordon(ctx)
		j.uncordoned = err == nil
		note("uncordon", err)
	}
	network := j.network || j.pods.network()
	if network != j.network || time.Since(j.heartbeatAt) >= j.k.opts.HeartbeatEvery || j.podCIDR == "" && j.pods.any() {
		j.network = network
		err := j.heartbeat(ctx)
		if err == nil {
			j.heartbeatAt = time.Now()
		}
		note("status", err)
	}
	note("static pods", j.mirror(ctx))
	note("pods", j.pods.sync(ctx, j.api, j.network, j.podCIDR, j.k.spec.InternalIP))
	return refused
}

// label applies the configured labels as Talos does: on control plane nodes as
// administrator, elsewhere as the node itself, so that NodeRestriction refuses
// labels that a worker may not give itself.
func (j *joined) label(ctx context.Context) error {
	labels := configuredLabels(j.k.spec)
	if len(labels) == 0 {
		return nil
	}
	var api kubernetes.Interface = j.api
	if j.k.spec.ControlPlane {
		admin, ok := j.k.opts.Admin()
		if !ok {
			return errors.New("no API server of this cluster runs")
		}
		api = admin
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	node, err := api.CoreV1().Nodes().Get(ctx, j.k.spec.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return patchLabels(ctx, api, node, labels)
}

func patchLabels(ctx context.Context, api kubernetes.Interface, node *corev1.Node, labels map[string]string) error {
	want := maps.Clone(node.Labels)
	if want == nil {
		want = map[string]string{}
	}
	maps.Copy(want, labels)
	if maps.Equal(want, node.Labels) {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": labels}})
	if err != nil {
		return err
	}
	_, err = api.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	return err
}

// heartbeat renews the lease and reports the status if it is due. A Node object
// that somebody deleted is not made again: a kubelet registers when it starts.
func (j *joined) heartbeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	node, err := j.api.CoreV1().Nodes().Get(ctx, j.k.spec.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		j.k.set(false, false)
	}
	if err != nil {
		return err
	}
	j.podCIDR = node.Spec.PodCIDR
	if err := j.renew(ctx); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if err := j.report(ctx, node); err != nil {
		return err
	}
	j.k.set(true, j.network)
	return nil
}

// renew says that the node is alive. It keeps the lease as last written, so that
// a beat costs one call; after a refusal it starts from what is there.
func (j *joined) renew(ctx context.Context) error {
	leases, name := j.api.CoordinationV1().Leases(corev1.NamespaceNodeLease), j.k.spec.NodeName
	lease, now := j.lease, metav1.NowMicro()
	j.lease = nil
	var err error
	if lease == nil {
		lease, err = leases.Get(ctx, name, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		lease, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: corev1.NamespaceNodeLease,
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: name, UID: j.uid}},
			},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: &name, LeaseDurationSeconds: new(int32(leaseSeconds)), RenewTime: &now,
			},
		}, metav1.CreateOptions{})
	case err == nil:
		lease.Spec.HolderIdentity, lease.Spec.RenewTime = &name, &now
		lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	j.lease = lease
	return nil
}

// report brings the node's status up to date if it differs or is old.
func (j *joined) report(ctx context.Context, node *corev1.Node) error {
	now := metav1.Now()
	want := newStatus(j.k.spec, j.bootID, j.network)
	changed := devices(&want, node.Status) || node.Status.NodeInfo != want.NodeInfo
	for _, condition := range conditions(j.network, now) {
		have := find(node.Status.Conditions, condition.Type)
		if have.Status == condition.Status && have.Reason == condition.Reason {
			condition.LastTransitionTime = have.LastTransitionTime
		} else {
			changed = true
		}
		want.Conditions = append(want.Conditions, condition)
	}
	if len(node.Status.Addresses) == 0 {
		want.Addresses = addresses(j.k.spec)
	}
	if !changed && time.Since(j.reported) < statusEvery {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": want})
	if err != nil {
		return err
	}
	_, err = j.api.CoreV1().Nodes().Patch(ctx, node.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err == nil {
		j.reported = time.Now()
	}
	return err
}

func find(conditions []corev1.NodeCondition, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, condition := range conditions {
		if condition.Type == kind {
			return condition
		}
	}
	return corev1.NodeCondition{}
}

package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// jobRuntime is how long a pod of a Job runs before it has succeeded.
const jobRuntime = time.Second

// podSet is the pods bound to one node.
type podSet struct {
	store cache.Store
	// taken are the pod addresses in use, by pod.
	taken map[string]netip.Addr
	// unready are the node's own static pods that are not ready, by name.
	unready map[string]bool
	// rebooted says that the machine was restarted: the containers of what ran
	// are gone, once for each pod in fresh.
	rebooted bool
	fresh    map[string]bool
	// since is when a pod was first seen to start or to stop.
	since  map[string]time.Time
	scale  func(time.Duration) time.Duration
	notify func()
}

// Times that containers take, simulated.
const (
	podStart = time.Second
	podStop  = 2 * time.Second
)

// StopAnnotation says in seconds (simulated) how long a pod's containers take to
// end after they were told to; its grace period is the most.
const StopAnnotation = "devcloud/stop-seconds"

// passed says whether a simulated duration has passed since it was first asked
// about a pod's change; when it has not, the pod is looked at again in time.
func (p *podSet) passed(pod *corev1.Pod, change string, d time.Duration) bool {
	key := change + "/" + string(pod.UID)
	first, seen := p.since[key]
	if !seen {
		first = time.Now()
		p.since[key] = first
	}
	left := p.scale(d) - time.Since(first)
	if left <= 0 {
		return true
	}
	if !seen {
		time.AfterFunc(left, p.notify)
	}
	return false
}

// watch follows the node's pods; the channel gets a value when some changed.
func (p *podSet) watch(ctx context.Context, api kubernetes.Interface, node string) (stop func(), events <-chan struct{}) {
	factory := informers.NewSharedInformerFactoryWithOptions(api, 0,
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}))
	informer := factory.Core().V1().Pods().Informer()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(any, any) { notify() },
		DeleteFunc: func(any) { notify() },
	})
	if err != nil {
		// Only an informer that has stopped refuses handlers; the regular look
		// would do without.
		notify()
	}
	p.store, p.taken, p.notify = informer.GetStore(), map[string]netip.Addr{}, notify
	p.fresh, p.since = map[string]bool{}, map[string]time.Time{}
	factory.StartWithContext(ctx)
	return factory.Shutdown, changed
}

func (p *podSet) list() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, object := range p.store.List() {
		if pod, ok := object.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods
}

func (p *podSet) any() bool { return len(p.store.ListKeys()) > 0 }

// network says whether a pod runs that has put a CNI configuration on the host:
// one on the host's network that mounts the folders of the CNI.
func (p *podSet) network() bool {
	return slices.ContainsFunc(p.list(), func(pod *corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodRunning && pod.Spec.HostNetwork &&
			slices.ContainsFunc(pod.Spec.Volumes, func(volume corev1.Volume) bool {
				return volume.HostPath != nil && isCNIPath(volume.HostPath.Path)
			})
	})
}

func isCNIPath(path string) bool {
	path = strings.TrimRight(path, "/")
	return slices.Contains([]string{"/etc/cni", "/etc/cni/net.d", "/opt/cni", "/opt/cni/bin"}, path)
}

// sync does for each pod what a kubelet with a container runtime would: run what
// is bound, finish what is a job's, end what is to be deleted. Pods with a
// network of their own wait until the node has one.
func (p *podSet) sync(ctx context.Context, api kubernetes.Interface, network bool, podCIDR string, host netip.Addr) error {
	pods := p.list()
	p.forget(pods)
	var all error
	for _, pod := range pods {
		var err error
		switch {
		case pod.DeletionTimestamp != nil:
			err = p.end(ctx, api, pod)
		case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		case !pod.Spec.HostNetwork && !network:
		case p.unready[pod.Name] && isMirror(pod):
			if isReady(pod) {
				err = setStatus(ctx, api, pod, unready(pod))
			}
		case p.lostContainers(pod):
			err = setStatus(ctx, api, pod, restarted(pod))
			p.fresh[string(pod.UID)] = err == nil
		case finished(pod):
			err = setStatus(ctx, api, pod, succeeded(pod))
		case !isReady(pod) && p.passed(pod, "start", podStart):
			address := host
			if !pod.Spec.HostNetwork {
				address = p.address(pod, podCIDR)
			}
			if address.IsValid() {
				err = setStatus(ctx, api, pod, running(pod, host, address))
			}
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s/%s: %w", pod.Namespace, pod.Name, err))
		}
	}
	return all
}

// lostContainers says whether a pod ran when its machine went down.
func (p *podSet) lostContainers(pod *corev1.Pod) bool {
	return p.rebooted && !p.fresh[string(pod.UID)] && !isMirror(pod) && pod.Status.Phase == corev1.PodRunning
}

// stopTime is how long a pod's containers take to end.
func stopTime(pod *corev1.Pod) time.Duration {
	d := podStop
	if seconds, err := strconv.ParseFloat(pod.Annotations[StopAnnotation], 64); err == nil {
		d = time.Duration(seconds * float64(time.Second))
	}
	if grace := pod.DeletionGracePeriodSeconds; grace != nil {
		d = min(d, time.Duration(*grace)*time.Second)
	}
	return d
}

// end removes a terminating pod when its containers have ended.
func (p *podSet) end(ctx context.Context, api kubernetes.Interface, pod *corev1.Pod) error {
	if pod.DeletionGracePeriodSeconds != nil && *pod.DeletionGracePeriodSeconds == 0 {
		return nil // only finalizers keep it
	}
	if pod.Status.Phase == corev1.PodRunning && !p.passed(pod, "stop", stopTime(pod)) {
		return nil
	}
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = &metav1.Preconditions{UID: &pod.UID}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return ignoreGone(api.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options))
}

func setStatus(ctx context.Context, api kubernetes.Interface, pod *corev1.Pod, status corev1.PodStatus) error {
	updated := pod.DeepCopy()
	updated.Status = status
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := api.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, updated, metav1.UpdateOptions{})
	return ignoreGone(err)
}

// ignoreGone drops the errors of having looked at an old version of a pod: the
// watch brings the new one.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func isMirror(pod *corev1.Pod) bool {
	_, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return ok
}

func ofJob(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "Job"
}

func finished(pod *corev1.Pod) bool {
	return ofJob(pod) && pod.Status.Phase == corev1.PodRunning && pod.Status.StartTime != nil &&
		time.Since(pod.Status.StartTime.Time) >= jobRuntime
}

func isReady(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodRunning &&
		slices.ContainsFunc(pod.Status.Conditions, func(condition corev1.PodCondition) bool {
			return condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue
		})
}

func (p *podSet) forget(pods []*corev1.Pod) {
	present := map[string]bool{}
	for _, pod := range pods {
		present[string(pod.UID)] = true
		if address, err := netip.ParseAddr(pod.Status.PodIP); err == nil && !pod.Spec.HostNetwork {
			p.taken[string(pod.UID)] = address
		}
	}
	for uid := range p.taken {
		if !present[uid] {
			delete(p.taken, uid)
		}
	}
	for key := range p.since {
		if _, uid, _ := strings.Cut(key, "/"); !present[uid] {
			delete(p.since, key)
		}
	}
}

// address chooses the pod's address from the node's range; the zero value when
// the node has none yet or no more.
func (p *podSet) address(pod *corev1.Pod, podCIDR string) netip.Addr {
	if address, ok := p.taken[string(pod.UID)]; ok {
		return address
	}
	prefix, err := netip.ParsePrefix(podCIDR)
	if err != nil {
		return netip.Addr{}
	}
	used := map[netip.Addr]bool{}
	for _, address := range p.taken {
		used[address] = true
	}
	// The first two are the network's own and the bridge's.
	for address := prefix.Masked().Addr().Next().Next(); prefix.Contains(address); address = address.Next() {
		if !used[address] {
			p.taken[string(pod.UID)] = address
			return address
		}
	}
	return netip.Addr{}
}

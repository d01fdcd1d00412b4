package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
)

const (
	// interval is how often the cluster's API is asked for the workload; nodes
	// are listed once in nodesEvery of that.
	interval   = 100 * time.Millisecond
	nodesEvery = 3
	// unanswered is when a request has failed.
	unanswered = 2 * time.Second
)

// seen is one look at the workload and the nodes.
type seen struct {
	at      time.Time
	ready   int
	nodes   map[string]corev1.Node
	nodesAt time.Time
}

// watch looks at the cluster through its API, as any user of it could, for as long
// as it lives, and remembers the worst.
type watch struct {
	api  kubernetes.Interface
	stop context.CancelFunc
	over sync.WaitGroup

	mu    sync.Mutex
	now   seen
	first map[string]corev1.Node // every node as it was when it was first seen
	// before and after are the nodes when the measurement began and ended.
	before, after map[string]corev1.Node
	lowest        seen
	samples       int
	changes       int
	requests      int
	failed        int
	failures      map[string]int
	silence       time.Duration            // the longest without an answer
	pods          map[types.UID]corev1.Pod // but for those on their way out
	homes         map[types.UID]home
	broken        []string
	workersAway   int // at most, at once
}

// home is where a pod was first seen.
type home struct {
	pod, node, boot string
	rebooted        bool
}

func newWatch(ctx context.Context, config *rest.Config) (*watch, error) {
	klog.SetLogger(logr.Discard()) // what fails is counted; nobody wants it between the lines
	config = rest.CopyConfig(config)
	config.Timeout = unanswered
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = config.ContentType
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.Timeout = 0 // which would also end what streams
	stream, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	w := &watch{api: api, stop: stop, first: map[string]corev1.Node{}}
	w.reset()
	w.over.Go(func() { w.run(ctx) })
	w.over.Go(func() { w.follow(ctx, stream) })
	return w, nil
}

func (w *watch) reset() {
	w.lowest, w.samples, w.changes, w.requests, w.failed, w.silence = seen{ready: -1}, 0, 0, 0, 0, 0
	w.failures, w.homes, w.broken, w.workersAway = map[string]int{}, map[types.UID]home{}, nil, 0
}

// begin starts the measurement anew.
func (w *watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reset()
	w.before = w.now.nodes
}

// end ends the measurement with a last look at the nodes.
func (w *watch) end(ctx context.Context) error {
	asked := time.Now()
	err := w.until(ctx, "the nodes are seen", func(s seen) bool { return s.nodesAt.After(asked) })
	w.close()
	w.after = w.now.nodes
	return err
}

func (w *watch) close() {
	w.stop()
	w.over.Wait()
}

func (w *watch) run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	answered := time.Now()
	for n := 0; ; n++ {
		pods, err := w.api.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=" + workload})
		w.count(ctx, err, &answered)
		if err == nil {
			w.workload(pods.Items)
		}
		if err == nil && n%nodesEvery == 0 {
			asked := time.Now()
			nodes, err := w.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
			w.count(ctx, err, &answered)
			if err == nil {
				w.machines(asked, nodes.Items)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// count keeps the books of the API's availability.
func (w *watch) count(ctx context.Context, err error, answered *time.Time) {
	if ctx.Err() != nil {
		return // it was given up, not refused
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests++
	if err != nil {
		w.failed++
		w.failures[err.Error()]++
		return
	}
	w.silence = max(w.silence, time.Since(*answered))
	*answered = time.Now()
}

// workload takes note of a look at the pods.
func (w *watch) workload(pods []corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now.at, w.now.ready, w.pods = time.Now(), 0, map[types.UID]corev1.Pod{}
	for _, p := range pods {
		if available(p) {
			w.now.ready++
		}
		if p.DeletionTimestamp == nil {
			w.pods[p.UID] = p
		}
	}
	for uid, h := range w.homes {
		switch _, there := w.pods[uid]; {
		case !there:
			delete(w.homes, uid)
		case h.rebooted:
			w.broken = append(w.broken, fmt.Sprintf("pod %s was still on %s when it rebooted", h.pod, h.node))
			delete(w.homes, uid)
		}
	}
	w.samples++
	w.least(w.now.ready)
}

func (w *watch) least(n int) {
	if w.lowest.ready < 0 || n < w.lowest.ready {
		w.lowest = seen{at: time.Now(), ready: n}
	}
}

// available is what counts for a disruption budget.
func available(p corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// machines takes note of a look at the nodes, which follows one at the pods. A pod
// that is seen again on a node with another boot than when it came was there when
// the node went down, whatever its readiness said.
func (w *watch) machines(asked time.Time, nodes []corev1.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all, away := map[string]corev1.Node{}, 0
	for _, n := range nodes {
		all[n.Name] = n
		if _, known := w.first[n.Name]; !known {
			w.first[n.Name] = n
		}
		if _, counted := w.before[n.Name]; counted && isWorker(n) && (n.Spec.Unschedulable || !ready(n)) {
			away++
		}
	}
	w.now.nodes, w.now.nodesAt, w.workersAway = all, asked, max(w.workersAway, away)
	for uid, p := range w.pods {
		n, ok := all[p.Spec.NodeName]
		if !ok {
			continue
		}
		h, known := w.homes[uid]
		if !known {
			h = home{pod: p.Name, node: n.Name, boot: n.Status.NodeInfo.BootID}
		}
		h.rebooted = h.boot != n.Status.NodeInfo.BootID
		w.homes[uid] = h
	}
}

func ready(n corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

func (w *watch) look() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// until waits for a look at which something is so.
func (w *watch) until(ctx context.Context, what string, ok func(seen) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for !ok(w.look()) {
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not come about that %s: %d are available: %w", what, w.look().ready, ctx.Err())
		case <-time.After(interval):
		}
	}
	return nil
}

// atWork is a worker that is cordoned now, or nothing.
func (w *watch) atWork() string {
	for _, n := range w.look().nodes {
		if isWorker(n) && n.Spec.Unschedulable {
			return n.Name
		}
	}
	return ""
}

// newcomers are the nodes that came since the measurement began, as they were when
// they were first seen.
func (w *watch) newcomers() []corev1.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []corev1.Node
	for _, name := range slices.Sorted(maps.Keys(w.first)) {
		if _, old := w.before[name]; !old {
			out = append(out, w.first[name])
		}
	}
	return out
}

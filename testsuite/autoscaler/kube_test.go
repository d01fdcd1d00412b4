package autoscaler

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/ichor-project/ichor/internal/cluster"
)

// poolLabel ties pods to a group's nodes.
const poolLabel = "example.com/pool"

// newGroup has machines of 4 CPUs, of which a pod that asks for 3 fills one; the
// cloud's flavor of that size comes with the cluster.
func newGroup(name string, least, most int) cluster.NodeGroup {
	return cluster.NodeGroup{
		Name: name, Min: least, Max: most, Labels: map[string]string{poolLabel: name},
	}
}

// load is a deployment whose pods run on one group only, one on each node.
type load struct {
	s     *system
	group string
}

// pods runs n pods on the nodes of a group.
func (s *system) pods(group string, n int32) load {
	s.t.Helper()
	s.deploy(group, n, "3", map[string]string{poolLabel: group})
	return load{s, group}
}

func (s *system) deploy(name string, n int32, cpu string, selector map[string]string) {
	s.t.Helper()
	labels, grace, yes, no := map[string]string{"app": name}, int64(0), true, false
	_, err := s.kube.AppsV1().Deployments("default").Create(s.ctx(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					NodeSelector: selector, TerminationGracePeriodSeconds: &grace,
					SecurityContext: &corev1.PodSecurityContext{
						RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
					},
					Containers: []corev1.Container{{
						Name: "pause", Image: "registry.k8s.io/pause:3.10",
						SecurityContext: &corev1.SecurityContext{
							AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
						},
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
							corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("128Mi"),
						}},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	s.must(err)
}

func (s *system) scale(name string, n int32) {
	s.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
	_, err := s.kube.AppsV1().Deployments("default").Patch(s.ctx(), name, types.MergePatchType, patch, metav1.PatchOptions{})
	s.must(err)
}

func (l load) scale(n int32) {
	l.s.t.Helper()
	l.s.scale(l.group, n)
}

// running waits until exactly n pods run.
func (l load) running(n int) {
	l.s.t.Helper()
	l.s.until(fmt.Sprintf("%d pods of %s run", n, l.group), func() bool { return l.count() == n })
}

func (l load) count() int {
	l.s.t.Helper()
	list, err := l.s.kube.CoreV1().Pods("default").List(l.s.ctx(), metav1.ListOptions{LabelSelector: "app=" + l.group})
	l.s.must(err)
	n := 0
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

// nodes lists the Node objects of a group.
func (s *system) nodes(group string) []corev1.Node {
	s.t.Helper()
	list, err := s.kube.CoreV1().Nodes().List(s.ctx(), metav1.ListOptions{LabelSelector: poolLabel + "=" + group})
	s.must(err)
	return list.Items
}

// statusOf is the autoscaler's own view of a group.
type statusOf struct {
	Name   string `json:"name"`
	Health struct {
		Status     string `json:"status"`
		NodeCounts struct {
			Registered struct {
				Total int `json:"total"`
				Ready int `json:"ready"`
			} `json:"registered"`
			LongUnregistered int `json:"longUnregistered"`
			Unregistered     int `json:"unregistered"`
		} `json:"nodeCounts"`
		Target int `json:"cloudProviderTarget"`
	} `json:"health"`
	ScaleUp struct {
		Status  string `json:"status"`
		Backoff struct {
			Code    string `json:"errorCode"`
			Message string `json:"errorMessage"`
		} `json:"backoffInfo"`
	} `json:"scaleUp"`
}

// seen is the autoscaler's published status of a group; ok is false while it
// has published none.
func (s *system) seen(group string) (out statusOf, ok bool) {
	s.t.Helper()
	m, err := s.kube.CoreV1().ConfigMaps("kube-system").Get(s.ctx(), "cluster-autoscaler-status", metav1.GetOptions{})
	if err != nil {
		return out, false
	}
	var all struct {
		NodeGroups []statusOf `json:"nodeGroups"`
	}
	if err := yaml.Unmarshal([]byte(m.Data["status"]), &all); err != nil {
		return out, false // the text before the first loop
	}
	for _, g := range all.NodeGroups {
		if g.Name == s.id(group) {
			return g, true
		}
	}
	return out, false
}

// backsOff waits until the autoscaler has a group in backoff.
func (s *system) backsOff(group string) statusOf {
	s.t.Helper()
	var last statusOf
	s.until(group+" is in backoff", func() bool {
		var ok bool
		last, ok = s.seen(group)
		return ok && last.ScaleUp.Status == "Backoff"
	})
	return last
}

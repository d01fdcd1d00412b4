package autoscaler

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// The options of the group that has some.
var optionsOf = cluster.Autoscaling{
	ScaleDownUtilizationThreshold: 0.4, ScaleDownGPUUtilizationThreshold: 0.3,
	ScaleDownUnneededTime: cluster.Duration(7 * time.Second), ScaleDownUnreadyTime: cluster.Duration(31 * time.Second),
	MaxNodeProvisionTime: cluster.Duration(caProvision + time.Second), IgnoreDaemonSetsUtilization: true,
}

func withOptions(name string) cluster.NodeGroup {
	g := newGroup(name, 0, 3)
	g.Autoscaling = &optionsOf
	g.Taints = []cluster.Taint{{Key: "example.com/only", Value: "this", Effect: "NoSchedule"}}
	return g
}

// options: the group that has options answers with all of them in both forms and
// the others with none; the template is the same through both wires and promises
// nothing that a real node of the group has not.
func options(s *system, g string) {
	config := s.cloudConfigIn("options", s.listen)
	var seen []map[string]description
	for _, w := range wires {
		list, err := describe(s.ctx(), w, config)
		s.must(err)
		groups := map[string]description{}
		for _, d := range list {
			groups[d.ID] = d
			switch {
			case d.Template == nil:
				s.t.Errorf("%s: %s has no template", w, d.ID)
			case d.ID == s.id(g):
				s.wantOptions(w, d)
			case string(d.Options) != "null":
				s.t.Errorf("%s: %s has options: %s", w, d.ID, d.Options)
			}
		}
		seen = append(seen, groups)
	}
	for id, old := range seen[0] {
		if diff := cmp.Diff(old.Template, seen[1][id].Template); diff != "" {
			s.t.Errorf("%s: template (-%s +%s):\n%s", id, oldWire, newWire, diff)
		}
	}
	s.wantBothForms(g)
	// Releases from 1.35 on take the time for getting ready for zero whenever
	// options are answered.
	s.until("the log warns of it", func() bool {
		return slices.ContainsFunc(strings.Split(s.log("provider"), "\n"), func(line string) bool {
			return strings.Contains(line, "level=WARN") && strings.Contains(line, "1.35") && strings.Contains(line, s.id(g))
		})
	})
	template := seen[1][s.id(g)].Template
	s.must(s.increase(s.dial(), g, 1))
	s.until("a node of the group is ready", func() bool { return len(s.nodes(g)) == 1 && ready(s.nodes(g)[0]) })
	s.wantTrue(template, s.nodes(g)[0])
	s.cleaned(g)
}

func (s *system) wantOptions(w Wire, d description) {
	s.t.Helper()
	var o struct {
		ScaleDownUtilizationThreshold, ScaleDownGpuUtilizationThreshold   float64
		ScaleDownUnneededTime, ScaleDownUnreadyTime, MaxNodeProvisionTime time.Duration
		ZeroOrMaxNodeScaling, IgnoreDaemonSetsUtilization                 bool
	}
	s.must(json.Unmarshal(d.Options, &o))
	have := cluster.Autoscaling{
		ScaleDownUtilizationThreshold: o.ScaleDownUtilizationThreshold, ScaleDownGPUUtilizationThreshold: o.ScaleDownGpuUtilizationThreshold,
		ScaleDownUnneededTime: cluster.Duration(o.ScaleDownUnneededTime), ScaleDownUnreadyTime: cluster.Duration(o.ScaleDownUnreadyTime),
		MaxNodeProvisionTime: cluster.Duration(o.MaxNodeProvisionTime), IgnoreDaemonSetsUtilization: o.IgnoreDaemonSetsUtilization,
	}
	if diff := cmp.Diff(optionsOf, have); diff != "" || o.ZeroOrMaxNodeScaling {
		s.t.Errorf("%s: options (-want +have): %s", w, diff)
	}
}

// wantBothForms looks at the numbers of the fields: a client of the older wire
// does not survive a missing duration, one of the newer takes it for zero.
func (s *system) wantBothForms(g string) {
	s.t.Helper()
	r, err := s.dial().NodeGroupGetOptions(s.ctx(), &wire.NodeGroupAutoscalingOptionsRequest{Id: s.id(g), Defaults: &wire.NodeGroupAutoscalingOptions{}})
	s.must(err)
	body, err := proto.Marshal(r.GetNodeGroupAutoscalingOptions())
	s.must(err)
	have := map[protowire.Number]bool{}
	for rest := body; len(rest) > 0; {
		number, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			s.t.Fatalf("options cannot be read: %v", protowire.ParseError(n))
		}
		have[number], rest = true, rest[n:]
	}
	// 6 is false and 11 and 12 are of later releases; false is not sent.
	for _, number := range []protowire.Number{1, 2, 3, 4, 5, 7, 8, 9, 10} {
		if !have[number] {
			s.t.Errorf("options lack field %d", number)
		}
	}
}

func ready(n corev1.Node) bool {
	return len(n.Spec.Taints) <= 1 && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// wantTrue compares a template with a node.
func (s *system) wantTrue(template *corev1.Node, node corev1.Node) {
	s.t.Helper()
	for key, value := range template.Labels {
		// Labels of the CSI driver come with it, and none runs here.
		if have, ok := node.Labels[key]; key != corev1.LabelHostname && !strings.HasPrefix(key, "csi.") && (!ok || have != value) {
			s.t.Errorf("the template has label %s=%s, the node %q", key, value, have)
		}
	}
	if node.Labels[poolLabel] != template.Labels[poolLabel] || template.Labels[poolLabel] == "" {
		s.t.Errorf("labels of the template: %v", template.Labels)
	}
	if diff := cmp.Diff(node.Spec.Taints, template.Spec.Taints); diff != "" {
		s.t.Errorf("taints (-node +template):\n%s", diff)
	}
	for _, kind := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, corev1.ResourcePods} {
		promised, real := template.Status.Allocatable[kind], node.Status.Allocatable[kind]
		if promised.IsZero() || promised.Cmp(real) > 0 {
			s.t.Errorf("%s: the template promises %v, the node has %v", kind, promised.String(), real.String())
		}
	}
}

// wantGPUCallsOnce: both answers are kept by the autoscaler for its whole life,
// unless they are errors.
func (s *system) wantGPUCallsOnce() {
	s.t.Helper()
	for _, method := range []string{"GPULabel", "GetAvailableGPUTypes"} {
		if calls := s.calls(0, method, ""); len(calls) != 1 || calls[0].Code != codes.OK {
			s.t.Errorf("%s: %v", method, calls)
		}
	}
}

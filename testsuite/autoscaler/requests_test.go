package autoscaler

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// requests are sequences of calls of the test's own, beside the autoscaler:
// above all what only releases from 1.35 do.
var requests = []scenario{
	{name: "bounds", groups: []cluster.NodeGroup{newGroup("bounds", 0, 5)}, run: func(s *system) { bounds(s, "bounds") }},
	{name: "decrease while the cloud works", groups: []cluster.NodeGroup{newGroup("less", 0, 5)}, run: func(s *system) { decrease(s, "less") }},
	{name: "batch", groups: []cluster.NodeGroup{newGroup("batch", 0, 5), newGroup("single", 0, 5)}, run: func(s *system) { batch(s, "batch", "single") }},
	{name: "nodes of nobody", run: foreign},
	{name: "storm of deletions", groups: []cluster.NodeGroup{newGroup("storm", 0, 5)}, run: func(s *system) { storm(s, "storm") }},
	{name: "revert of a half successful request", groups: []cluster.NodeGroup{newGroup("revert", 0, 5)}, run: func(s *system) { revert(s, "revert") }},
	{name: "options and templates", groups: []cluster.NodeGroup{withOptions("options")}, both: true, run: func(s *system) { options(s, "options") }},
}

// dial connects straight to the provider.
func (s *system) dial() wire.CloudProviderClient {
	s.t.Helper()
	return s.dialAs(s.trust)
}

func (s *system) dialAs(trust *certs.Authority) wire.CloudProviderClient {
	s.t.Helper()
	pair, err := trust.Issue("judge")
	s.must(err)
	config, err := s.trust.Config(pair)
	s.must(err)
	conn, err := grpc.NewClient("passthrough:///"+s.listen, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	s.must(err)
	s.t.Cleanup(func() { s.noError(conn.Close()) })
	return wire.NewCloudProviderClient(conn)
}

func (s *system) target(g string) int {
	s.t.Helper()
	r, err := s.dial().NodeGroupTargetSize(s.ctx(), &wire.NodeGroupTargetSizeRequest{Id: s.id(g)})
	s.must(err)
	return int(r.GetTargetSize())
}

func (s *system) instances(g string) []*wire.Instance {
	s.t.Helper()
	r, err := s.dial().NodeGroupNodes(s.ctx(), &wire.NodeGroupNodesRequest{Id: s.id(g)})
	s.must(err)
	return r.GetInstances()
}

func (s *system) increase(c wire.CloudProviderClient, g string, delta int32) error {
	_, err := c.NodeGroupIncreaseSize(s.ctx(), &wire.NodeGroupIncreaseSizeRequest{Id: s.id(g), Delta: delta})
	return err
}

func (s *system) decreaseBy(c wire.CloudProviderClient, g string, delta int32) error {
	_, err := c.NodeGroupDecreaseTargetSize(s.ctx(), &wire.NodeGroupDecreaseTargetSizeRequest{Id: s.id(g), Delta: -delta})
	return err
}

// remove asks for the deletion of nodes by their provider IDs.
func (s *system) remove(c wire.CloudProviderClient, g string, ids ...string) error {
	r := &wire.NodeGroupDeleteNodesRequest{Id: s.id(g)}
	for _, id := range ids {
		r.Nodes = append(r.Nodes, &wire.ExternalGrpcNode{ProviderID: id, Name: id})
	}
	_, err := c.NodeGroupDeleteNodes(s.ctx(), r)
	return err
}

func (s *system) providerIDs(g string) (ids []string) {
	s.t.Helper()
	for _, n := range s.nodes(g) {
		ids = append(ids, n.Spec.ProviderID)
	}
	return ids
}

func (s *system) wantTarget(g string, n int) {
	s.t.Helper()
	if have := s.target(g); have != n {
		s.t.Errorf("%s: target %d, want %d", g, have, n)
	}
}

// cleaned waits until the autoscaler has removed what nobody needs.
func (s *system) cleaned(g string) {
	s.t.Helper()
	s.until("the group "+g+" is empty", func() bool {
		return s.target(g) == 0 && len(s.servers(g)) == 0 && len(s.nodes(g)) == 0
	})
}

// bounds: what is out of bounds is refused and creates nothing; of two requests
// at once that fit only one by one, one is refused.
func bounds(s *system, g string) {
	c := s.dial()
	for _, delta := range []int32{0, -1} {
		if err := s.increase(c, g, delta); status.Code(err) != codes.InvalidArgument {
			s.t.Errorf("increase by %d: %v", delta, err)
		}
	}
	if err := s.increase(c, g, 6); err == nil {
		s.t.Error("an increase beyond max was accepted")
	}
	s.wantTarget(g, 0)
	var answers [2]error
	var work sync.WaitGroup
	for i := range answers {
		work.Go(func() { answers[i] = s.increase(c, g, 3) })
	}
	work.Wait()
	if (answers[0] == nil) == (answers[1] == nil) {
		s.t.Errorf("two requests for 3 of 5: %v, %v", answers[0], answers[1])
	}
	s.wantTarget(g, 3)
	s.until("three machines", func() bool { return s.bill(g).Created == 3 })
	s.cleaned(g)
	if b := s.bill(g); b != (bill{3, 3}) {
		s.t.Errorf("machines: %+v", b)
	}
}

// decrease: machines that were asked for are given up while the cloud's answer to
// the first create is awaited. What the cloud made nevertheless is destroyed.
func decrease(s *system, g string) {
	release := s.fault(g, "hold-after", map[string]any{"count": 1})
	c := s.dial()
	s.must(s.increase(c, g, 2))
	s.wantTarget(g, 2)
	if all := s.instances(g); len(all) != 2 || !creating(all[0]) || !creating(all[1]) {
		s.t.Errorf("before any machine has been answered for: %v", all)
	}
	s.until("the cloud has made one", func() bool { return len(s.servers(g)) >= 1 })
	s.must(s.decreaseBy(c, g, 2))
	s.wantTarget(g, 0)
	release()
	s.until("nothing is left", func() bool { return len(s.servers(g)) == 0 && len(s.instances(g)) == 0 })
	if b := s.bill(g); b.Created > 2 {
		s.t.Errorf("machines: %+v", b)
	}
	s.wantTarget(g, 0)
}

// batch: five nodes and a foreign one are refused as a whole; five at once and
// five calls beside each other have the same result.
func batch(s *system, g, other string) {
	l, lo := s.pods(g, 5), s.pods(other, 5)
	l.running(5)
	lo.running(5)
	c := s.dial()
	planes, err := s.kube.CoreV1().Nodes().List(s.ctx(), metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/control-plane"})
	s.must(err)
	ids, others := s.providerIDs(g), s.providerIDs(other)
	for _, stranger := range []string{others[0], planes.Items[0].Spec.ProviderID, "cloudscale://unknown"} {
		if err := s.remove(c, g, append(slices.Clone(ids), stranger)...); err == nil {
			s.t.Errorf("a batch with %s was accepted", stranger)
		}
	}
	s.wantTarget(g, 5)
	s.wantTarget(other, 5)
	l.scale(0)
	lo.scale(0)
	s.must(s.remove(c, g, ids...))
	var work sync.WaitGroup
	answers := make([]error, len(others))
	for i, id := range others {
		work.Go(func() { answers[i] = s.remove(c, other, id) })
	}
	work.Wait()
	for _, err := range answers {
		s.noError(err)
	}
	s.wantTarget(g, 0)
	s.wantTarget(other, 0)
	s.cleaned(g)
	s.cleaned(other)
	for _, g := range []string{g, other} {
		if b := s.bill(g); b != (bill{5, 5}) {
			s.t.Errorf("machines of %s: %+v", g, b)
		}
	}
}

// foreign: nodes that no group owns get an answer with an empty id, quickly.
func foreign(s *system) {
	c := s.dial()
	planes, err := s.kube.CoreV1().Nodes().List(s.ctx(), metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/control-plane"})
	s.must(err)
	refs := []*wire.ExternalGrpcNode{{Name: planes.Items[0].Name, ProviderID: planes.Items[0].Spec.ProviderID}, {Name: "by-hand"}, {}}
	for i := range 1000 {
		refs = append(refs, &wire.ExternalGrpcNode{Name: fmt.Sprintf("n%d", i), ProviderID: fmt.Sprintf("cloudscale://%d", i)})
	}
	began := time.Now()
	for _, ref := range refs {
		r, err := c.NodeGroupForNode(s.ctx(), &wire.NodeGroupForNodeRequest{Node: ref})
		s.must(err)
		if r.GetNodeGroup().GetId() != "" {
			s.t.Errorf("%v is of %v", ref, r)
		}
	}
	s.t.Logf("%d nodes of nobody in %v", len(refs), time.Since(began))
}

// storm is what releases from 1.35 do with a node whose deletion takes them too
// long: the same request again and again. It counts once, also when the machine
// is gone.
func storm(s *system, g string) {
	l := s.pods(g, 2)
	l.running(2)
	s.keepNodes(g)
	c, id := s.dial(), s.providerIDs(g)[0]
	l.scale(0)
	for range 50 {
		s.must(s.remove(c, g, id))
		s.wantTarget(g, 1)
	}
	s.until("the machine is gone", func() bool { return len(s.servers(g)) == 1 })
	for range 50 {
		s.must(s.remove(c, g, id))
	}
	s.wantTarget(g, 1)
	s.must(s.remove(c, g, s.providerIDs(g)...))
	s.cleaned(g)
	if b := s.bill(g); b != (bill{2, 2}) {
		s.t.Errorf("machines: %+v", b)
	}
}

// revert is what releases from 1.36 do when a request for two has timed out of
// which one runs: they take back both. The one that runs stays.
func revert(s *system, g string) {
	s.defect(g, 1, map[string]any{"neverBoots": true})
	l := s.pods(g, 2)
	l.running(1)
	c := s.dial()
	err := s.decreaseBy(c, g, 2)
	if code := status.Code(err); code != codes.OK && code != codes.FailedPrecondition {
		s.t.Errorf("the revert was answered with %v", err)
	}
	if n := s.target(g); n < 1 {
		s.t.Errorf("target %d although one machine runs", n)
	}
	if n := l.count(); n != 1 {
		s.t.Errorf("%d pods run after the revert", n)
	}
	s.until("the autoscaler is told that it runs", func() bool {
		return slices.ContainsFunc(s.instances(g), func(i *wire.Instance) bool {
			return i.GetStatus().GetInstanceState() == wire.InstanceStatus_instanceRunning
		})
	})
	l.running(2) // the second is replaced or asked for again
	l.scale(0)
	s.cleaned(g)
}

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

package autoscaler

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/apimachinery/pkg/types"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
	"github.com/ichor-project/ichor/workflows"
)

// lifecycle is what happens when nothing is wrong.
var lifecycle = []scenario{
	{name: "from zero and back", groups: []cluster.NodeGroup{newGroup("zero", 0, 5)}, both: true, run: func(s *system) {
		fromZeroAndBack(s, "zero")
	}},
	{name: "drains before it deletes", groups: []cluster.NodeGroup{newGroup("drain", 0, 5)}, run: func(s *system) {
		drains(s, "drain")
	}},
	{name: "replace three", groups: []cluster.NodeGroup{newGroup("swap", 0, 6)}, run: func(s *system) {
		replaceThree(s, "swap")
	}},
	{name: "person and autoscaler at once", groups: []cluster.NodeGroup{newGroup("both", 0, 6)}, run: func(s *system) {
		personToo(s, "both")
	}},
	{name: "a person pauses the group", groups: []cluster.NodeGroup{newGroup("paused", 0, 5)}, run: func(s *system) {
		paused(s, "paused")
	}},
	{name: "two providers at once", groups: []cluster.NodeGroup{newGroup("double", 0, 5)}, waits: true, run: func(s *system) {
		twoProviders(s, "double")
	}},
}

// fromZeroAndBack: one pending pod is one request, one durable machine and one
// instance from the moment of acceptance; the node is matched by its provider ID;
// without the pod the autoscaler removes all of it.
func fromZeroAndBack(s *system, g string) {
	l := s.pods(g, 1)
	asked := s.first(0, mIncrease, g, nil)
	if d := asked.Request.(*wire.NodeGroupIncreaseSizeRequest).GetDelta(); d != 1 || asked.Code != codes.OK {
		s.t.Fatalf("asked: %v", asked)
	}
	after := func(c proxy.Call) bool { return !c.Start.Before(asked.Start.Add(asked.Took)) }
	if n := s.first(0, mTarget, g, after).Response.(*wire.NodeGroupTargetSizeResponse).GetTargetSize(); n != 1 {
		s.t.Errorf("the first target after the request is %d", n)
	}
	listed := s.first(0, mNodes, g, after).Response.(*wire.NodeGroupNodesResponse).GetInstances()
	if len(listed) != 1 {
		s.t.Errorf("the first list after the request has %v", listed)
	}
	l.running(1)

	nodes := s.nodes(g)
	if len(nodes) != 1 {
		s.t.Fatalf("%d nodes", len(nodes))
	}
	node := nodes[0]
	id := node.Spec.ProviderID
	s.first(0, mNodes, g, func(c proxy.Call) bool {
		all := c.Response.(*wire.NodeGroupNodesResponse).GetInstances()
		return len(all) == 1 && all[0].GetId() == id && all[0].GetStatus().GetInstanceState() == wire.InstanceStatus_instanceRunning
	})
	s.until("the autoscaler sees the node registered", func() bool {
		st, ok := s.seen(g)
		h := st.Health
		return ok && h.Target == 1 && h.NodeCounts.Registered.Ready == 1 && h.NodeCounts.Unregistered == 0 && h.NodeCounts.LongUnregistered == 0
	})
	if b := s.bill(g); b != (bill{1, 1}) {
		s.t.Errorf("machines: %+v", b)
	}

	l.scale(0)
	gone := s.first(0, mDelete, g, nil)
	if gone.Code != codes.OK || !slices.Equal(deleted([]proxy.Call{gone}), []string{id}) {
		s.t.Errorf("asked: %v", gone)
	}
	end := gone.Start.Add(gone.Took)
	if n := s.first(0, mTarget, g, func(c proxy.Call) bool { return c.Start.After(end) }).Response.(*wire.NodeGroupTargetSizeResponse).GetTargetSize(); n != 0 {
		s.t.Errorf("the first target after the deletion is %d", n)
	}
	s.until("the machine is gone", func() bool { return len(s.servers(g)) == 0 })
	s.until("its Node is gone", func() bool { return len(s.nodes(g)) == 0 })
	for _, c := range s.calls(0, mNodes, g) {
		for _, i := range c.Response.(*wire.NodeGroupNodesResponse).GetInstances() {
			if c.Start.After(end) && i.GetStatus().GetInstanceState() != wire.InstanceStatus_instanceDeleting {
				s.t.Errorf("after the deletion: %v", i)
			}
		}
	}
	s.quiet(g, 5*time.Second)
	if all := s.calls(0, mDelete, g); len(all) != 1 {
		s.t.Errorf("asked %d times to delete one node: %v", len(all), all)
	}
	if all := s.calls(0, mIncrease, g); len(all) != 1 {
		s.t.Errorf("asked %d times for one node: %v", len(all), all)
	}
}

// quiet lets loops of the autoscaler pass and returns when no request for the
// group has come for so long.
func (s *system) quiet(g string, d time.Duration) {
	s.t.Helper()
	count, since := -1, time.Now()
	s.until("no more requests for "+g, func() bool {
		n := len(s.calls(0, mIncrease, g)) + len(s.calls(0, mDelete, g)) + len(s.calls(0, mDecrease, g))
		if n != count {
			count, since = n, time.Now()
		}
		return time.Since(since) > d
	})
}

// drains: two nodes are little used; the autoscaler moves the pods of one to the
// other before it has it deleted.
func drains(s *system, g string) {
	s.deploy(g, 4, "1500m", map[string]string{poolLabel: g}) // two on each node
	l := load{s, g}
	l.running(4)
	if n := len(s.nodes(g)); n != 2 {
		s.t.Fatalf("%d nodes for four pods, of which two fit on one", n)
	}
	l.scale(2)
	s.first(0, mDelete, g, nil)
	s.until("one machine is left", func() bool { return len(s.servers(g)) == 1 && len(s.nodes(g)) == 1 })
	l.running(2)
	if b := s.bill(g); b.Created != 2 {
		s.t.Errorf("machines: %+v", b)
	}
}

// replaceThree: nodes are replaced by requests to the group while the autoscaler
// runs; it neither deletes the new ones nor adds more.
func replaceThree(s *system, g string) {
	l := s.pods(g, 3)
	l.running(3)
	mark := s.proxy.Mark()
	old := s.nodes(g)
	for i, node := range old {
		s.ichor("scale", s.id(g), "--by", "+1", "--wait")
		s.keepNodes(g)
		s.ichor("scale", s.id(g), "--delete", node.Name, "--wait")
		s.until("the old machine is gone", func() bool { return len(s.servers(g)) == 3 })
		s.t.Logf("%d of 3 replaced", i+1)
	}
	l.running(3)
	left := map[string]bool{}
	for _, n := range s.nodes(g) {
		left[n.Name] = true
	}
	for _, n := range old {
		if left[n.Name] {
			s.t.Errorf("%s is still there", n.Name)
		}
	}
	if d := s.calls(mark, mDelete, g); len(d) != 0 {
		s.t.Errorf("the autoscaler deleted: %v", d)
	}
	if d := s.calls(mark, mIncrease, g); len(d) != 0 {
		s.t.Errorf("the autoscaler added: %v", d)
	}
	if b := s.bill(g); b != (bill{6, 4}) {
		s.t.Errorf("machines: %+v, want 6 created and at most 4 at once", b)
	}
	if n := s.group(g).Target; n != 3 {
		s.t.Errorf("target %d", n)
	}
}

// keepNodes tells the autoscaler to leave a group's nodes alone, as whoever works
// on nodes should.
func (s *system) keepNodes(g string) {
	s.t.Helper()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{"cluster-autoscaler.kubernetes.io/scale-down-disabled": "true"},
	}})
	s.must(err)
	for _, n := range s.nodes(g) {
		_, err := s.kube.CoreV1().Nodes().Patch(s.ctx(), n.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		s.must(err)
	}
}

// personToo: a person sets 3 in the moment in which the autoscaler adds 1. Both
// are accepted, and the machines are what the later of them left.
func personToo(s *system, g string) {
	asking, once := make(chan struct{}), sync.Once{}
	s.proxy.Bend(func(c proxy.Call) proxy.Effect {
		if c.Method == mIncrease && groupOf(c) == s.id(g) {
			once.Do(func() { close(asking) })
		}
		return proxy.Pass
	})
	l := s.pods(g, 1)
	<-asking
	r := s.ichor("scale", s.id(g), "--to", "3", "-o", "json")
	var answer workflows.ScaleResult
	s.must(json.Unmarshal([]byte(r.Stdout), &answer))
	if !answer.Accepted || answer.Target != 3 || answer.Message == "" {
		s.t.Errorf("the person was told: %s", r.Stdout)
	}
	l.running(1)
	if calls := s.calls(0, mIncrease, g); len(calls) != 1 || calls[0].Code != codes.OK {
		s.t.Errorf("the autoscaler asked: %v", calls)
	}
	// What the pod does not need is removed again, by the autoscaler's decision.
	s.until("one machine is left", func() bool { return len(s.servers(g)) == 1 && len(s.nodes(g)) == 1 && s.group(g).Target == 1 })
	l.running(1)
	if b := s.bill(g); b.Created < 3 || b.Created > 4 {
		s.t.Errorf("machines: %+v, want the person's 3, and one more if the autoscaler was later", b)
	}
	counts := map[string]int{}
	for _, q := range s.group(g).Requests {
		counts[q.Op]++
		if q.Message == "" {
			s.t.Errorf("a request without an answer: %+v", q)
		}
	}
	if counts[workflows.SignalIncreaseSize] != 1 || counts[workflows.SignalSetTarget] != 1 {
		s.t.Errorf("the group remembers %v", counts)
	}
}

// paused: the autoscaler is refused while a person has paused the group, hears
// why, backs off, and is served after the pause.
func paused(s *system, g string) {
	s.ichor("pause", s.id(g), "--reason", "kernel trouble")
	l := s.pods(g, 1)
	asked := s.first(0, mIncrease, g, nil)
	if asked.Code != codes.FailedPrecondition || !strings.Contains(asked.Message, "kernel trouble") {
		s.t.Errorf("asked: %v", asked)
	}
	s.backsOff(g)
	if n := s.target(g); n != 0 {
		s.t.Errorf("target %d", n)
	}
	s.ichor("resume", s.id(g))
	l.running(1)
	s.periods(g, 2)
	if b := s.bill(g); b != (bill{1, 1}) {
		s.t.Errorf("machines: %+v", b)
	}
}

// twoProviders: requests that fit one by one arrive through two providers at
// once. Both are kept, what exceeds max is not made, and the autoscaler gives it
// up because it is told so, at its next look every two minutes.
func twoProviders(s *system, g string) {
	other := *s
	other.listen, other.processes = s.address(), &processes{}
	other.startProvider()
	var work sync.WaitGroup
	answers := make([]error, 2)
	for i, c := range []wire.CloudProviderClient{s.dial(), other.dial()} {
		work.Go(func() { answers[i] = s.increase(c, g, 3) })
	}
	work.Wait()
	accepted := 0
	for _, err := range answers {
		if err == nil {
			accepted++
		}
	}
	s.t.Logf("%d of two requests for 3 of 5 were accepted: %v", accepted, answers)
	s.until("what was accepted is in the target", func() bool { return s.group(g).Target == 3*accepted })
	if accepted == 2 {
		var beyond *wire.Instance
		s.until("a place has failed", func() bool {
			beyond = failing(proxy.Call{Response: &wire.NodeGroupNodesResponse{Instances: s.instances(g)}})
			return beyond != nil
		})
		info := beyond.GetStatus().GetErrorInfo()
		if info.GetInstanceErrorClass() != classOther || !strings.Contains(info.GetErrorMessage(), "beyond max") {
			s.t.Errorf("the place beyond max: %v", beyond)
		}
	}
	s.cleaned(g)
	if b := s.bill(g); b.Created > 5 || b.Created < 3 {
		s.t.Errorf("machines: %+v", b)
	}
}

package autoscaler

import (
	"time"

	"google.golang.org/grpc/codes"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// Classes of the contract.
const (
	classResources = 1
	classOther     = 99
)

// failures is what the autoscaler sees when machines cannot be had.
var failures = []scenario{
	{name: "quota full", groups: []cluster.NodeGroup{newGroup("quota", 0, 5)}, both: true, run: func(s *system) {
		refused(s, "quota", "quota", classResources)
	}},
	{name: "out of stock", groups: []cluster.NodeGroup{newGroup("stock", 0, 5)}, run: func(s *system) {
		refused(s, "stock", "out-of-stock", classResources)
	}},
	{name: "image missing", groups: []cluster.NodeGroup{newGroup("image", 0, 5)}, run: func(s *system) {
		refused(s, "image", "image-404", classOther)
	}},
	{name: "never boots", groups: []cluster.NodeGroup{newGroup("dark", 0, 5)}, both: true, run: func(s *system) {
		neverReady(s, "dark", map[string]any{"neverBoots": true})
	}},
	{name: "boots but never joins", groups: []cluster.NodeGroup{newGroup("lone", 0, 5)}, run: func(s *system) {
		neverReady(s, "lone", map[string]any{"neverJoins": true})
	}},
	{name: "deleted by hand", groups: []cluster.NodeGroup{newGroup("byhand", 0, 5)}, run: func(s *system) {
		deletedByHand(s, "byhand")
	}},
	{name: "the cloud's answer is lost", groups: []cluster.NodeGroup{newGroup("mute", 0, 5)}, run: func(s *system) {
		answerLost(s, "mute")
	}},
	{name: "min is repaired", groups: []cluster.NodeGroup{newGroup("least", 1, 3)}, both: true, waits: true, run: func(s *system) {
		minRepaired(s, "least")
	}},
}

// failureSeen waits for the first list with a failed instance and checks all
// that follows from it: still counted, class, backoff, one deletion by the
// autoscaler, target and instance gone.
func (s *system) failureSeen(g string, class int32) *wire.Instance {
	s.t.Helper()
	c := s.first(0, mNodes, g, func(c proxy.Call) bool { return failing(c) != nil })
	i := failing(c)
	info := i.GetStatus().GetErrorInfo()
	if !creating(i) || info.GetInstanceErrorClass() != class || info.GetErrorMessage() == "" {
		s.t.Errorf("the failed instance: %v", i)
	}
	for _, target := range s.calls(0, mTarget, g) {
		if d := c.Start.Sub(target.Start); d >= 0 && d < time.Second {
			if n := target.Response.(*wire.NodeGroupTargetSizeResponse).GetTargetSize(); n < 1 {
				s.t.Errorf("the failed machine is not in the target: %v", target)
			}
		}
	}
	st := s.backsOff(g)
	if st.ScaleUp.Backoff.Message == "" && st.ScaleUp.Backoff.Code == "" {
		s.t.Errorf("a backoff without a reason: %+v", st)
	}
	gone := s.first(0, mDelete, g, nil)
	if gone.Code != codes.OK {
		s.t.Errorf("the autoscaler may not give the machine up: %v", gone)
	}
	s.until("target and instances are empty", func() bool { return s.target(g) == 0 && len(s.instances(g)) == 0 })
	return i
}

// periods waits for n requests and checks that each is a whole backoff period
// after the one before: none of them is repeated within.
func (s *system) periods(g string, n int) []proxy.Call {
	s.t.Helper()
	s.until("the requests after the backoffs", func() bool { return len(s.calls(0, mIncrease, g)) >= n })
	calls := s.calls(0, mIncrease, g)
	for i := 1; i < len(calls); i++ {
		least := caBackoff
		if i > 1 {
			least *= 2
		}
		if d := calls[i].Start.Sub(calls[i-1].Start); d < least {
			s.t.Errorf("request %d came %v after the one before; the backoff is %v", i+1, d, least)
		}
	}
	return calls
}

// refused: the cloud refuses to make machines. One request per backoff period,
// and when the cloud gives way, the pod runs.
func refused(s *system, g, effect string, class int32) {
	remove := s.fault(g, effect, nil)
	l := s.pods(g, 1)
	s.failureSeen(g, class)
	s.periods(g, 3)
	if b := s.bill(g); b.Created != 0 {
		s.t.Errorf("machines: %+v", b)
	}
	remove()
	l.running(1)
	s.periods(g, 3)
	if b := s.bill(g); b != (bill{1, 1}) {
		s.t.Errorf("machines: %+v", b)
	}
}

// neverReady: machines run and never become nodes. The group's own deadline is
// shorter than the autoscaler's, so the autoscaler hears of the failure, and the
// machines are destroyed.
func neverReady(s *system, g string, faults map[string]any) {
	s.defect(g, 2, faults) // the first and the one that replaces it
	l := s.pods(g, 1)
	asked := s.first(0, mIncrease, g, nil)
	s.failureSeen(g, classOther)
	failed := s.first(0, mNodes, g, func(c proxy.Call) bool { return failing(c) != nil })
	if d := failed.Start.Sub(asked.Start); d > caProvision {
		s.t.Errorf("the failure was reported after %v, later than the autoscaler's own limit", d)
	}
	for _, c := range s.calls(0, mDelete, g) {
		for _, n := range c.Request.(*wire.NodeGroupDeleteNodesRequest).GetNodes() {
			if reason := n.GetAnnotations()["k8s.io/cluster-autoscaler/fake-node-reason"]; reason != "create-error" {
				s.t.Errorf("deleted for another reason, %q: %v", reason, n)
			}
		}
	}
	l.running(1) // the third machine is healthy
	s.periods(g, 2)
	if n := len(s.calls(0, mIncrease, g)); n != 2 {
		s.t.Errorf("%d requests", n)
	}
	if b := s.bill(g); b.Created != 3 || b.Peak > 2 {
		s.t.Errorf("machines: %+v", b)
	}
	if n := len(s.servers(g)); n != 1 {
		s.t.Errorf("%d machines are left", n)
	}
}

// deletedByHand: the group replaces what somebody deleted in the cloud; the
// autoscaler has nothing to ask for.
func deletedByHand(s *system, g string) {
	l := s.pods(g, 1)
	l.running(1)
	was := s.servers(g)[0]
	s.must(s.ByHand(s.ctx(), was, stack.Vanish))
	s.until("another machine is there", func() bool {
		all := s.servers(g)
		return len(all) == 1 && all[0].ID != was.ID
	})
	s.until("only the new Node is left", func() bool {
		nodes := s.nodes(g)
		return len(nodes) == 1 && nodes[0].Name != was.Name
	})
	// Kubernetes collects the pod of the lost node after a minute only; until
	// then nobody needs the new one.
	s.keepNodes(g)
	s.must(s.kube.CoreV1().Pods("default").DeleteCollection(s.ctx(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)},
		metav1.ListOptions{LabelSelector: "app=" + g, FieldSelector: "spec.nodeName=" + was.Name}))
	l.running(1)
	if n := len(s.calls(0, mIncrease, g)); n != 1 {
		s.t.Errorf("the autoscaler asked %d times", n)
	}
	if b := s.bill(g); b.Created != 2 {
		s.t.Errorf("machines: %+v", b)
	}
	if st, ok := s.seen(g); !ok || st.ScaleUp.Status == "Backoff" {
		s.t.Errorf("backoff without a failure: %+v", st)
	}
}

// answerLost: the cloud made the machine and its answer never came.
func answerLost(s *system, g string) {
	s.fault(g, "commit-then-drop", map[string]any{"count": 1})
	l := s.pods(g, 1)
	l.running(1)
	if n := len(s.calls(0, mIncrease, g)); n != 1 {
		s.t.Errorf("the autoscaler asked %d times", n)
	}
	if b := s.bill(g); b != (bill{1, 1}) {
		s.t.Errorf("machines: %+v", b)
	}
}

// minRepaired: a machine at min fails; the autoscaler's deletion of it is
// accepted, and the group makes another by itself. The autoscaler looks at the
// instances of a group that it does not scale up every two minutes only.
func minRepaired(s *system, g string) {
	s.until("the first machine is ready", func() bool { return len(s.nodes(g)) == 1 })
	was := s.servers(g)[0]
	remove := s.fault(g, "quota", nil)
	s.must(s.ByHand(s.ctx(), was, stack.Vanish))
	s.first(0, mNodes, g, func(c proxy.Call) bool { return failing(c) != nil })
	if c := s.first(0, mDelete, g, nil); c.Code != codes.OK {
		s.t.Errorf("the deletion at min was refused: %v", c)
	}
	remove()
	s.until("there is one machine again", func() bool { return len(s.nodes(g)) == 1 && s.nodes(g)[0].Name != was.Name })
	if n := len(s.calls(0, mIncrease, g)); n != 0 {
		s.t.Errorf("the autoscaler asked %d times for a machine that nobody needs", n)
	}
	if b := s.bill(g); b.Created != 2 {
		s.t.Errorf("machines: %+v", b)
	}
	s.until("the target is 1 again", func() bool { return s.target(g) == 1 })
}

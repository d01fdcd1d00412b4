package autoscaler

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
	"github.com/ichor-project/ichor/testsuite/stack"
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

// knows says whether the provider tells of an instance for each of these nodes.
func (s *system) knows(g string, providerIDs []string) bool {
	s.t.Helper()
	all := s.instances(g)
	for _, id := range providerIDs {
		if !slices.ContainsFunc(all, func(i *wire.Instance) bool { return i.GetId() == id }) {
			return false
		}
	}
	return true
}

// cleaned waits until the autoscaler has removed what nobody needs.
func (s *system) cleaned(g string) {
	s.t.Helper()
	defer func() {
		if s.t.Failed() {
			r, err := s.Ichor(s.whole.Context(), "group", s.name+"/"+g, "-o", "json")
			s.t.Logf("servers %v, nodes %v, the group: %s %v", s.servers(g), s.nodes(g), r, err)
		}
	}()
	s.until("the group "+g+" is empty", func() bool {
		return s.target(g) == 0 && len(s.servers(g)) == 0 && len(s.nodes(g)) == 0
	})
}

// stranger is the provider ID of a machine that does not exist.
func stranger(id string) string {
	return chosen.ProviderID(stack.Resource{ID: id, Zone: chosen.Zones[0]})
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
	// The autoscaler deletes what it was told of, and a busy Temporal lets the
	// provider learn late of machines whose nodes are there.
	s.until("the provider knows all of them", func() bool { return s.knows(g, ids) && s.knows(other, others) })
	for _, foreign := range []string{others[0], planes.Items[0].Spec.ProviderID, stranger("unknown")} {
		if err := s.remove(c, g, append(slices.Clone(ids), foreign)...); err == nil {
			s.t.Errorf("a batch with %s was accepted", foreign)
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

// foreign: nodes that no group owns get an answer with an empty id; a thousand of
// them, and as many templates, are no burden.
func foreign(s *system) {
	c := s.dial()
	planes, err := s.kube.CoreV1().Nodes().List(s.ctx(), metav1.ListOptions{LabelSelector: "node-role.kubernetes.io/control-plane"})
	s.must(err)
	refs := []*wire.ExternalGrpcNode{{Name: planes.Items[0].Name, ProviderID: planes.Items[0].Spec.ProviderID}, {Name: "by-hand"}, {}}
	for i := range 1000 {
		refs = append(refs, &wire.ExternalGrpcNode{Name: fmt.Sprintf("n%d", i), ProviderID: stranger(strconv.Itoa(i))})
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
	// Releases from 1.35 on ask in their first loop for a template for every node.
	began = time.Now()
	groups, err := c.NodeGroups(s.ctx(), &wire.NodeGroupsRequest{})
	s.must(err)
	for i := range 1000 {
		id := groups.GetNodeGroups()[i%len(groups.GetNodeGroups())].GetId()
		r, err := c.NodeGroupTemplateNodeInfo(s.ctx(), &wire.NodeGroupTemplateNodeInfoRequest{Id: id})
		s.must(err)
		if len(r.GetNodeBytes()) == 0 {
			s.t.Fatalf("an empty template of %s, which the autoscaler would not survive", id)
		}
	}
	s.t.Logf("1000 templates in %v", time.Since(began))
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

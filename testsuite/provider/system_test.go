package provider

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/testsuite/stack/grpcserver"
	"github.com/ichor-project/ichor/workflows"
)

const (
	// speed is how many times faster than real the cloud runs.
	speed = 40
	// patience is how long anything may take; nothing is measured by it.
	patience = 4 * time.Minute

	groupID    = "shop/worker"
	workflowID = "cluster/shop/group/worker"
)

// file starts the one group of these tests.
const file = `%skubeconfig: none
nodeGroups:
  - {name: worker, min: 0, max: 5, userData: "some text", %s}
`

var bin string

// chosen is the cloud that the suite runs on: ICHOR_TEST_CLOUD names it.
var chosen stack.Cloud

func TestMain(m *testing.M) {
	var err error
	if chosen, _, bin, err = stack.Suite("ichor-grpcprovider"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// system is Temporal, a cloud and one group. Workers and providers come and go.
type system struct {
	*stack.Stack
	t        *testing.T
	dir      string
	ground   stack.Ground
	temporal client.Client
}

func start(t *testing.T) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir()}
	var err error
	s.Stack, err = stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: s.dir, Speed: speed, UIPort: -1, Settings: stack.Scaled(speed),
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the logs:\n%s\n--- provider\n%s", s.Tail(15), proc.Tail(s.Log("provider"), 60))
		}
		if err := s.Close(); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	s.must(err)
	s.ground, err = chosen.Prepare(t.Context(), s.Stack)
	s.must(err)
	s.temporal, err = s.Dial(t.Context())
	s.must(err)
	t.Cleanup(s.temporal.Close)
	return s
}

func (s *system) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) worker() *proc.Process {
	s.t.Helper()
	w, err := s.StartWorker(s.t.Context())
	s.must(err)
	return w
}

// begin starts the group's entity, as a provider with a file does, and waits
// until it has settled.
func (s *system) begin() {
	s.t.Helper()
	p := s.serve("--config", s.config())
	s.sees(p, "an empty group", func(g group) bool { return g.Target == 0 && s.memo().Target == 0 })
	s.must(p.Process.Kill())
}

func (s *system) config() string {
	s.t.Helper()
	path := filepath.Join(s.dir, "groups.yaml")
	s.must(os.WriteFile(path, fmt.Appendf(nil, file, s.ground.File(), s.ground.Group("role=worker")), 0o600))
	return path
}

// memo waits for the entity's memo: it has then begun.
func (s *system) memo() (m workflows.GroupMemo) {
	s.t.Helper()
	s.eventually("the memo", func(ctx context.Context) error {
		d, err := s.temporal.DescribeWorkflowExecution(ctx, workflowID, "")
		if err != nil {
			return err
		}
		p := d.GetWorkflowExecutionInfo().GetMemo().GetFields()[workflows.MemoState]
		return json.Unmarshal(p.GetData(), &m)
	})
	return m
}

func (s *system) eventually(what string, f func(ctx context.Context) error) {
	s.t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if last = f(s.t.Context()); last == nil {
			return
		}
	}
	s.t.Fatalf("%s: %v", what, last)
}

// signals counts the signals of one name in the group's history.
func (s *system) signals(name string) int {
	s.t.Helper()
	n := 0
	events := s.temporal.GetWorkflowHistory(s.t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		e, err := events.Next()
		s.must(err)
		if e.GetWorkflowExecutionSignaledEventAttributes().GetSignalName() == name {
			n++
		}
	}
	return n
}

// machines counts the group's machines in the account, and the create requests
// that the cloud has had.
func (s *system) machines() (machines, creates int) {
	s.t.Helper()
	a, err := s.Account(s.t.Context())
	s.must(err)
	for _, r := range a.Machines() {
		if r.Tags["ichor/group"] == "worker" {
			machines++
		}
	}
	var log []struct{ Method, Path string }
	s.must(s.Cloud(s.t.Context(), http.MethodGet, "_devcloud/requests", nil, &log))
	for _, r := range log {
		if r.Method+" "+r.Path == chosen.Routes.Machine {
			creates++
		}
	}
	return machines, creates
}

// server is a running ichor-grpcprovider with a client.
type server struct{ *grpcserver.Provider }

// serve starts a provider and waits until it answers. It is not asked to refresh.
func (s *system) serve(args ...string) *server {
	s.t.Helper()
	// No refresh but those of the test.
	p, err := grpcserver.Launch(s.Stack, "provider", append([]string{"--refresh-every", "1h"}, args...)...)
	s.must(err)
	s.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			s.t.Errorf("stop the provider: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	s.must(p.Ready(ctx, func(ctx context.Context) error {
		_, err := p.NodeGroups(ctx, &pb.NodeGroupsRequest{})
		return err
	}))
	return &server{p}
}

// restart kills a provider and starts another one.
func (s *system) restart(p *server) *server {
	s.t.Helper()
	s.must(p.Process.Kill())
	return s.serve("--cluster", "shop")
}

// group is what the autoscaler sees.
type group struct {
	Target    int32
	Instances map[string]string // state by id
}

// now is the group without a refresh.
func (s *system) now(p *server) group {
	s.t.Helper()
	g, err := p.read(s.t.Context())
	s.must(err)
	return g
}

func (p *server) read(ctx context.Context) (group, error) {
	target, err := p.NodeGroupTargetSize(ctx, &pb.NodeGroupTargetSizeRequest{Id: groupID})
	if err != nil {
		return group{}, err
	}
	nodes, err := p.NodeGroupNodes(ctx, &pb.NodeGroupNodesRequest{Id: groupID})
	if err != nil {
		return group{}, err
	}
	g := group{Target: target.GetTargetSize(), Instances: map[string]string{}}
	for _, i := range nodes.GetInstances() {
		state := strings.TrimPrefix(i.GetStatus().GetInstanceState().String(), "instance")
		if e := i.GetStatus().GetErrorInfo(); e != nil {
			state += fmt.Sprintf(" %d %s", e.GetInstanceErrorClass(), e.GetErrorCode())
		}
		g.Instances[i.GetId()] = state
	}
	return g, nil
}

// count is how many instances are in a state.
func (g group) count(state string) int {
	n := 0
	for _, s := range g.Instances {
		if s == state {
			n++
		}
	}
	return n
}

// named says that no instance goes by a placeholder.
func (g group) named() bool {
	for id := range g.Instances {
		if strings.HasPrefix(id, "ichor:") {
			return false
		}
	}
	return true
}

// sees refreshes until the group is as wanted, and returns it.
func (s *system) sees(p *server, what string, good func(group) bool) group {
	s.t.Helper()
	var g group
	s.eventually(what, func(ctx context.Context) (err error) {
		if _, err := p.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
			return err
		}
		if g, err = p.read(ctx); err == nil && !good(g) {
			err = fmt.Errorf("is %+v", g)
		}
		return err
	})
	return g
}

func (s *system) refresh(p *server) {
	s.t.Helper()
	_, err := p.Refresh(s.t.Context(), &pb.RefreshRequest{})
	s.must(err)
}

// same checks that a group is shown as before.
func (s *system) same(when string, p *server, want group) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.now(p)); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func (s *system) increase(p *server, delta int32) {
	s.t.Helper()
	_, err := p.NodeGroupIncreaseSize(s.t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: delta})
	s.must(err)
}

func (s *system) remove(p *server, id string) {
	s.t.Helper()
	_, err := p.NodeGroupDeleteNodes(s.t.Context(), &pb.NodeGroupDeleteNodesRequest{Id: groupID, Nodes: []*pb.ExternalGrpcNode{{ProviderID: id, Name: id}}})
	s.must(err)
}

// groupOf is the group of a node with a provider ID.
func (s *system) groupOf(p *server, id string) string {
	s.t.Helper()
	res, err := p.NodeGroupForNode(s.t.Context(), &pb.NodeGroupForNodeRequest{Node: &pb.ExternalGrpcNode{ProviderID: id}})
	s.must(err)
	return res.GetNodeGroup().GetId()
}

package standalone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

const (
	groupID    = "shop/worker"
	workflowID = "cluster/shop/group/worker"
	// joinToken is what a machine needs to join: it must be in the user data and
	// nowhere else.
	joinToken = "canary-join-token-5f2d"
)

// file is one in the spelling of the provider that is switched from, as it was,
// with the one line that says how nodes are seen.
const file = `listen: ":8086"
cloudscaleAPIToken: ${CLOUDSCALE_API_TOKEN}
clusterTag: shop
kubeconfig: none
nodeGroups:
  - name: worker
    minSize: 1
    maxSize: 5
    flavor: flex-8-2
    image: flatcar
    zone: rma1
    volumeSizeGB: 50
    usePublicNetwork: true
    tags: {team: web}
    labels: {pool: worker}
    userData: "@talos"
`

// Three workers of a cluster that Ichor did not make become a group: no server
// is made for that and none deleted. Then the group scales, and comes back the
// same after each restart of the provider.
func TestTakeOverAGroupOfThree(t *testing.T) {
	s := start(t).worker()
	config := s.write("groups.yaml", file)
	s.write("talos", "machine: {type: worker, token: "+joinToken+"}\n")
	ours := map[string]string{"k8s-autoscaler-group": "worker", "k8s-cluster": "shop", "owner": "somebody"}
	var three []string
	for i := range 3 {
		three = append(three, s.server(fmt.Sprintf("worker-%d", i), ours))
	}
	other := s.server("of-another-cluster", map[string]string{"k8s-autoscaler-group": "worker", "k8s-cluster": "bank"})
	plain := s.server("control-plane", map[string]string{"k8s-cluster": "shop"})
	foreign := map[string]map[string]string{other: s.tags()[other], plain: s.tags()[plain]}
	_, seq := s.writes(0)

	p := s.serve(config)
	s.sees(p, groupID, "three members", group{Target: 3, Instances: running(three...)})
	groups, err := p.NodeGroups(t.Context(), &pb.NodeGroupsRequest{})
	if err != nil || len(groups.GetNodeGroups()) != 1 {
		t.Fatalf("groups: %v %v", groups, err)
	}
	if g := groups.GetNodeGroups()[0]; g.GetId() != groupID || g.GetMinSize() != 1 || g.GetMaxSize() != 5 {
		t.Errorf("group: %v", g)
	}
	for _, uuid := range three {
		if tags := s.tags()[uuid]; tags["owner"] != "somebody" || tags["k8s-cluster"] != "shop" || tags["ichor/group"] != "worker" {
			t.Errorf("server %s: tags %v", uuid, tags)
		}
	}
	if log := s.log("provider"); !strings.Contains(log, "none is replaced, and no Node object is deleted") {
		t.Errorf("the log does not say what it means to have no kubeconfig:\n%s", log)
	}

	t.Run("the servers belong to the group", func(t *testing.T) {
		for _, tc := range []struct{ provider, want string }{
			{"cloudscale://" + three[0], groupID}, {"cloudscale://" + other, ""}, {"cloudscale://" + plain, ""}, {"", ""},
		} {
			res, err := p.NodeGroupForNode(t.Context(), &pb.NodeGroupForNodeRequest{Node: &pb.ExternalGrpcNode{Name: "n", ProviderID: tc.provider}})
			if err != nil || res.GetNodeGroup().GetId() != tc.want {
				t.Errorf("%q belongs to %q, want %q (%v)", tc.provider, res.GetNodeGroup().GetId(), tc.want, err)
			}
		}
	})
	// Only now, after all that the takeover could have set in motion.
	done, seq := s.writes(seq)
	if len(done) > 0 {
		t.Fatalf("taking over made or deleted something: %q", done)
	}

	var four []string
	t.Run("one more is made with the user data of the file", func(t *testing.T) {
		s := s.on(t)
		var fault struct{ Fired int }
		if err := s.Cloud(t.Context(), http.MethodPost, "_devcloud/faults", map[string]any{
			"id": "user-data", "route": "POST /v1/servers", "effect": "delay-then-commit", "contains": joinToken, "count": -1,
		}, &fault); err != nil {
			t.Fatal(err)
		}
		if _, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: 1}); err != nil {
			t.Fatal(err)
		}
		s.eventually("the fourth", func(ctx context.Context) error {
			four = four[:0]
			for uuid, tags := range s.tags() {
				if tags["ichor/group"] == "worker" {
					four = append(four, uuid)
				}
			}
			g, err := p.group(ctx, groupID)
			if diff := cmp.Diff(group{Target: 4, Instances: running(four...)}, g); err != nil || len(four) != 4 || diff != "" {
				return fmt.Errorf("%d servers: %w\n%s", len(four), err, diff)
			}
			return nil
		})
		made := four[slices.IndexFunc(four, func(u string) bool { return !slices.Contains(three, u) })]
		for k, want := range map[string]string{"k8s-autoscaler-group": "worker", "k8s-cluster": "shop", "team": "web"} {
			if got := s.tags()[made][k]; got != want {
				t.Errorf("the new server's tag %s is %q, want %q", k, got, want)
			}
		}
		var faults []struct {
			ID    string
			Fired int
		}
		if err := s.Cloud(t.Context(), http.MethodGet, "_devcloud/faults", nil, &faults); err != nil || len(faults) != 1 || faults[0].Fired != 1 {
			t.Errorf("requests with the user data: %v %v", faults, err)
		}
		var servers int
		done, seq = s.writes(seq)
		for _, w := range done {
			switch {
			case w == "POST servers":
				servers++
			case w != "POST server-groups":
				t.Errorf("unexpected: %s", w)
			}
		}
		if servers != 1 {
			t.Errorf("%d servers were made: %q", servers, done)
		}
	})

	left := slices.DeleteFunc(slices.Clone(four), func(u string) bool { return u == three[1] })
	t.Run("one that was taken over is deleted", func(t *testing.T) {
		s := s.on(t)
		_, err := p.NodeGroupDeleteNodes(t.Context(), &pb.NodeGroupDeleteNodesRequest{
			Id: groupID, Nodes: []*pb.ExternalGrpcNode{{Name: "worker-1", ProviderID: "cloudscale://" + three[1]}},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.sees(p, groupID, "three again", group{Target: 3, Instances: running(left...)})
		for _, want := range left {
			if s.tags()[want] == nil {
				t.Errorf("server %s is gone", want)
			}
		}
		done, seq = s.writes(seq)
		// A deletion is repeated until the server is gone.
		if done = slices.Compact(done); !slices.Equal(done, []string{"DELETE servers/" + three[1]}) {
			t.Errorf("requests: %q", done)
		}
	})
	for uuid, tags := range foreign {
		if diff := cmp.Diff(tags, s.tags()[uuid]); diff != "" {
			t.Errorf("server %s is not the group's, but was changed:\n%s", uuid, diff)
		}
	}

	run := s.run()
	t.Run("a restart of the provider changes nothing, also while no worker runs", func(t *testing.T) {
		s := s.on(t)
		if err := errors.Join(p.Process.Kill(), s.last.Kill()); err != nil {
			t.Fatal(err)
		}
		p = s.serve(config)
		s.sees(p, groupID, "the same as before", group{Target: 3, Instances: running(left...)})
		if again := s.run(); again != run {
			t.Errorf("the entity's run is %s, was %s", again, run)
		}
		s.worker()
		s.sees(p, groupID, "the same with a worker", group{Target: 3, Instances: running(left...)})
		if done, seq = s.writes(seq); len(done) > 0 {
			t.Errorf("requests: %q", done)
		}
	})
	t.Run("the group becomes what another file says, and no machine does", func(t *testing.T) {
		s := s.on(t)
		// A, B, A and B again: the second A is what the entity was started with,
		// and not what it has come to be.
		other := strings.NewReplacer("maxSize: 5", "maxSize: 7", "flavor: flex-8-2", "flavor: flex-16-4").Replace(file)
		machines, flavors := slices.Clone(left), s.flavors()
		for _, step := range []struct {
			text, log string
			most      int32
			more      int32  // machines to ask for
			flavor    string // of those
		}{
			{other, `changed="flavor, max"`, 7, 3, "flex-16-4"},
			{file, `changed="flavor, max"`, 5, 0, ""}, // six machines by now
			{other, `changed="flavor, max"`, 7, 1, "flex-16-4"},
			{other, "told the file again", 7, 0, ""},
		} {
			from := len(s.log("provider"))
			p := s.serve(s.write("groups.yaml", step.text))
			s.eventually("the group's new max", func(ctx context.Context) error {
				if _, err := p.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
					return err
				}
				got, err := p.NodeGroups(ctx, &pb.NodeGroupsRequest{})
				if err != nil || len(got.GetNodeGroups()) != 1 || got.GetNodeGroups()[0].GetMaxSize() != step.most {
					return fmt.Errorf("groups: %v %w", got, err)
				}
				return nil
			})
			if log := s.log("provider")[from:]; !strings.Contains(log, step.log) {
				t.Errorf("the log lacks %s:\n%s", step.log, log)
			}
			s.sees(p, groupID, "the same machines", group{Target: int32(len(machines)), Instances: running(machines...)})
			if beyond, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: 8 - int32(len(machines))}); err == nil {
				t.Errorf("more than the max: %v", beyond)
			}
			if done, seq = s.writes(seq); len(done) > 0 {
				t.Errorf("requests: %q", done)
			}
			if diff := cmp.Diff(flavors, s.flavors()); diff != "" {
				t.Error(diff)
			}
			if step.more > 0 {
				if _, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: groupID, Delta: step.more}); err != nil {
					t.Fatal(err)
				}
				s.eventually("as many as the new max allows", func(ctx context.Context) error {
					machines = machines[:0]
					for uuid, tags := range s.tags() {
						if tags["ichor/group"] == "worker" {
							machines = append(machines, uuid)
						}
					}
					g, err := p.group(ctx, groupID)
					want := group{Target: int32(len(flavors)-len(foreign)) + step.more, Instances: running(machines...)}
					if diff := cmp.Diff(want, g); err != nil || diff != "" || len(machines) != int(want.Target) {
						return fmt.Errorf("%d servers: %w\n%s", len(machines), err, diff)
					}
					return nil
				})
				now := s.flavors()
				for _, uuid := range machines {
					want, old := flavors[uuid]
					if !old {
						want = step.flavor
					}
					if now[uuid] != want {
						t.Errorf("server %s is a %s, want %s", uuid, now[uuid], want)
					}
				}
				flavors = now
				_, seq = s.writes(seq)
			}
			if err := p.Process.Stop(); err != nil {
				t.Fatal(err)
			}
		}
		if again := s.run(); again != run {
			t.Errorf("the entity's run is %s, was %s", again, run)
		}
	})
	t.Run("the tag of machines to take over stays as it is", func(t *testing.T) {
		s := s.on(t)
		process := s.launch(s.write("groups.yaml", strings.Replace(file, "clusterTag: shop", "cluster: shop\nclusterTag: bank", 1))).Process
		select {
		case <-process.Done():
		case <-time.After(patience):
			t.Error("the provider goes on with another tag")
		}
		if err := process.Stop(); err != nil {
			t.Error(err)
		}
		log := s.log("provider")
		for _, want := range []string{"another tag than the file has", "temporal workflow terminate --workflow-id " + workflowID} {
			if !strings.Contains(log, want) {
				t.Errorf("the log lacks %q:\n%s", want, log)
			}
		}
		if done, seq = s.writes(seq); len(done) > 0 {
			t.Errorf("requests: %q", done)
		}
	})
	t.Run("the token to join is in no history and no log", func(t *testing.T) {
		for _, name := range []string{"provider", "worker"} {
			if strings.Contains(s.log(name), joinToken) {
				t.Errorf("the log of the %s has it", name)
			}
		}
		events := s.temporal.GetWorkflowHistory(t.Context(), workflowID, run, false, 0)
		for events.HasNext() {
			e, err := events.Next()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(e.String(), joinToken) || strings.Contains(e.String(), stack.Token) {
				t.Errorf("event %d has a secret", e.GetEventId())
			}
		}
	})
}

// sees waits until the provider shows the group like that.
func (s *system) sees(p *provider, id, what string, want group) {
	s.t.Helper()
	s.eventually(what, func(ctx context.Context) error {
		g, err := p.group(ctx, id)
		if diff := cmp.Diff(want, g); err != nil || diff != "" {
			return fmt.Errorf("%w\n%s", err, diff)
		}
		return nil
	})
}

// flavors are those of all servers by uuid.
func (s *system) flavors() map[string]string {
	s.t.Helper()
	var servers []struct {
		UUID   string
		Flavor struct{ Slug string }
	}
	if err := s.Cloud(s.t.Context(), http.MethodGet, "v1/servers", nil, &servers); err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, v := range servers {
		out[v.UUID] = v.Flavor.Slug
	}
	return out
}

// run is the current run of the group's entity.
func (s *system) run() string {
	s.t.Helper()
	d, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
}

func (s *system) log(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.Log(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

package standalone

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/workflows"
)

// twoGroups bound the number of machines to something else than there is.
const twoGroups = `cluster: shop
credentials: env:CLOUDSCALE_API_TOKEN
kubeconfig: none
zone: rma1
nodeGroups:
  - {name: few, flavor: flex-8-2, min: 3, max: 5, image: flatcar, userData: "some text", tag: role=few}
  - {name: many, flavor: flex-8-2, min: 0, max: 1, image: flatcar, userData: "some text", tag: role=many}
`

// Two providers start before anything else of Ichor has ever run, in a namespace
// without Ichor's search attributes. They wait, and with the first worker there
// is one entity per group: it makes what is missing to min once, and deletes
// nothing of what is beyond max. In the end one group is given up.
func TestProvidersBeforeTheWorker(t *testing.T) {
	s := start(t)
	config := s.write("groups.yaml", twoGroups)
	var few, many []string
	for i := range 2 {
		few = append(few, s.server(fmt.Sprintf("few-%d", i), map[string]string{"role": "few"}))
		many = append(many, s.server(fmt.Sprintf("many-%d", i), map[string]string{"role": "many"}))
	}
	_, seq := s.writes(0)

	one, two := s.launch(config), s.launch(config)
	s.eventually("both wait for the namespace", func(context.Context) error {
		if !one.Process.Running() || !two.Process.Running() {
			return fmt.Errorf("a provider has ended:\n%s", proc.Tail(s.Log("provider"), 5))
		}
		if log := s.log("provider"); strings.Count(log, "search attributes yet") < 2 {
			return fmt.Errorf("the log says:\n%s", log)
		}
		return nil
	})
	s.worker()
	for _, p := range []*provider{s.answers(one), s.answers(two)} {
		s.sees(p, "shop/many", "two members beyond max", group{Target: 2, Instances: running(many...)})
		s.eventually("three members", func(ctx context.Context) error {
			var all []string
			for uuid, tags := range s.tags() {
				if tags["ichor/group"] == "few" {
					all = append(all, uuid)
				}
			}
			g, err := p.group(ctx, "shop/few")
			if diff := cmp.Diff(group{Target: 3, Instances: running(all...)}, g); err != nil || len(all) != 3 || diff != "" {
				return fmt.Errorf("%d servers: %w\n%s", len(all), err, diff)
			}
			return nil
		})
	}
	tags := s.tags()
	for _, uuid := range append(few, many...) {
		if tags[uuid] == nil {
			t.Errorf("server %s is gone", uuid)
		}
	}
	done, seq := s.writes(seq)
	if diff := cmp.Diff([]string{"POST server-groups", "POST servers"}, done); diff != "" {
		t.Errorf("requests:\n%s", diff)
	}

	// What the guide says about a group that is no longer wanted.
	r, err := s.Tool(t.Context(), nil, "temporal", "workflow", "signal", "--address", s.TemporalAddress,
		"--workflow-id", "cluster/shop/group/many", "--name", workflows.SignalEnd, "--input", "{}")
	if err != nil || r.Code != 0 {
		t.Fatalf("%v %s", err, r)
	}
	if err := s.temporal.GetWorkflow(t.Context(), "cluster/shop/group/many", "").Get(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	want := []string{"DELETE servers/" + many[0], "DELETE servers/" + many[1]}
	slices.Sort(want)
	done, _ = s.writes(seq)
	if diff := cmp.Diff(want, slices.Compact(done)); diff != "" {
		t.Errorf("requests of the end:\n%s", diff)
	}
	s.eventually("one group", func(ctx context.Context) error {
		if _, err := two.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
			return err
		}
		groups, err := two.NodeGroups(ctx, &pb.NodeGroupsRequest{})
		if n := groups.GetNodeGroups(); err != nil || len(n) != 1 || n[0].GetId() != "shop/few" {
			return fmt.Errorf("%v %w", n, err)
		}
		return nil
	})
}

package server_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/grpcprovider/server"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

// What is kept as bytes is what the method itself would answer, for every group
// and in every state, also when it is asked for again.
func TestKeptAnswersAreTheMethods(t *testing.T) {
	source := newFake()
	f := serve(t, source, nil)
	direct := server.New(server.Options{Source: source, GPULabel: "ichor.dev/gpu"})
	check := func(when string) {
		t.Helper()
		for _, g := range source.groups {
			nodes, err := direct.NodeGroupNodes(t.Context(), &pb.NodeGroupNodesRequest{Id: g.ID})
			if err != nil {
				t.Fatal(err)
			}
			want := []any{nodes, nil}
			if g.Facts.Template != nil {
				if want[1], err = direct.NodeGroupTemplateNodeInfo(t.Context(), &pb.NodeGroupTemplateNodeInfoRequest{Id: g.ID}); err != nil {
					t.Fatal(err)
				}
			}
			for i, call := range []string{"NodeGroupNodes", "NodeGroupTemplateNodeInfo"} {
				if want[i] == nil {
					continue
				}
				wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(want[i].(proto.Message))
				if err != nil {
					t.Fatal(err)
				}
				for n := range 3 {
					got, err := f.call(t, call, msg{}.text(1, g.ID))
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(decode(t, wire), decode(t, got)); diff != "" {
						t.Errorf("%s, %s of %s, call %d (-method +wire):\n%s", when, call, g.ID, n, diff)
					}
				}
			}
		}
	}
	check("at first")

	changed := worker()
	changed.Instances = append(changed.Instances[1:], provider.Instance{ID: "cloudscale://9", State: provider.Running})
	changed.Facts.Flavor = "flex-16-8"
	source.groups[1] = changed
	check("after a change")
}

// A group that has gone is not served from what was kept, and its answers are
// forgotten with the next refresh.
func TestKeptAnswersGoWithTheirGroup(t *testing.T) {
	source := newFake()
	f := serve(t, source, nil)
	if _, err := f.call(t, "NodeGroupNodes", msg{}.text(1, "demo/worker")); err != nil {
		t.Fatal(err)
	}
	source.groups = source.groups[:1]
	for _, call := range []string{"NodeGroupNodes", "NodeGroupTemplateNodeInfo"} {
		if _, err := f.call(t, call, msg{}.text(1, "demo/worker")); err == nil {
			t.Errorf("%s answers for a group that is gone", call)
		}
	}
	lookups := func() int {
		source.mu.Lock()
		defer source.mu.Unlock()
		return source.calls["Group"]
	}
	for _, want := range []int{1, 0} { // the first refresh looks for the one group that was kept
		before := lookups()
		if _, err := f.call(t, "Refresh", nil); err != nil {
			t.Fatal(err)
		}
		if got := lookups() - before; got != want {
			t.Errorf("a refresh looked for %d groups of which answers were kept, not %d", got, want)
		}
	}
}

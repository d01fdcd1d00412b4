package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/workflows"
)

// The group that is scaled.
const (
	scaled    = "general"
	scaledMax = 40
)

// operations is how many requests are made unless ICHOR_SCALE_OPERATIONS says
// otherwise.
const operations = 300

func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: want a number, got %q", name, text)
	}
	return n
}

// scalable starts a system with one control plane and an empty group that
// continues as new every 60 events.
func scalable(ctx context.Context, t *testing.T, most int) *rig.Rig {
	t.Helper()
	r := rig.Start(t, rig.Options{SharedAPIServers: true, Settings: map[string]string{
		"ICHOR_GROUP_HISTORY": "60", "ICHOR_RECONCILE_INTERVAL": "3s", "ICHOR_DRAIN_DEADLINE": "10s",
	}})
	r.Spec.Spec.ControlPlane.Replicas = 1
	g := &r.Spec.Spec.NodeGroups[0]
	g.Name, g.Min, g.Max, g.Count = scaled, 0, most, new(int)
	if _, err := r.Provision(ctx); err != nil {
		t.Fatalf("provision: %v\n%s", err, r.Explain(t.Context()))
	}
	return r
}

// An autoscaler and four people scale one group at once, while the provider, the
// worker and the Temporal server die without a goodbye. Every request that was
// acknowledged counts once, none that was answered with an error ever does, and in
// the end there are as many machines and nodes as the target says.
func TestNeverLost(t *testing.T) {
	t.Parallel()
	seed := uint64(number(t, "ICHOR_SCALE_SEED", 1))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := scalable(ctx, t, scaledMax)
	provider := r.StartProvider(t, "provider")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("run this seed again with: make never-lost SEED=%d", seed)
		}
	})
	dice := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, n)) } // reproducible by seed, not secret

	total := number(t, "ICHOR_SCALE_OPERATIONS", operations)
	ca := &autoscaler{Provider: provider, group: rig.Cluster + "/" + scaled, max: scaledMax, dice: dice(1)}
	var people []*person
	for n := range uint64(4) {
		people = append(people, &person{
			Rig: r, name: fmt.Sprintf("person%d", n), group: scaled, max: scaledMax, dice: dice(10 + n), commands: n%2 == 0,
		})
	}
	k := &reaper{Rig: r, provider: provider, dice: dice(2), kills: map[string]int{}}
	stormy, calm := context.WithCancel(ctx)
	dead := make(chan error, 1)
	go func() { dead <- k.run(stormy, ctx) }()
	var struck sync.WaitGroup
	ca.strike = func(who string, after time.Duration) {
		struck.Go(func() {
			if err := k.strike(ctx, who, after); err != nil {
				t.Errorf("kill %s in the middle of a call: %v", who, err)
			}
		})
	}
	started := time.Now()
	forCA, forPeople := newBudget(total/2), newBudget(total-total/2)
	actors := []func(){func() { ca.run(ctx, forCA) }}
	for _, p := range people {
		actors = append(actors, func() { p.run(ctx, forPeople) })
	}
	all(actors...)
	var asked []*call
	for _, p := range people {
		asked = append(asked, p.calls...)
	}
	took := time.Since(started).Round(time.Second)
	calm()
	struck.Wait()
	if err := <-dead; err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%d and %d of %d requests were made in time\n%s", len(ca.calls), len(asked), total, r.Explain(t.Context()))
	}
	eventually(ctx, t, r, "the provider reports again", func() error {
		if !ca.refresh(ctx) {
			return errors.New("Refresh fails")
		}
		return nil
	})
	g := settle(ctx, t, r)
	rec, err := readRecord(ctx, r, scaled)
	if err != nil {
		t.Fatal(err)
	}
	var fates tally
	target, chain := rec.chain()
	if err := errors.Join(chain, rec.once(), rec.autoscaler(ca.calls, &fates), rec.people(asked)); err != nil {
		t.Errorf("requests: %v", err)
	}
	if target != g.Target {
		t.Errorf("the acknowledged requests make a target of %d, the group's is %d", target, g.Target)
	}
	eventually(ctx, t, r, "provider and group agree", func() error {
		ca.refresh(ctx)
		size, err := ca.NodeGroupTargetSize(ctx, &pb.NodeGroupTargetSizeRequest{Id: ca.group})
		if err != nil || int(size.GetTargetSize()) != g.Target {
			return fmt.Errorf("the provider's target is %d, the group's %d (%w)", size.GetTargetSize(), g.Target, err)
		}
		return nil
	})
	created := machines(t, r, g)
	t.Logf("%d requests in %s while these were killed: %v; the group ran %d times, %d machines were made, each once",
		len(ca.calls)+len(asked), took, k.kills, rec.runs, created)
	t.Logf("autoscaler: %+v; people: %d requests; %d machines, %d nodes, target %d", fates, len(asked), len(g.Members), len(g.Members)+1, g.Target)
	if _, err := r.Delete(ctx); err != nil {
		t.Fatalf("delete: %v\n%s", err, r.Explain(t.Context()))
	}
	if err := errors.Join(r.Empty(t.Context()), r.Quiet(t.Context())); err != nil {
		t.Errorf("after deletion: %v", err)
	}
}

// settle waits until every place of the group has its ready node.
func settle(ctx context.Context, t *testing.T, r *rig.Rig) (g workflows.GroupStatus) {
	t.Helper()
	eventually(ctx, t, r, "the group settles", func() (err error) {
		if g, err = statusOf(ctx, r, scaled); err != nil {
			return err
		}
		ready := 0
		for _, m := range g.Members {
			if m.Phase == workflows.MemberReady {
				ready++
			}
		}
		if ready != g.Target || len(g.Members) != g.Target {
			return fmt.Errorf("target %d, members %d, ready %d: %+v", g.Target, len(g.Members), ready, g.Members)
		}
		return nil
	})
	return g
}

// machines compares the cloud with the group, and returns how many machines were
// ever made; none may have been made twice.
func machines(t *testing.T, r *rig.Rig, g workflows.GroupStatus) int {
	t.Helper()
	s, err := r.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wanted, have := map[string]bool{}, 0
	for _, m := range g.Members {
		wanted[m.ProviderID] = true
	}
	for _, v := range s.Machines() {
		if v.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup {
			continue
		}
		have++
		if !wanted[r.Home.ProviderID(v)] {
			t.Errorf("nobody wants machine %s %s", v.Name, v.ID)
		}
	}
	if have != g.Target {
		t.Errorf("%d machines, target %d", have, g.Target)
	}
	if err := errors.Join(r.Nodes(t.Context()), r.Twice(t.Context())); err != nil {
		t.Error(err)
	}
	launches, err := r.Launches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for name, n := range launches {
		if !strings.HasPrefix(name, rig.Cluster+"-"+scaled+"-") {
			continue
		}
		made++
		if n != 1 {
			t.Errorf("%s was made %d times", name, n)
		}
	}
	return made
}

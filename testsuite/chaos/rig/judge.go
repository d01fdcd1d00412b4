package rig

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// State is what is in the account.
type State struct{ stack.Account }

// State reads the account by devcloud's own door, which no fault bends.
func (r *Rig) State(ctx context.Context) (State, error) {
	a, err := r.Account(ctx)
	return State{a}, err
}

// Empty says what is left in an account that should hold nothing.
func (r *Rig) Empty(ctx context.Context) error {
	s, err := r.State(ctx)
	if err != nil {
		return err
	}
	if s.Count != 0 || len(s.Resources) > 0 {
		return fmt.Errorf("%d resources are left in the account:\n%s", s.Count, s)
	}
	return nil
}

// Complete says how the account differs from one that holds exactly the spec's
// cluster: nothing missing, nothing twice, nothing of anybody else.
func (r *Rig) Complete(ctx context.Context) error {
	s, err := r.State(ctx)
	if err != nil {
		return err
	}
	var wrong []string
	expect := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Sprintf(format, args...))
		}
	}
	have, want := map[string]int{}, r.site.wanted(r)
	uids := map[string]bool{}
	for _, i := range s.Resources {
		have[i.Kind]++
		want[i.Kind] += 0 // kinds that should not be
		if !slices.Contains(r.site.nameless, i.Kind) {
			uids[i.Tags[cluster.TagCluster]] = true
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(want)) {
		expect(have[kind] == want[kind], "%d %s, want %d", have[kind], kind, want[kind])
	}
	machines, groups := map[string]string{}, map[string]int{}
	for _, v := range s.Machines() {
		id := v.Tags[cluster.TagMachine]
		expect(id != "" && machines[id] == "", "machine %s (%s) has machine id %q, as has %q", v.Name, v.ID, id, machines[id])
		expect(v.State == "running", "machine %s is %s", v.Name, v.State)
		machines[id] = v.Name
		groups[v.Tags[cluster.TagGroup]]++
	}
	for name, n := range r.groups() {
		expect(groups[name] == n, "group %s has %d machines, want %d", name, groups[name], n)
	}
	expect(len(uids) == 1, "resources carry the cluster uids %v, want one", uids)
	for _, i := range s.Kind(stack.Images) {
		users := 0
		for k := range i.Tags {
			if strings.HasPrefix(k, cluster.TagImageUser) {
				users++
			}
		}
		expect(users == 1, "image %s has %d users, want 1: %v", i.Name, users, i.Tags)
	}
	for _, judge := range []func(context.Context, State) error{r.members, r.nodes} {
		if err := judge(ctx, s); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if err := r.Twice(ctx); err != nil {
		wrong = append(wrong, err.Error())
	}
	launches, err := r.Launches(ctx)
	if err != nil {
		return err
	}
	for _, v := range s.Machines() {
		expect(launches[v.Name] > 0, "the timeline does not tell of the launch of %s", v.Name)
	}
	if len(wrong) > 0 {
		return fmt.Errorf("the account is not as it should be:\n  %s\n%s", strings.Join(wrong, "\n  "), s)
	}
	return nil
}

// Quiet says what still runs in Temporal when nothing should: workflows, and the
// schedules that would start some.
func (r *Rig) Quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, visibility)
	defer cancel()
	var left error
	for {
		err := r.running(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || left == nil {
			left = err
		}
		select {
		case <-ctx.Done():
			return left
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// visibility is how long Temporal's lists may lag behind what they list.
const visibility = 15 * time.Second

func (r *Rig) running(ctx context.Context) error {
	open, err := r.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: "default", Query: "ExecutionStatus = 'Running' AND TemporalNamespaceDivision IS NULL",
	})
	if err != nil {
		return err
	}
	var left []string
	for _, e := range open.GetExecutions() {
		left = append(left, "workflow "+e.GetExecution().GetWorkflowId())
	}
	schedules, err := r.Temporal.ScheduleClient().List(ctx, client.ScheduleListOptions{PageSize: 100})
	if err != nil {
		return err
	}
	for schedules.HasNext() {
		s, err := schedules.Next()
		if err != nil {
			return err
		}
		left = append(left, "schedule "+s.ID)
	}
	if len(left) > 0 {
		return fmt.Errorf("still there: %s", strings.Join(left, ", "))
	}
	return nil
}

// groups are the sizes of all groups.
func (r *Rig) groups() map[string]int {
	out := map[string]int{cluster.ControlPlaneGroup: r.Spec.Spec.ControlPlane.Replicas}
	for _, g := range r.Spec.Spec.NodeGroups {
		out[g.Name] = *g.Count
	}
	return out
}

// members proves that the endpoint forwards to the control planes' private
// addresses and to nothing else.
func (r *Rig) members(ctx context.Context, s State) error {
	if len(s.Kind(stack.LoadBalancers)) != 1 {
		return nil // said already
	}
	have, want, err := r.site.forwards(ctx, r, s)
	if err != nil {
		return err
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		return fmt.Errorf("the endpoint forwards to %v, the control planes are %v", have, want)
	}
	return nil
}

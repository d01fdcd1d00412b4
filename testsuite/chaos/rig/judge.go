package rig

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// State is what is in the account.
type State struct{ world.State }

// State reads the account by devcloud's own door, which no fault bends.
func (r *Rig) State(ctx context.Context) (State, error) {
	var s State
	err := r.Cloud(ctx, http.MethodGet, "_devcloud/state", nil, &s.State)
	return s, err
}

func (s State) kinds() []struct {
	name  string
	items []world.Item
} {
	return []struct {
		name  string
		items []world.Item
	}{
		{"servers", s.Servers},
		{"server groups", s.ServerGroups},
		{"volumes", s.Volumes},
		{"snapshots", s.Snapshots},
		{"networks", s.Networks},
		{"subnets", s.Subnets},
		{"floating IPs", s.FloatingIPs},
		{"images", s.Images},
		{"load balancers", s.LoadBalancers},
		{"pools", s.Pools},
		{"members", s.Members},
		{"listeners", s.Listeners},
		{"monitors", s.Monitors},
	}
}

func (s State) String() string {
	var b strings.Builder
	for _, k := range s.kinds() {
		for _, i := range k.items {
			b.WriteString(fmt.Sprintf("%s: %s %s %s %v\n", k.name, i.UUID, i.Name, i.Status, i.Tags))
		}
	}
	return b.String()
}

// Empty says what is left in an account that should hold nothing.
func (r *Rig) Empty(ctx context.Context) error {
	s, err := r.State(ctx)
	if err != nil {
		return err
	}
	if left := s.String(); s.Count != 0 || left != "" {
		return fmt.Errorf("%d resources are left in the account:\n%s", s.Count, left)
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
	want := r.wanted()
	for _, k := range s.kinds() {
		expect(len(k.items) == want[k.name], "%d %s, want %d", len(k.items), k.name, want[k.name])
	}
	machines, uids := map[string]string{}, map[string]bool{}
	groups := map[string]int{}
	for _, v := range s.Servers {
		id := v.Tags[cluster.TagMachine]
		expect(id != "" && machines[id] == "", "server %s (%s) has machine id %q, as has %q", v.Name, v.UUID, id, machines[id])
		expect(v.Status == "running", "server %s is %s", v.Name, v.Status)
		machines[id] = v.Name
		groups[v.Tags[cluster.TagGroup]]++
	}
	for name, n := range r.groups() {
		expect(groups[name] == n, "group %s has %d servers, want %d", name, groups[name], n)
	}
	for _, k := range s.kinds() {
		for _, i := range k.items {
			if k.name == "images" || k.name == "members" || k.name == "volumes" {
				continue // an image is told by its users, the others belong to something
			}
			uids[i.Tags[cluster.TagCluster]] = true
		}
	}
	expect(len(uids) == 1, "resources carry the cluster uids %v, want one", uids)
	for _, i := range s.Images {
		users := 0
		for k := range i.Tags {
			if strings.HasPrefix(k, cluster.TagImageUser) {
				users++
			}
		}
		expect(users == 1, "image %s has %d users, want 1: %v", i.Name, users, i.Tags)
	}
	if err := r.members(ctx, s); err != nil {
		wrong = append(wrong, err.Error())
	}
	if err := r.nodes(ctx, s); err != nil {
		wrong = append(wrong, err.Error())
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

// perServerGroup is how many servers the cloud puts in one anti-affinity group.
const perServerGroup = 4

func (r *Rig) wanted() map[string]int {
	servers, serverGroups := 0, 0
	for _, n := range r.groups() {
		servers += n
		serverGroups += (n + perServerGroup - 1) / perServerGroup
	}
	return map[string]int{
		"servers": servers, "volumes": servers, "server groups": serverGroups,
		"networks": 1, "subnets": 1, "images": 1,
		"load balancers": 1, "pools": 1, "listeners": 1, "monitors": 1, "members": r.Spec.Spec.ControlPlane.Replicas,
	}
}

// members proves that the endpoint forwards to the control planes' private
// addresses and to nothing else.
func (r *Rig) members(ctx context.Context, s State) error {
	if len(s.Pools) != 1 {
		return nil // said already
	}
	var members []struct{ Address string }
	if err := r.Cloud(ctx, http.MethodGet, "v1/load-balancers/pools/"+s.Pools[0].UUID+"/members", nil, &members); err != nil {
		return err
	}
	var servers []struct {
		Tags       map[string]string
		Interfaces []struct {
			Type      string
			Addresses []struct{ Address string }
		}
	}
	if err := r.Cloud(ctx, http.MethodGet, "v1/servers", nil, &servers); err != nil {
		return err
	}
	var have, want []string
	for _, m := range members {
		have = append(have, m.Address)
	}
	for _, v := range servers {
		for _, i := range v.Interfaces {
			if v.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup && i.Type == "private" {
				want = append(want, i.Addresses[0].Address)
			}
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		return fmt.Errorf("the endpoint forwards to %v, the control planes are %v", have, want)
	}
	return nil
}

// Created counts what was ever created, by kind as devcloud's timeline calls it.
func (r *Rig) Created(ctx context.Context) (map[string]int, error) {
	var timeline []world.Action
	if err := r.Cloud(ctx, http.MethodGet, "_devcloud/timeline", nil, &timeline); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, a := range timeline {
		if kind, ok := strings.CutSuffix(a.Name, "_create"); ok && !a.Internal {
			out[kind]++
		}
	}
	return out, nil
}

// Doubled says, for a report, what was created more often than wanted since the
// given count, although nothing of it remained.
func (r *Rig) Doubled(ctx context.Context, before map[string]int) (string, error) {
	created, err := r.Created(ctx)
	if err != nil {
		return "", err
	}
	want := r.wanted()
	var out []string
	for kind, name := range map[string]string{
		"server": "servers", "server_group": "server groups", "network": "networks", "subnet": "subnets",
		"load_balancer": "load balancers", "load_balancer_pool": "pools", "load_balancer_listener": "listeners",
		"load_balancer_health_monitor": "monitors", "custom_image": "images",
	} {
		if extra := created[kind] - before[kind] - want[name]; extra > 0 {
			out = append(out, fmt.Sprintf("%d %s", extra, name))
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none", nil
	}
	return strings.Join(out, ", "), nil
}

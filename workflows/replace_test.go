package workflows

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// replacing is a fleet in which etcd, the endpoint and the control planes' group
// remember what they were told.
type replacing struct {
	*fakeFleet
	etcd, forwards, objects []string
	heirs                   map[string]string
	// breaks fails one call by its name.
	breaks string
}

func newReplacing(planes int) *replacing {
	r := &replacing{fakeFleet: newFleet(planes, 1, v14, v14), heirs: map[string]string{}}
	for _, n := range r.nodes {
		r.objects = append(r.objects, n.Name)
		if n.Group == "cp" {
			r.etcd = append(r.etcd, n.Name)
			r.forwards = append(r.forwards, n.Machine)
			r.record.ControlPlanes = append(r.record.ControlPlanes, cluster.NodeAddress{MachineID: n.Machine, Name: n.Name, Address: "192.0.2.1"})
		}
	}
	r.record.BootstrapMachine = "cp00"
	return r
}

func (r *replacing) did(what string) error {
	r.log = append(r.log, what)
	if verb, _, _ := strings.Cut(what, " "); r.breaks == verb {
		r.breaks = ""
		return fault.New(fault.Invalid, verb, "broken for once")
	}
	return nil
}

func (r *replacing) RemoveEtcdMember(_ context.Context, in activities.RemoveEtcdMemberInput) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(in.Nodes) < 3 {
		return fault.New(fault.Unsafe, "remove", "etcd has no quorum; run: ichor restore %s", in.Ref.Name)
	}
	r.etcd = slices.DeleteFunc(r.etcd, func(n string) bool { return n == in.Name })
	return r.did("remove " + in.Name)
}

func (r *replacing) ReplaceMember(_ context.Context, in activities.ReplaceInput) (activities.ReplaceResult, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.nodes, func(n *fakeNode) bool { return n.Machine == in.Machine || n.Name == in.Machine })
	id := in.Machine
	if i >= 0 {
		id = r.nodes[i].Machine
	}
	id = strings.TrimPrefix(id, "demo-cp-")
	if len(id) == 2 {
		id = "cp" + id
	}
	if by := r.heirs[id]; by != "" {
		return activities.ReplaceResult{By: by}, nil
	}
	switch {
	case i < 0 && !in.Lost:
		return activities.ReplaceResult{}, fault.New(fault.NotFound, "replace", "no member %s", in.Machine)
	case !in.Out:
		return activities.ReplaceResult{}, fault.New(fault.Unsafe, "replace", "etcd")
	}
	if i >= 0 {
		if slices.Contains(r.etcd, r.nodes[i].Name) {
			return activities.ReplaceResult{}, fault.New(fault.Internal, "replace", "%s is in etcd still", in.Machine)
		}
		r.nodes = slices.Delete(r.nodes, i, i+1)
	}
	r.add("cp", cluster.RoleControlPlane, 10+len(r.heirs), v14)
	by := r.nodes[len(r.nodes)-1].Name
	r.heirs[id] = by
	r.etcd, r.objects = append(r.etcd, by), append(r.objects, by)
	return activities.ReplaceResult{By: by}, r.did("replace " + id)
}

func (r *replacing) SyncEndpoint(_ context.Context, in activities.SyncEndpointInput) (cloud.MembersStatus, error) {
	r.forwards = nil
	for _, m := range in.Members {
		r.forwards = append(r.forwards, m.MachineID)
	}
	return cloud.MembersStatus{}, r.did("sync endpoint")
}

func (r *replacing) UpdateRecord(_ context.Context, in activities.RecordChange) (cluster.Record, error) {
	r.record.ControlPlanes = in.ControlPlanes
	return r.record, r.did("record planes")
}

func (r *replacing) WaitMachineAPI(_ context.Context, in activities.WaitMachineAPIInput) (activities.NodeProbe, error) {
	return activities.NodeProbe{}, r.did("answers " + in.Node.Name)
}

func (r *replacing) WaitEtcdGate(_ context.Context, in activities.EtcdGateInput) (activities.EtcdGateResult, error) {
	for _, t := range in.Nodes {
		if !slices.Contains(r.etcd, t.Node.Name) {
			return activities.EtcdGateResult{}, fault.New(fault.NotYet, "gate", "%s is no member", t.Node.Name)
		}
	}
	if len(in.Nodes) != len(r.etcd) {
		return activities.EtcdGateResult{}, fault.New(fault.NotYet, "gate", "members %v", r.etcd)
	}
	return activities.EtcdGateResult{Voters: r.etcd, Leader: r.etcd[0]}, r.did("votes all")
}

func (r *replacing) DeleteNode(_ context.Context, in activities.DeleteNodeInput) error {
	r.objects = slices.DeleteFunc(r.objects, func(n string) bool { return n == in.Name })
	return r.did("object " + in.Name)
}

func (r *replacing) ListOwned(context.Context, activities.ListOwnedInput) (activities.ListOwnedResult, error) {
	return activities.ListOwnedResult{}, nil
}

func (r *replacing) run(t *testing.T, node string) (ReplaceNodeResult, error) {
	t.Helper()
	env := repairEnv(t, r.fakeFleet, ReplaceNode)
	s := &slots{fakeFleet: r.fakeFleet}
	for name, fn := range map[string]any{
		"GetRecord": s.GetRecord, "OpenAccount": s.OpenAccount, "RemoveEtcdMember": r.RemoveEtcdMember, "ReplaceMember": r.ReplaceMember,
		"SyncEndpoint": r.SyncEndpoint, "UpdateRecord": r.UpdateRecord, "WaitMachineAPI": r.WaitMachineAPI, "WaitEtcdGate": r.WaitEtcdGate,
		"DeleteNode": r.DeleteNode, "ListOwned": r.ListOwned,
	} {
		env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	env.ExecuteWorkflow(ReplaceNode, ReplaceNodeInput{Cluster: "demo", Node: node})
	if !env.IsWorkflowCompleted() {
		t.Fatal("it did not end")
	}
	var out ReplaceNodeResult
	err := env.GetWorkflowError()
	if err == nil {
		if gerr := env.GetWorkflowResult(&out); gerr != nil {
			t.Fatal(gerr)
		}
	}
	return out, err
}

// want checks the world after a replacement of demo-cp-01 in a cluster of three.
func (r *replacing) want(t *testing.T) {
	t.Helper()
	const by = "demo-cp-10"
	names := []string{"demo-cp-00", "demo-cp-02", by}
	slices.Sort(r.etcd)
	slices.Sort(r.forwards)
	var recorded []string
	for _, n := range r.record.ControlPlanes {
		recorded = append(recorded, n.Name)
	}
	if !slices.Equal(r.etcd, names) || !slices.Equal(recorded, names) || !slices.Equal(r.forwards, []string{"cp00", "cp02", "cp10"}) {
		t.Errorf("etcd %v, endpoint %v, record %v", r.etcd, r.forwards, recorded)
	}
	if slices.Contains(r.objects, "demo-cp-01") || r.record.BootstrapMachine != "cp00" {
		t.Errorf("objects %v, bootstrap %s", r.objects, r.record.BootstrapMachine)
	}
}

// A control plane leaves etcd before its machine does, and everything that names
// control planes names the new one; done twice, it is done once.
func TestReplaceControlPlane(t *testing.T) {
	r := newReplacing(3)
	out, err := r.run(t, "demo-cp-01")
	if err != nil || out.By != "demo-cp-10" || out.Unchanged || !strings.Contains(out.Message, "votes in etcd") {
		t.Fatalf("%+v, %v", out, err)
	}
	r.want(t)
	if r.index("remove demo-cp-01") > r.index("replace cp01") || r.index("answers demo-cp-10") > r.index("votes all") {
		t.Errorf("the order: %v", r.log)
	}
	before := len(r.heirs)
	r.log = nil
	out, err = r.run(t, "demo-cp-01")
	if err != nil || !out.Unchanged || out.By != "demo-cp-10" || len(r.heirs) != before || r.index("remove demo-cp-01") >= 0 {
		t.Errorf("again: %+v, %v, %v", out, err, r.log)
	}
	r.want(t)
}

// Broken off anywhere, the same command goes on, and no second machine is made.
func TestReplaceGoesOn(t *testing.T) {
	for _, at := range []string{"remove", "replace", "sync", "record", "answers", "votes", "object"} {
		t.Run(at, func(t *testing.T) {
			r := newReplacing(3)
			r.breaks = at
			if _, err := r.run(t, "demo-cp-01"); err == nil || !strings.Contains(err.Error(), "broken for once") {
				t.Fatalf("it was not broken: %v", err)
			}
			if _, err := r.run(t, "demo-cp-01"); err != nil {
				t.Fatal(err)
			}
			r.want(t)
			if len(r.heirs) != 1 {
				t.Errorf("heirs: %v", r.heirs)
			}
		})
	}
}

// A control plane that the group never knew, because it was started again without
// it, is replaced by what the record says.
func TestReplaceLostControlPlane(t *testing.T) {
	r := newReplacing(3)
	r.nodes = slices.DeleteFunc(r.nodes, func(n *fakeNode) bool { return n.Name == "demo-cp-01" })
	out, err := r.run(t, "cp01")
	if err != nil || out.Node != "demo-cp-01" {
		t.Fatalf("%+v, %v", out, err)
	}
	r.want(t)
}

func TestReplaceRefused(t *testing.T) {
	for _, c := range []struct {
		planes     int
		node, want string
		kind       fault.Kind
	}{
		{2, "demo-cp-01", "ichor restore demo", fault.Unsafe},
		{3, "other-cp-01", "has no node", fault.NotFound},
		{3, "demo-cp-77", "no member", fault.NotFound},
		{3, "", "node: is required", fault.Invalid},
	} {
		r := newReplacing(c.planes)
		_, err := r.run(t, c.node)
		if err == nil || kindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) || len(r.heirs) != 0 {
			t.Errorf("%s of %d: %v", c.node, c.planes, err)
		}
	}
}

// The group of control planes replaces only what is out of etcd, once for each
// member, and keeps its target; what fails is tried again when asked again.
func TestGroupReplacesControlPlane(t *testing.T) {
	w := newFakeWorld()
	w.objects["etcd"] = "runs"
	w.rev, w.record = 1, cluster.Record{Ref: demoRef, Phase: cluster.PhaseReady, Endpoint: "https://192.0.2.1:6443", Frozen: cluster.Frozen{
		Bundle: "bundle", BaseConfig: []cluster.BaseConfig{{Role: cluster.RoleControlPlane, Ref: "base"}},
	}}
	quota := false
	w.inject = func(op string, _ int) (error, error) {
		if op == "create machine" && quota {
			return fault.New(fault.Quota, op, "the quota is reached"), nil
		}
		return nil, nil
	}
	in := groupInput(3)
	in.Group, in.Role = cluster.ControlPlaneGroup, cluster.RoleControlPlane
	var old GroupMember
	var by string
	ask := func(env *testsuite.TestWorkflowEnvironment, id, machine string, out bool, check func(activities.ReplaceResult, error)) {
		update(env, t, UpdateReplace, id, activities.ReplaceInput{Ref: demoRef, Group: in.Group, Machine: machine, Out: out}, check)
	}
	env := newEnv(t, w, cluster.GroupID("demo", in.Group))
	for when, f := range map[time.Duration]act{
		1 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			old = status(t, env).Members[1]
			ask(env, "not-out", old.ID, false, func(_ activities.ReplaceResult, err error) {
				if kindOf(err) != fault.Unsafe {
					t.Errorf("replaced while it is in etcd: %v", err)
				}
			})
			quota = true
			ask(env, "a", old.ID, true, func(r activities.ReplaceResult, _ error) { by = r.By })
		},
		2 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 2, MemberFailed: 1})
			if s.Target != 3 || s.Failure == nil || s.Failure.Kind != fault.Quota {
				t.Errorf("target %d, failure %+v", s.Target, s.Failure)
			}
			quota = false
			ask(env, "b", old.Name, true, func(r activities.ReplaceResult, err error) {
				if err != nil || r.By != by || by == "" {
					t.Errorf("asked again: %+v, %v, want %s", r, err, by)
				}
			})
		},
		3 * time.Hour: func(env *testsuite.TestWorkflowEnvironment) {
			s := expect(t, env, map[MemberPhase]int{MemberReady: 3})
			if s.Target != 3 || slices.ContainsFunc(s.Members, func(m GroupMember) bool { return m.ID == old.ID }) {
				t.Errorf("%+v", s)
			}
			ask(env, "c", old.ID, true, func(r activities.ReplaceResult, err error) {
				if err != nil || r.By != by {
					t.Errorf("long done: %+v, %v", r, err)
				}
			})
			ask(env, "d", "xxxxx", true, func(_ activities.ReplaceResult, err error) {
				if kindOf(err) != fault.NotFound {
					t.Errorf("unknown: %v", err)
				}
			})
		},
		4 * time.Hour: end(demoRef),
	} {
		env.RegisterDelayedCallback(func() { f(env) }, when)
	}
	env.ExecuteWorkflow(ScaleNodeGroup, in)
	if err := env.GetWorkflowError(); err != nil {
		t.Fatal(err)
	}
	if len(w.machines) != 0 || len(w.drained) != 0 {
		t.Errorf("left %v, drained %v", w.machines, w.drained)
	}
}

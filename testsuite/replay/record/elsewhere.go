package main

import (
	"context"
	"fmt"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/workflows"
)

// elsewhere is a cluster over several zones. The first launch of its group is lost,
// and finds no capacity when it is sent again: what it made is looked for before the
// next zone is asked. Then the group grows, its machines made together, and members
// are leased and given back one after the other.
func (r *recorder) elsewhere(ctx context.Context) error {
	const name = "elsewhere"
	if len(r.home.Zones) < 2 {
		return fmt.Errorf("clusters of %s are in one zone: ICHOR_TEST_CLOUD names a cloud with more", r.home.Name)
	}
	c, err := r.spec(name)
	if err != nil {
		return err
	}
	ng := &c.Spec.NodeGroups[0]
	ng.Min, ng.Max = 0, 6
	groupID := cluster.GroupID(name, ng.Name)
	for _, f := range []map[string]any{
		{"nth": 1, "effect": faults.DropBeforeCommit},
		{"nth": 2, "effect": faults.OutOfStock, "count": 1},
	} {
		f["route"], f["contains"] = r.home.Routes.Machine, "-"+ng.Name+"-"
		if _, err := r.Fault(ctx, f); err != nil {
			return err
		}
	}
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		r.saving("provision", cluster.LifecycleID(name)),
		r.ClearFaults,
		func(ctx context.Context) error {
			return r.ichor(ctx, codeOK, "scale", name+"/"+ng.Name, "--to", "4", "--wait")
		},
		func(ctx context.Context) error {
			return r.groupIs(ctx, groupID, func(s workflows.GroupStatus) bool { return phases(s)[workflows.MemberReady] == 4 })
		},
		func(ctx context.Context) error {
			return r.ichor(ctx, codeOK, "upgrade", name, "--talos", "v1.13.9", "--single-control-plane")
		},
		r.saving("upgrade", cluster.LifecycleID(name)),
		r.deleting(name),
		r.saving("delete", cluster.LifecycleID(name)),
		r.saving("group", groupID),
		r.saving("group-control-plane", cluster.GroupID(name, cluster.ControlPlaneGroup)),
	)
}

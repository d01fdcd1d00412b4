package main

import (
	"context"
	"fmt"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

const (
	mended = "mend"
	// codeConflict is how the command line ends for what is unsafe.
	codeConflict = 4
)

// repair breaks nodes of a cluster of three control planes, and mends them: a slot
// that is empty, a control plane that is gone, a system that was better before, and
// an etcd that is lost.
func (r *recorder) repair(ctx context.Context) error {
	c, err := r.spec(mended)
	if err != nil {
		return err
	}
	one := 1
	c.Spec.Talos.Version, c.Spec.Kubernetes.Version = "v1.13.9", "v1.35.2"
	c.Spec.ControlPlane.Replicas = 3
	c.Spec.NodeGroups = c.Spec.NodeGroups[:1]
	ng := &c.Spec.NodeGroups[0]
	ng.Min, ng.Max, ng.Count = 0, 3, &one
	id := cluster.LifecycleID(mended)
	var worker, plane string
	return all(ctx,
		func(ctx context.Context) error { return r.provision(ctx, codeOK, c) },
		func(ctx context.Context) (err error) { worker, err = r.oneOf(ctx, ng.Name); return err },
		func(ctx context.Context) error { return r.ichor(ctx, codeConflict, "rollback", mended, worker) },
		r.saving("rollback-refused", id),
		func(ctx context.Context) (err error) {
			plane, err = r.oneOf(ctx, cluster.ControlPlaneGroup)
			return err
		},
		func(ctx context.Context) error { return r.destroy(ctx, cluster.ControlPlaneGroup, plane) },
		func(ctx context.Context) error { return r.ichor(ctx, codeOK, "replace", mended, plane) },
		r.saving("replace-control-plane", id),
		func(ctx context.Context) error { return r.ichor(ctx, codeOK, "replace", mended, plane) },
		r.saving("replace-again", id),
		func(ctx context.Context) error { return r.ichor(ctx, codeOK, "replace", mended, worker) },
		r.saving("replace-worker", id),
		func(ctx context.Context) error { return r.ichor(ctx, codeOK, "upgrade", mended, "--talos", "v1.14.1") },
		func(ctx context.Context) (err error) { worker, err = r.oneOf(ctx, ng.Name); return err },
		func(ctx context.Context) error { return r.ichor(ctx, codeOK, "rollback", mended, worker) },
		r.saving("rollback", id),
		func(ctx context.Context) error {
			return r.keepRun(ctx, "rollback-node", cluster.NodeWorkID(mended, worker))
		},
		func(ctx context.Context) (err error) {
			plane, err = r.oneOf(ctx, cluster.ControlPlaneGroup)
			return err
		},
		func(ctx context.Context) error { return r.destroy(ctx, cluster.ControlPlaneGroup, "") },
		func(ctx context.Context) error { return r.ichor(ctx, codeConflict, "replace", mended, plane) },
		r.saving("replace-refused", id),
		func(ctx context.Context) error {
			return r.ichor(ctx, codeOK, "restore", mended, "--snapshot", "latest")
		},
		r.saving("restore", id),
		r.deleting(mended),
		r.saving("group-repaired", cluster.GroupID(mended, cluster.ControlPlaneGroup)),
	)
}

// oneOf is the name of a machine of a group.
func (r *recorder) oneOf(ctx context.Context, group string) (string, error) {
	a, err := r.Account(ctx)
	if err != nil {
		return "", err
	}
	for _, s := range a.Machines() {
		if s.Tags[cluster.TagClusterName] == mended && s.Tags[cluster.TagGroup] == group {
			return s.Name, nil
		}
	}
	return "", fmt.Errorf("group %s has no machine", group)
}

// destroy deletes one machine of a group, or all, in the cloud's panel.
func (r *recorder) destroy(ctx context.Context, group, name string) error {
	a, err := r.Account(ctx)
	if err != nil {
		return err
	}
	for _, s := range a.Machines() {
		if s.Tags[cluster.TagClusterName] != mended || s.Tags[cluster.TagGroup] != group || name != "" && s.Name != name {
			continue
		}
		if err := r.ByHand(ctx, s, stack.Delete); err != nil {
			return err
		}
	}
	return nil
}

package kube_test

import (
	"context"
	"testing"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// A snapshot brings back what was written before it, in another cluster, after
// the first one is gone with all its data; what was written later is lost.
func TestSnapshotOutlivesTheCluster(t *testing.T) {
	w := newWorld(t, "")
	plane := w.startPlane("cp-1")
	eventually(t, "ready", isTrue("ready", plane.Ready))
	api := w.admin()
	remember(t, api, "one")
	snapshot, err := w.runner.Snapshot("etcd-1")
	if err != nil || len(snapshot) == 0 {
		t.Fatalf("snapshot of %d bytes: %v", len(snapshot), err)
	}
	remember(t, api, "two")
	if err := w.runner.Restore("etcd-1", snapshot); err == nil {
		t.Error("restored into a cluster that runs")
	}
	if err := w.runner.Restore("etcd-3", snapshot[:len(snapshot)/2]); err == nil {
		t.Error("restored half a snapshot")
	}
	w.runner.DropCluster("etcd-1")

	if err := w.runner.Restore("etcd-2", snapshot); err != nil {
		t.Fatal(err)
	}
	w.balance()
	second := w.startPlane("cp-2", func(spec *guest.ControlPlane) { spec.EtcdCluster = "etcd-2" })
	eventually(t, "ready from the snapshot", isTrue("ready", second.Ready))
	eventually(t, "restored", func(ctx context.Context) error { return remembered(ctx, api, "one") })
	if err := remembered(t.Context(), api, "two"); err == nil {
		t.Error("what was written after the snapshot is there")
	}
	controllersWork(t, api, "after")
	if none, err := w.runner.Snapshot("etcd-9"); err != nil || none != nil {
		t.Errorf("snapshot of nothing: %v, %v", none, err)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/workflows"
)

// newestSnapshot is the value of --snapshot that means the last one.
const newestSnapshot = "latest"

func newRestore(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "restore NAME",
		Short: "Bring a cluster back from a snapshot when its control planes are lost",
		Long: `restore is for a cluster whose etcd is gone for good: all control planes, or so many
that there is no quorum. New machines take the places of all control planes, etcd begins
anew on one of them from a snapshot, the others join, and workers come back by themselves.
What changed in Kubernetes since the snapshot is lost.

It is refused while any control plane knows a leader of etcd. Old control plane machines
that still exist are deleted with what they hold. Run again after a failure, it goes on.`,
		Example: `  ichor restore demo --snapshot latest
  ichor restore demo --snapshot clusters/demo/8cfcea34f534/etcd/upgrade-01a1fe27-1-1`,
		Args: cobra.ExactArgs(1),
	}
	snapshot := c.Flags().String("snapshot", "", "the store key of a snapshot, or latest for the last one that was stored")
	yes := c.Flags().BoolP("yes", "y", false, "do not ask on a terminal")
	detach := c.Flags().Bool("detach", false, "start the workflow and return")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, name := cmd.Context(), args[0]
		if *snapshot == "" {
			return usageError{errors.New("which snapshot? give --snapshot latest, or its key")}
		}
		found, when, err := a.snapshot(ctx, name, *snapshot)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("This makes all control planes of cluster %q anew from %s%s; what changed since then is lost.", name, found.Key, when)
		if !*yes {
			if err := a.confirmed("restore cluster "+name, text, name); err != nil {
				return err
			}
		}
		in := workflows.RestoreInput{Cluster: name}
		in.Snapshot.Key, in.Snapshot.SHA256, in.Snapshot.Bytes = found.Key, found.SHA256, found.Bytes
		return a.repair(ctx, name, name, workflows.TypeRestoreCluster, name+": restore from "+found.Key, in, *detach)
	}
	return c
}

// snapshot finds a stored snapshot of a cluster, and says when it was stored if that
// is known.
func (a *app) snapshot(ctx context.Context, name, key string) (found store.Stream, when string, err error) {
	st, rec, err := a.openRecord(ctx, name)
	if err != nil {
		return found, "", err
	}
	defer func() { _ = st.Close() }() // nothing is buffered
	folder := store.InstancePrefix(rec.Ref) + snapshotFolder
	if key == newestSnapshot {
		var at time.Time
		found, at, err = st.NewestStream(ctx, folder)
		if fault.Is(err, fault.NotFound) {
			return found, "", fault.New(fault.NotFound, "restore cluster "+name, "no snapshot of it is stored; upgrades store them")
		}
		return found, " of " + at.Local().Format(time.DateTime), err
	}
	if !strings.HasPrefix(key, folder) {
		return found, "", usageError{fmt.Errorf("--snapshot: %q is no key of a snapshot of this cluster, which begin with %s", key, folder)}
	}
	found, err = st.Stream(ctx, key)
	return found, "", err
}

// snapshotFolder is where snapshots are kept below what belongs to a cluster.
const snapshotFolder = "etcd/"

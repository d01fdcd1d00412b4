package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// SnapshotEtcd stores a snapshot of etcd under a name, encrypted, once: what is
// there already is returned. It is streamed, and seen only when it is complete.
func (u *Upgrades) SnapshotEtcd(ctx context.Context, in SnapshotInput) (SnapshotResult, error) {
	say, stop := telling(ctx, "storing a snapshot of etcd")
	defer stop()
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return SnapshotResult{}, err
	}
	s, err := u.Store.EnsureStream(ctx, in.Ref, "etcd/"+in.Name, func(w io.Writer) error {
		return u.Machines.Snapshot(ctx, bundle, in.Target.Node.Address, &countingWriter{w: w, say: say})
	})
	return SnapshotResult(s), err
}

// countingWriter tells how much was written.
type countingWriter struct {
	w    io.Writer
	n    int64
	say  func(string)
	last int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	const mib = 1 << 20
	n, err := c.w.Write(p)
	if c.n += int64(n); c.n/mib != c.last {
		c.last = c.n / mib
		c.say(fmt.Sprintf("%d MiB", c.last))
	}
	return n, err
}

// RemoveEtcdMember removes the member of a control plane that is gone or broken,
// by its id, through a healthy peer. One that still answers leaves by itself. No
// member any more is success. Errors: Unsafe when the others have had no quorum for
// a while: then only a snapshot helps.
func (u *Upgrades) RemoveEtcdMember(ctx context.Context, in RemoveEtcdMemberInput) error {
	const op = "remove a member of etcd"
	_, stop := telling(ctx, "removing "+in.Name+" from etcd")
	defer stop()
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	var refused time.Time
	return poll(ctx, op, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		v, err := u.lookAtEtcd(ctx, bundle, in.Nodes)
		if err != nil {
			return false, "", err
		}
		peer, id, found := v.peer(in.Name)
		if ok, why := v.spares(in.Name); !ok {
			if refused.IsZero() {
				refused = time.Now()
			}
			if time.Since(refused) >= u.settle() {
				return false, "", fault.New(fault.Unsafe, op, "%s; run: ichor restore %s", why, in.Ref.Name)
			}
			return false, why, nil
		}
		refused = time.Time{}
		switch {
		case v.split != "":
			return false, v.split, nil
		case peer == "":
			return false, "no other control plane leads or follows", nil
		case !found:
			return true, in.Name + " is no member", nil
		}
		if own, alive := v.seen[in.Name]; alive && own.Leader != 0 {
			err := u.Machines.Leave(ctx, bundle, address(in.Nodes, in.Name))
			if err == nil || fault.Is(err, fault.Unsafe) {
				return false, in.Name + " was asked to leave", err
			}
		}
		err = u.Machines.RemoveMember(ctx, bundle, address(in.Nodes, peer), id)
		if fault.Is(err, fault.Ambiguous) {
			err = nil // the next look tells
		}
		return false, "its removal was requested through " + peer, err
	})
}

// spares says whether the others go on without the named member. Without a leader
// nobody knows for sure who is a member.
func (v etcdView) spares(name string) (bool, string) {
	learners := len(v.learners)
	if slices.Contains(v.learners, name) {
		learners-- // it is the one that goes
	}
	return plan.RemovalAllows(max(len(v.voters), 1), v.healthy(name), learners)
}

// peer returns a healthy control plane other than the named one, preferring the
// leader, and the named one's member id as that peer knows it.
func (v etcdView) peer(name string) (peer string, id uint64, found bool) {
	for _, other := range sortedKeys(v.seen) {
		h := v.seen[other]
		if other == name || h.Learner || h.Leader == 0 || peer != "" && other != v.leader {
			continue
		}
		peer, id, found = other, 0, false
		for _, m := range h.Members {
			if m.Name == name {
				id, found = m.ID, true
			}
		}
	}
	return peer, id, found
}

func address(nodes []UpgradeTarget, name string) string {
	for _, t := range nodes {
		if t.Node.Name == name {
			return t.Node.Address
		}
	}
	return ""
}

// RestoreEtcd begins etcd anew on one node from a stored snapshot, when no control
// plane runs it any more. Which node that is, the record says before the first
// call: a second one would make a second cluster. A node that runs etcd already is
// done. Errors: Unsafe when a peer runs etcd or the record names another node.
func (u *Upgrades) RestoreEtcd(ctx context.Context, in RestoreEtcdInput) error {
	const op = "restore etcd"
	say, stop := telling(ctx, "restoring etcd from "+in.Snapshot.Key)
	defer stop()
	records := &Records{Store: u.Store, Now: u.Now}
	machine := in.Target.Node.MachineID
	_, err := records.swap(ctx, in.Ref, func(rec *cluster.Record) (bool, error) {
		switch rec.BootstrapMachine {
		case machine:
			return false, nil
		case in.Replaces:
			rec.BootstrapMachine = machine
			return true, nil
		}
		return false, fault.New(fault.Unsafe, op, "the record names machine %s for the bootstrap of etcd; %s would make a second cluster", rec.BootstrapMachine, machine)
	})
	if err != nil {
		return err
	}
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	return poll(ctx, op, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		v, err := u.lookAtEtcd(ctx, bundle, append(slices.Clone(in.Peers), in.Target))
		if err != nil {
			return false, "", err
		}
		_, done := v.seen[in.Target.Node.Name]
		switch {
		case done:
			return true, "etcd runs", nil
		case len(v.seen) > 0:
			return false, "", fault.New(fault.Unsafe, op, "%s runs etcd already: nothing is restored over a cluster that lives", listed(sortedKeys(v.seen)))
		case v.silent[in.Target.Node.Name] != etcdDown:
			return false, v.silent[in.Target.Node.Name], nil
		}
		err = u.recover(ctx, bundle, in, say)
		if fault.Is(err, fault.Ambiguous) {
			err = nil // whether etcd runs, the next look tells
		}
		return false, "sent the snapshot", err
	})
}

// recover streams a stored snapshot to a node.
func (u *Upgrades) recover(ctx context.Context, bundle secrets.Value, in RestoreEtcdInput, say func(string)) error {
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := u.Store.ReadStream(ctx, StoredStream(in.Snapshot), &countingWriter{w: w, say: say})
		_ = w.CloseWithError(err) // never fails; the reader sees err, or the end
		ended <- err
	}()
	err := u.Machines.Recover(ctx, bundle, in.Target.Node.Address, r)
	_ = r.Close() // never fails; the writer ends
	if rerr := <-ended; rerr != nil && !fault.Is(err, fault.Ambiguous) && !errors.Is(rerr, io.ErrClosedPipe) {
		return rerr
	}
	return err
}

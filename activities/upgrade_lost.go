package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// ProveEtcdLost returns when none of the control planes has seen a leader of etcd for
// a while: what they hold cannot be used any more. It reads only. Errors: Unsafe, at
// once, when one follows or leads: etcd lives, and nothing is restored over it.
func (u *Upgrades) ProveEtcdLost(ctx context.Context, in EtcdGateInput) error {
	const op = "prove that etcd is lost"
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	var since time.Time
	return poll(ctx, op, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		v, err := u.lookAtEtcd(ctx, bundle, in.Nodes)
		if err != nil {
			return false, "", err
		}
		for _, name := range sortedKeys(v.seen) {
			if v.seen[name].Leader != 0 {
				return false, "", fault.New(fault.Unsafe, op, "etcd lives: %s knows a leader; replace what is broken instead, with: ichor replace %s NODE", name, in.Ref.Name)
			}
		}
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) >= u.settle(), fmt.Sprintf("%d of %d run etcd, none knows a leader", len(v.seen), len(in.Nodes)), nil
	})
}

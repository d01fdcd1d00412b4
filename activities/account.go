package activities

import (
	"context"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// accounts tells a cluster's account from any other: in a wrong one everything
// seems to be gone. A cloud may have no name for an account, so it is known by
// its credential; another credential is believed once something that carries the
// cluster's uid was seen through it.
type accounts struct {
	store Store
	// known, when not empty, is the account in which an owner without a record
	// began.
	known string
}

// seen notes that things of the cluster are in the account.
func (a accounts) seen(ctx context.Context, ref cluster.Ref, account string) error {
	rec, err := a.record(ctx, ref)
	if err != nil || rec == nil || slices.Contains(rec.Accounts, account) {
		return err
	}
	_, err = (&Records{Store: a.store, Now: time.Now}).UpdateRecord(ctx, RecordChange{Ref: ref, Account: account})
	return err
}

// prove makes sure that what was not found in an account of the cluster is
// absent, and not only looked for in another account. Unauthorized when that
// cannot be told. A cluster that nothing is known of is believed.
func (a accounts) prove(ctx context.Context, ref cluster.Ref, p cloud.Provider, account string) error {
	rec, err := a.record(ctx, ref)
	if err != nil {
		return err
	}
	var known []string
	if rec != nil {
		known = slices.Clone(rec.Accounts)
	}
	if a.known != "" {
		known = append(known, a.known)
	}
	if len(known) == 0 || slices.Contains(known, account) {
		return nil
	}
	have, err := owned(ctx, p, cloud.Owner{Cluster: ref})
	if err != nil {
		return err
	}
	if have.Empty() {
		return fault.New(fault.Unauthorized, "make sure of the cloud account",
			"the credential is not the one with which cluster %q was made, and nothing in its account carries the tags of the cluster, so it may be another account and nothing counts as gone. "+
				"Give a credential of the cluster's account. If this is the account and the cluster is gone from it, put the tag %s=%s on anything there, for example on an empty network",
			ref.Name, cluster.TagCluster, ref.UID)
	}
	return a.seen(ctx, ref, account)
}

// record returns nil for an owner that has no record.
func (a accounts) record(ctx context.Context, ref cluster.Ref) (*cluster.Record, error) {
	rec, _, err := a.store.Record(ctx, ref.Name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case rec.Ref.UID != ref.UID:
		return nil, nil
	}
	return &rec, nil
}

// owned lists all that a cluster owns in an account.
func owned(ctx context.Context, p cloud.Provider, owner cloud.Owner) (ListOwnedResult, error) {
	var out ListOwnedResult
	var err error
	if out.Machines, err = p.ListMachines(ctx, owner); err != nil {
		return out, err
	}
	if infra, ok := p.(cloud.Infrastructure); ok {
		if out.Resources, err = infra.ListResources(ctx, owner); err != nil {
			return out, err
		}
	}
	if images, ok := p.(cloud.Images); ok {
		out.Images, err = images.ListImages(ctx, owner)
	}
	return out, err
}

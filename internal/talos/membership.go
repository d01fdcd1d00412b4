package talos

import (
	"context"
	"slices"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	netres "github.com/siderolabs/talos/pkg/machinery/resources/network"

	"github.com/ichor-project/ichor/internal/fault"
)

// leaveTimeout bounds leaving: the node itself tries for five minutes while etcd
// calls its cluster unhealthy, and stops the service then.
const leaveTimeout = 6 * time.Minute

// EtcdHealth is etcd as one node's own member sees it.
type EtcdHealth struct {
	// Running is false where etcd has not been bootstrapped or joined, or has left;
	// nothing else is known then.
	Running bool
	Local   EtcdStatus
	// Members are those that the local member knows, sorted by host name; they may
	// be out of date where it has lost its leader.
	Members []EtcdMember
	// Alarms are unknown, thus empty, without a leader.
	Alarms []string
}

// ProbeEtcdHealth asks one node once. Other than ProbeEtcd, it asks the node's own
// member only and answers below quorum too: Local.Leader is 0 then. Errors as of
// ProbeNode; NotYet in maintenance mode.
func ProbeEtcdHealth(ctx context.Context, opts DialOptions) (EtcdHealth, error) {
	n, err := Dial(ctx, opts)
	if err != nil {
		return EtcdHealth{}, err
	}
	out, err := n.EtcdHealth(ctx)
	return out, closing(n, err)
}

// EtcdHealth reports this node's member and all members as it knows them.
func (n *Node) EtcdHealth(ctx context.Context) (EtcdHealth, error) {
	var out EtcdHealth
	services, err := n.Services(ctx)
	if err != nil {
		return out, err
	}
	i := slices.IndexFunc(services, func(s Service) bool { return s.ID == "etcd" })
	if i < 0 || services[i].State != "Running" {
		return out, nil
	}
	out.Running = true
	if out.Local, err = n.EtcdStatus(ctx); err != nil {
		return out, etcdError(err)
	}
	if out.Members, err = n.etcdMembers(ctx, true); err != nil {
		return out, etcdError(err)
	}
	if out.Local.Leader == 0 {
		return out, nil // alarms are agreed upon by all, which takes a leader
	}
	out.Alarms, err = n.EtcdAlarms(ctx)
	return out, etcdError(err)
}

// EtcdForfeit makes this node's member hand leadership over. A member that does
// not lead has nothing to do, so it is safe to repeat. Whoever leads then is
// etcd's choice. Errors: Unsafe when nobody else can lead, NotYet while the other
// member is not in sync, Unavailable without quorum.
func (n *Node) EtcdForfeit(ctx context.Context) error {
	_, err := call(ctx, n, "hand over leadership of etcd", repeatable, writeTimeout, func(ctx context.Context) (*machine.EtcdForfeitLeadershipResponse, error) {
		return n.api.EtcdForfeitLeadership(ctx, &machine.EtcdForfeitLeadershipRequest{})
	})
	return etcdError(err)
}

// EtcdLeave makes this node leave the etcd cluster and empties its data directory.
// A node that is no member any more has nothing to do, so it is safe to repeat.
// Quorum is the caller's to check. Errors: Unsafe when etcd refuses because the
// rest would be no healthy cluster, Invalid on a worker, Unavailable when etcd
// does not answer, Ambiguous when the outcome is unknown; then ask a peer for the
// members before anything else.
func (n *Node) EtcdLeave(ctx context.Context) error {
	const op = "leave etcd"
	name, err := n.hostname(ctx)
	if err != nil {
		return err
	}
	member := func() (bool, error) {
		members, err := n.EtcdMembers(ctx)
		return slices.ContainsFunc(members, func(m EtcdMember) bool { return m.Hostname == name }), etcdError(err)
	}
	if is, err := member(); err != nil || !is {
		return err
	}
	_, err = call(ctx, n, op, once, leaveTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, n.api.EtcdLeaveCluster(ctx, &machine.EtcdLeaveClusterRequest{})
	})
	if err == nil {
		return nil
	}
	if is, lookErr := member(); lookErr == nil && !is {
		return nil
	}
	return etcdError(err)
}

// hostname returns the name under which the node is a member of etcd.
func (n *Node) hostname(ctx context.Context) (string, error) {
	const op = "read host name"
	res, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (*netres.HostnameStatus, error) {
		return getResource[*netres.HostnameStatus](ctx, n, netres.HostnameID)
	})
	if err != nil {
		return "", err
	}
	if res == nil || res.TypedSpec().Hostname == "" {
		return "", fault.New(fault.NotYet, op, "%s has no host name yet", n.address)
	}
	return res.TypedSpec().Hostname, nil
}

// EtcdRemove removes another, dead member by its id, through this healthy one. It
// is safe to repeat: ids are never used again. Errors: NotFound when it is gone
// already, Unsafe when etcd refuses because the rest would be no healthy cluster,
// Unavailable without quorum or when the answer was lost.
func (n *Node) EtcdRemove(ctx context.Context, memberID uint64) error {
	_, err := call(ctx, n, "remove etcd member", repeatable, writeTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, n.api.EtcdRemoveMemberByID(ctx, &machine.EtcdRemoveMemberByIDRequest{MemberId: memberID})
	})
	return etcdError(err)
}

// etcdError recognises etcd's own errors, which Talos passes on in words.
//
// Source: api/v3rpc/rpctypes of etcd 3.6, the etcd client of Talos 1.14.
func etcdError(err error) error {
	return sharpen(err, func(f *fault.Error) {
		if !fault.Is(f, fault.Internal, fault.Ambiguous) || f.Code != "" {
			return // its code tells
		}
		switch text := f.Message; {
		case containsAny(text, "not enough started members", "unhealthy cluster", "only one member"):
			f.Kind = fault.Unsafe
		case containsAny(text, "member not found"):
			f.Kind = fault.NotFound
		case containsAny(text, "in sync with leader", "bad leader transferee", "leader transferee failed", "is a learner", "not supported for learner"):
			f.Kind = fault.NotYet
		case containsAny(text, "failed to create etcd client", "no leader"):
			f.Kind = fault.Unavailable
		case f.Kind == fault.Internal && containsAny(text, "request timed out", "leader changed", "server stopped", "connection refused", "deadline exceeded"):
			f.Kind = fault.Unavailable
		}
	})
}

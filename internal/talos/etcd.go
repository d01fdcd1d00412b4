package talos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/ichor-project/ichor/internal/fault"
)

// BootstrapOutcome tells whether Bootstrap did it.
type BootstrapOutcome string

// Outcomes of Bootstrap.
const (
	BootstrapDone    BootstrapOutcome = "done"
	BootstrapAlready BootstrapOutcome = "already" // etcd's data directory was not empty
)

// Bootstrap starts a new etcd cluster on this node. The node judges by its own
// data directory only: calling it for two nodes makes two clusters, so the
// caller must have written down which node it is before the first call. For the
// same node it is safe to repeat, therefore a lost answer is Unavailable.
// Errors: NotYet until the node's time is in sync and its config applied,
// Invalid when it is not a control plane.
func (n *Node) Bootstrap(ctx context.Context) (BootstrapOutcome, error) {
	_, err := call(ctx, n, "bootstrap etcd", repeatable, writeTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, n.api.Bootstrap(ctx, &machine.BootstrapRequest{})
	})
	switch {
	case err == nil:
		return BootstrapDone, nil
	case fault.Is(err, fault.Conflict):
		return BootstrapAlready, nil
	default:
		return "", err
	}
}

// EtcdMember is a member of the etcd cluster.
type EtcdMember struct {
	ID       uint64
	Hostname string
	// Learner is true until the member has caught up and votes.
	Learner  bool
	PeerURLs []string
}

// EtcdMembers lists the members as the cluster knows them, sorted by host name.
// It needs quorum.
func (n *Node) EtcdMembers(ctx context.Context) ([]EtcdMember, error) {
	return n.etcdMembers(ctx, false)
}

// etcdMembers asks the node's own member when local, and any member that the node
// reaches otherwise.
func (n *Node) etcdMembers(ctx context.Context, local bool) ([]EtcdMember, error) {
	resp, err := call(ctx, n, "list etcd members", repeatable, readTimeout, func(ctx context.Context) (*machine.EtcdMemberListResponse, error) {
		return n.api.EtcdMemberList(ctx, &machine.EtcdMemberListRequest{QueryLocal: local})
	})
	if err != nil {
		return nil, err
	}
	var out []EtcdMember
	for _, m := range resp.GetMessages() {
		for _, e := range m.GetMembers() {
			out = append(out, EtcdMember{ID: e.GetId(), Hostname: e.GetHostname(), Learner: e.GetIsLearner(), PeerURLs: e.GetPeerUrls()})
		}
	}
	slices.SortFunc(out, func(a, b EtcdMember) int { return strings.Compare(a.Hostname, b.Hostname) })
	return out, nil
}

// EtcdStatus is the state of the member on one node.
type EtcdStatus struct {
	MemberID uint64
	Leader   uint64 // member id, 0 when there is none
	Learner  bool
	DBBytes  int64
	Errors   []string
}

// EtcdStatus returns the state of this node's member.
func (n *Node) EtcdStatus(ctx context.Context) (EtcdStatus, error) {
	const op = "read etcd status"
	resp, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (*machine.EtcdStatusResponse, error) {
		return n.api.EtcdStatus(ctx)
	})
	if err != nil {
		return EtcdStatus{}, err
	}
	if len(resp.GetMessages()) == 0 || resp.GetMessages()[0].GetMemberStatus() == nil {
		return EtcdStatus{}, fault.New(fault.Internal, op, "%s answered nothing", n.address)
	}
	s := resp.GetMessages()[0].GetMemberStatus()
	return EtcdStatus{MemberID: s.GetMemberId(), Leader: s.GetLeader(), Learner: s.GetIsLearner(), DBBytes: s.GetDbSize(), Errors: s.GetErrors()}, nil
}

// EtcdAlarms lists the raised alarms, for example "NOSPACE on member 1f".
func (n *Node) EtcdAlarms(ctx context.Context) ([]string, error) {
	resp, err := call(ctx, n, "list etcd alarms", repeatable, readTimeout, func(ctx context.Context) (*machine.EtcdAlarmListResponse, error) {
		return n.api.EtcdAlarmList(ctx)
	})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range resp.GetMessages() {
		for _, a := range m.GetMemberAlarms() {
			if a.GetAlarm() != machine.EtcdMemberAlarm_NONE {
				out = append(out, fmt.Sprintf("%s on member %x", a.GetAlarm(), a.GetMemberId()))
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

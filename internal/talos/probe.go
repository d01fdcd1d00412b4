package talos

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/fault"
)

// Condition is a named fact that somebody waits for. Detail says what is
// missing, or what was found.
type Condition struct {
	Name   string
	OK     bool
	Detail string
}

// NodeState is one look at the machine API of a node.
type NodeState struct {
	// Maintenance says that the node waits for a config; nothing else is known
	// then.
	Maintenance bool
	Version     string // for example "v1.13.5"
	MachineStatus
}

// ProbeNode looks once. A node in maintenance mode is a state, not an error.
// Errors: Unavailable when the node does not answer, Unauthorized when it
// belongs to another cluster.
func ProbeNode(ctx context.Context, opts DialOptions) (NodeState, error) {
	n, err := Dial(ctx, opts)
	if fault.Is(err, fault.NotYet) {
		return NodeState{Maintenance: true}, nil
	} else if err != nil {
		return NodeState{}, err
	}
	var out NodeState
	out.Version, err = n.Version(ctx)
	if err == nil {
		out.MachineStatus, err = n.MachineStatus(ctx)
	}
	return out, closing(n, err)
}

// Conditions names what has to hold before a node is of use, in the order in
// which it happens.
func (s NodeState) Conditions() []Condition {
	if s.Maintenance {
		return []Condition{{Name: "node has a config", Detail: "in maintenance mode"}}
	}
	out := []Condition{
		{Name: "node has a config", OK: true, Detail: "Talos " + s.Version},
		{Name: "boot finished", OK: s.Stage == "running", Detail: "stage " + s.Stage},
	}
	ready := Condition{Name: "machine ready", OK: s.Ready}
	for _, u := range s.Unmet {
		ready.Detail = strings.TrimPrefix(ready.Detail+"; "+u.Name+": "+u.Reason, "; ")
	}
	return append(out, ready)
}

// EtcdState is etcd as one node sees it.
type EtcdState struct {
	// Running is false where etcd has not been bootstrapped or joined yet;
	// Service says what the node's etcd service does instead.
	Running bool
	Service string
	Members []EtcdMember
	Local   EtcdStatus
	Alarms  []string
}

// ProbeEtcd asks one control plane once. Errors as of ProbeNode; NotYet in
// maintenance mode. Where etcd runs but has lost its quorum, the error is
// Unavailable or Internal, in etcd's own words.
func ProbeEtcd(ctx context.Context, opts DialOptions) (EtcdState, error) {
	n, err := Dial(ctx, opts)
	if err != nil {
		return EtcdState{}, err
	}
	out, err := n.etcdState(ctx)
	return out, closing(n, err)
}

func (n *Node) etcdState(ctx context.Context) (EtcdState, error) {
	var out EtcdState
	services, err := n.Services(ctx)
	if err != nil {
		return out, err
	}
	i := slices.IndexFunc(services, func(s Service) bool { return s.ID == "etcd" })
	if i < 0 {
		out.Service = "absent"
		return out, nil
	}
	out.Service = services[i].State
	if services[i].State != "Running" {
		return out, nil
	}
	out.Running = true
	if out.Members, err = n.EtcdMembers(ctx); err != nil {
		return out, err
	}
	if out.Local, err = n.EtcdStatus(ctx); err != nil {
		return out, err
	}
	out.Alarms, err = n.EtcdAlarms(ctx)
	return out, err
}

// Voters returns the host names of the members that vote, sorted.
func (s EtcdState) Voters() []string { return s.names(false) }

// Learners returns the host names of the members that do not vote yet, sorted.
func (s EtcdState) Learners() []string { return s.names(true) }

func (s EtcdState) names(learners bool) []string {
	var out []string
	for _, m := range s.Members {
		if m.Learner == learners {
			out = append(out, m.Hostname)
		}
	}
	slices.Sort(out)
	return out
}

// Leader returns the host name of the leader, empty when there is none.
func (s EtcdState) Leader() string {
	for _, m := range s.Members {
		if m.ID == s.Local.Leader && m.ID != 0 {
			return m.Hostname
		}
	}
	return ""
}

// Conditions names what has to hold before etcd counts as healthy with the
// wanted number of members.
func (s EtcdState) Conditions(wanted int) []Condition {
	running := Condition{Name: "etcd runs", OK: s.Running, Detail: "service " + s.Service}
	if !s.Running {
		return []Condition{running}
	}
	voters := s.Voters()
	members := Condition{
		Name: "etcd members", OK: len(voters) == wanted && len(s.Members) == wanted,
		Detail: fmt.Sprintf("%d of %d vote: %s", len(voters), wanted, strings.Join(voters, ", ")),
	}
	if learners := s.Learners(); len(learners) > 0 {
		members.Detail += "; still learning: " + strings.Join(learners, ", ")
	}
	leader := Condition{Name: "etcd leader", OK: s.Leader() != "", Detail: s.Leader()}
	if !leader.OK {
		leader.Detail = "none"
	}
	return []Condition{
		running, members, leader,
		{Name: "etcd without errors", OK: len(s.Local.Errors) == 0, Detail: strings.Join(s.Local.Errors, "; ")},
		{Name: "etcd without alarms", OK: len(s.Alarms) == 0, Detail: strings.Join(s.Alarms, "; ")},
	}
}

// closing ends a connection and keeps the error that matters.
func closing(n *Node, err error) error {
	closeErr := n.Close()
	if err != nil {
		return err
	}
	return closeErr
}

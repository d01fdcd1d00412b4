package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Watch waits for what happens by itself after machines were created: it reads
// the cloud and the cluster, and writes nothing.
type Watch struct {
	Clouds Clouds
	Kube   *Kube
	Timing Timing
}

// WatchGroupInput says what the workflow knows of the members of a group; the
// activity returns when it sees something else.
type WatchGroupInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	Owner cloud.Owner   `json:"owner"`
	Known []MemberFact  `json:"known"` // sorted by id
	// Kube is zero for a cluster with a record.
	Kube KubeTarget `json:"kube,omitzero"`
	// Account is where an owner without a record began, if that is known.
	Account string `json:"account,omitempty"`
}

// MemberFact is what is known of one member.
type MemberFact struct {
	ID         string             `json:"id"`
	CloudID    string             `json:"cloudID,omitempty"`
	Name       string             `json:"name"`
	State      cloud.MachineState `json:"state,omitempty"`
	Public     string             `json:"public,omitempty"`
	Private    string             `json:"private,omitempty"`
	ProviderID string             `json:"providerID,omitempty"`
	// Fresh machines may be missing from reads that lag behind their creation,
	// so that one of them is not found proves nothing.
	Fresh bool `json:"fresh,omitempty"`
	// Joined says that the Node object exists.
	Joined bool `json:"joined,omitempty"`
	// NodeReady says that the node is Ready, has the machine's provider ID and
	// is initialised.
	NodeReady bool `json:"nodeReady,omitempty"`
	// Detail says what is missing, for people; changes of it alone are not
	// reported.
	Detail string `json:"detail,omitempty"`
}

func (f MemberFact) same(o MemberFact) bool {
	f.Detail, o.Detail = "", ""
	return f == o
}

// WatchGroupResult is the newest view of all known members.
type WatchGroupResult struct {
	Members []MemberFact `json:"members"`
	// Missing are ids of known members whose machine is proven absent: not in a
	// complete list, and NotFound when asked for itself. Sorted.
	Missing []string `json:"missing,omitempty"`
	// Unseen says why the nodes could not be looked at; empty when they could.
	Unseen string `json:"unseen,omitempty"`
	// Observed is the least of what the ready nodes among the members have; nil
	// when none is ready.
	Observed *Observed `json:"observed,omitempty"`
}

// WatchGroup polls the cloud and, once machines run, the cluster's Kubernetes
// API, and returns when a known member has changed; one list serves the whole
// group. Without a change it returns what it knows after its time is over.
func (w *Watch) WatchGroup(ctx context.Context, in WatchGroupInput) (WatchGroupResult, error) {
	p, account, err := w.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return WatchGroupResult{}, err
	}
	book := accounts{store: w.Kube.Store, known: in.Account}
	target := in.Kube
	if target == (KubeTarget{}) {
		target.Ref = in.Owner.Cluster
	}
	out := WatchGroupResult{Members: slices.Clone(in.Known)}
	now := out.Members
	changedFor, looks := 0, 0
	seen := false // by the last look at nodes that was not cut off
	err = poll(ctx, "watch group "+in.Owner.Group, w.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		var err error
		if looks%listEvery == 0 || slices.ContainsFunc(now, func(f MemberFact) bool { return f.State != cloud.MachineRunning }) {
			if out.Missing, err = lookAtMachines(ctx, p, in.Owner, now); err != nil {
				return false, "", err
			}
		}
		looks++
		if len(out.Missing) > 0 {
			err := book.prove(ctx, in.Owner.Cluster, p, account)
			if err != nil {
				out.Missing = nil
			}
			return err == nil, "", err
		}
		// A change in the cloud is told before Kubernetes is asked: before the
		// first node has joined, its API takes long not to answer.
		var kubeErr error
		if changes(now, in.Known) == 0 {
			var ok bool
			ok, out.Observed, kubeErr = w.Kube.lookAtNodes(ctx, target, p.Capabilities().NodesByProviderID, now)
			if ok || ctx.Err() == nil {
				seen = ok
			}
		}
		// One more look after the first change gathers what changes together.
		changed := changes(now, in.Known)
		done := changed > 0 && changed == changedFor || changed == len(now)
		changedFor = changed
		return done, summary(now), kubeErr
	})
	if fault.Is(err, fault.NotYet) {
		err = nil
	}
	running := func(f MemberFact) bool { return f.State == cloud.MachineRunning && !f.NodeReady }
	if !seen && len(out.Missing) == 0 && slices.ContainsFunc(now, running) {
		out.Unseen = apiSilent
	}
	return out, err
}

// listEvery is how many looks at nodes there are for each list of machines that
// all run: lists count against the account's rate limit.
const listEvery = 5

func changes(now, known []MemberFact) int {
	n := 0
	for i := range now {
		if !now[i].same(known[i]) {
			n++
		}
	}
	return n
}

func summary(facts []MemberFact) string {
	running, ready := 0, 0
	detail := ""
	for _, f := range facts {
		if f.State == cloud.MachineRunning {
			running++
		}
		if f.NodeReady {
			ready++
		} else if f.Detail != "" {
			detail = "; " + f.Name + ": " + f.Detail
		}
	}
	return fmt.Sprintf("%d of %d machines running, %d nodes ready%s", running, len(facts), ready, detail)
}

// lookAtMachines updates what the cloud says of members and returns the ids of
// those whose machine is proven absent.
func lookAtMachines(ctx context.Context, p cloud.Provider, owner cloud.Owner, facts []MemberFact) ([]string, error) {
	ms, err := p.ListMachines(ctx, owner)
	if err != nil {
		return nil, err
	}
	var missing []string
	for i, f := range facts {
		at := slices.IndexFunc(ms, func(m cloud.Machine) bool { return m.Ref.ID == f.ID && m.Ref.Cloud == f.CloudID })
		if at < 0 {
			gone, err := absent(ctx, p, owner, f)
			if err != nil {
				return nil, err
			}
			if gone && !f.Fresh {
				missing = append(missing, f.ID)
			}
			continue
		}
		m := ms[at]
		facts[i].State, facts[i].Public, facts[i].Private = m.State, m.Public, m.Private
		facts[i].ProviderID = m.ProviderID
		facts[i].Detail = ""
		if m.State != cloud.MachineRunning {
			facts[i].Detail = "the cloud says " + string(m.State)
		}
	}
	return missing, nil
}

// absent asks for a machine itself that a complete list does not have: lists lag.
func absent(ctx context.Context, p cloud.Provider, owner cloud.Owner, f MemberFact) (bool, error) {
	if f.CloudID == "" {
		return false, nil
	}
	_, err := p.GetMachine(ctx, cloud.MachineRef{Owner: owner, ID: f.ID, Cloud: f.CloudID})
	switch {
	case fault.Is(err, fault.NotFound):
		return true, nil
	case fault.Is(err, fault.Conflict): // it is there, but somebody took its tags
		return false, nil
	}
	return false, err
}

// nodeTimeout bounds one look at the Kubernetes API: shorter than any sensible
// heartbeat, longer than a slow list.
const nodeTimeout = 5 * time.Second

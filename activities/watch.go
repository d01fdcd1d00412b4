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
}

// WatchGroup polls the cloud and, once machines run, the cluster's Kubernetes
// API, and returns when a known member has changed; one list serves the whole
// group. Without a change it returns what it knows after its time is over.
func (w *Watch) WatchGroup(ctx context.Context, in WatchGroupInput) (WatchGroupResult, error) {
	p, _, err := w.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return WatchGroupResult{}, err
	}
	now := slices.Clone(in.Known)
	changedFor := 0
	err = poll(ctx, "watch group "+in.Owner.Group, w.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		if err := lookAtMachines(ctx, p, in.Owner, now); err != nil {
			return false, "", err
		}
		// A change in the cloud is told before Kubernetes is asked: before the
		// first node has joined, its API takes long not to answer.
		var kubeErr error
		if changes(now, in.Known) == 0 {
			kubeErr = w.Kube.lookAtNodes(ctx, in.Owner.Cluster, now)
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
	return WatchGroupResult{Members: now}, err
}

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

// lookAtMachines updates what the cloud says of members that are not known to
// run yet.
func lookAtMachines(ctx context.Context, p cloud.Provider, owner cloud.Owner, facts []MemberFact) error {
	if !slices.ContainsFunc(facts, func(f MemberFact) bool { return f.State != cloud.MachineRunning }) {
		return nil
	}
	ms, err := p.ListMachines(ctx, owner)
	if err != nil {
		return err
	}
	for i := range facts {
		for _, m := range ms {
			if m.Ref.ID != facts[i].ID || m.Ref.Cloud != facts[i].CloudID {
				continue
			}
			facts[i].State, facts[i].Public, facts[i].Private = m.State, m.Public, m.Private
			facts[i].ProviderID = m.ProviderID
			facts[i].Detail = ""
			if m.State != cloud.MachineRunning {
				facts[i].Detail = "the cloud says " + string(m.State)
			}
		}
	}
	return nil
}

// nodeTimeout bounds one look at the Kubernetes API: shorter than any sensible
// heartbeat, longer than a slow list.
const nodeTimeout = 5 * time.Second

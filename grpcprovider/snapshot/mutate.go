package snapshot

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// IncreaseSize implements provider.Source.
func (s *Source) IncreaseSize(ctx context.Context, groupID string, delta int) error {
	what := "increase the size of " + groupID
	return s.request(ctx, groupID, what, func(v, _ *view) (string, workflows.ScaleRequest, error) {
		target := v.target()
		switch {
		case delta <= 0:
			return "", workflows.ScaleRequest{}, fault.New(fault.Invalid, what, "%d is not a positive number of machines", delta)
		case delta > v.facts.Max-target || delta > atOnceMost:
			return "", workflows.ScaleRequest{}, fault.New(fault.Invalid, what, "%d machines and %d more exceed the group's max of %d", target, delta, v.facts.Max)
		}
		return workflows.SignalIncreaseSize, workflows.ScaleRequest{Delta: delta}, nil
	})
}

// DecreaseTargetSize implements provider.Source. When there is nothing to give up
// it fails with Conflict: the autoscaler must not believe that it had an effect.
func (s *Source) DecreaseTargetSize(ctx context.Context, groupID string, delta int) error {
	what := "decrease the target of " + groupID
	return s.request(ctx, groupID, what, func(v, _ *view) (string, workflows.ScaleRequest, error) {
		if delta <= 0 {
			return "", workflows.ScaleRequest{}, fault.New(fault.Invalid, what, "%d is not a positive number of machines", delta)
		}
		n := len(v.unmade(delta))
		if n == 0 {
			return "", workflows.ScaleRequest{}, fault.New(fault.Conflict, what, "all %d machines of the group exist", v.target())
		}
		return workflows.SignalDecreaseTargetSize, workflows.ScaleRequest{Delta: n}, nil
	})
}

// DeleteNodes implements provider.Source.
func (s *Source) DeleteNodes(ctx context.Context, groupID string, nodes []provider.NodeRef) error {
	what := "delete nodes of " + groupID
	return s.request(ctx, groupID, what, func(v, durable *view) (string, workflows.ScaleRequest, error) {
		which, err := v.victims(what, nodes, durable)
		if err != nil || len(which) == 0 {
			return "", workflows.ScaleRequest{}, err
		}
		req := workflows.ScaleRequest{}
		for _, i := range which {
			req.Nodes = append(req.Nodes, deleteID(v.members[i]))
		}
		return workflows.SignalDeleteNodes, req, nil
	})
}

// deleteID names a member to its entity: by what stays the same when the machine
// in its place is replaced.
func deleteID(m workflows.GroupMember) string {
	if m.Instance != "" {
		return m.Instance
	}
	return shownID(m)
}

// victims finds the members that a request means and that are not durably on
// their way out yet, or says which node is not of the group. A request that is
// still being sent may fail, so whoever asks for the same meanwhile sends one, too.
func (v *view) victims(what string, nodes []provider.NodeRef, durable *view) ([]int, error) {
	var which []int
	running, more := 0, 0
	for _, n := range nodes {
		i, ok := v.member(n.ProviderID, n.Name)
		switch {
		case !ok && v.doubts(n.ProviderID, n.Name):
			return nil, fault.New(fault.Unavailable, what, "the group does not answer, and it is not known whether %q (provider ID %q) is still of it", n.Name, n.ProviderID)
		case !ok && v.wasMember(n.ProviderID, n.Name):
			continue
		case !ok:
			return nil, fault.New(fault.Invalid, what, "node %q (provider ID %q) is not of this group", n.Name, n.ProviderID)
		case anonymous(v.members[i]), v.guessed(v.members[i]):
			return nil, fault.New(fault.Unavailable, what, "no worker runs, and it is not known which machine %q is", n.ProviderID)
		case slices.Contains(which, i):
			continue
		case v.members[i].Phase == workflows.MemberGone || !v.members[i].Counted() && durable.counts(n):
			// Leaving by a request that is being sent, or given up, as it seems: the
			// entity may have chosen another one.
		case !v.members[i].Counted():
			continue
		default:
			more++
		}
		if stateOf(v.members[i].Phase) == provider.Running {
			running++
		}
		which = append(which, i)
	}
	if len(which) > atOnceMost {
		return nil, fault.New(fault.Invalid, what, "%d nodes are more than the %d of one request", len(which), atOnceMost)
	}
	// What failed or never came up is replaced if min requires it, so it may
	// always go; a node that works may not.
	if left := v.target() - more; running > 0 && left < v.facts.Min {
		return nil, fault.New(fault.Invalid, what, "%d machines would be left, fewer than the group's min of %d", left, v.facts.Min)
	}
	return which, nil
}

// counts reports whether a node is a member that is in the target.
func (v *view) counts(n provider.NodeRef) bool {
	i, ok := v.member(n.ProviderID, n.Name)
	return ok && v.members[i].Counted()
}

// decision chooses the signal of a change, by the group with all requests and with
// those that are durable. An empty name says that nothing is to do.
type decision func(all, durable *view) (name string, req workflows.ScaleRequest, err error)

// request checks a change against all that is known, makes it durable and shows
// it. decide is called with mu held.
func (s *Source) request(ctx context.Context, groupID, what string, decide decision) error {
	e, r, err := s.reserve(ctx, groupID, what, decide)
	if err != nil || r == nil {
		return err
	}
	// Who goes away in the meantime gets an error, and the request is cancelled
	// below; ending the call would only leave unknown what became of it.
	sending, stop := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.SignalBudget)
	defer stop()
	err = s.back.signal(sending, e.id, r.name, r.req.RequestID, r.req)
	return s.conclude(e, r, what, err, ctx.Err())
}

func (s *Source) reserve(ctx context.Context, groupID, what string, decide decision) (*entry, *request, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.group(groupID)
	switch {
	case e == nil:
		return nil, nil, fault.New(fault.NotFound, what, "there is no such node group")
	case e.unread != nil:
		return nil, nil, fault.New(fault.Unavailable, what, "the group could not be read since %s: %v", e.unreadSince.UTC().Format(time.RFC3339), e.unread)
	case e.all.ending:
		return nil, nil, fault.New(fault.Conflict, what, "the group is being deleted")
	case e.all.paused != "":
		return nil, nil, fault.New(fault.Conflict, what, "%s", e.all.paused)
	}
	name, req, err := decide(e.all, e.acked)
	if err != nil || name == "" {
		return nil, nil, err
	}
	if req.RequestID = provider.RequestID(ctx); req.RequestID == "" {
		req.RequestID = s.cfg.newID()
	}
	if slices.ContainsFunc(e.pending, func(p *request) bool { return p.req.RequestID == req.RequestID }) || e.base.requests[req.RequestID] {
		return nil, nil, fault.New(fault.Invalid, what, "request %s was made before", req.RequestID)
	}
	now := s.cfg.now()
	req.Origin, req.Cluster, req.At = workflows.OriginAutoscaler, e.all.facts.Cluster, now.UTC()
	req.Reason = "asked by the autoscaler"
	req.SeenTarget, req.SeenGeneration = e.all.target(), e.all.generation
	r := &request{signal: signal{name: name, at: now, req: req}}
	before := e.all.target()
	e.pending = append(e.pending, r)
	if e.base.asked {
		e.all.apply(r.signal)
	} else {
		e.rebuild()
	}
	if name == workflows.SignalDecreaseTargetSize && e.all.target() == before {
		// The entity will give up what is deleted by another request anyway.
		e.pending = e.pending[:len(e.pending)-1]
		e.rebuild()
		return nil, nil, fault.New(fault.Conflict, what, "what could be given up of the %d machines is being deleted", before)
	}
	return e, r, nil
}

// group finds the entry of a group that is shown. mu is held.
func (s *Source) group(groupID string) *entry {
	g := s.shown.Load().byID[groupID]
	if g == nil {
		return nil
	}
	return s.entries[cluster.GroupID(g.Facts.Cluster.Name, g.Facts.Group)]
}

// conclude commits a request or takes it back. left is why the caller does not
// read the answer, nil if it does.
func (s *Source) conclude(e *entry, r *request, what string, err, left error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[e.id] != e {
		return err // the group has ended in the meantime
	}
	if left == nil && (err == nil || r.confirmed && fault.Is(err, fault.Ambiguous)) {
		if !r.confirmed { // else a reading was faster
			r.acked, r.ackedAt = true, s.tick()
			if e.base.asked {
				e.acked.apply(r.signal)
			} else {
				e.rebuild()
			}
			s.publish([]*entry{e}, nil)
		}
		s.cfg.Log.Info("request accepted", "group", groupOf(e), "request", r.req.RequestID, "signal", r.name,
			"delta", r.req.Delta, "nodes", r.req.Nodes, "target", e.acked.target())
		return nil
	}
	if err == nil {
		err = fault.New(fault.Ambiguous, what, "the caller went away before the answer: %v", left)
	}
	unknown := fault.Is(err, fault.Ambiguous)
	e.pending = slices.DeleteFunc(e.pending, func(p *request) bool { return p == r })
	e.rebuild()
	if unknown {
		e.owed[r.req.RequestID] = true
		s.payLater()
	}
	s.cfg.Log.Warn("request not accepted", "group", groupOf(e), "request", r.req.RequestID, "signal", r.name, "cancel", unknown, "error", err)
	return err
}

func groupOf(e *entry) string {
	if e.shown == nil {
		return e.id
	}
	return e.shown.ID
}

// payLater tries to make owed cancellations durable until they are. A Refresh
// does so as well, and waits for it. mu is held.
func (s *Source) payLater() {
	if s.paying {
		return
	}
	s.paying = true
	s.background(func(ctx context.Context) {
		for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
			try, stop := context.WithTimeout(ctx, s.cfg.SignalBudget)
			failed := s.sendOwed(try)
			stop()
			if len(failed) == 0 && s.paid() {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	})
}

// paid reports whether nothing is owed, and then lets the next debt start anew.
func (s *Source) paid() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.entries {
		if len(e.owed) > 0 {
			return false
		}
	}
	s.paying = false
	return true
}

// sendOwed makes all owed cancellations durable and returns, by group, why some
// could not be. Those groups must not be read before they are.
func (s *Source) sendOwed(ctx context.Context) failures {
	type debt struct {
		e  *entry
		id string
	}
	var debts []debt
	s.mu.Lock()
	for _, e := range s.entries {
		for _, id := range slices.Sorted(maps.Keys(e.owed)) {
			debts = append(debts, debt{e, id})
		}
	}
	s.mu.Unlock()
	errs := make([]error, len(debts))
	each(len(debts), s.cfg.Concurrency, func(i int) {
		d := debts[i]
		id := "cancel-" + d.id
		err := s.back.signal(ctx, d.e.id, workflows.SignalCancelRequest, id, workflows.ScaleRequest{
			RequestID: id, Cancel: d.id, Origin: workflows.OriginAutoscaler, Reason: "its fate was unknown, and its caller got an error",
		})
		if err != nil && !fault.Is(err, fault.NotFound) {
			errs[i] = fault.New(fault.Unavailable, op, "a request of unknown fate cannot be cancelled yet: %v", err)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.e.owed[d.id] { // else somebody else was faster
			delete(d.e.owed, d.id)
			d.e.cancelled[d.id] = true
			d.e.notBefore = s.tick()
			s.count.cancelled.Add(1)
		}
	})
	out := failures{}
	for i, d := range debts {
		if errs[i] != nil {
			out[d.e.id] = errs[i]
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

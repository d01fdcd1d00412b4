package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// followGroup shows a group until nothing moves any more: every member is ready,
// or what is not has failed or may not go on, which is an error. When ctx ends
// first, the group goes on.
func (a *app) followGroup(ctx context.Context, t client.Client, g groupName, what string, begun time.Time) (workflows.GroupStatus, error) {
	v := a.newView(g.String(), what)
	s, err := watchGroup(ctx, t, g, what, begun, v)
	v.end()
	if err != nil && ctx.Err() != nil {
		fmt.Fprintf(a.err, "\nStopped watching; the group goes on.\n  come back:  ichor watch %s\n", g)
		return s, interrupted{}
	}
	return s, err
}

func watchGroup(ctx context.Context, t client.Client, g groupName, what string, begun time.Time, v view) (workflows.GroupStatus, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var s workflows.GroupStatus
	seen := members{}
	heard, warned := time.Now(), false
	for next := time.Now(); ; {
		if !time.Now().Before(next) {
			now, err := groupOf(ctx, t, g.workflowID())
			switch {
			case err == nil:
				s, heard, warned = now, time.Now(), false
				if seen.rows == nil {
					showReady(v, s, what, begun)
				}
				v.progress(seen.progress(s, what, begun))
				if done, err := settled(g, s, time.Now()); done {
					return s, err
				}
			case ctx.Err() != nil:
				return s, ctx.Err()
			case ended(err):
				return s, fault.New(fault.NotFound, "watch group "+g.String(), "it does not run any more")
			case time.Since(heard) > quietAfter && !warned:
				warned = true
				v.notice("no worker answers; the group goes on when ichor-worker does (" + plain(err).Error() + ")")
			}
			next = time.Now().Add(pollEvery)
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-tick.C:
			v.tick()
		}
	}
}

// settled reports whether a group has come to rest, and the error if that is not
// where it should be.
func settled(g groupName, s workflows.GroupStatus, now time.Time) (bool, error) {
	c := countMembers(s)
	stop := func(kind fault.Kind, format string, args ...any) (bool, error) {
		return true, &runError{Kind: kind, Message: fmt.Sprintf("%s: %s: %s", g, c.of(s.Target), fmt.Sprintf(format, args...))}
	}
	var doing, waiting int
	var failed []string
	for _, m := range s.Members {
		switch m.Phase {
		case workflows.MemberWanted:
			waiting++
		case workflows.MemberCreating, workflows.MemberBooting, workflows.MemberJoined, workflows.MemberDraining, workflows.MemberDeleting:
			doing++
		case workflows.MemberFailed:
			failed = append(failed, failureText(m))
		case workflows.MemberReady, workflows.MemberGone:
		}
	}
	waiting += max(0, s.Target-c.Ready-c.Creating-c.Failed) // not even listed yet
	switch {
	case s.Ending:
		return stop("", "the group is ending")
	case doing > 0:
		return false, nil
	case s.Paused != nil && waiting > 0:
		return stop(fault.Conflict, "%s; go on with: ichor resume %s", strings.Join(ailments(workflows.GroupStatus{Paused: s.Paused}, now), ""), g)
	case s.Parked != "":
		return false, nil // it says so, and goes on when told
	case waiting > 0 && (s.Backoff == nil || !s.Backoff.Until.After(now)):
		return false, nil
	case len(failed) > 0 || waiting > 0:
		return stop("", "%s", strings.Join(append(failed, ailments(workflows.GroupStatus{Backoff: s.Backoff, Failure: s.Failure}, now)...), "; "))
	}
	return true, nil
}

func failureText(m workflows.GroupMember) string {
	name := m.Name
	if name == "" {
		name = m.ID
	}
	if m.Failure == nil {
		return name + ": " + m.Note
	}
	return fmt.Sprintf("%s: %s (%s)", name, m.Failure.Message, m.Failure.Kind)
}

// showReady keeps lines from beginning with all that was ready before.
func showReady(v view, s workflows.GroupStatus, what string, begun time.Time) {
	lines, ok := v.(*lineView)
	if !ok {
		return
	}
	ready := s
	ready.Members = nil
	for _, m := range s.Members {
		if m.Phase == workflows.MemberReady {
			ready.Members = append(ready.Members, m)
		}
	}
	last := (&members{}).progress(ready, what, begun)
	last.Steps = nil
	lines.last = last
}

// members remembers those that a group has forgotten, so that they are seen to
// go.
type members struct{ rows []workflows.MemberStatus }

// progress is a group in the form in which runs are shown.
func (m *members) progress(s workflows.GroupStatus, what string, begun time.Time) workflows.Progress {
	rows := memberRows(s)
	for _, old := range m.rows {
		if !containsMember(rows, old.ID) {
			if old.Phase != workflows.MemberGone {
				old.Phase, old.Since, old.Note = workflows.MemberGone, time.Now(), ""
			}
			rows = append(rows, old)
		}
	}
	if rows == nil {
		rows = []workflows.MemberStatus{}
	}
	m.rows = rows
	detail := countMembers(s).of(s.Target)
	for _, text := range ailments(workflows.GroupStatus{Ending: s.Ending, Paused: s.Paused, Backoff: s.Backoff}, time.Now()) {
		detail += "; " + text
	}
	return workflows.Progress{
		Cluster: s.Cluster, Kind: workflows.TypeScaleNodeGroup, Nodes: rows, Parked: s.Parked,
		Steps: []workflows.StepStatus{{Name: what, State: workflows.StepDoing, Started: begun, Detail: detail}},
	}
}

func containsMember(rows []workflows.MemberStatus, id string) bool {
	for _, r := range rows {
		if r.ID == id {
			return true
		}
	}
	return false
}

// watchGroupOf is `ichor watch CLUSTER/GROUP`.
func (a *app) watchGroupOf(ctx context.Context, name string) error {
	g, err := parseGroup(name)
	if err != nil {
		return err
	}
	t, err := a.dial(ctx)
	if err != nil {
		return err
	}
	defer t.Close()
	return a.settle(ctx, t, g, "watch", time.Now(), nil)
}

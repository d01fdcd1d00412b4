package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// event is one change of a run, for people who read lines and for machines.
type event struct {
	Time time.Time `json:"time"`
	// Elapsed since the run began, in seconds.
	Elapsed float64 `json:"elapsed"`
	// Event is step, node, endpoint, parked, resumed, failed, remaining or note.
	Event  string `json:"event"`
	Name   string `json:"name,omitempty"`
	State  string `json:"state,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Took is how long a finished step took, in seconds.
	Took float64 `json:"took,omitempty"`
}

// changes lists what is new in a run since the last answer, in the order of the
// runbook. Times are those of the run, not of the observer.
func changes(old, now workflows.Progress, seen time.Time) []event {
	start := began(now)
	var out []event
	add := func(at time.Time, e event) {
		if at.IsZero() {
			at = seen
		}
		e.Time = at.UTC()
		if !start.IsZero() {
			e.Elapsed = max(seconds(at.Sub(start)), 0)
		}
		out = append(out, e)
	}
	for _, s := range now.Steps {
		i := slices.IndexFunc(old.Steps, func(o workflows.StepStatus) bool { return o.Name == s.Name })
		before := workflows.StepStatus{State: workflows.StepPending}
		if i >= 0 {
			before = old.Steps[i]
		}
		if before.State == s.State && (before.Detail == s.Detail || s.Detail == "" || s.State != workflows.StepDoing) {
			continue
		}
		e := event{Event: "step", Name: s.Name, State: string(s.State), Detail: s.Detail}
		if s.State == workflows.StepFailed && now.Failure != nil {
			e.Detail = "" // the failure says it
		}
		at := s.Started
		switch {
		case !s.Ended.IsZero() && s.State != workflows.StepDoing:
			at, e.Took = s.Ended, seconds(s.Ended.Sub(s.Started))
		case before.State == s.State:
			at = seen
		}
		add(at, e)
	}
	for _, n := range now.Nodes {
		i := slices.IndexFunc(old.Nodes, func(o workflows.MemberStatus) bool { return o.ID == n.ID && o.Group == n.Group })
		if i >= 0 && old.Nodes[i].Phase == n.Phase || n.Phase == phaseOf(plan.RollPending) {
			continue // that its turn comes later is no news
		}
		detail := n.Note
		if n.Address != "" && detail == "" {
			detail = n.Address
		}
		add(n.Since, event{Event: "node", Name: n.Name, State: string(n.Phase), Detail: detail})
	}
	if now.Endpoint != "" && now.Endpoint != old.Endpoint {
		add(seen, event{Event: "endpoint", Detail: now.Endpoint})
	}
	switch {
	case now.Parked != "" && now.Parked != old.Parked:
		add(seen, event{Event: "parked", Detail: now.Parked})
	case now.Parked == "" && old.Parked != "":
		add(seen, event{Event: "resumed"})
	}
	if now.Failure != nil && (old.Failure == nil || *old.Failure != *now.Failure) {
		add(seen, event{Event: "failed", State: string(now.Failure.Kind), Detail: now.Failure.Message})
	}
	for _, n := range now.Notes[min(len(old.Notes), len(now.Notes)):] {
		add(seen, event{Event: "note", Detail: n})
	}
	if !slices.Equal(old.Remaining, now.Remaining) {
		for _, r := range now.Remaining {
			add(seen, event{Event: "remaining", Detail: r})
		}
	}
	return out
}

// began is when the run's first step started.
func began(p workflows.Progress) time.Time {
	if len(p.Steps) == 0 {
		return time.Time{}
	}
	return p.Steps[0].Started
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(10*time.Millisecond)) / float64(time.Second)
}

// line is an event for people.
func (e event) line() string {
	var text string
	switch e.Event {
	case "step":
		text = fmt.Sprintf("%s: %s", e.Name, e.State)
		if e.Took > 0 {
			text += fmt.Sprintf(" in %.1fs", e.Took)
		}
	case "node":
		text = fmt.Sprintf("node %s: %s", e.Name, e.State)
	case "failed":
		text = "failed"
		if e.State != "" { // cancellation has no kind
			text += " (" + e.State + ")"
		}
	case "remaining":
		text = "remains"
	default:
		text = e.Event
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return printable(fmt.Sprintf("%8.1fs  %s", e.Elapsed, text))
}

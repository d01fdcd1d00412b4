package snapshot

import (
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// groupID names a group to the autoscaler and to people.
func groupID(cluster, group string) string { return cluster + "/" + group }

// render shows a view as the autoscaler sees it. due is when it would look
// different by time alone, zero for never.
func (v *view) render(now time.Time) (g *provider.Group, due time.Time) {
	g = &provider.Group{
		ID: groupID(v.facts.Cluster.Name, v.facts.Group), Facts: v.facts, Generation: v.generation,
		Paused: v.whyPaused(), Instances: make([]provider.Instance, 0, len(v.members)),
	}
	for _, m := range v.members {
		// Who leaves without a machine, its place and names taken over, is nothing
		// that the autoscaler could know.
		if m.Phase == workflows.MemberGone || !m.Counted() && m.ProviderID == "" && m.Instance == "" {
			continue
		}
		i := provider.Instance{ID: shownID(m), State: stateOf(m.Phase), Name: m.Name, Aliases: aliases(m)}
		if m.Counted() {
			g.Target++
		}
		switch late := v.deadline(m); {
		case m.Phase == workflows.MemberFailed && !machineKnown(m):
			i.Error = errorOf(m)
		case i.State != provider.Creating || late.IsZero():
		case now.Before(late):
			if due.IsZero() || late.Before(due) {
				due = late
			}
		default:
			i.Error = &provider.InstanceError{
				Class: provider.Other, Code: codeNotJoined,
				Message: "no node after " + v.facts.Provision.String() + ", and nobody works on it",
			}
		}
		g.Instances = append(g.Instances, i)
	}
	slices.SortFunc(g.Instances, func(a, b provider.Instance) int { return strings.Compare(a.ID, b.ID) })
	return g, due
}

// whyPaused is why requests are refused, empty when they are not.
func (v *view) whyPaused() string {
	if v.ending {
		return "the group is being deleted"
	}
	return v.paused
}

// machineKnown says that a machine has been seen. Such an instance never has an
// error: the autoscaler deletes what has one at once, undrained, also when its
// node has joined in the meantime and works. It gives up by itself on machines
// whose nodes do not come.
func machineKnown(m workflows.GroupMember) bool { return m.ProviderID != "" || m.CloudID != "" }

// deadline is when a place that nobody works on counts as failed, zero once there
// is a machine: some time after the entity would have said so itself, and before
// the autoscaler gives up by itself. Of the minute between the defaults of the two
// it leaves a third.
func (v *view) deadline(m workflows.GroupMember) time.Time {
	if v.facts.Provision <= 0 || m.Accepted.IsZero() || machineKnown(m) {
		return time.Time{}
	}
	return m.Accepted.Add(v.facts.Provision + v.facts.Provision/20)
}

// shownID is the provider ID once it is known, before that the placeholder.
func shownID(m workflows.GroupMember) string {
	switch {
	case m.ProviderID != "":
		return m.ProviderID
	case m.Instance != "":
		return m.Instance
	}
	return m.ID
}

func aliases(m workflows.GroupMember) []string {
	var out []string
	if m.ProviderID != "" && m.Instance != "" && m.Instance != m.ProviderID {
		out = append(out, m.Instance)
	}
	return append(out, m.Aliases...)
}

func stateOf(p workflows.MemberPhase) provider.State {
	switch p {
	case workflows.MemberReady, workflows.MemberJoined:
		return provider.Running
	case workflows.MemberDraining, workflows.MemberDeleting, workflows.MemberGone:
		return provider.Deleting
	case workflows.MemberWanted, workflows.MemberCreating, workflows.MemberBooting, workflows.MemberFailed:
	}
	return provider.Creating
}

// Codes of failed creations, beside those that are a kind in lower case. They
// are stable: people write alerts on them.
const (
	codeNotJoined    = "not-joined"
	codeImageMissing = "image-missing"
	codeBeyondMax    = "beyond-max"
)

// errorOf says why there is no machine, in the autoscaler's classes.
func errorOf(m workflows.GroupMember) *provider.InstanceError {
	f := workflows.Failure{Kind: fault.Internal, Message: m.Note}
	if m.Failure != nil {
		f = *m.Failure
	}
	if f.Message == "" {
		f.Message = "the machine could not be made"
	}
	e := &provider.InstanceError{Class: provider.Other, Code: strings.ToLower(string(f.Kind)), Message: f.Message}
	switch {
	case isBeyondMax(f):
		e.Code = codeBeyondMax
	case f.Kind == fault.Quota, f.Kind == fault.Capacity:
		e.Class = provider.OutOfResources
	case f.Kind == fault.NotYet:
		e.Code = codeNotJoined
	case (f.Kind == fault.Invalid || f.Kind == fault.NotFound) && strings.Contains(strings.ToLower(f.Message), "image"):
		e.Code = codeImageMissing
	case f.Kind == "":
		e.Code = strings.ToLower(string(fault.Internal))
	}
	return e
}

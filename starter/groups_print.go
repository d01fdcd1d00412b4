package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ichor-project/ichor/workflows"
)

// counts are the members of a group by what becomes of them.
type counts struct {
	Ready int `json:"ready"`
	// Creating are all that are to become ready.
	Creating int `json:"creating"`
	Failed   int `json:"failed"`
	// Deleting are all that are on their way out.
	Deleting int `json:"deleting"`
}

func countMembers(s workflows.GroupStatus) counts {
	var c counts
	for _, m := range s.Members {
		c.add(m.Phase)
	}
	return c
}

func (c *counts) add(p workflows.MemberPhase) {
	switch p {
	case workflows.MemberReady:
		c.Ready++
	case workflows.MemberWanted, workflows.MemberCreating, workflows.MemberBooting, workflows.MemberJoined:
		c.Creating++
	case workflows.MemberFailed:
		c.Failed++
	case workflows.MemberDraining, workflows.MemberDeleting:
		c.Deleting++
	case workflows.MemberGone:
	}
}

// of is the counts in words, zeros left out.
func (c counts) of(target int) string {
	text := fmt.Sprintf("%d of %d ready", c.Ready, target)
	for _, more := range []struct {
		n    int
		what string
	}{{c.Creating, "creating"}, {c.Failed, "failed"}, {c.Deleting, "deleting"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}

// ailments are what keeps a group from doing what it should, in words.
func ailments(s workflows.GroupStatus, now time.Time) []string {
	var out []string
	if s.Ending {
		out = append(out, "ending")
	}
	if p := s.Paused; p != nil {
		text := "paused"
		if !p.Since.IsZero() {
			text += " since " + p.Since.Local().Format(time.DateTime)
		}
		if p.Reason != "" {
			text += " (" + p.Reason + ")"
		}
		out = append(out, text)
	}
	if s.Parked != "" {
		out = append(out, "parked: "+s.Parked)
	}
	if b := s.Backoff; b != nil && b.Until.After(now) {
		out = append(out, fmt.Sprintf("backs off until %s after %s", b.Until.Local().Format(time.TimeOnly), count(b.Failures, "failure")))
	}
	if f := s.Failure; f != nil {
		out = append(out, fmt.Sprintf("last failure (%s): %s", f.Kind, f.Message))
	}
	var noted []string
	for _, m := range s.Members {
		if m.Phase == workflows.MemberReady && m.Note != "" {
			noted = append(noted, m.Name+": "+m.Note)
		}
	}
	if len(noted) > 1 {
		noted = []string{fmt.Sprintf("%s, and %d more", noted[0], len(noted)-1)}
	}
	out = append(out, noted...)
	if n := len(s.Unknown); n > 0 {
		out = append(out, fmt.Sprintf("%s with its tags that it did not make", count(n, "machine")))
	}
	return out
}

func bounds(s workflows.GroupStatus) string {
	if s.Max == 0 {
		return "fixed"
	}
	return fmt.Sprintf("%d–%d", s.Min, s.Max)
}

func lastRequest(s workflows.GroupStatus, now time.Time) string {
	if len(s.Requests) == 0 {
		return ""
	}
	r := s.Requests[len(s.Requests)-1]
	verdict := ""
	if !r.Accepted {
		verdict = " refused"
	}
	return fmt.Sprintf("%s%s %s ago", r.Op, verdict, clock(now.Sub(r.At)))
}

func printGroups(out io.Writer, views []groupView, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tMIN–MAX\tTARGET\tREADY\tCREATING\tFAILED\tDELETING\tLAST REQUEST\tSTATE")
	for _, v := range views {
		state := ailments(v.GroupStatus, now)
		if v.Stale != "" {
			state = append([]string{"stale: " + v.Stale}, state...)
		}
		if len(state) == 0 {
			state = []string{"ok"}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", v.Name, bounds(v.GroupStatus), v.Target,
			v.Counts.Ready, v.Counts.Creating, v.Counts.Failed, v.Counts.Deleting, lastRequest(v.GroupStatus, now), printable(strings.Join(state, "; ")))
	}
	return w.Flush()
}

// requestsShown is how many of the last requests `ichor group` prints.
const requestsShown = 10

func (v groupView) print(out io.Writer, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", key, printable(fmt.Sprintf(format, args...)))
	}
	row("Group", "%s, %s", v.Name, v.Role)
	if v.Flavor != "" {
		row("Machines", "%s in %s, %s", v.Flavor, v.Zone, v.Cloud.Provider)
	}
	row("Size", "%s; bounds %s", v.Counts.of(v.Target), bounds(v.GroupStatus))
	if v.Stale != "" {
		row("Not current", "%s; what it was asked since it wrote this down is not shown", v.Stale)
	}
	counted := v.GroupStatus
	counted.Unknown = nil // named below
	for _, text := range ailments(counted, now) {
		row("Attention", "%s", text)
	}
	for _, u := range v.Unknown {
		row("Unknown machine", "%s; it carries the group's tags and is left alone", u)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	f := frame{progress: workflows.Progress{Nodes: memberRows(v.GroupStatus)}, now: now, width: 1 << 12, height: 1 << 20}
	for _, l := range f.nodes(false) {
		fmt.Fprintln(out, l)
	}
	if len(v.Requests) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	fmt.Fprintln(w, "REQUEST\tASKED\tAGO\tTARGET\tANSWER")
	for _, r := range v.Requests[max(0, len(v.Requests)-requestsShown):] {
		answer := r.Message
		if !r.Accepted {
			answer = fmt.Sprintf("refused (%s): %s", r.Kind, r.Message)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", r.RequestID, r.Op, clock(now.Sub(r.At)), r.Target, printable(answer))
	}
	return w.Flush()
}

// memberRows are the members of a group with their failures as notes.
func memberRows(s workflows.GroupStatus) []workflows.MemberStatus {
	var out []workflows.MemberStatus
	for _, m := range s.Members {
		row := m.MemberStatus
		if row.Group == "" {
			row.Group = s.Group
		}
		if row.Role == "" {
			row.Role = s.Role
		}
		if m.Failure != nil {
			row.Note = fmt.Sprintf("%s (%s)", m.Failure.Message, m.Failure.Kind)
		}
		if m.Replaces > 0 {
			row.Note = strings.TrimSpace(fmt.Sprintf("%s [replaces %s]", row.Note, count(m.Replaces, "failed machine")))
		}
		out = append(out, row)
	}
	return out
}

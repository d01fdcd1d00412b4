package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

// frame is one picture of a run. It is pure: the same frame gives the same
// lines, never more than fit.
type frame struct {
	title         string
	progress      workflows.Progress
	note          string
	start, now    time.Time
	width, height int
	color         bool
}

// Colours of the terminal.
const (
	plainText = ""
	green     = "32"
	yellow    = "33"
	red       = "31"
	dim       = "2"
)

func (f frame) render() []string {
	steps, nodes, tail := f.steps(false), f.nodes(false), f.tail()
	head := []string{f.paint(plainText, fmt.Sprintf("%s  %s", f.title, clock(f.now.Sub(f.start)))), ""}
	size := func() int { return len(head) + len(steps) + len(nodes) + len(tail) }
	if size() > f.height {
		steps = f.steps(true)
	}
	if size() > f.height {
		nodes = f.nodes(true)
	}
	lines := append(append(append(head, steps...), nodes...), tail...)
	if len(lines) > f.height && f.height > 1 {
		hidden := len(lines) - f.height + 1
		lines = append(lines[:f.height-1], f.paint(dim, fmt.Sprintf("… %d lines more", hidden)))
	}
	return lines
}

// steps are the runbook; short leaves done and pending steps to a count.
func (f frame) steps(short bool) []string {
	var out []string
	done, pending := 0, 0
	for _, s := range f.progress.Steps {
		mark, color, took := "·", dim, ""
		switch s.State {
		case workflows.StepDoing:
			mark, color, took = "▶", yellow, clock(f.now.Sub(s.Started))
		case workflows.StepDone:
			mark, color, took = "✔", green, clock(s.Ended.Sub(s.Started))
			done++
		case workflows.StepFailed:
			mark, color, took = "✘", red, clock(s.Ended.Sub(s.Started))
		case workflows.StepSkipped:
			mark = "–"
		case workflows.StepPending:
			pending++
		}
		if short && (s.State == workflows.StepDone || s.State == workflows.StepPending) {
			continue
		}
		text := fmt.Sprintf("%s %-36s %8s", mark, s.Name, took)
		if s.Detail != "" {
			text += "  " + s.Detail
		}
		out = append(out, f.paint(color, text))
	}
	if short && done+pending > 0 {
		out = append([]string{f.paint(dim, fmt.Sprintf("%d steps done, %d to come", done, pending))}, out...)
	}
	return out
}

// nodes are the machines; short leaves ready ones to a count.
func (f frame) nodes(short bool) []string {
	if len(f.progress.Nodes) == 0 {
		return nil
	}
	wide := len("NODE")
	for _, n := range f.progress.Nodes {
		wide = max(wide, len(n.Name))
	}
	out := []string{"", f.paint(dim, fmt.Sprintf("%-*s  %-12s  %-9s %8s  %s", wide, "NODE", "ROLE", "PHASE", "FOR", "NOTE"))}
	ready, what := 0, "ready"
	if f.progress.Kind == workflows.TypeRollingUpgrade {
		what = "done"
	}
	for _, n := range f.progress.Nodes {
		color := yellow
		switch n.Phase {
		case workflows.MemberReady, phaseOf(plan.RollDone):
			color = green
			ready++
		case workflows.MemberFailed, phaseParked:
			color = red
		case workflows.MemberGone, workflows.MemberWanted, phaseOf(plan.RollPending), phaseOf(plan.RollSkipped):
			color = dim
		}
		if short && color == green {
			continue
		}
		note := n.Note
		if note == "" {
			note = n.Address
		}
		since := ""
		if !n.Since.IsZero() {
			since = clock(f.now.Sub(n.Since))
		}
		out = append(out, f.paint(color, fmt.Sprintf("%-*s  %-12s  %-9s %8s  %s", wide, n.Name, n.Role, n.Phase, since, note)))
	}
	if short && ready > 0 {
		out = append(out, f.paint(green, fmt.Sprintf("%d of %d nodes %s", ready, len(f.progress.Nodes), what)))
	}
	return out
}

// tail is what needs attention.
func (f frame) tail() []string {
	var out []string
	if f.progress.Parked != "" {
		out = append(out, f.paint(red, "parked: "+f.progress.Parked))
	}
	for _, n := range f.progress.Notes {
		out = append(out, f.paint(red, "note: "+n))
	}
	if f.note != "" {
		out = append(out, f.paint(yellow, f.note))
	}
	if len(out) > 0 {
		out = append([]string{""}, out...)
	}
	return out
}

// paint cuts a line to the width, keeps control characters of remote text off
// the screen, and colours it.
func (f frame) paint(color, text string) string {
	text = printable(strings.TrimRight(text, " "))
	if utf8.RuneCountInString(text) > f.width && f.width > 1 {
		text = string([]rune(text)[:f.width-1]) + "…"
	}
	if !f.color || color == plainText {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// printable replaces control characters: text from a cloud or a node must not
// steer a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// clock is a duration as people read it on a running display.
func clock(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

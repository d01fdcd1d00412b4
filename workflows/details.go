package workflows

import (
	"fmt"
	"strings"
	"time"
)

// progressMarkdown is the page of a lifecycle workflow in the Temporal UI.
func progressMarkdown(p Progress) string {
	var b strings.Builder
	b.WriteString(fmt.Sprintf("## %s `%s` — %s\n\n", p.Kind, p.Cluster.Name, p.Phase))
	if p.Parked != "" {
		b.WriteString(fmt.Sprintf("**Parked:** %s\n\n", cell(p.Parked)))
	}
	if p.Failure != nil {
		b.WriteString(fmt.Sprintf("**Failed (%s):** %s\n\n", p.Failure.Kind, cell(p.Failure.Message)))
	}
	if p.Endpoint != "" {
		b.WriteString(fmt.Sprintf("Endpoint: `%s`\n\n", p.Endpoint))
	}
	b.WriteString("| Step | State | Took | Detail |\n|---|---|---|---|\n")
	for _, s := range p.Steps {
		b.WriteString(fmt.Sprintf("| %s | %s | %s | %s |\n", s.Name, stepMark(s.State), took(s.Started, s.Ended), cell(s.Detail)))
	}
	if len(p.Nodes) > 0 {
		b.WriteString("\n" + membersTable("", p.Nodes))
	}
	for _, r := range p.Remaining {
		b.WriteString(fmt.Sprintf("\n- remains: %s", cell(r)))
	}
	for _, n := range p.Notes {
		b.WriteString(fmt.Sprintf("\n- %s", cell(n)))
	}
	return b.String()
}

// membersTable is a Markdown table of machines.
func membersTable(title string, nodes []MemberStatus) string {
	var b strings.Builder
	if title != "" {
		b.WriteString(fmt.Sprintf("## %s\n\n", title))
	}
	b.WriteString("| Node | Role | Phase | Since | Address | Note |\n|---|---|---|---|---|---|\n")
	for _, n := range nodes {
		b.WriteString(fmt.Sprintf("| %s | %s | %s | %s | %s | %s |\n",
			n.Name, n.Role, n.Phase, n.Since.UTC().Format(time.TimeOnly), n.Address, cell(n.Note)))
	}
	return b.String()
}

func stepMark(s StepState) string {
	switch s {
	case StepDone:
		return "✔ done"
	case StepDoing:
		return "▶ doing"
	case StepFailed:
		return "✘ failed"
	case StepSkipped:
		return "– skipped"
	case StepPending:
		return "next"
	}
	return string(s)
}

func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return ""
	}
	return to.Sub(from).Round(100 * time.Millisecond).String()
}

// cells is made once: the page of a large group has thousands of them.
var cells = strings.NewReplacer("|", "\\|", "\n", " ")

// cell keeps text from breaking a Markdown table.
func cell(s string) string { return cells.Replace(s) }

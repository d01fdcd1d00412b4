package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Problem is one thing that is wrong with a spec.
type Problem struct {
	// Field is the path of the field, for example "spec.nodeGroups[1].name";
	// empty when the document as a whole is meant.
	Field string `json:"field"`
	// Reason says what is wrong and what would be right. It never holds the
	// value of a field that may hold a secret.
	Reason string `json:"reason"`
	// Line in the file, counted from 1; 0 when there is no file.
	Line int `json:"line,omitempty"`
}

// String is the problem on one line.
func (p Problem) String() string {
	switch {
	case p.Field == "" && p.Line > 0:
		return fmt.Sprintf("line %d: %s", p.Line, p.Reason)
	case p.Field == "":
		return p.Reason
	case p.Line > 0:
		return fmt.Sprintf("%s (line %d): %s", p.Field, p.Line, p.Reason)
	default:
		return p.Field + ": " + p.Reason
	}
}

// Problems is everything that is wrong with a spec, in the order of the spec.
// It is an error; an empty list is not, so return it through Err.
type Problems []Problem

// Error lists all problems, one per line when there are several.
func (p Problems) Error() string {
	if len(p) == 1 {
		return p[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d problems:", len(p))
	for _, x := range p {
		b.WriteString("\n  ")
		b.WriteString(x.String())
	}
	return b.String()
}

// Err returns p as an error, nil when there is no problem.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// Add notes a problem of a field.
func (p *Problems) Add(field, format string, args ...any) {
	*p = append(*p, Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// Has reports whether the field itself, or anything inside it, has a problem.
func (p Problems) Has(field string) bool {
	return slices.ContainsFunc(p, func(x Problem) bool { return within(x.Field, field) })
}

// Positions maps field paths to lines of the file they were read from.
type Positions map[string]int

// Line returns the line of a field, or of the nearest field around it; 0 when
// nothing is known.
func (pos Positions) Line(field string) int {
	for field != "" {
		if line, ok := pos[field]; ok {
			return line
		}
		field = parent(field)
	}
	return 0
}

// Locate fills in the lines of problems that have none.
func (pos Positions) Locate(p Problems) Problems {
	out := slices.Clone(p)
	for i := range out {
		if out[i].Line == 0 {
			out[i].Line = pos.Line(out[i].Field)
		}
	}
	return out
}

// JoinField appends a key to a path. Keys that would make the path ambiguous, such
// as label names with dots, are quoted in brackets.
func JoinField(path, key string) string {
	if strings.ContainsAny(key, ".[]\"") || key == "" {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// index appends a list index to a path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// parent cuts the last step off a path.
func parent(path string) string {
	if strings.HasSuffix(path, "\"]") {
		if i := strings.LastIndex(path, "[\""); i >= 0 {
			return path[:i]
		}
	}
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}

// within reports whether path is field or inside it.
func within(path, field string) bool {
	rest, ok := strings.CutPrefix(path, field)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

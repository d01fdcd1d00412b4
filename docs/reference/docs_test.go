package reference_test

import (
	"encoding/json"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// root is the repository, seen from this folder.
const root = "../.."

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages are all pages that this repository writes for people.
func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"README.md", "CONTRIBUTING.md", "SECURITY.md"}
	for _, dir := range []string{"docs", "examples"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".md" {
				return err
			}
			rel, err := filepath.Rel(root, path)
			out = append(out, filepath.ToSlash(rel))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	fence  = regexp.MustCompile("(?ms)^```.*?^```")
	header = regexp.MustCompile(`(?m)^#+ (.*)$`)
	// notInAnchors is what the anchors of headings leave out.
	notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the names under which the headings of a page are linked.
func anchors(text string) []string {
	var out []string
	for _, m := range header.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		name := notInAnchors.ReplaceAllString(strings.ToLower(m[1]), "")
		out = append(out, strings.ReplaceAll(name, " ", "-"))
	}
	return out
}

func TestLinksResolve(t *testing.T) {
	checked := 0
	for _, page := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(read(t, page), ""), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			file, anchor, _ := strings.Cut(target, "#")
			to := page
			if file != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(page), file))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: %s leads nowhere", page, target)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, to)), anchor) {
				t.Errorf("%s: %s: there is no such heading in %s", page, target, to)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were found; does the pattern still fit?", checked)
	}
}

// generated are pages that a command makes anew.
var generated = []string{"reference/benchmarks.md"}

// TestIndexIsComplete asks that every page is reachable from the index.
func TestIndexIsComplete(t *testing.T) {
	index := read(t, "docs/README.md")
	for _, page := range pages(t) {
		rel, inside := strings.CutPrefix(page, "docs/")
		if inside && rel != "README.md" && !slices.Contains(generated, rel) && !strings.Contains(index, "("+rel+")") {
			t.Errorf("docs/README.md does not list %s", rel)
		}
	}
}

var (
	block   = regexp.MustCompile("(?ms)^ *```([a-z]*)\\n(.*?)^ *```")
	command = regexp.MustCompile(`(?m)(?:^|[ /(` + "`" + `])ichor ([a-z][a-z-]+)`)
	target  = regexp.MustCompile(`(?m)(?:^|` + "`" + `)make ([a-z][a-z/-]+)`)
)

// TestExamplesAreWellFormed reads JSON examples, and asks that commands and make
// targets exist.
func TestExamplesAreWellFormed(t *testing.T) {
	commands := []string{"spec"}
	for _, use := range fields(parse(t, "starter"), "Use") {
		name, _, _ := strings.Cut(use, " ")
		commands = append(commands, name)
	}
	for _, use := range arguments(parse(t, "starter"), 1, "accessCommand") {
		name, _, _ := strings.Cut(use, " ")
		commands = append(commands, name)
	}
	makefile := read(t, "Makefile")
	examples, used := 0, 0
	for _, page := range pages(t) {
		body := read(t, page)
		for _, m := range block.FindAllStringSubmatch(body, -1) {
			if m[1] != "json" {
				continue
			}
			examples++
			for dec := json.NewDecoder(strings.NewReader(m[2])); dec.More(); {
				var v any
				if err := dec.Decode(&v); err != nil {
					t.Errorf("%s: %v in:\n%s", page, err, m[2])
					break
				}
			}
		}
		code := strings.Join(codeOf(body), "\n")
		for _, m := range command.FindAllStringSubmatch(code, -1) {
			used++
			if !slices.Contains(commands, m[1]) {
				t.Errorf("%s: there is no command ichor %s", page, m[1])
			}
		}
		for _, m := range target.FindAllStringSubmatch(code, -1) {
			used++
			if !strings.Contains(makefile, "\n"+m[1]+":") && !strings.HasPrefix(m[1], "bin/tools/") {
				t.Errorf("%s: there is no target make %s", page, m[1])
			}
		}
	}
	if examples < 5 || used < 40 {
		t.Errorf("%d JSON examples and %d commands were found; do the patterns still fit?", examples, used)
	}
}

var inlineCode = regexp.MustCompile("`[^`\n]+`")

// codeOf is what a page sets as code: blocks for a shell, and inline text.
func codeOf(body string) []string {
	var out []string
	for _, m := range block.FindAllStringSubmatch(body, -1) {
		if m[1] == "sh" {
			out = append(out, m[2])
		}
	}
	return append(out, inlineCode.FindAllString(block.ReplaceAllString(body, ""), -1)...)
}

// TestDefaultsOfTheWorker compares the durations in worker.md with the code.
func TestDefaultsOfTheWorker(t *testing.T) {
	files := append(parse(t, "worker"), parse(t, "activities")...)
	defaults := map[string]time.Duration{}
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			fn, ok := node.(*ast.FuncDecl)
			if !ok || fn.Name.Name != "defaultConfig" && fn.Name.Name != "DefaultTiming" {
				return true
			}
			ast.Inspect(fn, func(node ast.Node) bool {
				if kv, ok := node.(*ast.KeyValueExpr); ok {
					if d := duration(kv.Value); d > 0 {
						defaults[kv.Key.(*ast.Ident).Name] = d
					}
				}
				return true
			})
			return false
		})
	}
	page, checked := read(t, "docs/reference/worker.md"), 0
	for _, f := range parse(t, "worker") {
		ast.Inspect(f, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			if fun, ok := call.Fun.(*ast.Ident); !ok || fun.Name != "span" {
				return true
			}
			field := call.Args[1].(*ast.UnaryExpr).X.(*ast.SelectorExpr).Sel.Name
			row := regexp.MustCompile("(?m)^\\| `--" + text(call.Args[0]) + "` \\| `([^`]+)` ").FindStringSubmatch(page)
			if row == nil {
				t.Errorf("worker.md has no default for --%s", text(call.Args[0]))
				return true
			}
			checked++
			if got, err := time.ParseDuration(row[1]); err != nil || got != defaults[field] {
				t.Errorf("worker.md says that --%s is %s by default, the code says %s", text(call.Args[0]), row[1], defaults[field])
			}
			return true
		})
	}
	if checked < 12 {
		t.Errorf("only %d durations were compared", checked)
	}
}

// TestReferenceNamesEverything compares pages with the code that they describe:
// what is added there has to be explained here.
func TestReferenceNamesEverything(t *testing.T) {
	starter, worker := parse(t, "starter"), parse(t, "worker")
	flags := func(names []string) []string {
		var out []string
		for _, n := range names {
			out = append(out, "`--"+n+"`")
		}
		return out
	}
	quoted := func(names []string) []string {
		var out []string
		for _, n := range names {
			out = append(out, "`"+n+"`")
		}
		return out
	}
	var commands []string
	for _, use := range fields(starter, "Use") {
		if name, _, _ := strings.Cut(use, " "); name != "ichor" && name != "spec" {
			commands = append(commands, use)
		}
	}
	flagMethods := []string{"Bool", "BoolP", "String", "StringP", "Duration", "Int", "StringSlice"}
	varMethods := []string{"BoolVar", "StringVar", "StringSliceVar", "DurationVar", "IntVar"}
	for _, tc := range []struct {
		page  string
		what  string
		least int
		want  []string
	}{
		{"worker.md", "setting", 31, flags(arguments(worker, 0, "text", "span", "number", "whole", "count"))},
		{"provider.md", "setting", 20, flags(arguments(parse(t, "grpcprovider"), 0, "text", "span", "number", "many", "yesNo"))},
		{"provider.md", "metric", 10, providerMetrics(t)},
		{"cli.md", "setting", 8, flags(fields(starter, "name"))},
		{"cli.md", "flag", 6, flags(slices.DeleteFunc(append(arguments(starter, 0, flagMethods...), arguments(starter, 1, varMethods...)...), func(s string) bool { return strings.Contains(s, " ") }))},
		{"cli.md", "command", 11, commands},
		{"workflows.md", "name", 12, quoted(constants(parse(t, "workflows"), "Type", "Signal", "Query"))},
		{"workflows.md", "search attribute", 4, quoted(arguments(parse(t, "workflows"), 0, "NewSearchAttributeKeyKeyword"))},
		{"errors.md", "kind", 12, quoted(kinds(parse(t, "internal/fault")))},
		{"activities.md", "activity", 25, quoted(methods(parse(t, "activities")))},
		{"../guides/monitoring.md", "metric", 4, metrics(parse(t, "internal/telemetry"))},
	} {
		if len(tc.want) < tc.least {
			t.Errorf("%s: only %d of each %s were found in the code; does the search still fit?", tc.page, len(tc.want), tc.what)
		}
		page := read(t, "docs/reference/"+tc.page)
		for _, w := range tc.want {
			if !strings.Contains(page, w) {
				t.Errorf("docs/reference/%s does not explain the %s %s", tc.page, tc.what, w)
			}
		}
	}
}

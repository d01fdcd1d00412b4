package reference_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
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

// parse returns the files of a package without its tests.
func parse(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func text(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return s
}

// arguments are the text literals that calls of the named functions, or
// methods, have as their argument number n.
func arguments(files []*ast.File, n int, names ...string) []string {
	var out []string
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) <= n {
				return true
			}
			name := ""
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				name = fun.Name
			case *ast.SelectorExpr:
				name = fun.Sel.Name
			}
			if slices.Contains(names, name) && text(call.Args[n]) != "" {
				out = append(out, text(call.Args[n]))
			}
			return true
		})
	}
	return out
}

// fields are the text literals of a field in composite literals.
func fields(files []*ast.File, name string) []string {
	var out []string
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			if kv, ok := node.(*ast.KeyValueExpr); ok {
				if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name && text(kv.Value) != "" {
					out = append(out, text(kv.Value))
				}
			}
			return true
		})
	}
	return out
}

// constants are the values of text constants whose names begin with a prefix.
func constants(files []*ast.File, prefixes ...string) []string {
	var out []string
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			spec, ok := node.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, v := range spec.Values {
				fits := slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(spec.Names[i].Name, p) })
				if fits && text(v) != "" {
					out = append(out, text(v))
				}
			}
			return true
		})
	}
	return out
}

// methods are the exported methods that take a context and an input: activities.
func methods(files []*ast.File) []string {
	var out []string
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || !fn.Name.IsExported() || len(fn.Type.Params.List) != 2 {
				continue
			}
			if sel, ok := fn.Type.Params.List[0].Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" &&
				fn.Type.Params.List[1].Names[0].Name == "in" && fn.Name.Name != "ExecuteActivity" {
				out = append(out, fn.Name.Name)
			}
		}
	}
	return out
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
		{"worker.md", "setting", 25, flags(arguments(worker, 0, "text", "span", "number", "whole"))},
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

// kinds are the constants of type Kind.
func kinds(files []*ast.File) []string {
	var out []string
	for _, f := range files {
		ast.Inspect(f, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				if id, ok := spec.Type.(*ast.Ident); ok && id.Name == "Kind" {
					out = append(out, text(spec.Values[0]))
				}
			}
			return true
		})
	}
	return out
}

// metrics are instrument names as Prometheus shows them, less the suffix.
func metrics(files []*ast.File) []string {
	return slices.DeleteFunc(arguments(files, 0, "Int64Counter", "Float64Histogram"), func(s string) bool { return !strings.HasPrefix(s, "ichor_") })
}

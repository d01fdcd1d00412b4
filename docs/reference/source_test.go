package reference_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// duration is the value of time.Minute or 30 * time.Second, zero for the rest.
func duration(e ast.Expr) time.Duration {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		return map[string]time.Duration{"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}[e.Sel.Name]
	case *ast.BinaryExpr:
		if n, ok := e.X.(*ast.BasicLit); ok && e.Op == token.MUL {
			if i, err := strconv.Atoi(n.Value); err == nil {
				return time.Duration(i) * duration(e.Y)
			}
		}
	}
	return 0
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

// providerMetrics are the names of the provider's own metrics.
func providerMetrics(t *testing.T) []string {
	t.Helper()
	files := append(parse(t, "grpcprovider"), parse(t, "grpcprovider/server")...)
	var out []string
	for _, name := range append(fields(files, "Name"), arguments(files, 0, "NewDesc")...) {
		if strings.HasPrefix(name, "ichor_provider_") {
			out = append(out, "`"+name+"`")
		}
	}
	return out
}

package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pkg is what the test needs of `go list -json`.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
	Module     *struct{ Path string }
}

// root is the top of the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("the top of the checkout is not at %s: %v", dir, err)
	}
	return dir
}

// list runs go list in dir and decodes its JSON stream. Packages that do not
// compile are listed all the same; only their imports matter here.
func list(t *testing.T, dir string, patterns ...string) []pkg {
	t.Helper()
	args := append([]string{"list", "-e", "-json=ImportPath,Imports,Deps,Module"}, patterns...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list answered no JSON: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// product returns the packages of the module outside testsuite, keyed by their
// path below the module.
func product(t *testing.T) map[string]pkg {
	t.Helper()
	pkgs := map[string]pkg{}
	for _, p := range list(t, root(t), "./...") {
		path, ok := strings.CutPrefix(p.ImportPath, module+"/")
		if ok && !matches("testsuite/...", path) {
			pkgs[path] = p
		}
	}
	if len(pkgs) == 0 {
		t.Fatal("go list found no package of the product")
	}
	return pkgs
}

func TestImportsGoDown(t *testing.T) {
	for path, p := range product(t) {
		row, ok := rowOf(path)
		if !ok {
			t.Errorf("%s has no row in the import table: decide on which level it lives", path)
			continue
		}
		for _, imp := range p.Imports {
			inner, ok := strings.CutPrefix(imp, module+"/")
			if ok && !row.allows(inner) {
				t.Errorf("%s imports %s, which is not below it", path, inner)
			}
		}
	}
}

func TestUnreachable(t *testing.T) {
	for path, p := range product(t) {
		row, _ := rowOf(path)
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"/testsuite/") {
				t.Errorf("%s reaches %s: product code holds no simulation", path, dep)
			}
			for _, never := range row.never {
				if strings.HasPrefix(dep, never) {
					t.Errorf("%s reaches %s", path, dep)
				}
			}
		}
	}
}

// TestWorkflowsExist keeps the two tests above honest: a moved or renamed
// package would pass them unseen.
func TestWorkflowsExist(t *testing.T) {
	pkgs := product(t)
	for _, path := range []string{"workflows", "activities", "internal/cluster", "internal/fault", "internal/plan", "internal/cloud", "internal/secrets"} {
		if _, ok := pkgs[path]; !ok {
			t.Errorf("there is no package %s", path)
		}
	}
	deps := pkgs["workflows"].Deps
	for _, want := range []string{"go.temporal.io/sdk/workflow", module + "/activities"} {
		if !slices.Contains(deps, want) {
			t.Errorf("workflows do not reach %s, so what they reach proves nothing", want)
		}
	}
}

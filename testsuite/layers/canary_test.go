package layers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"
)

// TestLinterFires runs the linter with the repository's configuration on a tree
// of violations and compares what it reports, line by line, with what the tree
// says it must. A rule whose file pattern matches nothing is silent, which looks
// the same as obedience; here it is a failure.
func TestLinterFires(t *testing.T) {
	top := root(t)
	archive, err := txtar.ParseFile(filepath.Join("testdata", "canary.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(top, ".golangci.yml"))
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	write(t, dir, ".golangci.yml", config)
	want := map[string][]string{}
	for _, f := range archive.Files {
		write(t, dir, f.Name, f.Data)
		maps.Copy(want, wanted(f))
	}
	addStubs(t, dir, archive)

	if diff := cmp.Diff(want, lint(t, top, dir)); diff != "" {
		t.Errorf("reported lines (-want +got):\n%s", diff)
	}

	for _, rule := range depguardRules(t, config) {
		if !slices.ContainsFunc(slices.Collect(maps.Values(want)), func(names []string) bool { return slices.Contains(names, rule) }) {
			t.Errorf("no line of testdata/canary.txtar breaks the rule %q", rule)
		}
	}
}

// wanted reads the want comments of a file, keyed by "file:line".
func wanted(f txtar.File) map[string][]string {
	lines := map[string][]string{}
	for i, line := range strings.Split(string(f.Data), "\n") {
		if _, names, ok := strings.Cut(line, "// want "); ok {
			lines[fmt.Sprintf("%s:%d", f.Name, i+1)] = slices.Sorted(slices.Values(strings.Fields(names)))
		}
	}
	return lines
}

// major finds the major version that an import path ends in.
var major = regexp.MustCompile(`[./]v([2-9][0-9]*)$`)

// addStubs makes every imported package exist: packages of the product as files
// of the tree, others as modules of one empty package each.
func addStubs(t *testing.T, dir string, archive *txtar.Archive) {
	t.Helper()
	goMod := "module " + module + "\n\ngo 1.26\n"
	for i, imp := range imports(t, archive) {
		inner, ours := strings.CutPrefix(imp, module+"/")
		body := []byte("// Package stub is empty.\npackage stub\n")
		switch {
		case ours && !hasPackage(archive, inner):
			write(t, dir, inner+"/stub.go", body)
		case !ours && strings.Contains(imp, "."):
			// A module path must not end in /v1; a package path may.
			mod := strings.TrimSuffix(imp, "/v1")
			stub, version := fmt.Sprintf("stubs/%d", i), "v0.0.0"
			if m := major.FindStringSubmatch(imp); m != nil {
				version = "v" + m[1] + ".0.0"
			}
			write(t, dir, stub+strings.TrimPrefix(imp, mod)+"/stub.go", body)
			write(t, dir, stub+"/go.mod", []byte("module "+mod+"\n\ngo 1.26\n"))
			goMod += fmt.Sprintf("\nrequire %[1]s %[2]s\n\nreplace %[1]s => ./%[3]s\n", mod, version, stub)
		}
	}
	write(t, dir, "go.mod", []byte(goMod))
}

// imports returns the sorted import paths of all files.
func imports(t *testing.T, archive *txtar.Archive) []string {
	t.Helper()
	var all []string
	for _, f := range archive.Files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name, f.Data, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func hasPackage(archive *txtar.Archive, path string) bool {
	return slices.ContainsFunc(archive.Files, func(f txtar.File) bool { return filepath.Dir(f.Name) == path })
}

// fromList finds the rule name in depguard's message.
var fromList = regexp.MustCompile(`from list '([^']+)'`)

// lint runs golangci-lint in dir and returns the names of the rules it reports,
// keyed by "file:line".
func lint(t *testing.T, top, dir string) map[string][]string {
	t.Helper()
	linter := filepath.Join(top, "bin", "tools", "golangci-lint")
	if _, err := os.Stat(linter); err != nil {
		t.Fatalf("make bin/tools/golangci-lint builds what is missing: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), linter, "run", "--enable-only", "depguard,forbidigo",
		"--output.json.path", "stdout", "--output.text.path", "stderr", "--show-stats=false", "--issues-exit-code", "0", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOLANGCI_LINT_CACHE="+t.TempDir(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("golangci-lint: %v\n%s", err, &stderr)
	}

	var report struct {
		Issues []struct {
			FromLinter, Text string
			Pos              struct {
				Filename string
				Line     int
			}
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("golangci-lint answered no JSON: %v\n%s", err, out)
	}
	got := map[string][]string{}
	for _, issue := range report.Issues {
		name := issue.FromLinter
		if m := fromList.FindStringSubmatch(issue.Text); m != nil {
			name = m[1]
		}
		key := fmt.Sprintf("%s:%d", issue.Pos.Filename, issue.Pos.Line)
		got[key] = append(got[key], name)
	}
	for _, names := range got {
		slices.Sort(names)
	}
	return got
}

// depguardRules returns the names of the import rules of a configuration.
func depguardRules(t *testing.T, config []byte) []string {
	t.Helper()
	var parsed struct {
		Linters struct {
			Settings struct {
				Depguard struct {
					Rules map[string]any `json:"rules"`
				} `json:"depguard"`
			} `json:"settings"`
		} `json:"linters"`
	}
	if err := yaml.Unmarshal(config, &parsed); err != nil {
		t.Fatal(err)
	}
	rules := parsed.Linters.Settings.Depguard.Rules
	if len(rules) == 0 {
		t.Fatal("the configuration has no import rules")
	}
	names := make([]string, 0, len(rules))
	for name := range rules {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

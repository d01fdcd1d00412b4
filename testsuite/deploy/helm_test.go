package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// release and namespace are what the tests install the chart as.
const (
	release   = "ichor"
	namespace = "ichor-system"
	chart     = "deploy/charts/ichor"
)

// root is the top of the checkout.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// program finds something that make has built.
func program(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(root(t), "bin", filepath.FromSlash(name))
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("%v; make charts builds what is missing", err)
	}
	return file
}

// helm runs Helm in the top folder, without anything that a user has configured.
func helm(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program(t, "tools/helm"), args...)
	cmd.Dir = root(t)
	cmd.Env = []string{"HOME=" + home, "HELM_CACHE_HOME=" + home, "HELM_CONFIG_HOME=" + home, "HELM_DATA_HOME=" + home}
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = cmd.Run()
	return out.String(), problems.String(), err
}

// cases are the values files that come with the chart.
func cases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root(t), chart, "ci", "*-values.yaml"))
	if err != nil || len(files) < 4 {
		t.Fatalf("values files: %v, %v", files, err)
	}
	return files
}

func caseName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), "-values.yaml")
}

// render returns the objects that the chart makes of values.
func render(t *testing.T, args ...string) []*unstructured.Unstructured {
	t.Helper()
	out, problems, err := helm(t, append([]string{"template", release, chart, "--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, problems)
	}
	return decode(t, out)
}

func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	for dec := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		var raw map[string]any
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			return objects
		} else if err != nil {
			t.Fatalf("what was rendered is no YAML: %v", err)
		}
		if len(raw) > 0 {
			objects = append(objects, &unstructured.Unstructured{Object: raw})
		}
	}
}

// of returns the objects of a kind.
func of(objects []*unstructured.Unstructured, kind string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, o := range objects {
		if o.GetKind() == kind {
			out = append(out, o)
		}
	}
	return out
}

// typed turns an object into the Go type of its kind.
func typed[T any](t *testing.T, o *unstructured.Unstructured) T {
	t.Helper()
	var out T
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o.Object, &out, true); err != nil {
		t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
	return out
}

func TestLint(t *testing.T) {
	for _, file := range cases(t) {
		out, problems, err := helm(t, "lint", chart, "--strict", "--values", file)
		if err != nil {
			t.Errorf("%s: %v\n%s%s", caseName(file), err, out, problems)
		}
	}
}

// TestPackage asks that the packaged chart renders what the folder renders, with
// the version that packaging gives it.
func TestPackage(t *testing.T) {
	dir, minimal := t.TempDir(), filepath.Join(root(t), chart, "ci", "minimal-values.yaml")
	if _, problems, err := helm(t, "package", chart, "--destination", dir, "--app-version", "v9.9.9"); err != nil {
		t.Fatalf("helm package: %v\n%s", err, problems)
	}
	packed, err := filepath.Glob(filepath.Join(dir, "ichor-*.tgz"))
	if err != nil || len(packed) != 1 {
		t.Fatalf("packed: %v, %v", packed, err)
	}
	out, problems, err := helm(t, "template", release, packed[0], "--namespace", namespace, "--values", minimal)
	if err != nil {
		t.Fatalf("helm template: %v\n%s", err, problems)
	}
	if !strings.Contains(out, "/ichor-worker:v9.9.9") {
		t.Error("the image does not have the version of the package")
	}
	if got, want := len(decode(t, out)), len(render(t, "--values", minimal)); got != want {
		t.Errorf("the package renders %d objects, the folder %d", got, want)
	}
}

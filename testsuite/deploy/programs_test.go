package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/contrib/envconfig"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// knowledge is what a program says that it can be told.
type knowledge struct{ flags, variables []string }

var (
	flagLine     = regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`)
	variableName = regexp.MustCompile(`\[(ICHOR_[A-Z0-9_]+)\]`)
)

func knowledgeOf(t *testing.T, name string) knowledge {
	t.Helper()
	out, err := help(t, name)
	if err != nil {
		t.Fatalf("%s --help: %v\n%s", name, err, out)
	}
	var k knowledge
	for _, m := range flagLine.FindAllStringSubmatch(out, -1) {
		k.flags = append(k.flags, m[1])
	}
	for _, m := range variableName.FindAllStringSubmatch(out, -1) {
		k.variables = append(k.variables, m[1])
	}
	if len(k.flags) < 10 || len(k.variables) < 10 {
		t.Fatalf("%s --help tells of %v", name, k)
	}
	return k
}

// programOf is the program in a container's image.
func programOf(c corev1.Container) string {
	name := path.Base(c.Image)
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	return name
}

// lookups records which variables a reader of the environment asks for.
type lookups map[string]bool

func (l lookups) Environ() []string { return nil }

func (l lookups) LookupEnv(name string) (string, bool) {
	l[name] = true
	return "", false
}

// temporalVariables are the variables that Temporal's own library reads.
func temporalVariables(t *testing.T) lookups {
	t.Helper()
	read := lookups{}
	if _, err := envconfig.LoadClientConfigProfile(envconfig.LoadClientConfigProfileOptions{DisableFile: true, EnvLookup: read}); err != nil {
		t.Fatal(err)
	}
	return read
}

// TestProgramsKnowWhatTheyAreTold asks that every flag and variable of the chart
// exists in the program that gets it: a variable that nobody reads is silent.
func TestProgramsKnowWhatTheyAreTold(t *testing.T) {
	known := map[string]knowledge{}
	for _, name := range programs[1:] {
		known[name] = knowledgeOf(t, name)
	}
	temporal := temporalVariables(t)
	used := map[string]bool{}
	for _, file := range cases(t) {
		for _, o := range of(render(t, "--values", file), "Deployment") {
			for _, c := range typed[appsv1.Deployment](t, o).Spec.Template.Spec.Containers {
				k, ok := known[programOf(c)]
				if !ok {
					t.Fatalf("%s: no program is called %s", caseName(file), programOf(c))
				}
				used[programOf(c)] = true
				if len(c.Command) > 0 {
					t.Errorf("%s has a command; the image's entrypoint is enough", o.GetName())
				}
				var names []string
				for _, arg := range c.Args {
					name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
					if !slices.Contains(k.flags, name) {
						t.Errorf("%s, %s: %s has no flag %s", caseName(file), o.GetName(), programOf(c), arg)
					}
					names = append(names, name)
				}
				for _, e := range c.Env {
					switch {
					case strings.HasPrefix(e.Name, "ICHOR_") && !slices.Contains(k.variables, e.Name),
						strings.HasPrefix(e.Name, "TEMPORAL_") && !temporal[e.Name]:
						t.Errorf("%s, %s: %s does not read %s", caseName(file), o.GetName(), programOf(c), e.Name)
					}
				}
				if out, err := help(t, programOf(c), c.Args...); err != nil {
					t.Errorf("%s, %s: a value is refused: %v\n%s", caseName(file), o.GetName(), err, out)
				}
				// Without these lists a spec could read the store's key.
				for _, list := range []string{"secret-env", "secret-files"} {
					if !slices.Contains(names, list) {
						t.Errorf("%s, %s: --%s is not set", caseName(file), o.GetName(), list)
					}
				}
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("no values file starts %s", name)
		}
		if _, err := help(t, name, "--request-rate=soon"); err == nil {
			t.Errorf("%s takes any value, so taking the chart's proves nothing", name)
		}
	}
}

// help has a program read arguments, and then only say what it knows.
func help(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t, name), append(slices.Clone(args), "--help")...).CombinedOutput()
	return string(out), err
}

// TestChartKeepsItsFlags asks that the flags that people cannot set through
// settings, because the chart does, are flags.
func TestChartKeepsItsFlags(t *testing.T) {
	body, err := os.ReadFile(filepath.Join(root(t), chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	type node struct {
		Properties map[string]json.RawMessage
	}
	for section, name := range map[string]string{"worker": "ichor-worker", "provider": "ichor-grpcprovider"} {
		raw := json.RawMessage(body)
		for _, step := range []string{section, "settings"} {
			var n node
			if err := json.Unmarshal(raw, &n); err != nil {
				t.Fatal(err)
			}
			raw = n.Properties[step]
		}
		var settings node
		if err := json.Unmarshal(raw, &settings); err != nil {
			t.Fatal(err)
		}
		flags := knowledgeOf(t, name).flags
		for kept := range settings.Properties {
			if !slices.Contains(flags, kept) {
				t.Errorf("%s.settings refuses %s, which is no flag of %s", section, kept, name)
			}
		}
		if len(settings.Properties) < 8 {
			t.Errorf("%s.settings refuses only %d flags", section, len(settings.Properties))
		}
	}
}

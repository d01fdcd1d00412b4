package deploy

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestRefused gives the chart values that cannot work and asks for the name of
// the field in the answer.
func TestRefused(t *testing.T) {
	provider := "providers: [{name: demo, cluster: demo}]\n"
	for name, c := range map[string]struct {
		values string
		want   []string
	}{
		"unknown field":               {"worker: {replica: 2}", []string{"/worker", "'replica' not allowed"}},
		"unknown top field":           {"wroker: {}", []string{"'wroker' not allowed"}},
		"wrong type":                  {"worker: {replicas: many}", []string{"/worker/replicas"}},
		"negative replicas":           {"worker: {replicas: -1}", []string{"/worker/replicas"}},
		"log level":                   {"log: {level: loud}", []string{"/log/level"}},
		"address without port":        {"temporal: {address: temporal}", []string{"/temporal/address"}},
		"store of another kind":       {"store: {url: http://store}", []string{"/store/url"}},
		"key given as it is":          {"store: {key: {url: base64key://c2VjcmV0}}", []string{"/store/key/url"}},
		"registry with a scheme":      {"image: {registry: https://registry.example.com}", []string{"/image/registry"}},
		"digest cut short":            {"worker: {image: {digest: sha256:abc}}", []string{"/worker/image/digest"}},
		"secret variable without key": {"credentials: {env: [{name: TOKEN, secretName: cloudscale}]}", []string{"/credentials/env/0", "'key'"}},
		"variable with a space":       {"credentials: {env: [{name: A TOKEN, secretName: x, key: y}]}", []string{"/credentials/env/0/name"}},
		"setting of the chart":        {"worker: {settings: {store: s3://other}}", []string{"/worker/settings/store"}},
		"setting with dashes":         {"worker: {settings: {--poll: 2s}}", []string{"/worker/settings", "--poll"}},
		"port":                        {"provider: {port: 123456}", []string{"/provider/port"}},
		"provider of nothing":         {"providers: [{name: demo}]", []string{"/providers/0", "'cluster'"}},
		"provider of a bad name":      {"providers: [{name: Demo, cluster: demo}]", []string{"/providers/0/name"}},
		"provider with both":          {"providers: [{name: demo, cluster: demo, config: {secretName: a, key: b}}]", []string{"/providers/0"}},
		"insecure for all":            {provider + "provider: {settings: {insecure: true}}", []string{"/provider/settings/insecure"}},
		"insecure for one":            {"providers: [{name: demo, cluster: demo, settings: {insecure: true}}]", []string{"/providers/0/settings/insecure"}},
		"no TLS":                      {provider, []string{"providers[demo]", "tls.secretName", "mutual TLS"}},
		"the same name twice":         {"providers: [{name: a, cluster: a, tls: {secretName: a}}, {name: a, cluster: b, tls: {secretName: a}}]", []string{"providers[a]", "twice"}},
		"no registry":                 {"image: {registry: ''}", []string{"image.registry"}},
		"no Temporal":                 {"temporal: {address: ''}", []string{"temporal.address"}},
		"no store":                    {"store: {url: ''}", []string{"store.url"}},
		"no key":                      {"store: {key: {secretName: ''}}", []string{"store.key"}},
		"two keys":                    {"store: {key: {url: awskms://alias/x}}", []string{"store.key", "exclude"}},
		"file store without volume":   {"store: {url: file:///var/lib/ichor/store}", []string{"store.url", "store.persistence.enabled"}},
		"volume for several workers":  {"store: {url: file:///var/lib/ichor/store, persistence: {enabled: true}}\nworker: {replicas: 2}", []string{"worker.replicas"}},
		"API key in the clear":        {"temporal: {apiKey: {secretName: temporal}}", []string{"temporal.apiKey", "temporal.tls.enabled"}},
		"TLS settings without TLS":    {"temporal: {tls: {serverName: temporal}}", []string{"temporal.tls"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(c.values), 0o600); err != nil {
				t.Fatal(err)
			}
			_, problems, err := helm(t, "template", release, chart, "--values", chart+"/ci/minimal-values.yaml", "--values", file)
			if err == nil {
				t.Fatal("was rendered")
			}
			for _, want := range c.want {
				if !strings.Contains(problems, want) {
					t.Errorf("the answer does not say %q:\n%s", want, problems)
				}
			}
		})
	}
}

// leaves are the paths of everything that values.yaml gives a value, lists and
// empty maps included.
func leaves(prefix string, v any) []string {
	m, ok := v.(map[string]any)
	if !ok || len(m) == 0 {
		return []string{prefix}
	}
	var out []string
	for k, inner := range m {
		out = append(out, leaves(strings.TrimPrefix(prefix+"."+k, "."), inner)...)
	}
	slices.Sort(out)
	return out
}

// schemaNode is the part of a JSON Schema that names fields.
type schemaNode struct {
	Ref        string `json:"$ref"`
	Properties map[string]json.RawMessage
	Items      json.RawMessage
}

// schemaLeaves are the paths of everything that the schema lets people set.
func schemaLeaves(t *testing.T, prefix string, raw json.RawMessage, all map[string]json.RawMessage) []string {
	t.Helper()
	var n schemaNode
	if string(raw) != "false" {
		if err := json.Unmarshal(raw, &n); err != nil {
			t.Fatal(err)
		}
	}
	if name, ok := strings.CutPrefix(n.Ref, "#/definitions/"); ok {
		return schemaLeaves(t, prefix, all[name], all)
	}
	if len(n.Properties) == 0 && n.Items != nil {
		return schemaLeaves(t, prefix+"[]", n.Items, all)
	}
	var out []string
	for k, inner := range n.Properties {
		if string(inner) != "false" && k != "global" {
			out = append(out, schemaLeaves(t, strings.TrimPrefix(prefix+"."+k, "."), inner, all)...)
		}
	}
	if len(out) == 0 {
		out = []string{strings.TrimSuffix(prefix, "[]")}
	}
	slices.Sort(out)
	return out
}

// TestValuesAreDescribed asks that values.yaml, the schema and the table in
// README.md name the same values.
func TestValuesAreDescribed(t *testing.T) {
	read := func(name string) []byte {
		body, err := os.ReadFile(filepath.Join(root(t), chart, name))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	var values any
	if err := yaml.Unmarshal(read("values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	var schema struct{ Definitions map[string]json.RawMessage }
	if err := json.Unmarshal(read("values.schema.json"), &schema); err != nil {
		t.Fatal(err)
	}
	allowed := schemaLeaves(t, "", read("values.schema.json"), schema.Definitions)
	given, readme := leaves("", values), string(read("README.md"))
	if len(given) < 50 || len(allowed) < len(given) {
		t.Fatalf("only %d values and %d fields were found", len(given), len(allowed))
	}
	below := func(path, parent string) bool {
		return path == parent || strings.HasPrefix(path, parent+".") || strings.HasPrefix(path, parent+"[]")
	}
	for _, path := range allowed {
		if !slices.ContainsFunc(given, func(g string) bool { return below(path, g) || below(g, path) }) {
			t.Errorf("values.yaml has no %s", path)
		}
		if !strings.Contains(readme, "`"+path+"`") {
			t.Errorf("README.md does not describe %s", path)
		}
	}
	for _, path := range given {
		if !slices.ContainsFunc(allowed, func(a string) bool { return below(a, path) || below(path, a) }) {
			t.Errorf("the schema has no %s", path)
		}
	}
}

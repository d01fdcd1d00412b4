package check_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	generator "github.com/invopop/jsonschema"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/docs/reference"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cluster"
)

//go:generate go test -run TestSchemaIsGenerated -update .

var update = flag.Bool("update", false, "write generated files")

const schemaFile = "../../docs/reference/cluster.schema.json"

// generate makes the schema from the types: descriptions are their comments, and
// what struct tags cannot say is added here.
func generate(t *testing.T) []byte {
	t.Helper()
	r := generator.Reflector{ExpandedStruct: true, FieldNameTag: "json"}
	if err := r.AddGoComments("github.com/ichor-project/ichor/internal/cluster", "../cluster"); err != nil {
		t.Fatal(err)
	}
	// AddGoComments keys by the folder it was given; the types carry their
	// import path.
	comments := map[string]string{}
	for key, text := range r.CommentMap {
		if _, name, ok := strings.Cut(key, "/cluster."); ok {
			comments["github.com/ichor-project/ichor/internal/cluster."+name] = strings.Join(strings.Fields(text), " ")
		}
	}
	r.CommentMap = comments
	s := r.Reflect(&cluster.Cluster{})
	s.ID = "https://ichor.dev/schemas/v1alpha1/cluster.schema.json"
	s.Title = "Ichor cluster"
	oneOf := []*generator.Schema{
		{Required: []string{"file"}}, {Required: []string{"url"}}, {Required: []string{"inline"}}, {Required: []string{"ref", "sha256"}},
	}
	for _, name := range []string{"Source", "Manifest"} {
		s.Definitions[name].OneOf = oneOf
	}
	s.Definitions["Alternative"].AnyOf = []*generator.Schema{{Required: []string{"zone"}}, {Required: []string{"flavor"}}}
	s.Definitions["Autoscaling"].Required = []string{
		"scaleDownUtilizationThreshold", "scaleDownGPUUtilizationThreshold", "scaleDownUnneededTime", "scaleDownUnreadyTime", "maxNodeProvisionTime",
	}
	s.Definitions["Network"].OneOf = []*generator.Schema{{Required: []string{"cidr"}}, {Required: []string{"existing"}}}
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

func TestSchemaIsGenerated(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(reference.ClusterSchema)); diff != "" {
		t.Errorf("docs/reference/cluster.schema.json is out of date; run: go generate ./internal/check\n%s", diff)
	}
}

func compile(t *testing.T) *validator.Schema {
	t.Helper()
	doc, err := validator.UnmarshalJSON(bytes.NewReader(reference.ClusterSchema))
	if err != nil {
		t.Fatal(err)
	}
	c := validator.NewCompiler()
	c.DefaultDraft(validator.Draft2020)
	if err := c.AddResource("cluster.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("cluster.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a YAML document as a validator wants it.
func asJSON(t *testing.T, doc []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := validator.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryDescriptionIsThere(t *testing.T) {
	var s struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
				Ref         string `json:"$ref"`
			} `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(reference.ClusterSchema, &s); err != nil {
		t.Fatal(err)
	}
	if len(s.Defs) < 12 {
		t.Fatalf("the schema defines %d types; there are more", len(s.Defs))
	}
	for name, def := range s.Defs {
		for field, p := range def.Properties {
			if p.Description == "" && p.Ref == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

func TestExamples(t *testing.T) {
	schema := compile(t)
	files, err := filepath.Glob("../../examples/*.yaml")
	for _, name := range []string{"demo", "autoscale", "upgrade"} {
		files = append(files, filepath.Join("../../examples", "aws", name+".yaml"))
	}
	// Values of Helm charts are no specs.
	files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "-values.yaml") })
	if err != nil || len(files) < 2 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(asJSON(t, data)); err != nil {
				t.Errorf("schema: %v", err)
			}
			c, pos, err := cluster.Decode(data)
			if err != nil {
				t.Fatal(err)
			}
			bodies := map[string][]byte{}
			for _, s := range c.Sources() {
				if s.Source.File == "" {
					continue
				}
				body, err := os.ReadFile(filepath.Join(filepath.Dir(file), s.Source.File))
				if err != nil {
					t.Fatal(err)
				}
				bodies[s.Field] = body
			}
			if p := check.Spec(c, check.Options{Bodies: bodies}); len(p) > 0 {
				t.Error(pos.Locate(p))
			}
		})
	}
}

// TestSchemaAgreesWithDecoding holds the two strict readers to the same answer
// about form: what one refuses as unknown or ill-typed, so does the other.
func TestSchemaAgreesWithDecoding(t *testing.T) {
	schema := compile(t)
	for _, tc := range []struct {
		name string
		edit []string
	}{
		{"as it is", nil},
		{"unknown field", []string{"kind: Cluster", "kind: Cluster\nsize: 3"}},
		{"unknown inner field", []string{"min: 0", "min: 0\n    size: 3"}},
		{"text for number", []string{"min: 0", "min: none"}},
		{"number for text", []string{"name: demo", "name: 7"}},
		{"list for text", []string{"zone: lpg1", "zone: [lpg1]"}},
		{"text for list", []string{"[192.0.2.0/24]", "192.0.2.0/24"}},
		{"fraction", []string{"min: 0", "min: 0.5"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			doc := []byte(edit(t, tc.edit))
			_, _, decodes := cluster.Decode(doc)
			validates := schema.Validate(asJSON(t, doc))
			if (decodes == nil) != (validates == nil) || (decodes == nil) != (tc.edit == nil) {
				t.Errorf("decoding says %v, the schema says %v", decodes, validates)
			}
		})
	}
}

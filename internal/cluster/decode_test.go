package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// minimal is the shortest spec without a problem.
const minimal = `apiVersion: ichor.dev/v1alpha1
kind: Cluster
metadata:
  name: demo
spec:
  cloud:
    provider: cloudscale
    zone: lpg1
    credentials: env:CLOUDSCALE_API_TOKEN
  talos:
    version: v1.13.5
  kubernetes:
    version: v1.36.3
  network:
    cidr: 10.200.0.0/24
    adminCIDRs: [192.0.2.0/24]
  controlPlane:
    replicas: 3
    flavor: flex-4-2
`

func TestDecodeReportsEveryProblemWithPathAndLine(t *testing.T) {
	const canary = "canary-value-that-must-not-be-printed"
	for _, tc := range []struct {
		name, doc string
		want      Problems
	}{
		{"empty", "", Problems{{Reason: "the document is empty"}}},
		{"only a comment", "# nothing\n", Problems{{Reason: "the document is empty"}}},
		{"not a mapping", "- a\n", Problems{{Line: 1, Reason: "must be a mapping, not a list"}}},
		{"text", canary, Problems{{Line: 1, Reason: "must be a mapping, not text"}}},
		{"unknown at the top", "kind: Cluster\nsecret: " + canary + "\n", Problems{{Field: "secret", Line: 2, Reason: "unknown field; known are apiVersion, kind, metadata, spec"}}},
		{"misspelled", "spec:\n  network:\n    adminCIDR: [" + canary + "]\n", Problems{{Field: "spec.network.adminCIDR", Line: 3, Reason: "unknown field; did you mean adminCIDRs?"}}},
		{"case counts", "Kind: Cluster\n", Problems{{Field: "Kind", Line: 1, Reason: "unknown field; did you mean kind?"}}},
		{"several", "kind: 7\nspec:\n  nodeGroups:\n  - name: a\n    size: 3\n  - name: [b]\n    min: many\n    max: 1.5\n    antiAffinity: 1\n", Problems{
			{Field: "kind", Line: 1, Reason: "must be text, not a number; put it in quotes"},
			{Field: "spec.nodeGroups[0].size", Line: 5, Reason: "unknown field; known are alternatives, antiAffinity, autoscaling, count, diskGiB, extensions, flavor, image, labels, max, min, name, networks, patches, schematic, spot, tags, taints, zone, zones"},
			{Field: "spec.nodeGroups[1].name", Line: 6, Reason: "must be text, not a list"},
			{Field: "spec.nodeGroups[1].min", Line: 7, Reason: "must be a whole number, not text"},
			{Field: "spec.nodeGroups[1].max", Line: 8, Reason: "must be a whole number, not a number"},
			{Field: "spec.nodeGroups[1].antiAffinity", Line: 9, Reason: "must be true or false, not a number"},
		}},
		{"twice", "metadata:\n  name: a\n  name: b\n", Problems{{Field: "metadata.name", Line: 3, Reason: "is given twice, first in line 2"}}},
		{"label values are text", "spec:\n  controlPlane:\n    labels:\n      example.com/a: true\n", Problems{{Field: `spec.controlPlane.labels["example.com/a"]`, Line: 4, Reason: "must be text, not a truth value; put it in quotes"}}},
		{"label twice", "spec:\n  controlPlane:\n    labels: {a: b, a: c}\n", Problems{{Field: "spec.controlPlane.labels.a", Line: 3, Reason: "is given twice, first in line 3"}}},
		{"body in the wrong place", "spec:\n  manifests: |\n    " + canary + "\n", Problems{{Field: "spec.manifests", Line: 2, Reason: "must be a list, not text"}}},
		{"key is a list", "? [a]\n: b\n", Problems{{Line: 1, Reason: "has a key that is a list; keys are words"}}},
		{"second document", "kind: Cluster\n---\nkind: Cluster\n", Problems{{Line: 2, Reason: "a second document follows; one file describes one cluster"}}},
		{"merge key", "spec:\n  cloud: &c {zone: lpg1}\n  talos:\n    <<: *c\n", Problems{{Field: "spec.talos.<<", Line: 4, Reason: "unknown field; known are contract, extensions, patches, schematic, version"}}},
		{"too large", strings.Repeat("# x\n", MaxDocument/4+1), Problems{{Reason: "the document has 1048580 bytes; the limit is 1048576"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Decode([]byte(tc.doc))
			var got Problems
			if !errors.As(err, &got) {
				t.Fatalf("error is %T (%v), want Problems", err, err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error repeats a value: %v", err)
			}
		})
	}
}

func TestDecodeSyntaxErrorsQuoteNothing(t *testing.T) {
	const canary = "hunter2-canary"
	for _, doc := range []string{
		"spec:\n  secrets: *" + canary + "\n",
		"spec:\n  a: '" + canary + "\n",
		"spec:\n\t" + canary + ": 1\n",
		"spec: {" + canary + "\n",
		"spec:\n  a: @" + canary + "\n",
		"spec:\n  " + canary + ": b: c\n",
		"!!binary " + canary + "\n",
		"spec:\n  talos: !" + canary + " x\n",
		"spec: &a [*" + canary + "]\n",
	} {
		_, _, err := Decode([]byte(doc))
		var got Problems
		if !errors.As(err, &got) || len(got) == 0 {
			t.Errorf("%q: error is %v, want Problems", doc, err)
			continue
		}
		for _, p := range got {
			if p.Line == 0 {
				t.Errorf("%q: no line in %q", doc, p)
			}
			if strings.Contains(p.Reason, canary) {
				t.Errorf("%q: %q repeats the value", doc, p)
			}
		}
	}
}

func TestDecodeReadsYAMLAndJSONAlike(t *testing.T) {
	fromYAML, pos, err := Decode([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if p := fromYAML.Validate(); len(p) > 0 {
		t.Fatalf("the minimal spec has problems: %v", p)
	}
	if got := pos.Line("spec.network.adminCIDRs[0]"); got != 16 {
		t.Errorf("line of adminCIDRs[0] = %d, want 16", got)
	}
	if got := pos.Line("spec.controlPlane.diskGiB"); got != 17 {
		t.Errorf("line of an absent field = %d, want that of its parent, 17", got)
	}
	tabbed := "{\n\t\"apiVersion\": \"ichor.dev/v1alpha1\",\n\t\"kind\": \"Cluster\",\n\t\"metadata\": {\"name\": \"demo\"},\n" +
		"\t\"spec\": {\"cloud\": {\"provider\": \"cloudscale\", \"zone\": \"lpg1\", \"credentials\": \"env:CLOUDSCALE_API_TOKEN\"},\n" +
		"\t\"talos\": {\"version\": \"v1.13.5\"}, \"kubernetes\": {\"version\": \"v1.36.3\"},\n" +
		"\t\"network\": {\"cidr\": \"10.200.0.0\\/24\", \"adminCIDRs\": [\"192.0.2.0/24\"]},\n" +
		"\t\"controlPlane\": {\"replicas\": 3, \"flavor\": \"flex-4-2\"}}}\n"
	fromJSON, _, err := Decode([]byte(tabbed))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromYAML, fromJSON); diff != "" {
		t.Errorf("YAML and JSON differ (-yaml +json):\n%s", diff)
	}
}

func TestDecodeFollowsAliasesWithinABudget(t *testing.T) {
	c, _, err := Decode([]byte("spec:\n  controlPlane: {tags: &t {team: infra}}\n  nodeGroups: [{name: a, tags: *t}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Spec.NodeGroups[0].Tags["team"]; got != "infra" {
		t.Errorf("alias gave %q, want infra", got)
	}
	bomb := "spec:\n  controlPlane: {tags: &t {x: y}}\n  nodeGroups:\n  - &g {tags: *t, labels: *t}\n" +
		strings.Repeat("  - *g\n", 60_000)
	if _, _, err := Decode([]byte(bomb)); err == nil || !strings.Contains(err.Error(), "too large once its aliases are followed") {
		t.Errorf("error = %v, want the alias budget", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(`{"kind":"Cluster","spec":{"nodeGroups":[{"name":"a","taints":[{"key":"k"}]}]}}`))
	f.Add([]byte("spec:\n  a: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, pos, err := Decode(data)
		var problems Problems
		if err != nil && !errors.As(err, &problems) {
			t.Fatalf("error is %T, want Problems", err)
		}
		if p := c.Validate(); len(pos.Locate(p)) != len(p) {
			t.Fatal("locating loses problems")
		}
		if n := c.Normalise(); n.Digest() != c.Digest() {
			t.Fatal("normalising changes the digest")
		}
	})
}

package kube

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"
)

var emptyObject = unstructured.Unstructured{Object: map[string]any{}}

func TestCompare(t *testing.T) {
	for _, tc := range []struct {
		name, before, after string
		noImages            bool
		want                []string
	}{
		{name: "the same", before: "{a: [1, {b: c}]}", after: "{a: [1, {b: c}]}"},
		{name: "a value", before: "{a: {b: 1, c: 2}}", after: "{a: {b: 3, c: 2}}", want: []string{"a.b"}},
		{name: "added and removed", before: "{a: {b: 1}}", after: "{a: {c: 2}}", want: []string{"a.b", "a.c"}},
		{name: "null is absence", before: "{a: null}", after: "{}"},
		{name: "of another type", before: "{a: {b: 1}}", after: "{a: x}", want: []string{"a"}},
		{name: "keys with dots", before: "{data: {x.yaml: a}, labels: {a/b: c}}", after: "{data: {x.yaml: b}, labels: {a/b: d}}", want: []string{"data[x.yaml]", "labels[a/b]"}},
		{name: "by place", before: "{args: [a, b]}", after: "{args: [a, c, d]}", want: []string{"args[1]", "args[2]"}},
		{
			name: "by name", before: "{containers: [{name: a, image: 'x:1', env: [{name: E, value: s3cr3t}]}, {name: b}]}",
			after: "{containers: [{name: c}, {name: a, image: 'x:2', env: [{name: E, value: other}]}]}",
			want:  []string{"containers[name=a].env[name=E].value", "containers[name=a].image: x:1 -> x:2", "containers[name=b]", "containers[name=c]"},
		},
		{name: "by name, reordered", before: "{c: [{name: a}, {name: b}]}", after: "{c: [{name: b}, {name: a}]}", want: []string{"c"}},
		{name: "a secret in disguise", before: "{containers: [{name: a, image: s3cr3t}]}", after: "{containers: [{name: a, image: s3cr3t2}]}", noImages: true, want: []string{"containers[name=a].image"}},
		{name: "an image that may be anything", before: "{data: {image: s3cr3t}}", after: "{data: {image: s3cr3t2}}", want: []string{"data.image"}},
		{name: "an image that is new", before: "{spec: {}}", after: "{spec: {image: 'x:2'}}", want: []string{"spec.image"}},
	} {
		var before, after map[string]any
		if err := yaml.Unmarshal([]byte(tc.before), &before); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(tc.after), &after); err != nil {
			t.Fatal(err)
		}
		var got []string
		compare("", before, after, !tc.noImages, &got)
		slices.Sort(got)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if strings.Contains(strings.Join(got, ""), "s3cr3t") {
			t.Errorf("%s shows a value: %v", tc.name, got)
		}
	}
}

// drawValue draws what JSON can hold, with names often enough that lists are
// compared by them.
func drawValue(t *rapid.T, depth int) any {
	kinds := []string{"text", "number", "flag"}
	if depth > 0 {
		kinds = append(kinds, "map", "list", "named")
	}
	small := func(label string) int { return rapid.IntRange(0, 3).Draw(t, label) }
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "map":
		out := map[string]any{}
		for range small("fields") {
			out[rapid.SampledFrom([]string{"a", "b", "name", "x.y"}).Draw(t, "field")] = drawValue(t, depth-1)
		}
		return out
	case "list", "named":
		out := []any{}
		for range small("elements") {
			v := drawValue(t, depth-1)
			if m, ok := v.(map[string]any); ok {
				m["name"] = rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "name")
			}
			out = append(out, v)
		}
		return out
	case "text":
		return rapid.SampledFrom([]string{"u", "v"}).Draw(t, "text")
	case "number":
		return int64(small("number"))
	default:
		return rapid.Bool().Draw(t, "flag")
	}
}

// TestCompareMissesNothing: values differ exactly when a path is named.
func TestCompareMissesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		before, after := drawValue(rt, 3), drawValue(rt, 3)
		var changed, same []string
		compare("x", before, after, true, &changed)
		compare("x", before, before, true, &same)
		if equal := equality.Semantic.DeepEqual(before, after); equal != (len(changed) == 0) || len(same) > 0 {
			rt.Errorf("%v and %v: equal %v, paths %v; with itself %v", before, after, equal, changed, same)
		}
		for _, path := range changed {
			if !strings.HasPrefix(path, "x") {
				rt.Errorf("path %q", path)
			}
		}
	})
}

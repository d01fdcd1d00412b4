package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// yieldTo takes the fields out of an object that others own in the cluster and
// have set to other values, and names them with their owners. What to apply no
// longer mentions stays as it is: whoever set it has taken it from Talos by that.
func yieldTo(others []string, live, obj *unstructured.Unstructured) []string {
	var out []string
	for _, entry := range live.GetManagedFields() {
		if entry.FieldsV1 == nil || !slices.Contains(others, entry.Manager) {
			continue
		}
		var owned map[string]any
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &owned) != nil {
			continue // not of the one format that there is; the conflict stands then
		}
		y := yielding{by: entry.Manager}
		y.fields("", owned, live.Object, obj.Object)
		out = append(out, y.kept...)
	}
	return out
}

// yielding walks over the fields of one owner, in the format of managedFields:
// "f:" and a field, "k:" and the keys of a list's element, nothing below a leaf.
type yielding struct {
	by   string
	kept []string
}

func (y *yielding) fields(path string, owned map[string]any, live, want map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(owned)) {
		name, isField := strings.CutPrefix(key, "f:")
		wanted, set := want[name]
		if !isField || !set {
			continue
		}
		at := join(path, name)
		inner, _ := owned[key].(map[string]any)
		switch w := wanted.(type) {
		case map[string]any:
			if l, ok := live[name].(map[string]any); ok && len(inner) > 0 {
				y.fields(at, inner, l, w)
				continue
			}
		case []any:
			if l, ok := live[name].([]any); ok && len(inner) > 0 {
				y.elements(at, inner, l, w)
				continue
			}
		}
		if !equality.Semantic.DeepEqual(live[name], wanted) {
			delete(want, name)
			y.kept = append(y.kept, fmt.Sprintf("%s: set by %s", at, y.by))
		}
	}
}

// elements walks over those elements of a list that both sides have.
func (y *yielding) elements(path string, owned map[string]any, live, want []any) {
	for _, key := range slices.Sorted(maps.Keys(owned)) {
		text, keyed := strings.CutPrefix(key, "k:")
		var keys map[string]any
		if !keyed || json.Unmarshal([]byte(text), &keys) != nil {
			continue
		}
		l, w := element(live, keys), element(want, keys)
		inner, _ := owned[key].(map[string]any)
		if l != nil && w != nil {
			y.fields(fmt.Sprintf("%s[%s]", path, keyText(keys)), inner, l, w)
		}
	}
}

// element finds the element of a list that has all keys. The API server fills in
// the protocol of ports, the only key that may be left out.
func element(list []any, keys map[string]any) map[string]any {
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			continue
		}
		same := true
		for key, value := range keys {
			have, set := m[key]
			if !set && key == "protocol" {
				have = "TCP"
			}
			same = same && fmt.Sprint(have) == fmt.Sprint(value)
		}
		if same {
			return m
		}
	}
	return nil
}

func keyText(keys map[string]any) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		out = append(out, fmt.Sprintf("%s=%v", key, keys[key]))
	}
	return strings.Join(out, ",")
}

// with returns a copy of annotations with one more.
func with(annotations map[string]string, key, value string) map[string]string {
	out := maps.Clone(annotations)
	if out == nil {
		out = map[string]string{}
	}
	out[key] = value
	return out
}

package compare

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
)

// value is one field: text, or the elements of a list.
type value struct {
	text  string
	items []string
	list  bool
	// secret values are compared and not shown; shows is shown instead of a text.
	secret bool
	shows  string
}

// fields are the leaves of a document by path.
type fields map[string]value

// readConfig reads the documents of a machine config. What shown, the same config
// with its secrets taken out, has differently is a secret.
func readConfig(config, shown []byte) (fields, error) {
	out, err := readDocuments(config)
	if err != nil {
		return nil, err
	}
	open, err := readDocuments(shown)
	if err != nil {
		return nil, err
	}
	for path, v := range out {
		v.secret = !same(v, open[path]) || sensitive(path, v)
		out[path] = v
	}
	return out, nil
}

// readDocuments names the fields of the main document by their path alone, those of
// others after kind and name.
func readDocuments(data []byte) (fields, error) {
	out := fields{}
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errors.New("a rendered machine config is not YAML") // its text is not repeated
		}
		kind, _ := doc["kind"].(string)
		if kind == "" {
			out.add("", doc)
			continue
		}
		name, named := doc["name"].(string)
		delete(doc, "kind")
		delete(doc, "apiVersion")
		if named {
			kind = element(kind, name)
			delete(doc, "name")
		}
		out.add(kind, doc)
	}
}

// add takes in what is at a path. Of a list whose elements have names, all different,
// the elements are fields by name, and the list is that of the names.
func (f fields) add(path string, node any) {
	switch n := node.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(n)) {
			f.add(cluster.JoinField(path, key), n[key])
		}
		if len(n) == 0 {
			f[path] = value{text: "{}"}
		}
	case []any:
		if names := namesOf(n); names != nil {
			f[path] = value{list: true, items: names}
			for i, name := range names {
				rest := maps.Clone(n[i].(map[string]any))
				if delete(rest, "name"); len(rest) > 0 {
					f.add(element(path, name), rest)
				}
			}
			return
		}
		v := value{list: true, items: make([]string, len(n))}
		for i, item := range n {
			v.items[i] = inline(item)
		}
		f[path] = v
	default:
		f[path] = value{text: fmt.Sprint(n)}
	}
}

// element is the path of an element of a list that has a name.
func element(path, name string) string { return path + "[" + name + "]" }

// namesOf returns nil unless all elements have names, each another.
func namesOf(list []any) []string {
	var out []string
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return nil
		}
		name, ok := m["name"].(string)
		if !ok || slices.Contains(out, name) {
			return nil
		}
		out = append(out, name)
	}
	return out
}

// inline is an element of a list on one line.
func inline(node any) string {
	switch n := node.(type) {
	case string:
		return n
	case map[string]any:
		if len(n) == 1 {
			for key, v := range n {
				if text, ok := v.(string); ok && !secretName.MatchString(key) {
					return key + ": " + text
				}
			}
		}
	}
	b, err := json.Marshal(node)
	if err != nil {
		return fmt.Sprint(node) // keys that are no text
	}
	return string(b)
}

func same(a, b value) bool {
	return a.list == b.list && a.text == b.text && slices.Equal(a.items, b.items)
}

// Patches may hold secrets that Talos does not know as such. What may be one is
// compared and not shown: fields that are named like secrets, variables of
// environments, contents of files and manifests, URLs that carry credentials, and
// everything that is longer than a setting.
var (
	secretName = regexp.MustCompile(`(?i)secret|token|passw|passphrase|shared_?key|credential|private|(^|[.\]])auth([.\[]|$)|\benv\b|environment|variables|content|inline_?manifest|[.\]]data\b|headers?`)
	secretURL  = regexp.MustCompile(`://[^/\s]*@|[?&][^=\s]*=`)
)

// longest is the longest text that is shown, in bytes.
const longest = 200

func sensitive(path string, v value) bool {
	// Fields of elements have no path of their own.
	inside := func(item string) bool { return strings.HasPrefix(item, "{") && secretName.MatchString(item) }
	if secretName.MatchString(path) || slices.ContainsFunc(v.items, inside) {
		return true
	}
	return slices.ContainsFunc(append([]string{v.text}, v.items...), func(s string) bool {
		return len(s) > longest || strings.Contains(s, "\n") || secretURL.MatchString(s)
	})
}

// show is what people see of a field in which a and b differ: of lists the elements
// that the other does not have. nil is for nothing.
func show(a, b *value) (left, right *string) {
	if a != nil && b != nil && a.list && b.list && !a.secret && !b.secret {
		if onlyA, onlyB := without(a.items, b.items), without(b.items, a.items); len(onlyA)+len(onlyB) > 0 {
			return joined(onlyA), joined(onlyB)
		}
	}
	return a.shown(), b.shown()
}

func (v *value) shown() *string {
	if v == nil {
		return nil
	}
	text := v.text
	switch {
	case v.secret:
		size := len(v.text)
		for _, item := range v.items {
			size += len(item)
		}
		text = "(not shown, " + strconv.Itoa(size) + " bytes)"
	case v.shows != "":
		text = v.shows
	case v.list:
		text = "[" + strings.Join(v.items, ", ") + "]"
	case text == "":
		text = `""`
	}
	return &text
}

// without returns the elements of list that other lacks, counting equal ones.
func without(list, other []string) []string {
	other = slices.Clone(other)
	var out []string
	for _, item := range list {
		if i := slices.Index(other, item); i >= 0 {
			other = slices.Delete(other, i, i+1)
			continue
		}
		out = append(out, item)
	}
	return out
}

func joined(items []string) *string {
	if len(items) == 0 {
		return nil
	}
	text := strings.Join(items, ", ")
	return &text
}

// keys are the paths of either, sorted.
func keys(a, b fields) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// at returns a field, nil when there is none.
func (f fields) at(path string) *value {
	v, ok := f[path]
	if !ok {
		return nil
	}
	return &v
}

// differ reports whether a path is not the same in both.
func differ(a, b fields, path string) bool {
	left, right := a.at(path), b.at(path)
	return (left == nil) != (right == nil) || left != nil && !same(*left, *right)
}

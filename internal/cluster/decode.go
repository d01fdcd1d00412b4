package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// MaxDocument is the largest spec file that is read, in bytes. It is far above
// what a spec needs and far below what Temporal accepts in one payload (2 MiB).
const MaxDocument = 1 << 20

// maxNodes bounds the work that aliases in a small file can cause.
const maxNodes = 100_000

// Decode reads a spec from YAML or JSON. It is strict: fields that do not exist,
// keys given twice, values of another type and a second document are problems,
// and all of them are reported at once, as Problems with path and line. Values
// are never part of a problem, since an inline body may hold secrets.
//
// The returned positions are usable even when there are problems.
func Decode(data []byte) (Cluster, Positions, error) {
	var c Cluster
	pos, err := DecodeInto(data, &c)
	return c, pos, err
}

// DecodeInto is Decode for another kind of document: out points to a struct
// whose fields have JSON names. It is used for files that share rules with the
// spec without being one.
func DecodeInto(data []byte, out any) (Positions, error) {
	if len(data) > MaxDocument {
		return nil, Problems{{Reason: fmt.Sprintf("the document has %d bytes; the limit is %d", len(data), MaxDocument)}}
	}
	d := decoder{lines: Positions{}, budget: maxNodes}
	root, extra, err := parse(data)
	if root != nil {
		d.value("", root, reflect.ValueOf(out).Elem())
	}
	d.problems = append(d.problems, extra...)
	if err != nil {
		d.problems = append(d.problems, syntaxProblem(err))
	}
	return d.lines, d.problems.Err()
}

// parse reads one document. Problems are those of the file as a whole.
func parse(data []byte) (*yaml.Node, Problems, error) {
	if json.Valid(data) {
		n, err := jsonNode(data)
		return n, nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, Problems{{Reason: "the document is empty"}}, nil
	} else if err != nil {
		return nil, nil, err
	}
	root := &doc
	if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 {
		root = doc.Content[0]
	}
	switch err := dec.Decode(&next); {
	case errors.Is(err, io.EOF):
		return root, nil, nil
	case err != nil:
		return root, nil, err
	}
	return root, Problems{{Line: next.Line, Reason: "a second document follows; one file describes one cluster"}}, nil
}

var yamlQuoted = regexp.MustCompile("'[^']*'|\"[^\"]*\"|`[^`]*`")

// syntaxProblem turns a parser's error into a problem without quoting the file:
// the parser puts what it quotes, such as the name of an anchor, in quotes.
func syntaxProblem(err error) Problem {
	p := Problem{Reason: "is not valid YAML"}
	var load *yaml.LoadError
	if errors.As(err, &load) {
		p.Line = load.Mark.Line
		p.Reason += ": " + yamlQuoted.ReplaceAllString(load.Message, "…")
	}
	return p
}

type decoder struct {
	problems Problems
	lines    Positions
	budget   int
	tooMany  bool
}

func (d *decoder) fail(path string, n *yaml.Node, format string, args ...any) {
	d.problems = append(d.problems, Problem{Field: path, Line: n.Line, Reason: fmt.Sprintf(format, args...)})
}

// value stores n in out, which is addressable.
func (d *decoder) value(path string, n *yaml.Node, out reflect.Value) {
	if d.budget--; d.budget < 0 {
		if !d.tooMany {
			d.tooMany = true
			d.fail(path, n, "the document is too large once its aliases are followed")
		}
		return
	}
	if _, known := d.lines[path]; !known {
		d.lines[path] = n.Line
	}
	if n.Kind == yaml.AliasNode {
		if n.Alias == nil {
			d.fail(path, n, "refers to an anchor that does not exist")
			return
		}
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		return // an empty field is an absent field
	}
	switch out.Kind() {
	case reflect.Pointer:
		fresh := reflect.New(out.Type().Elem())
		d.value(path, n, fresh.Elem())
		out.Set(fresh)
	case reflect.Struct:
		d.structure(path, n, out)
	case reflect.Slice:
		d.list(path, n, out)
	case reflect.Map:
		d.stringMap(path, n, out)
	default:
		d.scalar(path, n, out)
	}
}

func (d *decoder) structure(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, n, "must be a mapping, not %s", kindName(n))
		return
	}
	fields := fieldsOf(out)
	d.mapping(path, n, func(key string, k, v *yaml.Node) {
		field, ok := fields[key]
		if !ok {
			d.fail(JoinField(path, key), k, "unknown field%s", suggestion(key, fields))
			return
		}
		d.value(JoinField(path, key), v, field)
	})
}

func (d *decoder) stringMap(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(path, n, "must be a mapping, not %s", kindName(n))
		return
	}
	m := reflect.MakeMap(out.Type())
	d.mapping(path, n, func(key string, _, v *yaml.Node) {
		value := reflect.New(out.Type().Elem()).Elem()
		d.value(JoinField(path, key), v, value)
		m.SetMapIndex(reflect.ValueOf(key).Convert(out.Type().Key()), value)
	})
	out.Set(m)
}

// mapping calls f for each key once.
func (d *decoder) mapping(path string, n *yaml.Node, f func(key string, k, v *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			d.fail(path, k, "has a key that is %s; keys are words", kindName(k))
			continue
		}
		if first, ok := seen[k.Value]; ok {
			d.fail(JoinField(path, k.Value), k, "is given twice, first in line %d", first)
			continue
		}
		seen[k.Value] = k.Line
		d.lines[JoinField(path, k.Value)] = k.Line
		f(k.Value, k, v)
	}
}

func (d *decoder) list(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.fail(path, n, "must be a list, not %s", kindName(n))
		return
	}
	s := reflect.MakeSlice(out.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(index(path, i), item, s.Index(i))
	}
	out.Set(s)
}

func (d *decoder) scalar(path string, n *yaml.Node, out reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.fail(path, n, "must be %s, not %s", typeName(out), kindName(n))
		return
	}
	tag := n.ShortTag()
	if span, ok := out.Addr().Interface().(*Duration); ok {
		if tag != "!!str" || span.UnmarshalText([]byte(n.Value)) != nil {
			d.fail(path, n, "must be a time span such as 90s or 10m")
		}
		return
	}
	switch out.Kind() {
	case reflect.String:
		if tag != "!!str" {
			d.fail(path, n, "must be text, not %s; put it in quotes", kindName(n))
			return
		}
		out.SetString(n.Value)
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		if tag != "!!int" || err != nil {
			d.fail(path, n, "must be a whole number, not %s", kindName(n))
			return
		}
		out.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(n.Value, 64)
		if tag != "!!int" && tag != "!!float" || err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			d.fail(path, n, "must be a number, not %s", kindName(n))
			return
		}
		out.SetFloat(f)
	case reflect.Bool:
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if tag != "!!bool" || err != nil {
			d.fail(path, n, "must be true or false, not %s", kindName(n))
			return
		}
		out.SetBool(b)
	default:
		d.fail(path, n, "cannot be set from a file")
	}
}

// fieldsOf returns the fields of a struct by their JSON name; embedded structs
// count as if their fields were the struct's own.
func fieldsOf(v reflect.Value) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for k, inner := range fieldsOf(v.Field(i)) {
				out[k] = inner
			}
		case f.IsExported() && name != "" && name != "-":
			out[name] = v.Field(i)
		}
	}
	return out
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a truth value"
	case "!!null":
		return "empty"
	case "!!timestamp":
		return "a date"
	case "!!str":
		return "text"
	default:
		return "a value of another type"
	}
}

func typeName(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	default:
		return "text"
	}
}

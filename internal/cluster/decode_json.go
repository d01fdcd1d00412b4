package cluster

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v4"
)

// jsonNode reads JSON into the tree that a YAML parser would give. YAML parsers
// take most JSON, but not its tabs, its "\/" or its surrogate pairs.
func jsonNode(data []byte) (*yaml.Node, error) {
	r := jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.dec.UseNumber()
	return r.next()
}

type jsonReader struct {
	data []byte
	dec  *json.Decoder
	// line is that of offset; both only grow.
	line, offset int
}

// here is the line of the token that was just read.
func (r *jsonReader) here() int {
	end := int(r.dec.InputOffset())
	r.line += bytes.Count(r.data[r.offset:end], []byte("\n"))
	r.offset = end
	return r.line
}

func (r *jsonReader) next() (*yaml.Node, error) {
	tok, err := r.dec.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: r.here()}
	switch v := tok.(type) {
	case json.Delim:
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
		if v == '[' {
			n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		}
		for r.dec.More() {
			if n.Kind == yaml.MappingNode {
				key, err := r.next()
				if err != nil {
					return nil, err
				}
				n.Content = append(n.Content, key)
			}
			value, err := r.next()
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, value)
		}
		_, err := r.dec.Token() // the closing bracket
		return n, err
	case string:
		n.Tag, n.Value = "!!str", v
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if v {
			n.Value = "true"
		}
	default:
		n.Tag = "!!null"
	}
	return n, nil
}

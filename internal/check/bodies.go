package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
)

// MaxBody is the largest document that is accepted, in bytes; Kubernetes takes
// objects of up to 1.5 MiB, and a manifest may hold many.
const MaxBody = 8 << 20

// bodies checks the content of documents as far as the caller has it: digests,
// and whether a manifest is one. Nothing of a body is repeated.
func bodies(c cluster.Cluster, have map[string][]byte, p *cluster.Problems) {
	for _, s := range c.Sources() {
		body, ok := have[s.Field]
		if !ok {
			continue
		}
		if len(body) > MaxBody {
			p.Add(s.Field, "has %d bytes; the limit is %d", len(body), MaxBody)
			continue
		}
		if sum := sha256.Sum256(body); s.Source.SHA256 != "" && hex.EncodeToString(sum[:]) != s.Source.SHA256 {
			p.Add(s.Field+".sha256", "is not the digest of the document, which is %x", sum)
		}
		switch {
		case len(bytes.TrimSpace(body)) == 0:
			p.Add(s.Field, "is an empty document")
		case s.Manifest:
			manifest(s.Field, body, p)
		default:
			patch(s.Field, body, p)
		}
	}
}

// patch sees whether a config patch has the form of one; whether Talos takes it
// is seen by rendering it.
func patch(field string, body []byte, p *cluster.Problems) {
	if t := bytes.TrimSpace(body); bytes.HasPrefix(t, []byte("#cloud-config")) {
		p.Add(field, "is cloud-init user data; Talos takes strategic merge patches")
		return
	}
	docs, line, err := documents(body)
	switch {
	case err != nil:
		p.Add(field, "is not YAML%s", line)
	case len(docs) == 0:
		p.Add(field, "has no document")
	}
	for _, d := range docs {
		if d.Kind == yaml.SequenceNode {
			p.Add(field, "is a list: JSON patches cannot change configs of several documents, write a strategic merge patch")
		} else if d.Kind != yaml.MappingNode {
			p.Add(field, "is not a config patch: line %d is no mapping", d.Line)
		}
	}
}

// manifest sees whether every document is a Kubernetes object with a name.
func manifest(field string, body []byte, p *cluster.Problems) {
	docs, line, err := documents(body)
	switch {
	case err != nil:
		p.Add(field, "is not YAML%s", line)
		return
	case len(docs) == 0:
		p.Add(field, "has no object")
	}
	for _, d := range docs {
		var missing []string
		kind := textAt(d, "kind")
		for _, path := range []string{"apiVersion", "kind", "metadata.name"} {
			isList := strings.HasSuffix(kind, "List") && path == "metadata.name"
			if !isList && textAt(d, strings.Split(path, ".")...) == "" {
				missing = append(missing, path)
			}
		}
		if len(missing) > 0 {
			p.Add(field, "the document at line %d is no Kubernetes object: it lacks %s", d.Line, strings.Join(missing, ", "))
		}
	}
}

// documents parses a stream and leaves empty documents out. The error of a
// parser may quote the text, so only its line is returned.
func documents(body []byte) (docs []*yaml.Node, line string, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(body))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs, "", nil
		}
		var load *yaml.LoadError
		if errors.As(err, &load) {
			return docs, " at line " + strconv.Itoa(load.Mark.Line), err
		}
		if err != nil {
			return docs, "", err
		}
		root := &doc
		if doc.Kind == yaml.DocumentNode && len(doc.Content) > 0 {
			root = doc.Content[0]
		}
		if root.Kind != 0 && root.ShortTag() != "!!null" {
			docs = append(docs, root)
		}
	}
}

// textAt returns a text inside of nested mappings, or nothing.
func textAt(n *yaml.Node, path ...string) string {
	for _, key := range path {
		if n.Kind != yaml.MappingNode {
			return ""
		}
		var next *yaml.Node
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = n.Content[i+1]
			}
		}
		if next == nil {
			return ""
		}
		n = next
	}
	if n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

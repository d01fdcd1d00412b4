package talos

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

func digestOfBytes(t *testing.T, raw []byte) string {
	t.Helper()
	d, err := Digest(secrets.NewValue(raw))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func yamlDocuments(t *testing.T, raw []byte) []*yaml.Node {
	t.Helper()
	var out []*yaml.Node
	for dec := yaml.NewDecoder(bytes.NewReader(raw)); ; {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &doc)
	}
}

func joinDocuments(t *testing.T, docs []*yaml.Node) []byte {
	t.Helper()
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	for _, doc := range docs {
		if err := enc.Encode(doc); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// reverse turns the order of all mappings around.
func reverse(n *yaml.Node) {
	for _, c := range n.Content {
		reverse(c)
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	pairs := slices.Collect(slices.Chunk(n.Content, 2))
	slices.Reverse(pairs)
	n.Content = slices.Concat(pairs...)
}

// What a person may write differently without saying anything else.
func TestDigestIgnoresForm(t *testing.T) {
	for _, v := range versions {
		for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
			t.Run(v.contract+" "+string(role), func(t *testing.T) {
				req := testRequest(t, v, role)
				raw := mustRender(t, req).UserData.Reveal()
				want := digestOfBytes(t, raw)

				req.Gzip = true
				if got := digestOfBytes(t, mustRender(t, req).UserData.Reveal()); got != want {
					t.Error("compressed: another digest")
				}
				commented := "# a comment\n" + strings.ReplaceAll(string(raw), "\n---\n", "\n# more\n---\n")
				if got := digestOfBytes(t, []byte(commented)); got != want {
					t.Error("with comments: another digest")
				}
				docs := yamlDocuments(t, raw)
				slices.Reverse(docs)
				for _, doc := range docs {
					reverse(doc)
				}
				turned := joinDocuments(t, docs)
				if bytes.Equal(turned, raw) {
					t.Fatal("nothing was turned around")
				}
				if got := digestOfBytes(t, turned); got != want {
					t.Error("in another order: another digest")
				}
			})
		}
	}
}

// Every value counts: whichever is changed, the digest changes.
func TestDigestSeesEveryValue(t *testing.T) {
	for _, v := range versions {
		t.Run(v.contract, func(t *testing.T) {
			raw := mustRender(t, testRequest(t, v, cluster.RoleControlPlane)).UserData.Reveal()
			want := digestOfBytes(t, raw)
			docs := yamlDocuments(t, raw)
			var values []*yaml.Node
			var collect func(path string, n *yaml.Node)
			paths := map[*yaml.Node]string{}
			collect = func(path string, n *yaml.Node) {
				switch n.Kind {
				case yaml.MappingNode:
					for i := 0; i+1 < len(n.Content); i += 2 {
						collect(path+"."+n.Content[i].Value, n.Content[i+1])
					}
				case yaml.ScalarNode:
					values = append(values, n)
					paths[n] = path
				default:
					for i, c := range n.Content {
						collect(fmt.Sprintf("%s[%d]", path, i), c)
					}
				}
			}
			for i, doc := range docs {
				collect(fmt.Sprint(i), doc)
			}
			var fixed []string
			for _, n := range values {
				old, changed := *n, false
				for _, other := range otherValues(&old) {
					n.Value = other
					got, err := Digest(secrets.NewValue(joinDocuments(t, docs)))
					if err != nil {
						continue // no config any more
					}
					changed = true
					if got == want {
						t.Errorf("%s: changed without another digest", paths[n])
					}
					break
				}
				*n = old
				if !changed && !strings.HasSuffix(paths[n], "apiVersion") && !strings.HasSuffix(paths[n], "kind") {
					fixed = append(fixed, paths[n])
				}
			}
			// Prefixes and words of a few must be right to be read at all.
			if len(fixed) > 16 {
				t.Errorf("%d of %d values could not be changed: %s", len(fixed), len(values), strings.Join(fixed, " "))
			}
		})
	}
}

// otherValues are values that may stand where n stands.
func otherValues(n *yaml.Node) []string {
	switch n.Value {
	case "true":
		return []string{"false"}
	case "false":
		return []string{"true"}
	}
	out := []string{n.Value + "x", n.Value + "1"}
	if len(n.Value) > 1 { // keys in base64 stay such
		out = append(out, string(n.Value[0]+1)+n.Value[1:])
	}
	return out
}

func TestDigestOfNoConfig(t *testing.T) {
	for _, raw := range []string{"", "machine:\n  token: [" + canary + "\n", "apiVersion: v1alpha1\nkind: NoSuchKind\nvalue: " + canary, "machine:\n  tokken: " + canary, "\x1f\x8bnope"} {
		_, err := Digest(secrets.NewValue([]byte(raw)))
		if fault.KindOf(err) != fault.Internal || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

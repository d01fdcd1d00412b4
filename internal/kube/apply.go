package kube

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	yamlutil "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/ichor-project/ichor/internal/fault"
)

// Decode splits a manifest into its objects; lists are taken apart, empty
// documents left out. The name is for messages. Error: Invalid naming document
// and field, never content.
func Decode(name string, manifest []byte) ([]*unstructured.Unstructured, error) {
	op := "read manifest " + name
	var out []*unstructured.Unstructured
	reader := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	for i := 1; ; i++ {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fault.New(fault.Invalid, op, "document %d cannot be read", i)
		}
		var content map[string]any
		if err := yaml.Unmarshal(doc, &content); err != nil {
			return nil, fault.New(fault.Invalid, op, "document %d is not a YAML mapping%s", i, lineOf(err))
		}
		if len(content) == 0 {
			continue
		}
		objects, err := flatten(content)
		if err != nil {
			return nil, fault.New(fault.Invalid, op, "document %d %s", i, err)
		}
		out = append(out, objects...)
	}
}

// flatten returns the object, or the objects of a list.
func flatten(content map[string]any) ([]*unstructured.Unstructured, error) {
	obj := &unstructured.Unstructured{Object: content}
	if items, ok := content["items"].([]any); ok && strings.HasSuffix(obj.GetKind(), "List") {
		var out []*unstructured.Unstructured
		for i, item := range items {
			m, ok := item.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("has no object at items[%d]", i)
			}
			inner, err := flatten(m)
			if err != nil {
				return nil, fmt.Errorf("items[%d] %w", i, err)
			}
			out = append(out, inner...)
		}
		return out, nil
	}
	for field, value := range map[string]string{"apiVersion": obj.GetAPIVersion(), "kind": obj.GetKind()} {
		if value == "" {
			return nil, fmt.Errorf("lacks %s", field)
		}
	}
	if obj.GetName() == "" {
		return nil, fmt.Errorf("(%s) lacks metadata.name", obj.GetKind())
	}
	return []*unstructured.Unstructured{obj}, nil
}

// lineOf keeps the place of a YAML error and drops what was found there.
func lineOf(err error) string {
	_, rest, ok := strings.Cut(err.Error(), "line ")
	if !ok {
		return ""
	}
	line := strings.TrimRight(strings.SplitN(rest, " ", 2)[0], ":,")
	if line == "" || strings.Trim(line, "0123456789") != "" {
		return ""
	}
	return " (line " + line + ")"
}

// rank orders objects: what others need to exist comes first, the rest stays in
// the order of the manifest.
func rank(obj *unstructured.Unstructured) int {
	switch gk := obj.GroupVersionKind().GroupKind(); {
	case gk.Group == "" && gk.Kind == "Namespace":
		return 0
	case gk.Group == "apiextensions.k8s.io" && gk.Kind == "CustomResourceDefinition":
		return 1
	default:
		return 2
	}
}

// Apply sends a manifest by server-side apply and takes over the fields that it
// sets. Objects whose kind the API does not serve yet, or whose namespace is
// missing, do not stop the others; the error is NotYet then and names them.
// Repeating ends in the same state.
func (c *Client) Apply(ctx context.Context, name string, manifest []byte) error {
	objects, err := Decode(name, manifest)
	if err != nil {
		return err
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	var waiting []string
	for _, obj := range objects {
		err := c.applyObject(ctx, name, obj)
		switch {
		case err == nil:
		case fault.Is(err, fault.NotYet):
			waiting = append(waiting, err.Error())
		default:
			return err
		}
	}
	if len(waiting) > 0 {
		return fault.New(fault.NotYet, "apply manifest "+name, "%d of %d objects wait: %s", len(waiting), len(objects), strings.Join(waiting, "; "))
	}
	return nil
}

func (c *Client) applyObject(ctx context.Context, manifest string, obj *unstructured.Unstructured) error {
	op := fmt.Sprintf("apply %s of manifest %s", describe(obj.GetKind(), obj.GetNamespace(), obj.GetName()), manifest)
	resource, err := c.resource(obj)
	if err != nil {
		return apiError(op, err)
	}
	_, err = resource.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	err = apiError(op, err)
	if fault.Is(err, fault.NotFound) {
		// An apply creates what is missing, so it is the namespace or, right
		// after its definition, the kind that is not there.
		return &fault.Error{Kind: fault.NotYet, Op: op, Message: "its namespace or kind does not exist yet", Err: err}
	}
	return err
}

// resource finds where objects of a kind live. What the API serves is asked
// again when the kind is not known: its definition may be new.
func (c *Client) resource(obj *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := obj.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(mapping.Resource), nil
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return c.dynamic.Resource(mapping.Resource).Namespace(namespace), nil
}

package kube

import (
	"cmp"
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// Where Talos since 1.13 keeps the list of what it has applied, and how it marks
// objects as part of it (machinery's constants, cli-utils' annotation).
const (
	inventoryNamespace  = metav1.NamespaceSystem
	inventoryName       = "talos-bootstrap-manifests-inventory"
	inventoryAnnotation = "config.k8s.io/owning-inventory"
)

// objectKey is how the inventory names objects: without their version.
type objectKey struct{ group, kind, namespace, name string }

func (k objectKey) String() string { return describe(k.kind, k.namespace, k.name) }

func keyOf(obj *unstructured.Unstructured) objectKey {
	gvk := obj.GroupVersionKind()
	return objectKey{gvk.Group, gvk.Kind, obj.GetNamespace(), obj.GetName()}
}

// inventory is what Talos has applied once. Releases before 1.13 keep none, which
// is empty.
func (c *Client) inventory(ctx context.Context) (map[objectKey]bool, error) {
	cm, err := c.core.ConfigMaps(inventoryNamespace).Get(ctx, inventoryName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, apiError("read the inventory of bootstrap manifests", err)
	}
	out := make(map[objectKey]bool, len(cm.Data))
	for entry := range cm.Data {
		if key, ok := parseKey(entry); ok {
			out[key] = true
		}
	}
	return out, nil
}

// parseKey reads "namespace_name_group_kind"; no part holds an underscore, but
// names of roles have "__" for a colon.
func parseKey(entry string) (objectKey, bool) {
	namespace, rest, ok := strings.Cut(entry, "_")
	if !ok {
		return objectKey{}, false
	}
	rest, kind, ok := cutLast(rest)
	if !ok {
		return objectKey{}, false
	}
	name, group, ok := cutLast(rest)
	return objectKey{group, kind, namespace, strings.ReplaceAll(name, "__", ":")}, ok && name != "" && kind != ""
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '_')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// left are the objects that the inventory names, that exist and that are not
// rendered any more, sorted.
func (c *Client) left(ctx context.Context, inventory map[objectKey]bool, rendered []*unstructured.Unstructured) ([]ObjectChange, error) {
	gone := make(map[objectKey]bool, len(inventory))
	for key := range inventory {
		gone[key] = true
	}
	for _, obj := range rendered {
		key := keyOf(obj)
		delete(gone, key)
		if key.namespace == "" { // its kind is not served, so nobody knows where it belongs
			delete(gone, objectKey{key.group, key.kind, metav1.NamespaceDefault, key.name})
		}
	}
	var out []ObjectChange
	for key := range gone {
		live, err := c.find(ctx, key)
		if err != nil {
			return nil, err
		}
		if live != nil {
			out = append(out, ObjectChange{APIVersion: live.GetAPIVersion(), Kind: key.kind, Namespace: key.namespace, Name: key.name, Change: Left})
		}
	}
	slices.SortFunc(out, func(a, b ObjectChange) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, nil
}

// find reads an object in whatever version the API serves; nil when there is none.
func (c *Client) find(ctx context.Context, key objectKey) (*unstructured.Unstructured, error) {
	op := "read " + key.String()
	mapping, err := c.mapper.RESTMapping(schema.GroupKind{Group: key.group, Kind: key.kind})
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, apiError(op, err)
	}
	var resource dynamic.ResourceInterface = c.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = c.dynamic.Resource(mapping.Resource).Namespace(key.namespace)
	}
	live, err := resource.Get(ctx, key.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return live, apiError(op, err)
}

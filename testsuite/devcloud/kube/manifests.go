package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// How Talos since 1.13 marks and lists what it has applied.
const (
	talosManager        = "talos"
	inventoryName       = "talos-bootstrap-manifests-inventory"
	inventoryAnnotation = "config.k8s.io/owning-inventory"
)

// applyManifests makes the objects that the first control plane renders, unless
// they exist, and lists them, as a node does. What changes later is left alone.
func (b *backend) applyManifests(ctx context.Context) error {
	if len(b.spec.Manifests) == 0 {
		return nil
	}
	inventory := map[string]string{}
	for _, object := range b.spec.Manifests {
		key, err := b.applyManifest(ctx, object)
		if err != nil {
			return err
		}
		inventory[key] = ""
	}
	_, err := b.clients.CoreV1().ConfigMaps(metav1.NamespaceSystem).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: inventoryName}, Data: inventory,
	}, metav1.CreateOptions{FieldManager: talosManager})
	return orExists("inventory", err)
}

// applyManifest makes one object and returns how the inventory names it.
func (b *backend) applyManifest(ctx context.Context, object map[string]any) (string, error) {
	// A copy: the object is the node's.
	body, err := json.Marshal(object)
	if err != nil {
		return "", err
	}
	var o metav1.PartialObjectMetadata
	if err := json.Unmarshal(body, &o); err != nil {
		return "", err
	}
	group := o.GroupVersionKind().Group
	key := strings.Join([]string{o.Namespace, strings.ReplaceAll(o.Name, ":", "__"), group, o.Kind}, "_")
	path := []string{"/apis", o.APIVersion}
	if group == "" {
		path[0] = "/api"
	}
	if o.Namespace != "" {
		path = append(path, "namespaces", o.Namespace)
	}
	at := strings.Join(append(path, strings.ToLower(o.Kind)+"s", o.Name), "/")
	api := b.clients.CoreV1().RESTClient()
	err = api.Get().AbsPath(at).Do(ctx).Error()
	if !apierrors.IsNotFound(err) {
		return key, orNil(at, err)
	}
	var all map[string]any
	if err := json.Unmarshal(body, &all); err != nil {
		return "", err
	}
	meta, _ := all["metadata"].(map[string]any)
	meta["annotations"] = map[string]any{inventoryAnnotation: inventoryName}
	if body, err = json.Marshal(all); err != nil {
		return "", err
	}
	return key, orNil(at, apply(ctx, api, at, body))
}

func apply(ctx context.Context, api rest.Interface, at string, body []byte) error {
	return api.Patch(types.ApplyPatchType).AbsPath(at).Param("fieldManager", talosManager).Body(body).Do(ctx).Error()
}

func orNil(what string, err error) error {
	if err != nil {
		return fmt.Errorf("apply %s: %w", what, err)
	}
	return nil
}

package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/ichor-project/ichor/internal/fault"
)

// BootstrapManager owns the fields of what Talos renders. It is Talos' own name
// (machinery's constants.KubernetesFieldManagerName), which nodes and talosctl
// use, and not FieldManager: only the owner of a field takes it away when a
// rendering drops it, and what the spec's manifests set of such an object is not
// taken back by them.
const BootstrapManager = "talos"

// talosManagers may lose fields to a new rendering. Nodes and talosctl since 1.13
// apply as BootstrapManager; talosctl before that updated as itself.
var talosManagers = []string{BootstrapManager, "talosctl"}

// More kinds of changes, of bootstrap manifests only.
const (
	// Absent is an object that was applied once and that somebody has deleted
	// since. It stays away, as Talos leaves it.
	Absent Change = "absent"
	// Foreign is an object that another tool's inventory claims. It is left alone.
	Foreign Change = "foreign"
	// Left is an object that was applied once and is not rendered any more. It
	// stays.
	Left Change = "left"
)

// BootstrapOptions say how bootstrap manifests are applied.
type BootstrapOptions struct {
	// DryRun has the API server pretend only.
	DryRun bool
	// Images are the images of containers that shall be applied instead of the
	// rendered ones, by repository: "registry.k8s.io/kube-proxy" to
	// "registry.k8s.io/kube-proxy:v1.37.0".
	Images map[string]string
}

// Bootstrap applies what a control plane renders, by server-side apply as
// BootstrapManager, and returns what that does to each object, in the order in
// which it is done: first what others need, workloads last. What does not change
// is not written. Nothing is ever deleted: what is in the inventory and not in the
// manifest is reported as Left.
//
// Fields that Talos set before are overwritten. Fields that somebody else set to
// another value are kept, and named in the result.
//
// Repeating ends in the same state. An object that is refused does not stop the
// others; the error names all such: Invalid, Conflict, or NotYet when a kind or a
// namespace does not exist yet.
func (c *Client) Bootstrap(ctx context.Context, manifest []byte, opts BootstrapOptions) ([]ObjectChange, error) {
	objects, err := Decode("rendered by Talos", manifest)
	if err != nil {
		return nil, err
	}
	inventory, err := c.inventory(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return bootstrapRank(a) - bootstrapRank(b) })
	out := make([]ObjectChange, 0, len(objects))
	var refused []error
	for _, obj := range objects {
		useImages(obj.Object, opts.Images)
		change, err := c.bootstrapObject(ctx, obj, inventory, opts.DryRun)
		switch {
		case err == nil:
			out = append(out, change)
		case fault.Is(err, fault.Invalid, fault.Conflict, fault.NotYet):
			refused = append(refused, err)
		default:
			return out, err
		}
	}
	left, err := c.left(ctx, inventory, objects)
	if err != nil {
		return out, err
	}
	return append(out, left...), joinRefused(refused, len(objects))
}

// joinRefused is one error for all objects that were refused; the first that
// waiting does not help decides about its kind.
func joinRefused(refused []error, all int) error {
	if len(refused) == 0 {
		return nil
	}
	kind := fault.NotYet
	var texts []string
	for _, err := range refused {
		if kind == fault.NotYet {
			kind = fault.KindOf(err)
		}
		texts = append(texts, err.Error())
	}
	return fault.New(kind, "apply bootstrap manifests", "%d of %d objects: %s", len(refused), all, strings.Join(texts, "; "))
}

// bootstrapRank puts workloads behind the ConfigMaps and Secrets that they read.
func bootstrapRank(obj *unstructured.Unstructured) int {
	if r := rank(obj); r < 2 || obj.GroupVersionKind().Group != appsv1.GroupName {
		return r
	}
	return 3
}

// bootstrapObject applies one object, or pretends to.
func (c *Client) bootstrapObject(ctx context.Context, obj *unstructured.Unstructured, inventory map[objectKey]bool, dry bool) (ObjectChange, error) {
	out := ObjectChange{APIVersion: obj.GetAPIVersion(), Kind: obj.GetKind(), Namespace: obj.GetNamespace(), Name: obj.GetName()}
	op := "apply " + describe(out.Kind, out.Namespace, out.Name)
	resource, err := c.resource(obj)
	switch {
	case dry && meta.IsNoMatchError(err):
		out.Change = Created
		return out, nil
	case err != nil:
		return out, apiError(op, err)
	}
	if err := c.placed(obj); err != nil {
		return out, apiError(op, err)
	}
	out.Namespace = obj.GetNamespace()
	live, err := resource.Get(ctx, obj.GetName(), metav1.GetOptions{})
	owner := ""
	if err == nil {
		owner = live.GetAnnotations()[inventoryAnnotation]
	}
	switch {
	case apierrors.IsNotFound(err) && inventory[keyOf(obj)]:
		out.Change = Absent
		return out, nil
	case err != nil && !apierrors.IsNotFound(err):
		return out, apiError(op, err)
	case owner != "" && owner != inventoryName:
		out.Change = Foreign
		return out, nil
	case owner != "" || err != nil && len(inventory) > 0: // it would be taken away, or it is missing
		obj.SetAnnotations(with(obj.GetAnnotations(), inventoryAnnotation, inventoryName))
	}
	live, then, kept, err := negotiate(ctx, resource, obj)
	switch {
	case dry && live == nil && apierrors.IsNotFound(err): // its namespace is to be made first
		out.Change = Created
		return out, nil
	case err != nil:
		return out, asNotYet(apiError(op, err), op)
	}
	compareObjects(&out, live, then, obj)
	out.Kept = kept
	if dry || out.Change == Unchanged {
		return out, nil
	}
	_, err = resource.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{FieldManager: BootstrapManager, Force: true})
	return out, asNotYet(apiError(op, err), op)
}

// placed puts an object where its kind belongs: manifests may name a namespace for
// what has none, and none for what has one.
func (c *Client) placed(obj *unstructured.Unstructured) error {
	gvk := obj.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	switch {
	case err != nil:
		return err
	case mapping.Scope.Name() != meta.RESTScopeNameNamespace:
		obj.SetNamespace("")
	case obj.GetNamespace() == "":
		obj.SetNamespace(metav1.NamespaceDefault)
	}
	return nil
}

// asNotYet: an apply creates what is missing, so it is the namespace or, right
// after its definition, the kind that is not found.
func asNotYet(err error, op string) error {
	if fault.Is(err, fault.NotFound) {
		return &fault.Error{Kind: fault.NotYet, Op: op, Message: "its namespace or kind does not exist yet", Err: err}
	}
	return err
}

// negotiate finds out what an apply does, as pretend does, and takes those fields
// out of the object that others than Talos have set to other values. They are
// returned with who set them.
func negotiate(ctx context.Context, resource dynamic.ResourceInterface, obj *unstructured.Unstructured) (live, then *unstructured.Unstructured, kept []string, err error) {
	for range diffAttempts {
		live, then, err = pretendAs(ctx, resource, obj, BootstrapManager, false)
		others := managersOf(err)
		if live == nil || len(others) == 0 {
			break
		}
		others = slices.DeleteFunc(others, func(m string) bool { return slices.Contains(talosManagers, m) })
		if len(others) == 0 {
			live, then, err = pretendAs(ctx, resource, obj, BootstrapManager, true)
			break
		}
		found := yieldTo(others, live, obj)
		if len(found) == 0 {
			break // the conflict stands: nothing is taken by force
		}
		kept = append(kept, found...)
	}
	slices.Sort(kept)
	return live, then, slices.Compact(kept), err
}

// managersOf are those whose fields an apply would take, sorted; none when err is
// something else.
func managersOf(err error) []string {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var out []string
	for _, cause := range status.Status().Details.Causes {
		if cause.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		// conflict with "kubectl-edit" using apps/v1: …
		if _, rest, ok := strings.Cut(cause.Message, `"`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// useImages replaces the images of containers by their repositories.
func useImages(value any, images map[string]string) {
	if len(images) == 0 {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		for _, list := range []string{"containers", "initContainers"} {
			containers, ok := v[list].([]any)
			if !ok {
				continue
			}
			for _, item := range containers {
				if m, ok := item.(map[string]any); ok {
					if next, ok := images[repository(fmt.Sprint(m["image"]))]; ok {
						m["image"] = next
					}
				}
			}
		}
		for _, inner := range v {
			useImages(inner, images)
		}
	case []any:
		for _, inner := range v {
			useImages(inner, images)
		}
	}
}

// repository is an image without tag and digest.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i >= 0 && !strings.Contains(image[i:], "/") {
		return image[:i]
	}
	return image
}

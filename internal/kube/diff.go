package kube

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/ichor-project/ichor/internal/fault"
)

// Change is what applying an object does.
type Change string

// Kinds of changes.
const (
	Created   Change = "created"
	Changed   Change = "changed"
	Unchanged Change = "unchanged"
)

// ObjectChange is what applying a manifest does to one object.
type ObjectChange struct {
	APIVersion string
	Kind       string
	Namespace  string
	Name       string
	Change     Change
	// Fields are the paths of what changes, sorted, such as
	// "spec.template.spec.containers[name=kube-proxy].image: …:v1.35.2 -> …:v1.36.3".
	// Values are shown of images only: any other may be a secret.
	Fields []string
	// Kept are the paths that are not changed because somebody else has set them,
	// with who, sorted; of bootstrap manifests only.
	Kept []string
}

// DiffManifests says what Apply of the same manifest does, in the order in which
// it does it, by a server-side apply that the API server only pretends (dry run).
// Nothing changes. Objects that are in the cluster and not in the manifest do not
// occur, since Apply leaves them alone. Objects whose namespace or kind does not
// exist yet are Created. Errors: Invalid as of Decode and when the API would
// refuse an object.
func (c *Client) DiffManifests(ctx context.Context, name string, manifest []byte) ([]ObjectChange, error) {
	objects, err := Decode(name, manifest)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	out := make([]ObjectChange, 0, len(objects))
	for _, obj := range objects {
		change, err := c.diffObject(ctx, name, obj)
		if err != nil {
			return nil, err
		}
		out = append(out, change)
	}
	return out, nil
}

func (c *Client) diffObject(ctx context.Context, manifest string, obj *unstructured.Unstructured) (ObjectChange, error) {
	op := fmt.Sprintf("compare %s of manifest %s", describe(obj.GetKind(), obj.GetNamespace(), obj.GetName()), manifest)
	out := ObjectChange{
		APIVersion: obj.GetAPIVersion(), Kind: obj.GetKind(), Namespace: obj.GetNamespace(), Name: obj.GetName(), Change: Created,
	}
	resource, err := c.resource(obj)
	if meta.IsNoMatchError(err) {
		return out, nil
	}
	if err != nil {
		return out, apiError(op, err)
	}
	live, then, err := pretendAs(ctx, resource, obj, FieldManager, true)
	if err := apiError(op, err); err != nil {
		if live == nil && fault.Is(err, fault.NotFound) { // its namespace is to be made first
			return out, nil
		}
		return out, err
	}
	out.Namespace = then.GetNamespace()
	compareObjects(&out, live, then, obj)
	return out, nil
}

// compareObjects fills in what becomes of an object, by what is there, if it is,
// and what would be there after an apply.
func compareObjects(out *ObjectChange, live, then, obj *unstructured.Unstructured) {
	if live == nil {
		out.Change = Created
		return
	}
	if _, given := obj.Object["status"]; !given { // controllers write it meanwhile
		delete(live.Object, "status")
		delete(then.Object, "status")
	}
	withoutBookkeeping(live)
	withoutBookkeeping(then)
	compare("", live.Object, then.Object, obj.GetKind() != "Secret", &out.Fields)
	out.Change = Unchanged
	if len(out.Fields) > 0 {
		out.Change = Changed
		slices.Sort(out.Fields)
	}
}

// diffAttempts is how often an object is compared that somebody changes between
// the two calls that it takes.
const diffAttempts = 5

// pretendAs returns an object as it is, nil when it does not exist, and as it would
// be after an apply by a manager. A dry run keeps the version of what it is based
// on, so both are of the same moment.
func pretendAs(ctx context.Context, resource dynamic.ResourceInterface, obj *unstructured.Unstructured, manager string, force bool) (live, then *unstructured.Unstructured, err error) {
	for range diffAttempts {
		live, err = resource.Get(ctx, obj.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			live, err = nil, nil
		}
		if err != nil {
			return nil, nil, err
		}
		then, err = resource.Apply(ctx, obj.GetName(), obj, metav1.ApplyOptions{
			FieldManager: manager, Force: force, DryRun: []string{metav1.DryRunAll},
		})
		if err != nil || live == nil || live.GetResourceVersion() == then.GetResourceVersion() {
			break
		}
	}
	return live, then, err
}

// withoutBookkeeping drops what the API server writes by itself.
func withoutBookkeeping(obj *unstructured.Unstructured) {
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"} {
		unstructured.RemoveNestedField(obj.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(obj.Object, "metadata", "annotations", appsv1.DeprecatedTemplateGeneration)
}

// containerImage matches the paths of containers' images; a key "image" of a
// ConfigMap may hold anything.
var containerImage = regexp.MustCompile(`[cC]ontainers\[[^\]]*\]\.image$`)

// compare appends the paths at which two values differ. With images, the values
// of images are shown.
func compare(path string, before, after any, images bool, out *[]string) {
	if equality.Semantic.DeepEqual(before, after) {
		return
	}
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			keys := maps.Clone(b)
			maps.Copy(keys, a)
			for key := range keys {
				compare(join(path, key), b[key], a[key], images, out)
			}
			return
		}
	case []any:
		if a, ok := after.([]any); ok {
			compareLists(path, b, a, images, out)
			return
		}
	}
	was, isText := before.(string)
	becomes, both := after.(string)
	if images && isText && both && containerImage.MatchString(path) {
		path += ": " + was + " -> " + becomes
	}
	*out = append(*out, path)
}

// compareLists compares lists by the names of their elements when all have one,
// as containers and variables do, otherwise by place.
func compareLists(path string, before, after []any, images bool, out *[]string) {
	b, named := byName(before)
	a, alsoNamed := byName(after)
	if !named || !alsoNamed {
		for i := range max(len(before), len(after)) {
			compare(fmt.Sprintf("%s[%d]", path, i), at(before, i), at(after, i), images, out)
		}
		return
	}
	keys := maps.Clone(b)
	maps.Copy(keys, a)
	found := len(*out)
	for key := range keys {
		compare(fmt.Sprintf("%s[name=%s]", path, key), b[key], a[key], images, out)
	}
	if len(*out) == found { // the same elements in another order
		*out = append(*out, path)
	}
}

func byName(list []any) (map[string]any, bool) {
	out := make(map[string]any, len(list))
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return nil, false
		}
		name, ok := m["name"].(string)
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = item
	}
	return out, true
}

func at(list []any, i int) any {
	if i < len(list) {
		return list[i]
	}
	return nil
}

// join appends a key to a path; keys with dots, such as names of annotations,
// are put in brackets.
func join(path, key string) string {
	switch {
	case strings.ContainsAny(key, "./[]"):
		return path + "[" + key + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

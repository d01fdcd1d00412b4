package deploy

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// cluster is an API server with the definitions that the chart's objects need.
type cluster struct {
	dynamic  dynamic.Interface
	client   kubernetes.Interface
	mapper   *restmapper.DeferredDiscoveryRESTMapper
	warnings *warnings
}

// warnings are what the server says about objects that it admits all the same:
// unknown fields, old versions, a Pod that breaks the standard of its namespace.
type warnings struct {
	mu   sync.Mutex
	said []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := w.said
	w.said = nil
	return said
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	config := startAPIServer(t)
	c := &cluster{warnings: &warnings{}}
	config.WarningHandler = c.warnings
	var err error
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	c.mapper = newMapper(t, config)
	for _, file := range definitions(t) {
		c.define(t, file)
	}
	c.mapper.Reset()
	for _, name := range []string{namespace, "tenants"} {
		// The strictest of the Pod Security Standards.
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted",
		}}}
		if _, err := c.client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func newMapper(t *testing.T, config *rest.Config) *restmapper.DeferredDiscoveryRESTMapper {
	t.Helper()
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(d))
}

// definitions are the published CRDs of the kinds that are not Kubernetes' own.
func definitions(t *testing.T) []string {
	t.Helper()
	return []string{
		filepath.Join(moduleDir(t, "github.com/cert-manager/cert-manager"), "deploy/crds/cert-manager.io_certificates.yaml"),
		filepath.Join(moduleDir(t, "github.com/cert-manager/cert-manager"), "deploy/crds/cert-manager.io_issuers.yaml"),
		filepath.Join(moduleDir(t, "github.com/prometheus-operator/prometheus-operator"), "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"),
	}
}

// moduleDir is where the module cache keeps a module of tools/crds.
func moduleDir(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", path)
	cmd.Dir = filepath.Join(root(t), "tools/crds")
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOWORK=off")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod download %s: %v\n%s", path, err, out)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	return module.Dir
}

// define installs a CRD and waits until the server serves it.
func (c *cluster) define(t *testing.T, file string) {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, crd := range decode(t, string(body)) {
		if _, err := c.apply(t.Context(), crd, nil); err != nil {
			t.Fatalf("%s: %v", crd.GetName(), err)
		}
		err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
			now, err := c.resource(crd).Get(ctx, crd.GetName(), metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			// Until there is one the list is null, which NestedSlice does not take.
			conditions, _, err := unstructured.NestedFieldNoCopy(now.Object, "status", "conditions")
			list, _ := conditions.([]any)
			for _, condition := range list {
				if m, ok := condition.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
					return true, nil
				}
			}
			return false, err
		})
		if err != nil {
			t.Fatalf("%s is not served: %v", crd.GetName(), err)
		}
	}
}

// resource is the collection of an object's kind, in its namespace if it has one.
func (c *cluster) resource(o *unstructured.Unstructured) dynamic.ResourceInterface {
	gvk := o.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return unknown{err: err}
	}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		return c.dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	return c.dynamic.Resource(mapping.Resource)
}

// unknown answers for kinds that the server does not have.
type unknown struct {
	dynamic.ResourceInterface
	err error
}

func (u unknown) Patch(context.Context, string, types.PatchType, []byte, metav1.PatchOptions, ...string) (*unstructured.Unstructured, error) {
	return nil, u.err
}

// apply sends an object as kubectl apply --server-side does. Unknown fields and
// fields that are given twice are errors.
func (c *cluster) apply(ctx context.Context, o *unstructured.Unstructured, dryRun []string) (*unstructured.Unstructured, error) {
	body, err := o.MarshalJSON()
	if err != nil {
		return nil, err
	}
	return c.resource(o).Patch(ctx, o.GetName(), types.ApplyPatchType, body, metav1.PatchOptions{
		FieldManager: "helm", FieldValidation: metav1.FieldValidationStrict, DryRun: dryRun,
	})
}

// TestAdmitted has a real API server judge everything that the chart renders of
// each values file: server-side dry-run with strict fields, and the Pods of its
// Deployments under the restricted Pod Security Standard.
func TestAdmitted(t *testing.T) {
	c := newCluster(t)
	c.warnings.take()
	for _, file := range cases(t) {
		t.Run(caseName(file), func(t *testing.T) {
			objects := render(t, "--values", file)
			for _, o := range objects {
				name := o.GetKind() + " " + o.GetName()
				if _, err := c.apply(t.Context(), o, []string{metav1.DryRunAll}); err != nil {
					t.Errorf("%s is refused: %v", name, err)
				}
				if said := c.warnings.take(); len(said) > 0 {
					t.Errorf("%s is admitted with warnings: %s", name, strings.Join(said, "; "))
				}
			}
			for _, o := range of(objects, "ServiceAccount") {
				if _, err := c.apply(t.Context(), o, nil); err != nil {
					t.Fatal(err)
				}
			}
			if deployments := of(objects, "Deployment"); len(deployments) == 0 {
				t.Error("no Deployment was rendered")
			}
			for _, o := range of(objects, "Deployment") {
				d := typed[appsv1.Deployment](t, o)
				// This cluster has no controller that would make priority classes.
				d.Spec.Template.Spec.PriorityClassName = ""
				pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
				pod.Name = d.Name
				if _, err := c.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
					t.Errorf("Pod of %s is refused: %v", d.Name, err)
				}
				if said := c.warnings.take(); len(said) > 0 {
					t.Errorf("Pod of %s is admitted with warnings: %s", d.Name, strings.Join(said, "; "))
				}
			}
		})
	}
	t.Run("a judge who objects", func(t *testing.T) { c.objects(t) })
}

// objects proves that the judge is not asleep: the same chart with one thing
// spoiled is refused.
func (c *cluster) objects(t *testing.T) {
	file := filepath.Join(root(t), chart, "ci", "full-values.yaml")
	for _, o := range render(t, "--values", file) {
		switch o.GetKind() {
		case "Deployment", "Certificate", "ServiceMonitor", "NetworkPolicy":
		default:
			continue
		}
		if err := unstructured.SetNestedField(o.Object, "x", "spec", "noSuchField"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.apply(t.Context(), o, []string{metav1.DryRunAll}); err == nil {
			t.Errorf("%s %s with an unknown field is admitted", o.GetKind(), o.GetName())
		}
	}
	for _, o := range of(render(t, "--values", file), "Deployment") {
		d := typed[appsv1.Deployment](t, o)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: d.Name}, Spec: d.Spec.Template.Spec}
		pod.Spec.PriorityClassName = ""
		pod.Spec.SecurityContext.RunAsNonRoot = nil
		_, err := c.client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "restricted") {
			t.Errorf("Pod of %s as root: %v", d.Name, err)
		}
	}
}

package kube_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/kube"
)

const bootCanary = "s3cr3t-b00t"

// render is what a control plane renders, small: with a version, and without some
// of it.
func render(version string, without ...string) []byte {
	env := ""
	if version == "v1" {
		env = "env: [{name: GONE, value: soon}],"
	}
	objects := map[string]string{
		"dns": fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: boot-dns, namespace: kube-system, labels: {k8s-app: boot-dns}}
spec:
  replicas: 2
  selector: {matchLabels: {k8s-app: boot-dns}}
  template:
    metadata: {labels: {k8s-app: boot-dns}}
    spec:
      containers: [{name: dns, image: "registry:5000/dns:%s", args: [-conf, "%s"], %s ports: [{containerPort: 53, protocol: UDP}, {containerPort: 9153}], resources: {requests: {cpu: 100m}}}]
`, version, version, env),
		"proxy": fmt.Sprintf(`apiVersion: apps/v1
kind: DaemonSet
metadata: {name: boot-proxy, namespace: kube-system}
spec:
  selector: {matchLabels: {k8s-app: boot-proxy}}
  template:
    metadata: {labels: {k8s-app: boot-proxy}}
    spec: {containers: [{name: kube-proxy, image: "registry.k8s.io/kube-proxy:%s"}]}
`, version),
		"config": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: boot-config, namespace: kube-system}\ndata: {Corefile: " + version + "}\n",
		"old":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: boot-old, namespace: kube-system}\ndata: {a: b}\n",
		"role":   "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: 'system:boot', namespace: kube-system}\nrules: [{apiGroups: [''], resources: [pods], verbs: [list]}]\n",
		"other":  "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: boot-other, namespace: kube-system}\n",
		"token":  "apiVersion: v1\nkind: Secret\nmetadata: {name: boot-token, namespace: kube-system}\nstringData: {token: " + bootCanary + version + "}\n",
	}
	for _, name := range without {
		delete(objects, name)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		out = append(out, objects[name])
	}
	return []byte(strings.Join(out, "---\n"))
}

// lines shows changes, one each, and looks for the canary.
func lines(t *testing.T, changes []kube.ObjectChange) []string {
	t.Helper()
	var out []string
	for _, o := range changes {
		text := fmt.Sprintf("%s %s %s", o.Kind, strings.TrimPrefix(o.Namespace+"/"+o.Name, "/"), o.Change)
		for _, f := range o.Fields {
			text += "; " + f
		}
		for _, f := range o.Kept {
			text += "; kept " + f
		}
		if strings.Contains(text, bootCanary) {
			t.Errorf("a secret is shown: %s", text)
		}
		out = append(out, text)
	}
	return out
}

// talosManifests: what Talos renders is applied, what others have set is kept, and
// nothing is pruned.
func talosManifests(t *testing.T, c *kube.Client, judge kubernetes.Interface) {
	ctx := t.Context()
	system := judge.CoreV1().ConfigMaps("kube-system")
	boot := func(manifest []byte, opts kube.BootstrapOptions) []string {
		t.Helper()
		changes, err := c.Bootstrap(ctx, manifest, opts)
		if err != nil {
			t.Fatal(err)
		}
		return lines(t, changes)
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	created := []string{
		"ConfigMap kube-system/boot-config created", "ConfigMap kube-system/boot-old created", "ServiceAccount kube-system/boot-other created",
		"ClusterRole system:boot created", "Secret kube-system/boot-token created",
		"Deployment kube-system/boot-dns created", "DaemonSet kube-system/boot-proxy created",
	}
	check("before", boot(render("v1"), kube.BootstrapOptions{DryRun: true}), created...)
	if _, err := system.Get(ctx, "boot-config", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("a dry run made something: %v", err)
	}
	check("first", boot(render("v1"), kube.BootstrapOptions{}), created...)
	check("again", boot(render("v1"), kube.BootstrapOptions{}), unchanged(created)...)

	// The node's own list of what it has applied, as Talos 1.13 keeps it.
	inventory := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "talos-bootstrap-manifests-inventory"}, Data: map[string]string{}}
	for _, entry := range []string{
		"kube-system_boot-dns_apps_Deployment", "kube-system_boot-proxy_apps_DaemonSet", "kube-system_boot-config__ConfigMap", "kube-system_boot-old__ConfigMap",
		"kube-system_boot-other__ServiceAccount", "kube-system_boot-token__Secret", "_system__boot_rbac.authorization.k8s.io_ClusterRole",
		"kube-system_boot-long-gone__ConfigMap", "kube-system_boot-kind_unknown.example.com_Thing",
	} {
		inventory.Data[entry] = ""
	}
	if _, err := system.Create(ctx, inventory, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	// People and tools at work meanwhile.
	dns, err := judge.AppsV1().Deployments("kube-system").Get(ctx, "boot-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	five := int32(5)
	dns.Spec.Replicas = &five
	dns.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("300m")
	if dns, err = judge.AppsV1().Deployments("kube-system").Update(ctx, dns, metav1.UpdateOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	dns.Spec.Template.Spec.Containers[0].Image = "registry:5000/dns:v1-by-talosctl"
	if _, err = judge.AppsV1().Deployments("kube-system").Update(ctx, dns, metav1.UpdateOptions{FieldManager: "talosctl"}); err != nil {
		t.Fatal(err)
	}
	// The spec's own manifest says something else about an object of Talos.
	if err := c.Apply(ctx, "mine", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: boot-config, namespace: kube-system}\ndata: {Corefile: mine, more: x}\n")); err != nil {
		t.Fatal(err)
	}
	if err := judge.AppsV1().DaemonSets("kube-system").Delete(ctx, "boot-proxy", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	other, err := judge.CoreV1().ServiceAccounts("kube-system").Get(ctx, "boot-other", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other.Annotations = map[string]string{"config.k8s.io/owning-inventory": "flux"}
	if _, err := judge.CoreV1().ServiceAccounts("kube-system").Update(ctx, other, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}

	const kept = "; kept spec.replicas: set by kubectl-edit; kept spec.template.spec.containers[name=dns].resources.requests.cpu: set by kubectl-edit"
	want := []string{
		"ConfigMap kube-system/boot-config unchanged; kept data.Corefile: set by ichor", "ServiceAccount kube-system/boot-other foreign", "ClusterRole system:boot unchanged",
		"Secret kube-system/boot-token changed; data.token",
		"Deployment kube-system/boot-dns changed; spec.template.spec.containers[name=dns].args[1]; spec.template.spec.containers[name=dns].env; " +
			"spec.template.spec.containers[name=dns].image: registry:5000/dns:v1-by-talosctl -> registry:5000/dns:v2" + kept,
		"DaemonSet kube-system/boot-proxy absent",
		"ConfigMap kube-system/boot-old left",
	}
	check("what the next version would do", boot(render("v2", "old"), kube.BootstrapOptions{DryRun: true}), want...)
	check("the next version", boot(render("v2", "old"), kube.BootstrapOptions{}), want...)
	want[3] = "Secret kube-system/boot-token unchanged"
	want[4] = "Deployment kube-system/boot-dns unchanged" + kept
	check("the next version again", boot(render("v2", "old"), kube.BootstrapOptions{}), want...)

	dns, err = judge.AppsV1().Deployments("kube-system").Get(ctx, "boot-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if box := dns.Spec.Template.Spec.Containers[0]; *dns.Spec.Replicas != 5 || box.Image != "registry:5000/dns:v2" || len(box.Env) != 0 || box.Resources.Requests.Cpu().String() != "300m" {
		t.Errorf("%d replicas of %+v", *dns.Spec.Replicas, box)
	}
	if _, err := judge.AppsV1().DaemonSets("kube-system").Get(ctx, "boot-proxy", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what somebody deleted is back: %v", err)
	}
	for _, name := range []string{"boot-old", "talos-bootstrap-manifests-inventory"} {
		if _, err := system.Get(ctx, name, metav1.GetOptions{}); err != nil {
			t.Errorf("%s was pruned: %v", name, err)
		}
	}

	// A plan asks with images of the end of an upgrade.
	got := boot(render("v2", "old"), kube.BootstrapOptions{DryRun: true, Images: map[string]string{"registry:5000/dns": "registry:5000/dns:v3", "registry.k8s.io/coredns": "no"}})
	want[4] = "Deployment kube-system/boot-dns changed; spec.template.spec.containers[name=dns].image: registry:5000/dns:v2 -> registry:5000/dns:v3" + kept
	check("with other images", got, want...)

	// What the API refuses stops nothing else.
	bad := slices.Concat(render("v3", "old", "dns", "other", "proxy"), []byte("---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: boot-dns, namespace: kube-system}\n"+
		"spec: {selector: {matchLabels: {k8s-app: else}}, template: {metadata: {labels: {k8s-app: else}}, spec: {containers: [{name: dns, image: i}]}}}\n"+
		"---\napiVersion: late.example.com/v1\nkind: Thing\nmetadata: {name: t}\n"))
	changes, err := c.Bootstrap(ctx, bad, kube.BootstrapOptions{})
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "2 of 5 objects") || !strings.Contains(err.Error(), "Deployment kube-system/boot-dns") ||
		!strings.Contains(err.Error(), "Thing t") || strings.Contains(err.Error(), bootCanary) {
		t.Errorf("%s: %v", fault.KindOf(err), err)
	}
	if got := lines(t, changes); !slices.Contains(got, "Secret kube-system/boot-token changed; data.token") {
		t.Errorf("%v", got)
	}

	// Nobody runs pods here, so a Deployment of five waits for ever and a DaemonSet
	// has nothing to do.
	if err := c.RolledOut(ctx, "Deployment", "kube-system", "boot-dns"); fault.KindOf(err) != fault.NotYet {
		t.Errorf("rolled out: %v", err)
	}
	eventually(t, "the DaemonSet is seen", func() error { return c.RolledOut(ctx, "DaemonSet", "kube-system", "kube-flannel") }, fault.NotYet)
	for _, kind := range []string{"Deployment", "DaemonSet", "Job"} {
		if err := c.RolledOut(ctx, kind, "kube-system", "no-such"); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func unchanged(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, strings.TrimSuffix(s, " created")+" unchanged")
	}
	return out
}

package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/kube"
)

// bootstrap: manifests pruned by surprise. The diff tells what an apply does, and
// an object that left the manifest stays.
func bootstrap(t *testing.T, c *kube.Client, judge kubernetes.Interface) {
	ctx := t.Context()
	const canary = "s3cr3t-c4n4ry"
	manifest := func(tag, secret, extra string) []byte {
		return fmt.Appendf(nil, `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kube-proxy, namespace: boot}
spec:
  selector: {matchLabels: {app: kube-proxy}}
  template:
    metadata: {labels: {app: kube-proxy}}
    spec: {containers: [{name: kube-proxy, image: "registry.k8s.io/kube-proxy:%s", args: [%s]}]}
---
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: boot}
stringData: {token: %s}
---
apiVersion: v1
kind: Namespace
metadata: {name: boot}
`, tag, extra, secret)
	}
	old := append(manifest("v1.35.2", canary, "a, b"), []byte("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: legacy, namespace: boot}\ndata: {image: "+canary+"}\n---\napiVersion: late.example.com/v1\nkind: Thing\nmetadata: {name: t}\n")...)
	show := func(manifest []byte) []string {
		t.Helper()
		changes, err := c.DiffManifests(ctx, "bootstrap", manifest)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, o := range changes {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("%s %s/%s %s: %s", o.Kind, o.Namespace, o.Name, o.Change, strings.Join(o.Fields, ", ")), ": "))
		}
		if strings.Contains(strings.Join(out, ""), canary) {
			t.Errorf("a secret is shown: %v", out)
		}
		return out
	}
	if diff := cmp.Diff([]string{"Namespace /boot created", "DaemonSet boot/kube-proxy created", "Secret boot/token created", "ConfigMap boot/legacy created", "Thing /t created"}, show(old)); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	if _, err := judge.CoreV1().Namespaces().Get(ctx, "boot", metav1.GetOptions{}); err == nil {
		t.Error("the diff made something")
	}
	if err := c.Apply(ctx, "bootstrap", old); fault.KindOf(err) != fault.NotYet {
		t.Errorf("apply with an unknown kind: %v", err)
	}
	if diff := cmp.Diff([]string{"Namespace /boot unchanged", "DaemonSet boot/kube-proxy unchanged", "Secret boot/token unchanged", "ConfigMap boot/legacy unchanged", "Thing /t created"}, show(old)); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}

	next := manifest("v1.36.3", canary+"-2", "a")
	image := "spec.template.spec.containers[name=kube-proxy]"
	if diff := cmp.Diff([]string{
		"Namespace /boot unchanged",
		"DaemonSet boot/kube-proxy changed: " + image + ".args[1], " + image + ".image: registry.k8s.io/kube-proxy:v1.35.2 -> registry.k8s.io/kube-proxy:v1.36.3",
		"Secret boot/token changed: data.token",
	}, show(next)); diff != "" {
		t.Errorf("next (-want +got):\n%s", diff)
	}
	if err := c.Apply(ctx, "bootstrap", next); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Namespace /boot unchanged", "DaemonSet boot/kube-proxy unchanged", "Secret boot/token unchanged"}, show(next)); diff != "" {
		t.Errorf("next, applied (-want +got):\n%s", diff)
	}
	if _, err := judge.CoreV1().ConfigMaps("boot").Get(ctx, "legacy", metav1.GetOptions{}); err != nil {
		t.Errorf("what left the manifest was pruned: %v", err)
	}
	bad := []byte("apiVersion: v1\nkind: Secret\nmetadata: {name: bad}\nstringData: {'" + canary + " x': y}\n")
	if _, err := c.DiffManifests(ctx, "bad", bad); fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), `"`+canary) {
		t.Errorf("a manifest that would be refused: %v", err)
	}
}

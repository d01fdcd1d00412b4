package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/workflows"
)

// comparedManifests is what a plan carries, as JSON says it.
const comparedManifests = `{"manifests": {
  "changes": [{"apiVersion": "v1", "kind": "Namespace", "name": "ccm", "change": "created"}],
  "bootstrap": [
    {"apiVersion": "apps/v1", "kind": "DaemonSet", "namespace": "kube-system", "name": "kube-proxy", "change": "changed",
     "fields": ["spec.template.spec.containers[name=kube-proxy].image: registry.k8s.io/kube-proxy:v1.36.3 -> registry.k8s.io/kube-proxy:v1.37.0"]},
    {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "kube-system", "name": "coredns", "change": "unchanged", "kept": ["spec.replicas: set by kubectl"]},
    {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "kube-system", "name": "old\u001b[31m", "change": "left"}],
  "unchanged": 17, "omitted": 1, "notes": ["compared as demo-cp-1 renders them now"]
}, "bootstrap": {"changed": ["DaemonSet kube-system/kube-proxy"], "unchanged": 20, "kept": ["Deployment kube-system/coredns: spec.replicas: set by kubectl"], "left": ["ConfigMap kube-system/old"]}}`

func TestPrintManifestDiff(t *testing.T) {
	var r workflows.UpgradeResult
	if err := json.Unmarshal([]byte(comparedManifests), &r); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printUpgradePlan(&out, "demo", r, true); err != nil {
		t.Fatal(err)
	}
	const want = `Upgrade of cluster demo

Objects of the spec's manifests:
  OBJECT         CHANGE   FIELDS
  Namespace ccm  created  

Objects that Talos renders:
  OBJECT                            CHANGE                                    FIELDS
  DaemonSet kube-system/kube-proxy  changed                                   spec.template.spec.containers[name=kube-proxy].image: registry.k8s.io/kube-proxy:v1.36.3 -> registry.k8s.io/kube-proxy:v1.37.0
  Deployment kube-system/coredns    stays                                     not touched: spec.replicas: set by kubectl
  ConfigMap kube-system/old [31m    stays: Talos does not render it any more  

17 other objects would stay as they are. 1 more object are not shown.

What this rests on:
  compared as demo-cp-1 renders them now

No node has to be touched. Run it without --plan to bring the objects to this.
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	out.Reset()
	printBootstrap(&out, r)
	const after = `  changed: DaemonSet kube-system/kube-proxy
  kept:    Deployment kube-system/coredns: spec.replicas: set by kubectl
  left:    ConfigMap kube-system/old
`
	if diff := cmp.Diff(after, out.String()); diff != "" {
		t.Error(diff)
	}
}

// A plan that has nothing to tell of objects is the plan it was.
func TestPrintNoManifestDiff(t *testing.T) {
	for _, text := range []string{`{}`, `{"manifests": {"unchanged": 20}}`, `{"manifests": {"bootstrap": [{"kind": "ConfigMap", "name": "a", "change": "left"}]}}`} {
		var r workflows.UpgradeResult
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := printUpgradePlan(&out, "demo", r, true); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(out.String(), "\nNothing to do.\n") {
			t.Errorf("%s: %s", text, out.String())
		}
	}
}

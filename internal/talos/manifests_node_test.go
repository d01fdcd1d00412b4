package talos_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// TestBootstrapManifests reads what a control plane renders, of its own release
// and config.
func TestBootstrapManifests(t *testing.T) {
	for version, dns := range map[string]string{"v1.12.8": "coredns:v1.14.2", "v1.13.9": "coredns:v1.14.6", "v1.14.1": "coredns:v1.14.7"} {
		t.Run(version, func(t *testing.T) {
			m := newMachines(t, version, 1)
			var body secrets.Value
			m.must(0, "read bootstrap manifests", func(n *talos.Node) (err error) {
				body, err = n.BootstrapManifests(t.Context())
				return err
			})
			have := map[string]bool{}
			for doc := range strings.SplitSeq(strings.TrimPrefix(string(body.Reveal()), "---\n"), "---\n") {
				var o struct {
					Kind     string
					Metadata struct{ Namespace, Name string }
				}
				if err := json.Unmarshal([]byte(doc), &o); err != nil {
					t.Fatalf("%v in %s", err, doc)
				}
				have[o.Kind+" "+o.Metadata.Namespace+"/"+o.Metadata.Name] = true
			}
			for _, want := range []string{
				"DaemonSet kube-system/kube-proxy", "Deployment kube-system/coredns", "Service kube-system/kube-dns",
				"ClusterRoleBinding /system-bootstrap-node-bootstrapper", "ConfigMap kube-system/kubeconfig-in-cluster",
			} {
				if !have[want] {
					t.Errorf("%s is missing in %v", want, have)
				}
			}
			for _, image := range []string{"registry.k8s.io/kube-proxy:v1.36.3", "registry.k8s.io/coredns/" + dns} {
				if !strings.Contains(string(body.Reveal()), `"image":"`+image+`"`) {
					t.Errorf("%s is not rendered", image)
				}
			}
		})
	}
}

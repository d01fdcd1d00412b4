package check_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
)

// The packages of one level do not know each other, so what they must agree
// upon is held together here.

func TestContractsAreThoseThatCanBeRendered(t *testing.T) {
	for minor := 9; minor < 20; minor++ {
		version := fmt.Sprintf("v1.%d.0", minor)
		doc := edit(t, []string{"v1.13.5", version, "v1.36.3", "v1.33.0"})
		accepted := !check.Spec(decode(t, doc), check.Options{}).Has("spec.talos.version")
		_, err := talos.Contract(version)
		if rendered := err == nil; rendered != accepted {
			t.Errorf("Talos %s: rendered %v, accepted %v", version, rendered, accepted)
		}
	}
}

func TestBodiesAreWhereTheStorePutsThem(t *testing.T) {
	if got, want := cluster.BodyPrefix("demo"), store.ClusterPrefix("demo")+"bodies/"; got != want {
		t.Errorf("BodyPrefix = %q, the store uses %q", got, want)
	}
}

// TestEstimateOfConfigsIsNotTooLow renders configs without patches and asks
// check whether a patch of the remaining size fits: it must say so before a
// config that is too large could be rendered.
func TestEstimateOfConfigsIsNotTooLow(t *testing.T) {
	k, _ := catalog.Named("cloudscale")
	for _, version := range []string{"v1.13.5", "v1.14.1"} {
		contract, err := talos.Contract(version)
		if err != nil {
			t.Fatal(err)
		}
		bundle, err := talos.NewBundle(contract, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for role, field := range map[cluster.Role]string{cluster.RoleControlPlane: "spec.controlPlane", cluster.RoleWorker: "spec.nodeGroups[1]"} {
			c := decode(t, edit(t, []string{"v1.13.5", version})).Normalise()
			for i := range 16 {
				c.Spec.Network.AdminCIDRs = append(c.Spec.Network.AdminCIDRs, fmt.Sprintf("198.51.%d.0/24", 100+i))
			}
			group := cluster.ControlPlaneGroup
			if role == cluster.RoleWorker {
				group = "large"
			}
			out, err := talos.Render(talos.RenderRequest{
				Bundle: bundle, Cluster: cluster.Ref{Name: "demo", UID: "u"}, Spec: c.Spec,
				Frozen:   cluster.Frozen{Contract: contract, TalosVersion: version, KubernetesVersion: c.Spec.Kubernetes.Version, Schematic: strings.Repeat("a", 64), InstallerImage: "factory.example.com/openstack-installer/" + strings.Repeat("a", 64) + ":" + version},
				Endpoint: "https://198.51.100.1:6443", EndpointHosts: []string{"198.51.100.1"}, EndpointSources: []string{"198.51.100.1/32"},
				Role: role, Group: group, NodeName: "demo-" + group + "-abcde",
			})
			if err != nil {
				t.Fatal(err)
			}
			size := len(out.UserData.Reveal())
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			if _, err := z.Write(out.UserData.Reveal()); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			if share := 100 * packed.Len() / size; share > 60 {
				t.Errorf("Talos %s, %s: gzip leaves %d of %d bytes, %d%%", version, role, packed.Len(), size, share)
			} else {
				t.Logf("Talos %s, %s: gzip leaves %d%%", version, role, share)
			}
			room := k.UserDataMax - size
			patches := []cluster.Source{{File: "p"}}
			if role == cluster.RoleControlPlane {
				c.Spec.ControlPlane.Patches = patches
			} else {
				c.Spec.NodeGroups[1].Patches = patches
			}
			body := []byte("a: " + strings.Repeat("x", room))
			if p := check.Spec(c, check.Options{Bodies: map[string][]byte{field + ".patches[0]": body}}); !p.Has(field + ".patches") {
				t.Errorf("Talos %s, %s: a config of %d bytes and a patch of %d are accepted (%v)", version, role, size, len(body), p)
			}
			t.Logf("Talos %s, %s: %d bytes", version, role, size)
		}
	}
}

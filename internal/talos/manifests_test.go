package talos

import (
	"testing"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/gendata"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

// TestPredictBootstrapImages: what a release brings by itself is told of the
// release that is known, and of no other.
func TestPredictBootstrapImages(t *testing.T) {
	for _, v := range versions {
		t.Run(v.contract, func(t *testing.T) {
			for _, tc := range []struct {
				name, version, patch string
				want                 BootstrapImages
			}{
				{
					"the release of machinery", gendata.VersionTag, "",
					BootstrapImages{
						CoreDNS: constants.CoreDNSImage + ":" + constants.DefaultCoreDNSVersion,
						Flannel: "ghcr.io/siderolabs/flannel:" + constants.FlannelVersion,
					},
				},
				{"another patch release", "v1.14.99", "", BootstrapImages{}},
				{"a pinned CoreDNS", "v1.14.99", "coredns:mine", BootstrapImages{CoreDNS: "registry:5000/coredns:mine"}},
			} {
				req := testRequest(t, v, cluster.RoleControlPlane)
				base, err := RenderBase(req)
				if err != nil {
					t.Fatal(err)
				}
				req.Base = base
				if tc.patch != "" {
					patch := "cluster: {coreDNS: {image: 'registry:5000/coredns:mine'}}"
					if v.contract == "v1.14" {
						patch = "apiVersion: v1alpha1\nkind: KubeCoreDNSConfig\nimage: registry:5000/coredns:mine\n"
					}
					req.Patches = append(req.Patches, Patch{Field: "spec.talos.patches[0]", Body: []byte(patch)})
				}
				out := mustRender(t, req)
				got, err := PredictBootstrapImages(out.UserData, tc.version)
				if err != nil {
					t.Fatal(err)
				}
				tc.want.Proxy = "registry.k8s.io/kube-proxy:" + v.kubernetes
				if got != tc.want {
					t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
				}
			}
		})
	}
	if _, err := PredictBootstrapImages(secrets.NewValue([]byte("{")), "v1.14.1"); err == nil {
		t.Error("something was read out of nothing")
	}
}

package talos

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

var update = flag.Bool("update", false, "rewrite golden files")

var versions = []struct{ contract, talos, kubernetes string }{
	{"v1.13", "v1.13.5", "v1.36.3"},
	{"v1.14", "v1.14.1", "v1.37.0"},
}

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func testBundle(t *testing.T, contract string) secrets.Value {
	t.Helper()
	b, err := NewBundle(contract, now)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testSpec(talos, kubernetes string) cluster.Spec {
	return cluster.Spec{
		Talos:      cluster.Talos{Version: talos},
		Kubernetes: cluster.Kubernetes{Version: kubernetes},
		Network:    cluster.Network{CIDR: "10.100.0.0/24", AdminCIDRs: []string{"203.0.113.0/24", "2001:db8::/32"}},
		ControlPlane: cluster.ControlPlane{
			Replicas: 3, Flavor: "flex-8-2", Labels: map[string]string{"example.com/role": "cp"},
		},
		NodeGroups: []cluster.NodeGroup{{
			Name: "workers", Labels: map[string]string{"example.com/pool": "workers"},
			Taints: []cluster.Taint{{Key: "example.com/batch", Value: "yes", Effect: "NoSchedule"}, {Key: "example.com/batch", Effect: "NoExecute"}},
		}},
	}
}

func testRequest(t *testing.T, v struct{ contract, talos, kubernetes string }, role cluster.Role) RenderRequest {
	t.Helper()
	req := RenderRequest{
		Bundle: testBundle(t, v.contract), Cluster: cluster.Ref{Name: "demo", UID: "u1"},
		Spec: testSpec(v.talos, v.kubernetes),
		Frozen: cluster.Frozen{
			Contract: v.contract, TalosVersion: v.talos, KubernetesVersion: v.kubernetes,
			InstallerImage: "factory.talos.dev/openstack-installer/abc:" + v.talos,
		},
		Endpoint: "https://198.51.100.7:6443", EndpointHosts: []string{"2001:db8::7"},
		EndpointSources: []string{"10.100.0.0/24", "192.0.2.0/28"},
		Role:            role, Group: "cp", NodeName: "demo-cp-a1b2",
	}
	if role == cluster.RoleWorker {
		req.Group, req.NodeName = "workers", "demo-workers-a1b2"
	}
	return req
}

func mustRender(t *testing.T, req RenderRequest) Rendered {
	t.Helper()
	r, err := Render(req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func load(t *testing.T, raw []byte) config.Provider {
	t.Helper()
	cfg, err := configloader.NewFromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

var pemBlock = regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----`)

// shape renders a config without anything that differs between bundles.
func shape(t *testing.T, bundle secrets.Value, raw []byte) string {
	t.Helper()
	out, err := load(t, raw).RedactSecrets("SECRET").EncodeString(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		t.Fatal(err)
	}
	b, err := loadBundle(bundle, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, crt := range map[string][]byte{"TALOS-CA": b.Certs.OS.Crt, "KUBERNETES-CA": b.Certs.K8s.Crt, "ETCD-CA": b.Certs.Etcd.Crt, "AGGREGATOR-CA": b.Certs.K8sAggregator.Crt} {
		out = strings.ReplaceAll(out, base64.StdEncoding.EncodeToString(crt), name)
	}
	out = strings.ReplaceAll(out, b.Cluster.ID, "CLUSTER-ID")
	return pemBlock.ReplaceAllString(out, "CERTIFICATE")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

func TestRenderGolden(t *testing.T) {
	for _, v := range versions {
		for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
			t.Run(v.contract+"/"+string(role), func(t *testing.T) {
				req := testRequest(t, v, role)
				r := mustRender(t, req)
				golden(t, fmt.Sprintf("%s-%s.yaml", v.contract, role), shape(t, req.Bundle, r.UserData.Reveal()))
				t.Logf("%d bytes", r.Size)
				if r.Size > 16<<10 {
					t.Errorf("%d bytes: too much for clouds that cap user data at 16 KiB", r.Size)
				}
			})
		}
	}
}

func TestRenderSameBytes(t *testing.T) {
	for _, v := range versions {
		for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
			req := testRequest(t, v, role)
			req.Patches = []Patch{{Field: "f", Body: []byte("machine:\n  sysctls:\n    b: '1'\n    a: '2'\n    c: '3'\n")}}
			first := mustRender(t, req)
			base, err := RenderBase(req)
			if err != nil {
				t.Fatal(err)
			}
			req.Base = base
			for range 20 {
				again := mustRender(t, req)
				if !bytes.Equal(first.UserData.Reveal(), again.UserData.Reveal()) || first.SHA256 != again.SHA256 {
					t.Fatalf("%s %s: two renderings differ", v.contract, role)
				}
			}
			req.Gzip = true
			packed := mustRender(t, req)
			zr, err := gzip.NewReader(bytes.NewReader(packed.UserData.Reveal()))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := io.ReadAll(zr)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(plain, first.UserData.Reveal()) || packed.RawSize != first.Size || packed.Size >= first.Size || packed.SHA256 == first.SHA256 {
				t.Errorf("%s %s: the compressed config is another one: %+v", v.contract, role, packed)
			}
			if mustRender(t, req).SHA256 != packed.SHA256 {
				t.Errorf("%s %s: compression is not deterministic", v.contract, role)
			}
		}
	}
}

func TestRenderMeaning(t *testing.T) {
	for _, v := range versions {
		t.Run(v.contract, func(t *testing.T) {
			worker := load(t, mustRender(t, testRequest(t, v, cluster.RoleWorker)).UserData.Reveal())
			if got := worker.NetworkHostnameConfig().Hostname(); got != "demo-workers-a1b2" {
				t.Errorf("host name %q", got)
			}
			if diff := cmp.Diff(map[string]string{"example.com/pool": "workers"}, worker.K8sNodeConfig().Labels()); diff != "" {
				t.Errorf("labels: %s", diff)
			}
			if diff := cmp.Diff([]string{"10.100.0.0/24"}, worker.K8sNodeConfig().NodeIP().ValidSubnets()); diff != "" {
				t.Errorf("node IP: %s", diff)
			}
			want := []any{
				map[string]any{"key": "example.com/batch", "value": "yes", "effect": "NoSchedule"},
				map[string]any{"key": "example.com/batch", "effect": "NoExecute"},
			}
			if diff := cmp.Diff(want, worker.K8sKubeletConfig().ExtraConfig()["registerWithTaints"]); diff != "" {
				t.Errorf("taints: %s", diff)
			}
			if !worker.Cluster().ExternalCloudProvider().Enabled() {
				t.Error("the external cloud provider is off")
			}
			cp := load(t, mustRender(t, testRequest(t, v, cluster.RoleControlPlane)).UserData.Reveal())
			if _, ok := cp.K8sNodeConfig().Labels()["node.kubernetes.io/exclude-from-external-load-balancers"]; !ok {
				t.Errorf("generated labels got lost: %v", cp.K8sNodeConfig().Labels())
			}
			if diff := cmp.Diff([]string{"10.100.0.0/24"}, cp.Cluster().Etcd().AdvertisedSubnets()); diff != "" {
				t.Errorf("etcd: %s", diff)
			}
			if cp.NetworkTimeSyncConfig().UseNTS() {
				t.Error("NTS is on")
			}
			var sans []string
			sans = append(sans, cp.K8sAPIServerConfig().CertSANs()...)
			if diff := cmp.Diff([]string{"2001:db8::7"}, sans); diff != "" {
				t.Errorf("SANs: %s", diff)
			}
		})
	}
}

func TestRenderRefuses(t *testing.T) {
	v := versions[0]
	for name, tc := range map[string]struct {
		change func(*RenderRequest)
		want   string
	}{
		"contract newer than talos": {func(r *RenderRequest) { r.Frozen.Contract = "v1.14" }, "spec.talos.contract: v1.14 is newer than Talos v1.13.5"},
		"unknown contract":          {func(r *RenderRequest) { r.Frozen.Contract = "v1.2" }, `contract "v1.2" is not supported`},
		"no network":                {func(r *RenderRequest) { r.Spec.Network.CIDR = "" }, "spec.network.cidr"},
		"bad admin":                 {func(r *RenderRequest) { r.Spec.Network.AdminCIDRs = []string{"1.2.3.4"} }, "spec.network.adminCIDRs[0]"},
		"plain http":                {func(r *RenderRequest) { r.Endpoint = "http://x:6443" }, "https://host:6443"},
		"dotted name":               {func(r *RenderRequest) { r.NodeName = "a.b" }, "DNS label"},
		"unknown group":             {func(r *RenderRequest) { r.Group = "nope" }, `no node group "nope"`},
		"restricted label": {func(r *RenderRequest) {
			r.Spec.NodeGroups[0].Labels = map[string]string{"node-role.kubernetes.io/worker": ""}
		}, "spec.nodeGroups[0].labels"},
		"bad label":       {func(r *RenderRequest) { r.Spec.NodeGroups[0].Labels = map[string]string{"a b": ""} }, "spec.nodeGroups[0]: "},
		"broken base":     {func(r *RenderRequest) { r.Base = secrets.NewValue([]byte("hunter2: [")) }, "cannot be read"},
		"no kubernetes v": {func(r *RenderRequest) { r.Frozen.KubernetesVersion = "1.36.3" }, "spec.kubernetes.version"},
	} {
		t.Run(name, func(t *testing.T) {
			req := testRequest(t, v, cluster.RoleWorker)
			tc.change(&req)
			_, err := Render(req)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("want %q, got %v", tc.want, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error repeats content: %v", err)
			}
			if kind := fault.KindOf(err); kind != fault.Invalid && name != "broken base" {
				t.Errorf("kind %s", kind)
			}
		})
	}
}

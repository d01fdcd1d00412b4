package talos

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// upgraded is a request for a cluster whose base is stored, as of the first of two
// Kubernetes versions.
func upgraded(t *testing.T, v struct{ contract, talos, kubernetes string }, role cluster.Role) (req RenderRequest, from, to string) {
	t.Helper()
	req = testRequest(t, v, role)
	base, err := RenderBase(req)
	if err != nil {
		t.Fatal(err)
	}
	req.Base = base
	return req, v.kubernetes, "v1.37.2"
}

func mustImages(t *testing.T, config secrets.Value) Images {
	t.Helper()
	i, err := ReadImages(config)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestComponents(t *testing.T) {
	images := func(v string) Images {
		return Images{
			Kubelet: "ghcr.io/siderolabs/kubelet:" + v, APIServer: "registry.k8s.io/kube-apiserver:" + v,
			ControllerManager: "registry.k8s.io/kube-controller-manager:" + v, Scheduler: "registry.k8s.io/kube-scheduler:" + v,
			Proxy: "registry.k8s.io/kube-proxy:" + v,
		}
	}
	for _, v := range versions {
		for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
			t.Run(v.contract+" "+string(role), func(t *testing.T) {
				req, from, to := upgraded(t, v, role)
				old, next := images(from), images(to)
				if role == cluster.RoleWorker {
					old, next = Images{Kubelet: old.Kubelet}, Images{Kubelet: next.Kubelet}
				}
				plain := mustRender(t, req)
				if diff := cmp.Diff(old, mustImages(t, plain.UserData)); diff != "" {
					t.Errorf("no overrides: %s", diff)
				}
				for name, step := range map[string]struct {
					set    Components
					expect func(*Images)
				}{
					"kube-apiserver":          {Components{APIServer: to}, func(i *Images) { i.APIServer = next.APIServer }},
					"kube-controller-manager": {Components{ControllerManager: to}, func(i *Images) { i.ControllerManager = next.ControllerManager }},
					"kube-scheduler":          {Components{Scheduler: to}, func(i *Images) { i.Scheduler = next.Scheduler }},
					"kube-proxy":              {Components{Proxy: to}, func(i *Images) { i.Proxy = next.Proxy }},
					"kubelet":                 {Components{Kubelet: to}, func(i *Images) { i.Kubelet = next.Kubelet }},
				} {
					req.Components = step.set
					want := old
					step.expect(&want)
					got := mustRender(t, req)
					if diff := cmp.Diff(want, mustImages(t, got.UserData)); diff != "" {
						t.Errorf("%s: %s", name, diff)
					}
					// The image is all that differs.
					back := strings.ReplaceAll(string(got.UserData.Reveal()), ":"+to, ":"+from)
					if back != string(plain.UserData.Reveal()) {
						t.Errorf("%s: more than the image differs", name)
					}
				}
				req.Components = Components{APIServer: from, ControllerManager: from, Scheduler: from, Proxy: from, Kubelet: from}
				if got := mustRender(t, req); got.SHA256 != plain.SHA256 {
					t.Error("overrides with the same version give other bytes")
				}
			})
		}
	}
}

func TestRebase(t *testing.T) {
	for _, v := range versions {
		for _, role := range []cluster.Role{cluster.RoleControlPlane, cluster.RoleWorker} {
			t.Run(v.contract+" "+string(role), func(t *testing.T) {
				req, _, to := upgraded(t, v, role)
				same, err := Rebase(req)
				if err != nil || !bytes.Equal(same.Reveal(), req.Base.Reveal()) {
					t.Errorf("the same version gives other bytes, %v", err)
				}
				req.Components = Components{APIServer: to, ControllerManager: to, Scheduler: to, Proxy: to, Kubelet: to}
				overridden := mustRender(t, req)
				req.Components = Components{}
				req.Frozen.KubernetesVersion = to
				if req.Base, err = Rebase(req); err != nil {
					t.Fatal(err)
				}
				rebased := mustRender(t, req)
				if digestOfBytes(t, rebased.UserData.Reveal()) != digestOfBytes(t, overridden.UserData.Reveal()) {
					t.Error("moving the base and overriding every component say different things")
				}
				again, err := Rebase(req)
				if err != nil || !bytes.Equal(again.Reveal(), req.Base.Reveal()) {
					t.Errorf("moving twice gives other bytes, %v", err)
				}
			})
		}
	}
	req, _, _ := upgraded(t, versions[0], cluster.RoleWorker)
	req.Frozen.KubernetesVersion = "latest"
	if _, err := Rebase(req); fault.KindOf(err) != fault.Invalid {
		t.Errorf("no version: %v", err)
	}
	req.Base = secrets.NewValue([]byte("machine: [" + canary))
	if _, err := Rebase(req); fault.KindOf(err) != fault.Internal || strings.Contains(err.Error(), canary) {
		t.Errorf("no base: %v", err)
	}
}

// A patch may choose repository and variant of an image; the version is the
// cluster's while it is upgraded.
func TestComponentsAndPatches(t *testing.T) {
	kubelet := map[string]func(string) string{
		"v1.13": func(image string) string { return "machine:\n  kubelet:\n    image: " + image + "\n" },
		"v1.14": func(image string) string {
			return "apiVersion: v1alpha1\nkind: KubeletConfig\nimage: " + image + "\n"
		},
	}
	for _, v := range versions {
		req, from, to := upgraded(t, v, cluster.RoleWorker)
		for pin, want := range map[string]string{
			"registry.example/talos/kubelet:" + from + "-slim": "registry.example/talos/kubelet:" + to + "-slim",
			"registry.example/kubelet:v1.35.9":                 "registry.example/kubelet:" + to,
			"registry.example/kubelet:" + from + "-mine":       "",
		} {
			req.Patches = []Patch{{Field: "spec.talos.patches[0]", Body: []byte(kubelet[v.contract](pin))}}
			req.Components = Components{}
			if got := mustImages(t, mustRender(t, req).UserData).Kubelet; got != pin {
				t.Errorf("%s: without overrides %s became %s", v.contract, pin, got)
			}
			req.Components = Components{Kubelet: to}
			got, err := Render(req)
			if want == "" {
				if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "spec.talos.patches[0]: pins the image of kubelet") {
					t.Errorf("%s: %s: %v", v.contract, pin, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if image := mustImages(t, got.UserData).Kubelet; image != want {
				t.Errorf("%s: %s became %s, not %s", v.contract, pin, image, want)
			}
		}
		req.Patches, req.Components = nil, Components{Kubelet: "1.37.2"}
		if _, err := Render(req); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: a version without v: %v", v.contract, err)
		}
	}
}

func TestImageVersion(t *testing.T) {
	for image, want := range map[string]string{
		"registry.k8s.io/kube-apiserver:v1.36.3":        "v1.36.3",
		"ghcr.io/siderolabs/kubelet:v1.37.0-rc.0-slim":  "v1.37.0-rc.0",
		"registry.example/kubelet:latest":               "",
		"registry.example/kubelet:v1.36.3@sha256:aaaaa": "",
		"": "",
	} {
		if got := ImageVersion(image); got != want {
			t.Errorf("%q: got %q, want %q", image, got, want)
		}
		if next, ok := retag(image, "v1.40.0"); ok != (want != "") || ok && next != strings.Replace(image, want, "v1.40.0", 1) {
			t.Errorf("%q: moved to %q, %v", image, next, ok)
		}
	}
}

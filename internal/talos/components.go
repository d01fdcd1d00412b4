package talos

import (
	"bytes"
	"regexp"
	"strings"

	coreconfig "github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/types/k8s"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Components are versions of single components of Kubernetes, with leading v;
// empty means the version that the config has anyway. All but the kubelet's are
// for control planes and ignored on workers.
type Components struct {
	APIServer         string
	ControllerManager string
	Scheduler         string
	Proxy             string
	Kubelet           string
}

// component is one image that a machine config names.
type component struct {
	name    string
	image   func(Images) string
	version func(Components) string
	// kind is the document of contracts since v1.14, section and key the place in
	// the single document of earlier ones.
	kind, section, key string
}

var components = []component{
	{
		"kube-apiserver",
		func(i Images) string { return i.APIServer },
		func(c Components) string { return c.APIServer },
		k8s.KubeAPIServerConfig, "cluster", "apiServer",
	},
	{
		"kube-controller-manager",
		func(i Images) string { return i.ControllerManager },
		func(c Components) string { return c.ControllerManager },
		k8s.KubeControllerManagerConfig, "cluster", "controllerManager",
	},
	{
		"kube-scheduler",
		func(i Images) string { return i.Scheduler },
		func(c Components) string { return c.Scheduler },
		k8s.KubeSchedulerConfig, "cluster", "scheduler",
	},
	{
		"kube-proxy",
		func(i Images) string { return i.Proxy },
		func(c Components) string { return c.Proxy },
		k8s.KubeProxyConfig, "cluster", "proxy",
	},
	{
		"kubelet",
		func(i Images) string { return i.Kubelet },
		func(c Components) string { return c.Kubelet },
		k8s.KubeletConfig, "machine", "kubelet",
	},
}

// Rebase moves a base config to the Kubernetes version of req.Frozen (or of the
// spec, where that has none) and changes nothing else: a cluster's config is never
// generated anew, because a later generator may write something else for the same
// contract. The same version gives the same bytes. The installer image that older
// contracts name stays as it is: nodes that boot an installed image never use it,
// and an upgrade names its own. Errors: Internal when the stored base cannot be
// read, Invalid for a version that is none.
func Rebase(req RenderRequest) (secrets.Value, error) {
	const op = "move the base config to another version"
	base, err := configloader.NewFromBytes(req.Base.Reveal())
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the stored base config of role %s cannot be read", req.Role)
	}
	talos, err := req.talosVersion()
	if err != nil {
		return secrets.Value{}, err
	}
	contract, err := req.contract(talos)
	if err != nil {
		return secrets.Value{}, err
	}
	v := firstOf(req.Frozen.KubernetesVersion, req.Spec.Kubernetes.Version)
	want := Components{APIServer: v, ControllerManager: v, Scheduler: v, Proxy: v, Kubelet: v}
	cfg, changed, err := want.apply(base, contract, req.Role, nil)
	if err != nil || !changed {
		return req.Base, err
	}
	if message := validate(cfg); message != "" {
		return secrets.Value{}, fault.New(fault.Invalid, op, "%s", message)
	}
	raw, err := encode(cfg)
	if err != nil {
		return secrets.Value{}, err
	}
	return secrets.NewValue(raw), nil
}

// apply moves the images of a config to other versions; repository and variant
// stay. Patches are named when an image of theirs cannot be moved.
func (c Components) apply(cfg coreconfig.Provider, contract *coreconfig.VersionContract, role cluster.Role, patches []Patch) (coreconfig.Provider, bool, error) {
	const op = "set component versions"
	images := imagesOf(cfg)
	changed := false
	for _, part := range components {
		version, image := part.version(c), part.image(images)
		if version == "" || image == "" || part.section == "cluster" && role != cluster.RoleControlPlane {
			continue
		}
		if _, err := parseVersion(version); err != nil {
			return nil, false, fault.New(fault.Invalid, op, "%s: %q is not a version like v1.36.3", part.name, version)
		}
		next, ok := retag(image, version)
		if !ok {
			return nil, false, fault.New(fault.Invalid, op, "%s: pins the image of %s in a way that hides its version, so it cannot be upgraded",
				whoNames(image, patches), part.name)
		}
		if next == image {
			continue
		}
		var err error
		if cfg, err = merge(cfg, part.patch(contract, next)); err != nil {
			return nil, false, fault.New(fault.Internal, op, "%s", explain(err))
		}
		changed = true
	}
	return cfg, changed, nil
}

// patch is the document that sets the component's image.
func (part component) patch(contract *coreconfig.VersionContract, image string) map[string]any {
	if contract.MultidocKubernetesConfigSupported() {
		return map[string]any{"apiVersion": "v1alpha1", "kind": part.kind, "image": image}
	}
	return map[string]any{part.section: map[string]any{part.key: map[string]any{"image": image}}}
}

// versionTag is a release of Kubernetes, for the kubelet with the variant of the
// image that Talos' makers publish.
var versionTag = regexp.MustCompile(`^v\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?(-slim|-fat)?$`)

// retag gives an image another version. It fails for images whose tag is none, or
// that are pinned by digest.
func retag(image, version string) (string, bool) {
	i := strings.LastIndex(image, ":")
	if i < 0 || strings.Contains(image, "@") || strings.Contains(image[i:], "/") {
		return "", false
	}
	m := versionTag.FindStringSubmatch(image[i+1:])
	if m == nil {
		return "", false
	}
	return image[:i+1] + version + m[1], true
}

// ImageVersion returns the Kubernetes version that an image's tag says, for example
// "v1.36.3", or nothing when it says none.
func ImageVersion(image string) string {
	i := strings.LastIndex(image, ":")
	if i < 0 || strings.Contains(image, "@") {
		return ""
	}
	tag := image[i+1:]
	m := versionTag.FindStringSubmatch(tag)
	if m == nil {
		return ""
	}
	return strings.TrimSuffix(tag, m[1])
}

// whoNames is the field of the last patch that names an image.
func whoNames(image string, patches []Patch) string {
	for i := len(patches) - 1; i >= 0; i-- {
		if bytes.Contains(patches[i].Body, []byte(image)) {
			return patches[i].Field
		}
	}
	return "spec.talos.patches"
}

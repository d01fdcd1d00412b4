package talosnode

import (
	"fmt"
	"slices"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config"
)

// talosVersion is the minor version whose semantics a node simulates.
type talosVersion struct {
	tag          string // "v1.14.1"
	major, minor int
}

func parseVersion(tag string) (talosVersion, error) {
	v := talosVersion{tag: tag}

	var patch int
	if _, err := fmt.Sscanf(strings.TrimPrefix(tag, "v"), "%d.%d.%d", &v.major, &v.minor, &patch); err != nil {
		return v, fmt.Errorf("%q is not a Talos version", tag)
	}

	return v, nil
}

func (v talosVersion) atLeast(minor int) bool { return v.major > 1 || v.minor >= minor }

// since says with which 1.x release a document kind came. Kinds that are not
// listed and do not start with Kube are older than anything simulated here.
//
// Source: the kinds registered by pkg/machinery v1.13.9 and v1.14.1.
var since = map[string]int{
	"BGPInstanceConfig":        14,
	"CRIBaseRuntimeSpecConfig": 14,
	"CRICustomizationConfig":   14,
	"ContainerConfig":          14,
	"DiscoveryIdentityConfig":  14,
	"DiscoveryServiceConfig":   14,
	"EtcFileConfig":            14,
	"FilesystemScrubConfig":    14,
	"FilesystemTrimConfig":     14,
	"HTTPProbeConfig":          14,
	"KernelModuleConfig":       14,
	"LVMLogicalVolumeConfig":   14,
	"LVMVolumeGroupConfig":     14,
	"RAIDArrayConfig":          14,
	"SecurityProfileConfig":    14,
	"SysctlConfig":             14,
	"SysfsConfig":              14,
	"UdevRulesConfig":          14,
	"UnattendedInstallConfig":  14,
	"VethConfig":               14,

	"EnvironmentConfig":       13,
	"ImageVerificationConfig": 13,
	"KubeSpanConfig":          13,

	"KubeSpanEndpointsConfig": 5,
}

// knows refuses documents that a node of this version cannot decode.
func (v talosVersion) knows(c config.Provider) error {
	for _, d := range c.Documents() {
		kind := d.Kind()

		first, listed := since[kind]
		if !listed && strings.HasPrefix(kind, "Kube") {
			first = 14
		}

		if !v.atLeast(first) {
			return fmt.Errorf("failed to parse config: error decoding document %s: not registered in Talos %s", kind, v.tag)
		}
	}

	return nil
}

// etcdVersion and kernel are what the release ships.
func (v talosVersion) etcdVersion() string {
	if v.atLeast(14) {
		return "3.7.1"
	}

	return "3.6.5"
}

// installer reads the version, platform and schematic from an installer image
// reference such as "factory.talos.dev/openstack-installer/<schematic>:v1.14.1".
func installer(image string) (slot, string, error) {
	tag := imageTag(image)
	if _, err := parseVersion(tag); err != nil {
		return slot{}, "", fmt.Errorf("installer image %q: %w", image, err)
	}

	parts := strings.Split(strings.TrimSuffix(strings.SplitN(image, "@", 2)[0], ":"+tag), "/")

	i := slices.IndexFunc(parts, func(p string) bool {
		return strings.HasSuffix(p, "installer") || strings.HasSuffix(p, "installer-secureboot")
	})
	if i < 0 {
		return slot{}, "", fmt.Errorf("%q is not an installer image", image)
	}

	s := slot{version: tag, schematic: emptySchematic}
	if i+1 < len(parts) {
		s.schematic = parts[i+1]
	}

	platform, _, found := strings.Cut(parts[i], "-installer")
	if !found {
		platform = ""
	}

	return s, platform, nil
}

// emptySchematic is the Image Factory's id of a schematic without changes.
const emptySchematic = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"

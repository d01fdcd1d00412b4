package talos

import (
	"fmt"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/config"

	"github.com/ichor-project/ichor/internal/fault"
)

// contracts are the config version contracts that Ichor renders and tests,
// oldest first. A contract is pinned when a cluster is created; a newer one is
// never applied to an existing cluster.
var contracts = []string{"v1.13", "v1.14"}

// Contracts returns the config version contracts that can be rendered, oldest
// first.
func Contracts() []string { return slices.Clone(contracts) }

// Contract returns the config version contract that a Talos version brings, for
// example "v1.13" for "v1.13.5". Error: Invalid for malformed versions and for
// minors outside Contracts.
func Contract(talosVersion string) (string, error) {
	const op = "choose the config contract"
	v, err := parseVersion(talosVersion)
	if err != nil {
		return "", fault.New(fault.Invalid, op, "talos version %q is not a version like v1.13.5", talosVersion)
	}
	c := minor(v)
	if !slices.Contains(contracts, c) {
		return "", fault.New(fault.Invalid, op, "Talos %s is not supported; supported minors are %s", talosVersion, strings.Join(contracts, ", "))
	}
	return c, nil
}

// parseContract accepts the members of contracts only.
func parseContract(contract string) (*config.VersionContract, error) {
	if !slices.Contains(contracts, contract) {
		return nil, fault.New(fault.Invalid, "parse the config contract",
			"contract %q is not supported; supported are %s", contract, strings.Join(contracts, ", "))
	}
	c, err := config.ParseContractFromVersion(contract)
	return c, fault.Wrap(fault.Internal, "parse the config contract", err)
}

// parseVersion parses a complete version with leading v.
func parseVersion(s string) (semver.Version, error) {
	rest, ok := strings.CutPrefix(s, "v")
	if !ok {
		return semver.Version{}, fmt.Errorf("version %q lacks the leading v", s)
	}
	return semver.Parse(rest)
}

// minor returns the minor release of a version in the form of a contract.
func minor(v semver.Version) string { return fmt.Sprintf("v%d.%d", v.Major, v.Minor) }

// kindsSince114 are the config documents that Talos 1.14 introduced; an older
// node refuses the whole config over one of them. The list is the difference of
// the document kinds that machinery v1.13.6 and v1.14.1 register.
var kindsSince114 = []string{
	"BGPInstanceConfig", "CRIBaseRuntimeSpecConfig", "CRICustomizationConfig", "ContainerConfig",
	"DiscoveryIdentityConfig", "DiscoveryServiceConfig", "EtcFileConfig", "FilesystemScrubConfig",
	"FilesystemTrimConfig", "HTTPProbeConfig", "ImageCacheConfig", "KernelModuleConfig",
	"KubeAPIServerCAConfig", "KubeAPIServerConfig", "KubeAdmissionControlConfig", "KubeAggregatorCAConfig",
	"KubeAuditPolicyConfig", "KubeAuthenticationConfig", "KubeAuthorizerConfig", "KubeClusterConfig",
	"KubeControllerManagerConfig", "KubeCoreDNSConfig", "KubeCredentialProviderConfig",
	"KubeEtcdEncryptionConfig", "KubeExternalManifestConfig", "KubeFlannelCNIConfig",
	"KubeInlineManifestConfig", "KubeNetworkConfig", "KubeNodeConfig", "KubePrismConfig",
	"KubeProxyConfig", "KubeSchedulerConfig", "KubeServiceAccountConfig", "KubeStaticPodConfig",
	"KubeTalosAPIAccessConfig", "KubeletConfig", "LVMLogicalVolumeConfig", "LVMVolumeGroupConfig",
	"RAIDArrayConfig", "SecurityProfileConfig", "SysctlConfig", "SysfsConfig", "UdevRulesConfig",
	"UnattendedInstallConfig", "VethConfig",
}

// kindKnown reports whether nodes of the given Talos version know a document.
func kindKnown(kind string, talos semver.Version) bool {
	return talos.GE(semver.Version{Major: 1, Minor: 14}) || !slices.Contains(kindsSince114, kind)
}

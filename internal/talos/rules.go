package talos

import (
	"fmt"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"

	"github.com/ichor-project/ichor/internal/fault"
)

// KubernetesFits reports whether a Kubernetes version runs on a Talos version,
// by machinery's own table; both with leading v. Error: Invalid saying the
// supported range, or that machinery does not know the Talos version.
func KubernetesFits(talosVersion, kubernetesVersion string) error {
	const op = "compare versions"
	talos, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: talosVersion})
	if err != nil {
		return fault.New(fault.Invalid, op, "spec.talos.version: %q is not a version like v1.13.5", talosVersion)
	}
	kubernetes, err := compatibility.ParseKubernetesVersion(kubernetesVersion)
	if err != nil {
		return fault.New(fault.Invalid, op, "spec.kubernetes.version: %q is not a version like v1.36.3", kubernetesVersion)
	}
	if err := kubernetes.SupportedWith(talos); err != nil {
		return fault.New(fault.Invalid, op, "spec.kubernetes.version: %s", err)
	}
	return nil
}

// UpgradePathFits reports whether a node may be upgraded from one Talos version
// to another in one step, by machinery's own table. Error: Invalid.
func UpgradePathFits(from, to string) error {
	const op = "compare versions"
	host, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: from})
	if err != nil {
		return fault.New(fault.Invalid, op, "%q is not a version like v1.13.5", from)
	}
	target, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: to})
	if err != nil {
		return fault.New(fault.Invalid, op, "%q is not a version like v1.13.5", to)
	}
	if err := target.UpgradeableFrom(host); err != nil {
		return fault.Wrap(fault.Invalid, op, fmt.Errorf("from %s to %s: %w", from, to, err))
	}
	return nil
}

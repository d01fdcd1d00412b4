package e2e

import (
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
)

// goneFlags is a patch of what the kubelets of Kubernetes 1.35 do not know any more.
const goneFlags = `machine:
  kubelet:
    extraArgs: {pod-infra-container-image: registry.k8s.io/pause:3.10}
    extraConfig: {featureGates: {SizeMemoryBackedVolumes: true}}
`

// allAtOnce has the pre-flight name everything that is in the way in one answer,
// each with its node and what to do, and change nothing.
func (h *holes) allAtOnce() {
	h.workload("frozen", 1)
	h.budget("frozen", 1)
	h.breakNode(holed, h.workers[0], map[string]any{"diskFull": true})
	h.breakNode(holed, h.workers[1], map[string]any{"kubeletCertificateLeft": time.Hour})
	before := h.allBoots(holed)

	spec := h.spec0
	spec.Spec.NodeGroups = slices.Clone(spec.Spec.NodeGroups)
	spec.Spec.NodeGroups[0].Patches = []cluster.Source{{Inline: goneFlags}}
	spec.Spec.ControlPlane.Patches = []cluster.Source{{Inline: "cluster:\n  apiServer:\n    extraArgs: {feature-gates: UserNamespacesHostNetworkSupport=true}\n"}}
	const gone = ", which Kubernetes 1.35 has no more (spec.nodeGroups[0].patches[0]); take it out"
	texts := []string{
		h.workers[0], "has 0 MiB free where images go, and this upgrade needs", "make room",
		h.workers[1], "its kubelet client certificate expires at", "should have been renewed by",
		"its config sets the flag pod-infra-container-image" + gone, "its config sets the feature gate SizeMemoryBackedVolumes" + gone,
		h.cp, "the kube-apiserver would not start: its config sets the feature gate UserNamespacesHostNetworkSupport",
		"default/frozen", "relax it or add replicas", "--single-control-plane",
	}
	h.ichor(codeConflict, texts, "upgrade", holed, "-f", h.write(spec), "--kubernetes", oldKubernetes, "--extensions", rounds[0][0], "--plan")
	h.wantBoots(holed, before, 0)
	h.wantReleased(holed)

	for _, w := range h.workers {
		h.breakNode(holed, w, nil)
	}
	h.lift("frozen")
	h.remove("frozen")
}

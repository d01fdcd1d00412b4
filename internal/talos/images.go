package talos

import (
	"context"
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"google.golang.org/grpc"

	"github.com/ichor-project/ichor/internal/fault"
)

// ImageSpace is a namespace of a node's container runtime.
type ImageSpace string

// Spaces of images.
const (
	// SystemImage is for what Talos itself runs: installer, kubelet, etcd.
	SystemImage ImageSpace = "system"
	// KubernetesImage is for static pods and everything else of Kubernetes.
	KubernetesImage ImageSpace = "kubernetes"
)

func (s ImageSpace) namespace() (common.ContainerdNamespace, error) {
	switch s {
	case SystemImage:
		return common.ContainerdNamespace_NS_SYSTEM, nil
	case KubernetesImage:
		return common.ContainerdNamespace_NS_CRI, nil
	}
	return 0, fault.New(fault.Internal, "choose the image space", "there is no image space %q", string(s))
}

// newUpgrade is the version since which a node leaves draining and rebooting to
// its caller and streams pulls and installations.
var newUpgrade = semver.Version{Major: 1, Minor: 13}

// streamsImages reports whether the node has the image and lifecycle services.
func (n *Node) streamsImages(ctx context.Context) (bool, error) {
	text, err := n.Version(ctx)
	if err != nil {
		return false, err
	}
	v, err := parseVersion(text)
	if err != nil {
		return false, fault.New(fault.Internal, "read version", "%s reports no version like v1.13.5", n.address)
	}
	// A pre-release of the minor has them as well.
	v.Pre = nil
	return v.GE(newUpgrade), nil
}

// Pull makes the node fetch an image. One that is there already is not fetched
// again, so it is safe to repeat. Progress, which may be nil, gets lines for
// people; Talos before 1.13 reports nothing until it is done. Errors: Invalid
// when there is no such image, Unauthorized when the registry refuses it,
// Unavailable when registry or node do not answer.
func (n *Node) Pull(ctx context.Context, image string, space ImageSpace, progress func(string)) error {
	namespace, err := space.namespace()
	if err != nil {
		return err
	}
	streams, err := n.streamsImages(ctx)
	if err != nil {
		return err
	}
	const op = "pull image"
	if !streams {
		_, err := call(ctx, n, op, repeatable, pullTimeout, func(ctx context.Context) (*machine.ImagePullResponse, error) {
			// The service that replaced this one came with Talos 1.13.
			//nolint:staticcheck // nothing else exists before Talos 1.13
			return n.api.MachineClient.ImagePull(ctx, &machine.ImagePullRequest{Namespace: namespace, Reference: image})
		})
		return pullError(image, err)
	}
	layers := pullProgress{layers: map[string]*machine.ImageServicePullLayerProgress{}}
	err = receive(ctx, n, op, repeatable, stallTimeout,
		func(ctx context.Context) (grpc.ServerStreamingClient[machine.ImageServicePullResponse], error) {
			return n.api.ImageClient.Pull(ctx, &machine.ImageServicePullRequest{Containerd: containerd(namespace), ImageRef: image})
		},
		func(m *machine.ImageServicePullResponse) error {
			if line := layers.line(m.GetPullProgress()); line != "" && progress != nil {
				progress(line)
			}
			return nil
		})
	return pullError(image, err)
}

// containerd names the runtime that Kubernetes uses as well; the other instance
// holds Talos' own early services only.
func containerd(namespace common.ContainerdNamespace) *common.ContainerdInstance {
	return &common.ContainerdInstance{Driver: common.ContainerDriver_CRI, Namespace: namespace}
}

// pullError sharpens the error of a pull: Talos passes most of what its
// container runtime says on without a code.
func pullError(image string, err error) error {
	return sharpen(err, func(f *fault.Error) {
		text := strings.ToLower(f.Message)
		has := func(parts ...string) bool { return containsAny(text, parts...) }
		switch {
		case f.Kind == fault.NotFound, has("invalid reference", "404 not found"):
			f.Kind, f.Message = fault.Invalid, "there is no image "+image
		case f.Kind != fault.Internal:
		case has("401 unauthorized", "403 forbidden", "insufficient_scope", "access denied"):
			f.Kind = fault.Unauthorized
		case has("429 too many requests", "toomanyrequests"):
			f.Kind = fault.RateLimited
		default:
			f.Kind = fault.Unavailable
		}
	})
}

// pullProgress turns the progress of single layers into one line.
type pullProgress struct {
	layers map[string]*machine.ImageServicePullLayerProgress
	last   string
}

// line returns what to say, or nothing when it has been said.
func (p *pullProgress) line(m *machine.ImageServicePullProgress) string {
	if m.GetProgress() == nil {
		return ""
	}
	p.layers[m.GetLayerId()] = m.GetProgress()
	var ready int
	var have, total int64
	for _, l := range p.layers {
		switch l.GetStatus() {
		case machine.ImageServicePullLayerProgress_EXTRACT_COMPLETE, machine.ImageServicePullLayerProgress_ALREADY_EXISTS:
			ready++
		case machine.ImageServicePullLayerProgress_DOWNLOADING, machine.ImageServicePullLayerProgress_DOWNLOAD_COMPLETE, machine.ImageServicePullLayerProgress_EXTRACTING:
		}
		have, total = have+l.GetOffset(), total+l.GetTotal()
	}
	const mib = 1 << 20
	line := fmt.Sprintf("%d of %d layers ready, %d of %d MiB", ready, len(p.layers), have/mib, total/mib)
	if line == p.last {
		return ""
	}
	p.last = line
	return line
}

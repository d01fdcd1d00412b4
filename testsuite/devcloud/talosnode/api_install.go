package talosnode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/compatibility"
)

// Exit codes of the installer.
//
// Source: api/machine/lifecycle.proto and the installer of Talos 1.13.
const (
	exitOK          = 0
	exitInput       = 2
	exitEnvironment = 4
	exitIO          = 6
)

// imageAPI serves machine.ImageService.
type imageAPI struct {
	machine.UnimplementedImageServiceServer

	s *session
}

// Pull implements the image service.
func (a *imageAPI) Pull(in *machine.ImageServicePullRequest, out grpc.ServerStreamingServer[machine.ImageServicePullResponse]) error {
	if _, err := a.s.running(); err != nil {
		return err
	}

	if err := a.s.pull(out.Context(), in.GetImageRef()); err != nil {
		return err
	}

	return out.Send(&machine.ImageServicePullResponse{Response: &machine.ImageServicePullResponse_Name{Name: in.GetImageRef()}})
}

func (s *session) pull(ctx context.Context, ref string) error {
	if ref == "" || imageTag(ref) == "" && !strings.Contains(ref, "@sha256:") {
		return status.Errorf(codes.InvalidArgument, "failed to pull image %q: invalid reference", ref)
	}

	if s.pulled(ref) {
		return nil
	}

	if err := s.fleet.opts.Clock.Sleep(ctx, s.timings().ImagePull); err != nil {
		return status.FromContextError(err).Err()
	}

	switch faults := s.node.Faults(); {
	case faults.ImagePullFails:
		return fmt.Errorf("failed to pull image %q: failed to do request: dial tcp: i/o timeout", ref)
	case faults.DiskFull:
		return fmt.Errorf("failed to pull image %q: write /var/lib/containerd: no space left on device", ref)
	}

	if reason := s.unavailable(ref); reason != "" {
		return status.Errorf(codes.NotFound, "error pulling image: %s: %s", ref, reason)
	}

	s.node.write(func(d *disk) {
		if !slices.Contains(d.images, ref) {
			d.images = append(d.images, ref)
		}
	})

	return nil
}

// unavailable says why the registry does not have an image; empty when it does.
// Only installers are looked up.
func (s *session) unavailable(ref string) string {
	next, _, err := installer(ref)
	if err != nil || s.fleet.opts.Extensions == nil {
		return ""
	}

	if _, known := s.fleet.opts.Extensions(next.schematic, next.version); !known {
		return "not found"
	}

	return ""
}

// pulled says whether an image is on the disk.
func (s *session) pulled(ref string) bool { return slices.Contains(s.node.read().images, ref) }

// fetch pulls an image that a kubelet or a pod needs, in the background and
// until it is there; false says that it is.
func (s *session) fetch(ref string) bool {
	if s.pulled(ref) {
		return false
	}

	s.mu.Lock()
	busy := s.fetching[ref]
	s.fetching[ref] = true
	s.mu.Unlock()

	if busy {
		return true
	}

	s.background(func() {
		for s.ctx.Err() == nil {
			err := s.pull(s.ctx, ref)
			if err == nil {
				break
			}

			s.node.console.onChange("image", "%v", err)

			if !s.sleep(s.timings().Retry) {
				return
			}
		}

		s.nudge()
	})

	return true
}

func digest(ref string) string {
	sum := sha256.Sum256([]byte(ref))

	return "sha256:" + hex.EncodeToString(sum[:])
}

// List implements the image service.
func (a *imageAPI) List(_ *machine.ImageServiceListRequest, out grpc.ServerStreamingServer[machine.ImageServiceListResponse]) error {
	for _, ref := range a.s.node.read().images {
		if err := out.Send(&machine.ImageServiceListResponse{
			Name: ref, Digest: digest(ref), Size: 90 << 20, CreatedAt: timestamppb.New(a.s.booted),
		}); err != nil {
			return err
		}
	}

	return nil
}

// ImagePull implements the machine service's older pull.
func (a *machineAPI) ImagePull(ctx context.Context, in *machine.ImagePullRequest) (*machine.ImagePullResponse, error) {
	if _, err := a.s.running(); err != nil {
		return nil, err
	}

	if err := a.s.pull(ctx, in.GetReference()); err != nil {
		return nil, err
	}

	return &machine.ImagePullResponse{Messages: []*machine.ImagePull{{}}}, nil
}

// ImageList implements the machine service's older list.
func (a *machineAPI) ImageList(_ *machine.ImageListRequest, out grpc.ServerStreamingServer[machine.ImageListResponse]) error {
	for _, ref := range a.s.node.read().images {
		if err := out.Send(&machine.ImageListResponse{
			Name: ref, Digest: digest(ref), Size: 90 << 20, CreatedAt: timestamppb.New(a.s.booted),
		}); err != nil {
			return err
		}
	}

	return nil
}

// lifecycleAPI serves machine.LifecycleService.
type lifecycleAPI struct {
	machine.UnimplementedLifecycleServiceServer

	s *session
}

// Install implements the lifecycle service: cloud images are installed.
func (a *lifecycleAPI) Install(*machine.LifecycleServiceInstallRequest, grpc.ServerStreamingServer[machine.LifecycleServiceInstallResponse]) error {
	return status.Error(codes.AlreadyExists, "machine is already installed")
}

// Upgrade implements the lifecycle service: it writes the other slot while the
// node runs and ends well whatever the installer says; that is in the stream.
func (a *lifecycleAPI) Upgrade(in *machine.LifecycleServiceUpgradeRequest, out grpc.ServerStreamingServer[machine.LifecycleServiceUpgradeResponse]) error {
	s := a.s

	if _, err := s.running(); err != nil {
		return err
	}

	image := in.GetSource().GetImageName()
	if image == "" {
		return status.Error(codes.InvalidArgument, "installer image name is required")
	}

	if !slices.Contains(s.node.read().images, image) {
		return status.Errorf(codes.Internal, "upgrade failed: image %q: not found", image)
	}

	if !s.setBusy("upgrade") {
		return status.Error(codes.FailedPrecondition, "another installation/upgrade is already in progress")
	}
	defer s.setBusy("")

	var sendErr error

	say := func(msg string) {
		if err := out.Send(&machine.LifecycleServiceUpgradeResponse{Progress: &machine.LifecycleServiceInstallProgress{
			Response: &machine.LifecycleServiceInstallProgress_Message{Message: msg},
		}}); err != nil && sendErr == nil {
			sendErr = err
		}
	}

	code := int32(exitInput)

	next, _, err := installer(image)
	if err != nil {
		say(err.Error())
	} else {
		code = s.install(next, say)
	}

	if s.node.takeFault(func(f *Faults) *bool { return &f.BreakInstallStream }) {
		return s.breakConnections()
	}

	if sendErr != nil {
		return sendErr
	}

	return out.Send(&machine.LifecycleServiceUpgradeResponse{Progress: &machine.LifecycleServiceInstallProgress{
		Response: &machine.LifecycleServiceInstallProgress_ExitCode{ExitCode: code},
	}})
}

// install writes the slot that does not run and returns the installer's exit
// code.
func (s *session) install(next slot, say func(string)) int32 {
	say(fmt.Sprintf("running Talos installer %s", next.version))

	if err := upgradeable(s.slot.version, next.version); err != nil {
		say("pre-flight checks failed: " + err.Error())

		return exitEnvironment
	}

	if !s.sleep(s.timings().Install) {
		return 1
	}

	for s.node.Faults().InstallHangs {
		if !s.sleep(time.Second) {
			return 1
		}
	}

	if s.node.Faults().DiskFull {
		say("write /dev/vda: no space left on device")

		return exitIO
	}

	if code := s.node.Faults().InstallExitCode; code != 0 {
		say("installation failed")

		return code
	}

	s.node.write(func(d *disk) {
		d.active = 1 - s.entry
		d.slots[d.active] = next
		d.fallback = true
	})
	say("installation of " + next.version + " complete")
	s.logf("[talos] installed %s (schematic %s) for the next boot", next.version, next.schematic)

	return exitOK
}

// upgradeable is the installer's preflight.
func upgradeable(from, to string) error {
	host, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: from})
	if err != nil {
		return err
	}

	target, err := compatibility.ParseTalosVersion(&machine.VersionInfo{Tag: to})
	if err != nil {
		return err
	}

	return target.UpgradeableFrom(host)
}

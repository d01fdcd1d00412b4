package talos

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"

	"github.com/ichor-project/ichor/internal/fault"
)

// wholeTimeout bounds the answer to an upgrade of Talos before 1.13: the node
// pulls and inspects the installer before it answers.
const wholeTimeout = 10 * time.Minute

// Install writes a pulled installer image into the slot that does not run, on
// Talos 1.13 and later. The running slot is untouched, so it is safe to repeat.
// Progress, which may be nil, gets the installer's own lines.
//
// Errors by the installer's exit code: Invalid (input, unsupported), Unsafe
// (environment: for example, the new version does not take over from this one),
// Unavailable (dependency, IO), Internal (anything else). Conflict while another
// installation runs, NotFound when the image has not been pulled, Unavailable
// when the answer was lost, Invalid before Talos 1.13.
func (n *Node) Install(ctx context.Context, image string, progress func(string)) error {
	const op = "install"
	last, code := "", int32(-1)
	err := receive(ctx, n, op, repeatable, stallTimeout,
		func(ctx context.Context) (grpc.ServerStreamingClient[machine.LifecycleServiceUpgradeResponse], error) {
			return n.api.LifecycleClient.Upgrade(ctx, &machine.LifecycleServiceUpgradeRequest{
				Containerd: containerd(common.ContainerdNamespace_NS_SYSTEM),
				Source:     &machine.InstallArtifactsSource{ImageName: image},
			})
		},
		func(m *machine.LifecycleServiceUpgradeResponse) error {
			switch r := m.GetProgress().GetResponse().(type) {
			case *machine.LifecycleServiceInstallProgress_Message:
				if line := strings.TrimSpace(r.Message); line != "" {
					last = line
					if progress != nil {
						progress(line)
					}
				}
			case *machine.LifecycleServiceInstallProgress_ExitCode:
				code = r.ExitCode
			}
			return nil
		})
	if err != nil {
		return installError(image, err)
	}
	return exitError(op+" of "+n.address, code, last)
}

// installError sharpens errors of the call itself; the installer's own come as
// an exit code.
func installError(image string, err error) error {
	return sharpen(err, func(f *fault.Error) {
		text := f.Message
		switch {
		case containsAny(text, "not found"):
			f.Kind, f.Message = fault.NotFound, "the node does not have "+image+": pull it first"
		case containsAny(text, "not installed", "not supported"):
			f.Kind = fault.Invalid
		}
	})
}

// exits says what the exit codes of the installer mean.
//
// Source: Exit* in machinery's constants.
var exits = map[int32]struct {
	name string
	kind fault.Kind
}{
	constants.ExitUnknownError: {"unknown", fault.Internal},
	constants.ExitInvalidInput: {"invalid input", fault.Invalid},
	constants.ExitUnsupported:  {"unsupported", fault.Invalid},
	constants.ExitEnvironment:  {"environment", fault.Unsafe},
	constants.ExitDependency:   {"dependency", fault.Unavailable},
	constants.ExitIO:           {"IO", fault.Unavailable},
	constants.ExitInstall:      {"installation", fault.Internal},
}

// exitError maps the end of an installer; code -1 stands for none.
func exitError(op string, code int32, last string) error {
	switch code {
	case constants.ExitSuccess:
		return nil
	case -1:
		return fault.New(fault.Unavailable, op, "the installer's stream ended without an exit code")
	}
	exit, known := exits[code]
	if !known {
		exit.name, exit.kind = "unknown", fault.Internal
	}
	message := fmt.Sprintf("the installer ended with exit code %d (%s)", code, exit.name)
	if last != "" {
		message += ": " + clip(explainText(last))
	}
	return &fault.Error{Kind: exit.kind, Op: op, Message: message, Code: fmt.Sprintf("exit %d", code)}
}

// UpgradeWhole is the upgrade of Talos before 1.13: the node checks etcd, drains
// itself, installs and reboots, all behind one answer that comes before any of
// it. Errors: Unsafe when the node's own check of etcd refuses, Invalid when it
// does not take the image, Conflict while something else holds the node or
// another control plane upgrades, Unavailable when it has not begun, Ambiguous
// when the answer was lost.
func (n *Node) UpgradeWhole(ctx context.Context, image string) error {
	_, err := call(ctx, n, "upgrade", once, wholeTimeout, func(ctx context.Context) (*machine.UpgradeResponse, error) {
		// Force and Preserve stay false: either of them skips the check of etcd.
		//nolint:staticcheck // nothing else exists before Talos 1.13
		return n.api.MachineClient.Upgrade(ctx, &machine.UpgradeRequest{Image: image, RebootMode: machine.UpgradeRequest_DEFAULT})
	})
	return wholeError(image, err)
}

// wholeError sharpens errors of UpgradeWhole. All errors that the node itself
// words come before the sequence begins.
func wholeError(image string, err error) error {
	return sharpen(err, func(f *fault.Error) {
		text := f.Message
		switch {
		case containsAny(text, "validating etcd for upgrade"):
			f.Kind = fault.Unsafe
		case containsAny(text, "upgrade mutex"):
			f.Kind = fault.Conflict
		case containsAny(text, "validating installer image") && containsAny(text, "not found", "invalid reference"):
			f.Kind, f.Message = fault.Invalid, "there is no image "+image
		case f.Kind == fault.Invalid:
		case containsAny(text, "validating installer image", "failed to create etcd client"):
			f.Kind = fault.Unavailable
		}
	})
}

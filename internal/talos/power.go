package talos

import (
	"context"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/ichor-project/ichor/internal/fault"
)

// RebootMode is how a node restarts.
type RebootMode string

// Modes of reboots.
const (
	// RebootDefault starts the new kernel out of the old one where possible.
	RebootDefault RebootMode = "default"
	// RebootPowerCycle goes through the firmware.
	RebootPowerCycle RebootMode = "powercycle"
)

// Reboot restarts a node into the slot that was written last, without draining:
// that is the caller's. The answer comes before anything happens; whether it
// happened, the boot id shows. Errors: Conflict while something else holds the
// node, Ambiguous when the answer was lost.
func (n *Node) Reboot(ctx context.Context, mode RebootMode) error {
	const op = "reboot"
	var want machine.RebootRequest_Mode
	switch mode {
	case RebootDefault, "":
		want = machine.RebootRequest_DEFAULT
	case RebootPowerCycle:
		want = machine.RebootRequest_POWERCYCLE
	default:
		return fault.New(fault.Internal, op, "there is no way to reboot called %q", string(mode))
	}
	_, err := call(ctx, n, op, once, writeTimeout, func(ctx context.Context) (*machine.RebootResponse, error) {
		return n.api.MachineClient.Reboot(ctx, &machine.RebootRequest{Mode: want})
	})
	return err
}

// Rollback makes the other slot the one to boot and reboots at once, without
// draining. Errors: Unsafe when the other slot is empty, Conflict while
// something else holds the node, Ambiguous when the answer was lost: then the
// boot id and the version show what happened, and a blind repetition might
// switch back.
func (n *Node) Rollback(ctx context.Context) error {
	_, err := call(ctx, n, "roll back", once, writeTimeout, func(ctx context.Context) (*machine.RollbackResponse, error) {
		return n.api.MachineClient.Rollback(ctx, &machine.RollbackRequest{})
	})
	return rollbackError(err)
}

// rollbackError recognises the boot loaders' ways to say that there is nothing
// to go back to.
func rollbackError(err error) error {
	return sharpen(err, func(f *fault.Error) {
		if containsAny(f.Message, "cannot rollback", "cannot revert bootloader", "previous UKI not found") {
			f.Kind = fault.Unsafe
		}
	})
}

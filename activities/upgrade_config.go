package activities

import (
	"context"
	"errors"

	"github.com/ichor-project/ichor/internal/fault"
)

// ApplyMachineConfig gives a node its config of a leg, or of the record: at once
// where the node takes it without a reboot, else staged for its next boot. A node
// that has it is left alone. It returns when a config that was not staged is the
// one that the node runs. Safe to repeat: the same config twice changes nothing.
// Errors: Invalid naming the field when it cannot be rendered, or when the node
// refuses it.
func (u *Upgrades) ApplyMachineConfig(ctx context.Context, in ApplyConfigInput) (ApplyConfigResult, error) {
	var out ApplyConfigResult
	r, bundle, err := u.renderer(ctx, in.Ref, in.Leg)
	if err != nil {
		return out, err
	}
	t := in.Target
	config, _, err := r.config(ctx, t.Role, t.Group, t.Node.Name, in.Components)
	if err != nil {
		return out, err
	}
	if out.SHA256, err = u.Configs.Digest(config); err != nil {
		return out, err
	}
	sent := false
	err = poll(ctx, "apply the config of "+t.Node.Name, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		f, err := u.facts(ctx, bundle, t)
		switch {
		case err != nil:
			return false, "does not answer", err
		case f.Stage == maintenance:
			return false, "", fault.New(fault.Unsafe, "apply the config of "+t.Node.Name, "the node waits for a config (maintenance mode): it has lost its state and must be replaced")
		case f.ConfigSHA256 == out.SHA256:
			out.Changed = sent
			return true, "has it", nil
		}
		out.BootID = f.BootID
		call, cancel := within(ctx, factsTimeout)
		defer cancel()
		err = u.Machines.Apply(call, bundle, t.Node.Address, config, false)
		if needsReboot(err) {
			if err = u.Machines.Apply(call, bundle, t.Node.Address, config, true); err == nil {
				out.Changed, out.Staged = true, true
				return true, "staged", nil
			}
		}
		sent = sent || err == nil || fault.Is(err, fault.Ambiguous, fault.Unavailable)
		if fault.Is(err, fault.Ambiguous) {
			return false, "sent; the answer was lost", nil
		}
		return false, "sent; the node does not report it yet", err
	})
	return out, err
}

// needsReboot says that a node takes a config only staged.
func needsReboot(err error) bool {
	var f *fault.Error
	return errors.As(err, &f) && f.Kind == fault.Invalid && f.Code == NeedsReboot
}

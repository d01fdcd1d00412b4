package activities

import (
	"context"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// ReplaceInput names a member that a new machine shall replace.
type ReplaceInput struct {
	Ref   cluster.Ref `json:"ref"`
	Group string      `json:"group"`
	// Machine is the machine id of a worker; of a control plane the name will do.
	Machine string `json:"machine"`
	// Out says, of a control plane, that etcd goes on without it: its machine is
	// deleted at once. Whoever asks has made sure.
	Out bool `json:"out,omitempty"`
	// Lost says that the record names the machine though the group may not know
	// it, having been started again without it: the new one is added all the same.
	Lost bool `json:"lost,omitempty"`
	// RequestID makes each counted once.
	RequestID string `json:"requestID"`
}

// ReplaceResult says what came of it.
type ReplaceResult struct {
	// By is the name of the new machine; empty when the member has left already.
	By      string `json:"by,omitempty"`
	Message string `json:"message,omitempty"`
}

// ReplaceProgress is how far a replacement is.
type ReplaceProgress struct {
	// Done says that the member is gone.
	Done bool `json:"done,omitempty"`
	// Failed says why the new machine came to nothing; the member stays then.
	Failed string `json:"failed,omitempty"`
	// Note is what is being waited for.
	Note string `json:"note,omitempty"`
}

// GroupReplacements asks the entities of node groups for replacements.
type GroupReplacements interface {
	// Replace asks for one by an update of the group's workflow; a repetition adds
	// nothing. Errors as of GroupLeases.Lease.
	Replace(ctx context.Context, in ReplaceInput) (ReplaceResult, error)
	// Progress reads how far one is. NotFound when the group does not run.
	Progress(ctx context.Context, in ReplaceInput) (ReplaceProgress, error)
}

// ReplaceMember has a group add a machine that takes the place of a member. Safe
// to repeat. Errors: NotFound, Conflict (paused, being deleted), Unsafe for
// control planes that are not out of etcd.
func (u *Upgrades) ReplaceMember(ctx context.Context, in ReplaceInput) (ReplaceResult, error) {
	defer alive(ctx, "asking for a replacement of "+in.Machine)()
	return u.Replacements.Replace(ctx, in)
}

// WaitReplaced waits until the member has left and the new machine has its place.
// It reads only. Errors: Capacity when the new machine came to nothing, and
// NotYet, saying what it waits for, when its time is over.
func (u *Upgrades) WaitReplaced(ctx context.Context, in ReplaceInput) error {
	const op = "wait for the replacement"
	return poll(ctx, op, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		p, err := u.Replacements.Progress(ctx, in)
		if err == nil && p.Failed != "" {
			err = fault.New(fault.Capacity, op, "the new machine came to nothing: %s", p.Failed)
		}
		return err == nil && p.Done, p.Note, err
	})
}

package activities

import "context"

// Runs knows the workflow runs of the installation.
type Runs interface {
	// Holder returns the run that is running under a workflow id, and its type;
	// empty when none runs. Errors: Unavailable.
	Holder(ctx context.Context, workflowID string) (runID, workflowType string, err error)
}

// Locks looks at the workflow ids that serve as locks.
type Locks struct{ Runs Runs }

// FindHolderInput names a lock.
type FindHolderInput struct {
	WorkflowID string `json:"workflowID"`
}

// FindHolderResult is who holds it; empty when nobody does.
type FindHolderResult struct {
	RunID string `json:"runID,omitempty"`
	Type  string `json:"type,omitempty"`
}

// FindHolder says which run holds a lock, for the message of one that does not.
// It reads only.
func (l *Locks) FindHolder(ctx context.Context, in FindHolderInput) (FindHolderResult, error) {
	defer alive(ctx, "looking at the lock")()
	run, kind, err := l.Runs.Holder(ctx, in.WorkflowID)
	return FindHolderResult{RunID: run, Type: kind}, err
}

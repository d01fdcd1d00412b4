package workflows

import (
	"bytes"
	"encoding/json"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// Names of what repairs clusters.
const (
	TypeRollbackNode = "RollbackNode"
	TypeReplaceNode  = "ReplaceNode"
	// TypeRestoreCluster begins etcd anew from a snapshot.
	TypeRestoreCluster = "RestoreCluster"
)

// WorkRollback boots the other slot of a node.
const WorkRollback NodeWork = "rollback"

// RollbackInput names a node that shall boot its other slot.
type RollbackInput struct {
	Cluster string `json:"cluster"`
	// Node is the name or the machine id of a node.
	Node string `json:"node"`
	// Strategy says how the node is drained, for how long it must do well, and
	// whether the only control plane may go; what concerns several nodes is not
	// looked at.
	Strategy plan.UpgradeStrategy `json:"strategy,omitzero"`

	problem string
}

// UnmarshalJSON decodes strictly and remembers the problem.
func (in *RollbackInput) UnmarshalJSON(b []byte) error {
	type plain RollbackInput
	var p plain
	p.problem = strictly(b, &p)
	*in = RollbackInput(p)
	return nil
}

// RollbackResult says what the node runs.
type RollbackResult struct {
	Cluster cluster.Ref `json:"cluster"`
	Node    string      `json:"node"`
	// From is what it ran before, Runs what it runs now.
	From    plan.UpgradeNode `json:"from"`
	Runs    plan.UpgradeNode `json:"runs"`
	Message string           `json:"message"`
}

// ReplaceNodeInput names a node that a new machine shall replace.
type ReplaceNodeInput struct {
	Cluster string `json:"cluster"`
	// Node is the name or the machine id of a node; it may be gone.
	Node string `json:"node"`

	problem string
}

// UnmarshalJSON decodes strictly and remembers the problem.
func (in *ReplaceNodeInput) UnmarshalJSON(b []byte) error {
	type plain ReplaceNodeInput
	var p plain
	p.problem = strictly(b, &p)
	*in = ReplaceNodeInput(p)
	return nil
}

// ReplaceNodeResult says what came of it.
type ReplaceNodeResult struct {
	Cluster cluster.Ref `json:"cluster"`
	Node    string      `json:"node"`
	// By is the name of the new machine; empty when it is not known any more.
	By string `json:"by,omitempty"`
	// Unchanged says that the node had been replaced before.
	Unchanged bool   `json:"unchanged,omitempty"`
	Message   string `json:"message"`
}

// RestoreInput names a cluster that has lost its etcd, and what it is restored
// from.
type RestoreInput struct {
	Cluster string `json:"cluster"`
	// Snapshot is one that an upgrade has stored.
	Snapshot activities.SnapshotResult `json:"snapshot"`

	problem string
}

// UnmarshalJSON decodes strictly and remembers the problem.
func (in *RestoreInput) UnmarshalJSON(b []byte) error {
	type plain RestoreInput
	var p plain
	p.problem = strictly(b, &p)
	*in = RestoreInput(p)
	return nil
}

// RestoreResult says what came of it.
type RestoreResult struct {
	Cluster cluster.Ref `json:"cluster"`
	// ControlPlanes are the names of the new ones.
	ControlPlanes []string `json:"controlPlanes"`
	Message       string   `json:"message"`
}

// strictly decodes into v and returns what is wrong, without values; v is filled as
// far as it goes, since names make errors readable.
func strictly(b []byte, v any) string {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		_ = json.Unmarshal(b, v) // as far as it goes
		return err.Error()
	}
	return ""
}

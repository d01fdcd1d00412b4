package cloud

import (
	"context"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Adopter is implemented by clouds whose machines can get an identity after they
// were made.
type Adopter interface {
	// AdoptMachines gives every machine that carries req.Tag and all of req.Also,
	// and no identity of Ichor yet, the identity of the owner, and returns all machines of the
	// owner as ListMachines does. A machine's id is derived from the cloud's, so
	// that repeating it changes nothing. Machines of other owners are left
	// alone; nothing is made or deleted.
	AdoptMachines(ctx context.Context, req AdoptRequest) ([]Machine, error)
}

// AdoptRequest names machines by a tag of their own.
type AdoptRequest struct {
	Owner Owner
	Role  cluster.Role
	Tag   cluster.Tag
	// Also are further tags that the machines must carry.
	Also []cluster.Tag
}

// NodeLabels is implemented by clouds whose controllers put labels on nodes.
type NodeLabels interface {
	// NodeLabels returns the labels that depend on the zone alone, sorted by
	// key. It is pure.
	NodeLabels(zone string) []cluster.Tag
}

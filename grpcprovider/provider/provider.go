// Package provider says what the server of the autoscaler's contract serves:
// node groups, their instances, and the three requests that change them. It
// knows neither Temporal nor the wire; a Source brings both together.
package provider

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/workflows"
)

// State is what the autoscaler sees of a machine.
type State string

// States of instances.
const (
	// Creating holds from the moment a machine is wanted until it is a ready
	// node; also for one that could not be made, which then has an Error.
	Creating State = "creating"
	Running  State = "running"
	// Deleting instances are no longer part of the target.
	Deleting State = "deleting"
)

// Class is the autoscaler's coarse reason of a failed creation.
type Class string

// Classes of failures; the contract knows no others.
const (
	// OutOfResources is quota and capacity.
	OutOfResources Class = "out-of-resources"
	Other          Class = "other"
)

// InstanceError says why a machine could not be made.
type InstanceError struct {
	Class Class
	// Code is never empty: the autoscaler drops an error without one. The
	// failure's kind serves well.
	Code    string
	Message string
}

// Instance is one wanted machine, from the acceptance of the request for it.
type Instance struct {
	// ID is the node's provider ID once it is known, before that a placeholder;
	// never empty, unique over all groups.
	ID    string
	State State
	// Error is set for machines that could not be made; their State is Creating.
	Error *InstanceError
	// Name of the Node, empty until it is chosen.
	Name string
	// Aliases are further ids under which the instance was known: they find the
	// group and delete the machine as ID does, but are not listed.
	Aliases []string
}

// Group is one node group at one moment. It is shared by all readers and never
// changed after it was published.
type Group struct {
	// ID is "<cluster>/<group>", for people and for the priority expander.
	ID    string
	Facts workflows.GroupFacts
	// Target equals the number of instances that are not Deleting.
	Target int
	// Generation is the entity's; for logs.
	Generation int64
	// Instances are sorted by ID.
	Instances []Instance
	// Paused is why requests are refused, empty when they are not.
	Paused string
	// Unread is why the group is shown as it was last read and its requests are
	// refused; empty when it could be read.
	Unread string
}

// NodeRef names a node as the autoscaler does: ProviderID may be a provider ID,
// a placeholder or an alias, and may be empty; Name may be any of these too (for
// instances that never became nodes) or the Node's name.
type NodeRef struct {
	ProviderID string
	Name       string
}

// String names the node for people.
func (n NodeRef) String() string {
	switch {
	case n.Name == "" || n.Name == n.ProviderID:
		return n.ProviderID
	case n.ProviderID == "":
		return n.Name
	}
	return n.Name + " (" + n.ProviderID + ")"
}

// Stats describe the snapshot; zero times mean never.
type Stats struct {
	// Refreshed is when state was last read completely and successfully.
	Refreshed time.Time
	// Listed is, by account ("<provider> <zone or account name>"), when the
	// cloud's list was last complete.
	Listed map[string]time.Time
}

type requestID struct{}

// WithRequestID gives a request the id under which it is signalled and logged.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestID{}, id)
}

// RequestID is the id that the caller chose, empty when it chose none.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestID{}).(string)
	return id
}

// Source has the groups, except those that do not scale (Facts.Max is 0): their
// nodes are of no group. Reads answer from memory: they never wait for a network
// call nor for a lock that is held over one, also before the first Refresh, when
// they answer with what was read at start. All methods are safe for concurrent
// use. Errors carry a fault kind: Invalid for a request that can never succeed
// (a size beyond the bounds, a node of another group), NotFound for an unknown
// group, Conflict for a paused group, Unavailable when Temporal does not answer.
type Source interface {
	// Refresh reads the state of all groups anew. It fails with Unavailable when
	// that is not possible, and the snapshot then stays as it was.
	Refresh(ctx context.Context) error
	// Groups are all groups, sorted by ID. The caller must not change them.
	Groups() []*Group
	Group(id string) (*Group, bool)
	// GroupForNode finds the group of a node by its provider ID (ID or alias of
	// an instance) and, failing that, by the Node's name. The work does not grow
	// with the number of nodes.
	GroupForNode(ref NodeRef) (groupID string, ok bool)
	// IncreaseSize adds delta > 0 machines. nil means that the request is durable
	// and counted once; an error means that it never takes effect. A caller whose
	// ctx has ended does not read the answer, so that is an error as well. The
	// request's id is RequestID(ctx), or a new one.
	IncreaseSize(ctx context.Context, groupID string, delta int) error
	// DeleteNodes removes all nodes or, if one of them is not of the group, none.
	// Nodes that are being deleted, or were lately, are success and not counted
	// again.
	DeleteNodes(ctx context.Context, groupID string, nodes []NodeRef) error
	// DecreaseTargetSize gives up to delta > 0 machines up that do not exist yet.
	// Conflict when there is none to give up.
	DecreaseTargetSize(ctx context.Context, groupID string, delta int) error
	Stats() Stats
}

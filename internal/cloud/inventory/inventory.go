// Package inventory ensures, lists and deletes the infrastructure of clusters on
// clouds whose resources carry tags: look by identity, adopt, repair, create at
// most once. A cloud gives it a Kind for each sort of resource; what a Kind does
// is one request each, so that every rule about repeating stands here once.
package inventory

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// Parameters of steps that mean the same on every cloud.
const (
	ParamZone     = "zone"
	ParamCIDR     = "cidr"
	ParamExisting = "existing" // the id of what was brought along
)

// AttrCIDR and AttrAddress are attributes of networks and of endpoints.
const (
	AttrCIDR    = "cidr"
	AttrAddress = "address"
)

// Item is a resource as the cloud has it. D is what the cloud's kinds judge its
// settings by.
type Item[D any] struct {
	ID, Name, Zone, Parent, State string
	Tags                          map[string]string
	// Made is when its create was sent, or done; zero where nobody knows.
	Made  time.Time
	Ready bool
	// Fresh says that this process has just made it and changed nothing since: its
	// settings are the cloud's defaults, and reads may not show it yet.
	Fresh               bool
	Attributes, Machine []cluster.Tag
	Detail              D
}

// Attribute returns an attribute's value, "" if there is none.
func (i *Item[D]) Attribute(key string) string { return attribute(i.Attributes, key) }

// Attribute returns an attribute's value of an ensured resource, "" if there is
// none.
func Attribute(r cloud.Resource, key string) string { return attribute(r.Attributes, key) }

func attribute(tags []cluster.Tag, key string) string {
	n := slices.IndexFunc(tags, func(t cluster.Tag) bool { return t.Key == key })
	if n < 0 {
		return ""
	}
	return tags[n].Value
}

// EndpointHost returns the address of the first resource of a kind that has one.
func EndpointHost(have []cloud.Resource, kind string) string {
	for _, r := range have {
		if host := Attribute(r, AttrAddress); r.Kind == kind && host != "" {
			return host
		}
	}
	return ""
}

// Step is a step with its parameters, which are sorted by key.
func Step(kind, key, name, title string, params ...cluster.Tag) cloud.Step {
	return cloud.Step{Kind: kind, Key: key, Name: name, Title: title, Params: params}
}

// Covers says that one range contains another.
func Covers(outer, inner string) bool {
	o, err := netip.ParsePrefix(outer)
	if err != nil {
		return false
	}
	i, err := netip.ParsePrefix(inner)
	return err == nil && o.Bits() <= i.Bits() && o.Contains(i.Addr())
}

// Kind is how one sort of resource is handled.
type Kind[D any] struct {
	Name string
	// Within is the kind of the resource that this one lives in, if any.
	Within string
	// Zonal says that machines of other zones have nothing of it.
	Zonal bool
	// Lags says that reads may not show it yet, and then call it missing.
	Lags bool
	// List returns everything of the owner's cluster.
	List func(ctx context.Context, o cloud.Owner) ([]Item[D], error)
	Get  func(ctx context.Context, id string) (Item[D], error)
	// Tags reads the tags of an item that Get does not come with; it may be nil.
	Tags func(ctx context.Context, id string) (map[string]string, error)
	// Create makes an item, in one request that is sent by sendBy or not at all.
	// It is nil for what Ichor only ever cleans up.
	Create func(ctx context.Context, req cloud.EnsureResourceRequest, tags map[string]string, sendBy time.Time) (Item[D], error)
	// Mend makes the settings of an item what the step wants; it is repeated until
	// there is nothing to do, and may be nil.
	Mend func(ctx context.Context, req cloud.EnsureResourceRequest, i *Item[D]) error
	// Remove asks for deletion. Absent is success.
	Remove func(ctx context.Context, i *Item[D]) error
}

package rig

import (
	"context"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/stack"
)

// site is what judging a cluster needs to know of a cloud, beside what all tests
// know of it.
type site struct {
	// wanted counts all that makes up a cluster, by kind.
	wanted func(r *Rig) map[string]int
	// nameless are kinds that do not say whose they are.
	nameless []string
	// creates are the timeline's words for creates, with the kind that they make.
	creates map[string]string
	// born and dead are the timeline's words for the two ends of a machine, where a
	// machine may never exist twice; empty where it may until that is repaired.
	born string
	dead []string
	// machineCreate is the word for the create of a machine.
	machineCreate string
	// forwards returns the addresses that the endpoint forwards to, and those of
	// the control planes in the private network.
	forwards func(ctx context.Context, r *Rig, s State) (have, want []string, err error)
	// cramp leaves room for one machine less than the cluster has.
	cramp func(ctx context.Context, r *Rig) error
	// extensions are those of the first group.
	extensions []string
}

var sites = map[string]site{"cloudscale": cloudscale, "aws": aws}

// shards is how many placement groups the machines need when so many fit in one.
func (r *Rig) shards(limit int) (n int) {
	for _, size := range r.groups() {
		n += (size + limit - 1) / limit
	}
	return n
}

func (r *Rig) machines() (n int) {
	for _, size := range r.groups() {
		n += size
	}
	return n
}

// zones are those that the cluster's machines may be in.
func (r *Rig) zones() []string {
	all := slices.Clone(r.Spec.Spec.ControlPlane.Zones)
	for _, g := range r.Spec.Spec.NodeGroups {
		all = append(all, g.Zones...)
	}
	if len(all) == 0 {
		all = append(all, r.Spec.Spec.Cloud.Zone)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// path is where the requests to the cloud begin.
func path(c stack.Cloud) string {
	return strings.TrimSuffix(strings.TrimPrefix(c.Routes.All, "* "), "**")
}

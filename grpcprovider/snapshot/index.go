package snapshot

import (
	"hash/maphash"
	"maps"

	"github.com/ichor-project/ichor/grpcprovider/provider"
)

// shards bounds what one change copies: with 5,000 nodes a shard has some 60
// keys.
const shards = 256

var seed = maphash.MakeSeed()

// index finds the group of a node. It is never changed after it was published;
// with copies what differs.
type index [shards]map[key]place

// key is an id or, with name set, the name of a Node.
type key struct {
	text string
	name bool
}

// place is the group of a key, and for names the provider ID that goes with it.
type place struct{ group, providerID string }

func (k key) shard() int {
	return int(maphash.String(seed, k.text) % shards)
}

// with returns an index in which the keys of old are replaced by those of new.
func (x *index) with(old, now map[key]place) *index {
	next := *x
	copied := [shards]bool{}
	at := func(k key) map[key]place {
		s := k.shard()
		if !copied[s] {
			copied[s] = true
			if next[s] = maps.Clone(next[s]); next[s] == nil {
				next[s] = map[key]place{}
			}
		}
		return next[s]
	}
	for k, p := range old {
		// Another group may have taken the key over; it keeps it.
		if _, stays := now[k]; !stays && x[k.shard()][k] == p {
			delete(at(k), k)
		}
	}
	for k, p := range now {
		if x[k.shard()][k] != p {
			at(k)[k] = p
		}
	}
	return &next
}

// find returns the group of a node: by one of the ids of its machine, or by
// name. A name that belongs to another machine is no match.
func (x *index) find(ref provider.NodeRef) (string, bool) {
	if ref.ProviderID != "" {
		k := key{text: ref.ProviderID}
		if p, ok := x[k.shard()][k]; ok {
			return p.group, true
		}
	}
	if ref.Name == "" {
		return "", false
	}
	for _, name := range [...]bool{false, true} {
		k := key{text: ref.Name, name: name}
		p, ok := x[k.shard()][k]
		if ok && (ref.ProviderID == "" || p.providerID == "" || p.providerID == ref.ProviderID) {
			return p.group, true
		}
	}
	return "", false
}

// keys are all ids and names by which the nodes of a group are found, also of
// those that were deleted lately: the autoscaler may still hold them.
func (v *view) keys() map[key]place {
	group := groupID(v.facts.Cluster.Name, v.facts.Group)
	out := make(map[key]place, 3*len(v.members)+3*len(v.gone))
	for _, g := range v.gone {
		p := place{group, g.ProviderID}
		for _, id := range append([]string{g.Instance, g.ProviderID}, g.Aliases...) {
			out[key{text: id}] = p
		}
		out[key{text: g.Name, name: true}] = p
	}
	for _, m := range v.members {
		p := place{group, m.ProviderID}
		for _, id := range ids(m) {
			if id != m.ID {
				out[key{text: id}] = p
			}
		}
		out[key{text: m.Name, name: true}] = p
	}
	delete(out, key{})
	delete(out, key{name: true})
	return out
}

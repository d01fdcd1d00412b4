package account

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// Tag is a key and a value.
type Tag struct{ Key, Value string }

// maxTags is the quota of tags per resource.
const maxTags = 50

// CheckTags says whether tags may be put on a new resource.
func CheckTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > 128:
			return query.Refuse("InvalidParameterValue", "Tag keys must have 1 to 128 characters: %q", t.Key)
		case utf8.RuneCountInString(t.Value) > 256:
			return query.Refuse("InvalidParameterValue", "Tag values must have up to 256 characters: %q", t.Key)
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return query.Refuse("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		case seen[t.Key]:
			return query.Refuse("InvalidParameterValue", "Duplicate tag key '%s' specified.", t.Key)
		}
		seen[t.Key] = true
	}
	if len(seen) > maxTags {
		return query.Refuse("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
	}
	return nil
}

func (a *Account) setTags(id string, tags []Tag) {
	if len(tags) == 0 {
		return
	}
	m := maps.Clone(a.tags[id])
	if m == nil {
		m = map[string]string{}
	}
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	a.tags[id] = m
}

// kinds maps the prefix of an id to what EC2 calls such a resource, and to the
// code and words for one that does not exist.
var kinds = map[string]struct{ kind, code, words string }{
	"i":      {"instance", "InvalidInstanceID.NotFound", "instance ID"},
	"ami":    {"image", "InvalidAMIID.NotFound", "image id"},
	"snap":   {"snapshot", "InvalidSnapshot.NotFound", "snapshot"},
	"vol":    {"volume", "InvalidVolume.NotFound", "volume"},
	"vpc":    {"vpc", "InvalidVpcID.NotFound", "vpc ID"},
	"igw":    {"internet-gateway", "InvalidInternetGatewayID.NotFound", "internetGateway ID"},
	"subnet": {"subnet", "InvalidSubnetID.NotFound", "subnet ID"},
	"rtb":    {"route-table", "InvalidRouteTableID.NotFound", "routeTable ID"},
	"sg":     {"security-group", "InvalidGroup.NotFound", "security group"},
	"eni":    {"network-interface", "InvalidNetworkInterfaceID.NotFound", "networkInterface ID"},
	"pg":     {"placement-group", "InvalidPlacementGroup.Unknown", "placement group"},
}

// KindOf returns what EC2 calls the resources of an id's prefix.
func KindOf(id string) string {
	prefix, _, _ := strings.Cut(id, "-")
	return kinds[prefix].kind
}

func (a *Account) lookup(id string) (*Record, bool) {
	for _, find := range []func(string) (entity, bool){
		in(&a.instances), in(&a.images), in(&a.snapshots), in(&a.volumes), in(&a.vpcs), in(&a.gateways), in(&a.subnets),
		in(&a.routeTables), in(&a.groups), in(&a.interfaces), in(&a.placements),
	} {
		if e, ok := find(id); ok {
			return e.record(), true
		}
	}
	return nil, false
}

func in[T entity](t *table[T]) func(string) (entity, bool) {
	return func(id string) (entity, bool) {
		e, ok := t.rows[id]
		return e, ok
	}
}

// Known returns the kind of a resource, its tags, and whether it is there, however
// young it is. Placement groups have names.
func (a *Account) Known(id string) (kind string, tags map[string]string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.placement(id); g != nil {
		id = g.ID
	}
	if kind = KindOf(id); kind == "" {
		return kinds["pg"].kind, nil, false
	}
	_, ok = a.lookup(id)
	return kind, maps.Clone(a.tags[id]), ok
}

// taggable checks that all resources exist for a view.
func (v View) taggable(ids []string) error {
	if len(ids) == 0 {
		return query.Refuse("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	for _, id := range ids {
		prefix, _, _ := strings.Cut(id, "-")
		k, ok := kinds[prefix]
		if !ok {
			return query.Refuse("InvalidID", "The ID '%s' is not valid", id)
		}
		if r, ok := v.a.lookup(id); !ok || !v.sees(r) {
			return query.Refuse(k.code, "%s", describe(k.words, id))
		}
	}
	return nil
}

// CreateTags adds or overwrites tags of resources, or changes nothing.
func (v View) CreateTags(ids []string, tags []Tag) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if err := v.taggable(ids); err != nil {
		return err
	}
	if err := CheckTags(tags); err != nil {
		return err
	}
	for _, id := range ids {
		all := maps.Clone(v.a.tags[id])
		if all == nil {
			all = map[string]string{}
		}
		for _, t := range tags {
			all[t.Key] = t.Value
		}
		if len(all) > maxTags {
			return query.Refuse("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")
		}
	}
	for _, id := range ids {
		v.a.setTags(id, tags)
		v.a.note(v.Action, id)
	}
	return nil
}

// OldTag is a tag to delete; without Value it goes whatever its value is.
type OldTag struct {
	Key   string
	Value *string
}

// DeleteTags removes tags, all of them if none are given. What is not there is
// not missed.
func (v View) DeleteTags(ids []string, tags []OldTag) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if err := v.taggable(ids); err != nil {
		return err
	}
	for _, id := range ids {
		m := maps.Clone(v.a.tags[id])
		maps.DeleteFunc(m, func(k, value string) bool {
			return len(tags) == 0 || slices.ContainsFunc(tags, func(t OldTag) bool {
				return t.Key == k && (t.Value == nil || *t.Value == value)
			})
		})
		v.a.tags[id] = m
		v.a.note(v.Action, id)
	}
	return nil
}

// Tagged is a tag with its resource.
type Tagged struct {
	Tag
	Resource, Kind string
}

// AllTags returns the tags of all resources that the view sees.
func (v View) AllTags() []Tagged {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	out := []Tagged{}
	for _, id := range slices.Sorted(maps.Keys(v.a.tags)) {
		if r, ok := v.a.lookup(id); !ok || !v.sees(r) {
			continue
		}
		for _, t := range v.a.tagsOf(id) {
			out = append(out, Tagged{t, id, KindOf(id)})
		}
	}
	return out
}

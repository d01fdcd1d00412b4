package cloud

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// TagRequest holds the fingerprint of the request that made a machine. It tells a
// cloud that did something else from a workflow that now wants something else.
const TagRequest = cluster.TagPrefix + "request"

// Tags are the identity tags that everything of an owner carries.
func (o Owner) Tags() map[string]string {
	tags := map[string]string{cluster.TagCluster: o.Cluster.UID, cluster.TagClusterName: o.Cluster.Name}
	if o.Group != "" {
		tags[cluster.TagGroup] = o.Group
	}
	return tags
}

// Has says that tags are those of the owner, or of a group of an owner without one.
func (o Owner) Has(tags map[string]string) bool {
	return o.Cluster.UID != "" && tags[cluster.TagCluster] == o.Cluster.UID && (o.Group == "" || tags[cluster.TagGroup] == o.Group)
}

// Named says that tags are the identity of the machine.
func (r MachineRef) Named(tags map[string]string) bool {
	return r.ID != "" && tags[cluster.TagMachine] == r.ID && r.Owner.Has(tags)
}

// RefOf is the identity that tags say, of a machine with the cloud's id.
func RefOf(tags map[string]string, id string) MachineRef {
	return MachineRef{
		Owner: Owner{
			Cluster: cluster.Ref{Name: tags[cluster.TagClusterName], UID: tags[cluster.TagCluster]},
			Group:   tags[cluster.TagGroup],
		},
		ID: tags[cluster.TagMachine], Cloud: id,
	}
}

// MissingTags says which of the wanted tags something lacks, "" when none.
func MissingTags(want, have map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := have[k]; !ok || v != want[k] {
			return fmt.Sprintf("tag %q is %q instead of %q", k, v, want[k])
		}
	}
	return ""
}

// ImageUsers are the clusters, by uid, whose marks tags have, sorted.
func ImageUsers(tags map[string]string) []string {
	var out []string
	for k := range tags {
		if uid, ok := strings.CutPrefix(k, cluster.TagImageUser); ok {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out
}

// Fingerprint is a short digest of values, for comparison and names only.
func Fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// CompareMachines orders machines as ListMachines does.
func CompareMachines(a, b Machine) int {
	return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Ref.Cloud, b.Ref.Cloud))
}

// Valid refuses a request for a machine that no cloud can serve: Internal
// without an identity, Invalid for what its user can change.
func (req EnsureMachineRequest) Valid(op string, c Capabilities) error {
	s := req.Spec
	switch n := len(req.UserData.Reveal()); {
	case s.ID == "" || s.Owner.Cluster.UID == "":
		return fault.New(fault.Internal, op, "a machine needs an id and a cluster uid")
	case n == 0:
		// Without user data Talos falls back to metadata over the network.
		return fault.New(fault.Invalid, op, "a machine needs user data")
	case n > c.UserDataMax:
		return fault.New(fault.Invalid, op, "its user data has %d bytes, the most is %d; use fewer or shorter config patches", n, c.UserDataMax)
	case s.Spot && !c.Spot:
		return fault.New(fault.Invalid, op, "the cloud has no spot machines")
	case s.Spot && s.Role == cluster.RoleControlPlane:
		return fault.New(fault.Invalid, op, "a control plane cannot be a spot machine: etcd would lose members whenever the cloud wants them back")
	}
	for _, t := range s.Tags {
		if cluster.ReservedTag(t.Key) {
			return fault.New(fault.Invalid, op, "tags that start with %q are reserved (%q)", cluster.TagPrefix, t.Key)
		}
	}
	return nil
}

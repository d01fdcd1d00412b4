package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

type tag = cluster.Tag

// Tags that are looked for. The others are cluster's own, too.
const (
	tagCluster = cluster.TagCluster
	tagMachine = cluster.TagMachine
	tagKind    = cluster.TagKind
	tagKey     = cluster.TagKey
	// tagRequest holds the fingerprint of the request that made a machine. It
	// tells a cloud that did something else from a workflow that now wants
	// something else.
	tagRequest = cluster.TagPrefix + "request"
	// tagMade is when a create was sent, since most resources have no time of
	// their own: of several the oldest stays.
	tagMade = cluster.TagPrefix + "made"
	// tagName is what consoles show.
	tagName = "Name"
)

// clusterTag is what the vendor's controllers find their cluster's resources by.
func clusterTag(name string) string { return "kubernetes.io/cluster/" + name }

// identity are the tags that everything of an owner carries.
func identity(o cloud.Owner, name string) map[string]string {
	tags := map[string]string{
		cluster.TagCluster: o.Cluster.UID, cluster.TagClusterName: o.Cluster.Name,
		clusterTag(o.Cluster.Name): "owned", tagName: name,
	}
	if o.Group != "" {
		tags[cluster.TagGroup] = o.Group
	}
	return tags
}

// checkTags refuses tags that users cannot have.
func checkTags(op string, tags []tag) error {
	for _, t := range tags {
		lower := strings.ToLower(t.Key)
		switch {
		case cluster.ReservedTag(t.Key):
			return fault.New(fault.Invalid, op, "tags that start with %q are reserved (%q)", cluster.TagPrefix, t.Key)
		case t.Key == tagName, strings.HasPrefix(lower, "kubernetes.io/cluster/"), strings.HasPrefix(lower, "aws:"):
			return fault.New(fault.Invalid, op, "the tag %q is set by Ichor or by the cloud", t.Key)
		}
	}
	return nil
}

// ec2Tags is the form that EC2 takes, in a fixed order: the same request must
// look the same each time.
func ec2Tags(tags map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(tags))
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, types.Tag{Key: sdk.String(k), Value: sdk.String(tags[k])})
	}
	return out
}

// tagsAt says that tags go onto a sort of resource when it is made.
func tagsAt(sort types.ResourceType, tags map[string]string) types.TagSpecification {
	return types.TagSpecification{ResourceType: sort, Tags: ec2Tags(tags)}
}

func tagMap(tags []types.Tag) map[string]string {
	out := make(map[string]string, len(tags))
	for _, t := range tags {
		out[sdk.ToString(t.Key)] = sdk.ToString(t.Value)
	}
	return out
}

func missingTags(want, have map[string]string) string {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if v, ok := have[k]; !ok || v != want[k] {
			return fmt.Sprintf("tag %q is %q instead of %q", k, v, want[k])
		}
	}
	return ""
}

// digest is a short fingerprint of values, for comparison and names only.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

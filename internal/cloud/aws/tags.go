package aws

import (
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
	tags := o.Tags()
	tags[clusterTag(o.Cluster.Name)], tags[tagName] = "owned", name
	return tags
}

// checkTags refuses tags that users of this cloud cannot have.
func checkTags(op string, tags []tag) error {
	for _, t := range tags {
		lower := strings.ToLower(t.Key)
		switch {
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

package cluster

import (
	"fmt"
	"strings"
)

// ControlPlaneGroup is the name of the group that holds the control plane; no
// node group may use it.
const ControlPlaneGroup = "cp"

// Role is what a machine is for, in Talos' own words.
type Role string

// Roles of machines.
const (
	RoleControlPlane Role = "controlplane"
	RoleWorker       Role = "worker"
)

// Ref identifies a cluster for good: names are reused, uids are not.
type Ref struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// LifecycleID is the workflow id under which everything happens that changes a
// cluster as a whole; it is the lock of the cluster.
func LifecycleID(name string) string { return "cluster/" + name + "/lifecycle" }

// GroupID is the workflow id of the entity that owns the members of a group.
func GroupID(name, group string) string { return "cluster/" + name + "/group/" + group }

// NodeWorkID is the workflow id under which one node is worked on; it is the lock
// of the node.
func NodeWorkID(name, node string) string { return "cluster/" + name + "/node/" + node }

// ImageID is the workflow id under which one image of one account is imported,
// used and released; it is the lock of that image.
func ImageID(provider, account, image string) string {
	return "image/" + provider + "/" + account + "/" + image
}

// SweepID is the id of the schedule that looks for machines nobody claims.
func SweepID(name string) string { return "cluster/" + name + "/sweep" }

// MachineName is the name of a machine, of its Kubernetes node and of its host:
// a single DNS label, which cloud controllers match exactly.
func MachineName(cluster, group, machineID string) string {
	return fmt.Sprintf("%s-%s-%s", cluster, group, machineID)
}

// TagPrefix is reserved: users cannot set tags that start with it.
const TagPrefix = "ichor/"

// Tags that carry the identity of a resource. They are part of the create call.
const (
	TagCluster     = TagPrefix + "cluster"      // uid
	TagClusterName = TagPrefix + "cluster-name" // for people
	TagGroup       = TagPrefix + "group"
	TagMachine     = TagPrefix + "machine" // machine id
	TagRole        = TagPrefix + "role"
	TagKind        = TagPrefix + "kind" // of an infrastructure resource
	TagKey         = TagPrefix + "key"  // of an infrastructure resource
	TagImage       = TagPrefix + "image"
	// TagImageUser is followed by the uid of a cluster that uses the image.
	TagImageUser = TagPrefix + "used-by-"
)

// Tag is one key and value. Slices of tags are sorted by key.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// ReservedTag reports whether users are barred from setting key.
func ReservedTag(key string) bool { return strings.HasPrefix(strings.ToLower(key), TagPrefix) }

// BodyPrefix begins the store keys of the documents that a cluster's spec refers
// to. A spec may refer to nothing else, since deleting the cluster deletes them.
func BodyPrefix(name string) string { return "clusters/" + name + "/bodies/" }

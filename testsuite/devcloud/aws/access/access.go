// Package access tells which rights a request to AWS needs: one for each resource
// that it touches or makes, with the condition keys that a policy can ask for, as
// AWS' service authorization reference has them. What it does not know needs the
// right to everything, which no narrow policy gives.
package access

import (
	"maps"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
)

// Rights knows what is there, which decides about tags of resources.
type Rights struct {
	Account *account.Account
	// Balanced returns the tags of a load balancer, target group or listener; false
	// if there is none.
	Balanced func(arn string) (map[string]string, bool)
	// Linked says whether the account has a role that belongs to a service.
	Linked func(service string) bool
}

// Prefixes of ARNs. Images and snapshots belong to no account.
const (
	ec2ARN   = "arn:aws:ec2:" + account.Region + ":" + account.AccountID + ":"
	mediaARN = "arn:aws:ec2:" + account.Region + "::"
	roleARN  = "arn:aws:iam::" + account.AccountID + ":role/"
	elbARN   = "arn:aws:elasticloadbalancing:" + account.Region + ":" + account.AccountID + ":"
	s3ARN    = "arn:aws:s3:::"
)

// arn is that of a resource of EC2; "*" stands for one that is yet to be made.
func arn(kind, id string) string {
	if kind == "image" || kind == "snapshot" {
		return mediaARN + kind + "/" + id
	}
	return ec2ARN + kind + "/" + id
}

// context is what a policy can ask of a request, by condition key.
type context = map[string][]string

// requested are the keys for the tags that a request gives.
func requested(tags map[string]string) context {
	out := prefixed("aws:RequestTag/", tags)
	if len(tags) > 0 {
		out["aws:TagKeys"] = slices.Sorted(maps.Keys(tags))
	}
	return out
}

func prefixed(prefix string, tags map[string]string) context {
	out := context{}
	for k, v := range tags {
		out[prefix+k] = []string{v}
	}
	return out
}

// on is the need of an action on a resource that may be there, with its tags.
func on(action, resource string, request context, tags map[string]string, there bool) iam.Need {
	c := prefixed("aws:ResourceTag/", tags)
	maps.Copy(c, request)
	return iam.Need{Action: action, Resource: resource, Context: c, Missing: !there}
}

// onExisting is the need of an action on a resource of EC2 that is there.
func (r Rights) onExisting(action, id string, request context) iam.Need {
	kind, tags, ok := r.Account.Known(id)
	return on(action, arn(kind, id), request, tags, ok)
}

// onNew are the needs of an action that makes a resource, and that of tagging it.
func onNew(service, action, resource string, tags map[string]string) []iam.Need {
	out := []iam.Need{{Action: service + ":" + action, Resource: resource, Context: requested(tags)}}
	if len(tags) > 0 {
		out = append(out, tagging(service, action, resource, tags))
	}
	return out
}

// tagging is the right to give tags to what an action makes.
func tagging(service, action, resource string, tags map[string]string) iam.Need {
	verb := "CreateTags"
	if service == "elasticloadbalancing" {
		verb = "AddTags"
	}
	c := requested(tags)
	c[service+":CreateAction"] = []string{action}
	return iam.Need{Action: service + ":" + verb, Resource: resource, Context: c}
}

// serviceRole is needed to let AWS make the role of a service, which it does when
// an account uses that for the first time.
func (r Rights) serviceRole(service, name string) []iam.Need {
	if r.Linked(service) {
		return nil
	}
	return []iam.Need{{
		Action: "iam:CreateServiceLinkedRole", Resource: roleARN + "aws-service-role/" + service + "/" + name,
		Context: context{"iam:AWSServiceName": {service}},
	}}
}

func anything(action string) []iam.Need { return []iam.Need{{Action: action, Resource: "*"}} }

func tagMap(tags []account.Tag) map[string]string {
	out := map[string]string{}
	for _, t := range tags {
		out[t.Key] = t.Value
	}
	return out
}

// reads says whether an action changes nothing; such ones have no resources.
func reads(action string) bool { return strings.HasPrefix(action, "Describe") }

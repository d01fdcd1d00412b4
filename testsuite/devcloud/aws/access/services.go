package access

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// elbForm has the parameters of ELBv2's requests that name resources.
type elbForm struct {
	Name            string
	Tags            []account.Tag
	LoadBalancerArn string
	TargetGroupArn  string
	ListenerArn     string
	ResourceArns    []string
}

// Balancing is EC2 for the load balancers.
func (r Rights) Balancing(action string, form url.Values) []iam.Need {
	const service = "elasticloadbalancing"
	name := service + ":" + action
	if reads(action) {
		return anything(name)
	}
	var f elbForm
	if query.Pick(form, &f) != nil {
		return nil
	}
	tags := tagMap(f.Tags)
	existing := func(arn string) iam.Need {
		has, ok := r.Balanced(arn)
		return on(name, arn, requested(tags), has, ok)
	}
	switch action {
	case "CreateLoadBalancer":
		return append(onNew(service, action, elbARN+"loadbalancer/net/"+f.Name+"/*", tags),
			r.serviceRole("elasticloadbalancing.amazonaws.com", "AWSServiceRoleForElasticLoadBalancing")...)
	case "CreateTargetGroup":
		return onNew(service, action, elbARN+"targetgroup/"+f.Name+"/*", tags)
	case "CreateListener":
		out := []iam.Need{existing(f.LoadBalancerArn)}
		if len(tags) > 0 {
			listener := strings.Replace(f.LoadBalancerArn, ":loadbalancer/", ":listener/", 1) + "/*"
			out = append(out, tagging(service, action, listener, tags))
		}
		return out
	}
	arns := slices.DeleteFunc(append([]string{f.LoadBalancerArn, f.TargetGroupArn, f.ListenerArn}, f.ResourceArns...), func(s string) bool { return s == "" })
	if len(arns) == 0 {
		return anything(name)
	}
	var out []iam.Need
	for _, arn := range arns {
		out = append(out, existing(arn))
	}
	return out
}

// Blocks returns what a request to the EBS direct APIs needs; its path begins
// after that of the service.
func (r Rights) Blocks(method, path string, body []byte) []iam.Need {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case method == http.MethodPost && len(parts) == 1:
		var in struct{ Tags []account.Tag }
		if json.Unmarshal(body, &in) != nil {
			return nil // the service refuses it
		}
		tags := tagMap(in.Tags)
		out := []iam.Need{{Action: "ebs:StartSnapshot", Resource: arn("snapshot", "*"), Context: requested(tags)}}
		if len(tags) > 0 {
			// Which action it would be called in ec2:CreateAction is not documented.
			out = append(out, iam.Need{Action: "ec2:CreateTags", Resource: arn("snapshot", "*"), Context: requested(tags)})
		}
		return out
	case method == http.MethodPost && len(parts) == 3:
		return []iam.Need{r.onExisting("ebs:CompleteSnapshot", parts[2], nil)}
	case method == http.MethodPut && len(parts) == 4:
		return []iam.Need{r.onExisting("ebs:PutSnapshotBlock", parts[1], nil)}
	}
	return anything("ebs:" + method)
}

// Storage returns what a request to object storage needs; its path begins with
// the bucket.
func Storage(method, path string, ask url.Values) []iam.Need {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch {
	case key == "" && (method == http.MethodHead || method == http.MethodGet && (len(ask) == 0 || ask.Has("list-type"))):
		return []iam.Need{{Action: "s3:ListBucket", Resource: s3ARN + bucket, Context: context{"s3:prefix": ask["prefix"]}}}
	case key == "":
		return []iam.Need{{Action: "s3:" + method, Resource: s3ARN + bucket}}
	}
	action := map[string]string{
		http.MethodGet: "GetObject", http.MethodHead: "GetObject", http.MethodPut: "PutObject", http.MethodPost: "PutObject", http.MethodDelete: "DeleteObject",
	}[method]
	if ask.Has("uploadId") {
		switch method {
		case http.MethodDelete:
			action = "AbortMultipartUpload"
		case http.MethodGet:
			action = "ListMultipartUploadParts"
		}
	}
	return []iam.Need{{Action: "s3:" + action, Resource: s3ARN + bucket + "/" + key}}
}

package stack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	ec2Route = "POST /aws/ec2/"
	elbRoute = "POST /aws/elasticloadbalancing/"
	// ebsRoute begins to write a snapshot, from which an image is registered.
	ebsRoute = "POST /aws/ebs/snapshots"
)

// Profile and PlaneProfile are the instance profiles of workers and of control planes
// on AWS. The documented policy lets whoever makes machines give them roles that are
// named like that.
const (
	Profile      = "ichor-nodes"
	PlaneProfile = "ichor-control-planes"
)

var aws = Cloud{
	Name: "aws",
	Demo: "aws/demo.yaml", Autoscale: "aws/autoscale.yaml", Upgrade: "aws/upgrade.yaml",
	Programs: []string{"tools/aws-cloud-controller-manager"},
	Zones:    []string{"eu-central-1a", "eu-central-1b"}, Region: "eu-central-1",
	Creates: []Create{
		{Route: ec2Route + "CreateVpc", Code: "VpcLimitExceeded"},
		{Route: ec2Route + "CreateInternetGateway", Code: "InternetGatewayLimitExceeded"},
		{Route: ec2Route + "CreateRouteTable", Code: "RouteTableLimitExceeded"},
		{Route: ec2Route + "CreateRoute", Code: "RouteLimitExceeded"},
		{Route: ec2Route + "CreateSubnet", Code: "SubnetLimitExceeded"},
		{Route: ec2Route + "CreateSecurityGroup", Code: "SecurityGroupLimitExceeded"},
		{Route: ec2Route + "AuthorizeSecurityGroupIngress", Code: "RulesPerSecurityGroupLimitExceeded"},
		{Route: ebsRoute, Code: "ServiceQuotaExceededException"},
		{Route: ec2Route + "RegisterImage", Code: "ResourceLimitExceeded"},
		{Route: elbRoute + "CreateTargetGroup", Code: "TooManyTargetGroups"},
		{Route: elbRoute + "CreateLoadBalancer", Code: "TooManyLoadBalancers"},
		{Route: elbRoute + "CreateListener", Code: "TooManyListeners"},
		{Route: ec2Route + "CreatePlacementGroup", Code: "PlacementGroupLimitExceeded"},
		{Route: ec2Route + "RunInstances", Contains: "-cp-", Code: "VcpuLimitExceeded"},
		{Route: elbRoute + "RegisterTargets", Code: "TooManyTargets"},
		{Route: ec2Route + "RunInstances", Contains: "-general-", Code: "VcpuLimitExceeded"},
	},
	Routes: Routes{
		Machine: ec2Route + "RunInstances", Import: ebsRoute, LoadBalancer: elbRoute + "CreateLoadBalancer",
		DeleteMachine: ec2Route + "TerminateInstances", All: "* /aws/**",
	},
	Named: []string{
		Machines, "placement groups", Networks, Subnets, "internet gateways", "route tables", "security groups",
		LoadBalancers, "target groups", "listeners", Images,
	},
	Scarce: "m7g.large@eu-central-1a", ScarceGroup: "arm",
	Arm: []string{"arm"},

	providerID: func(m Resource) string { return "aws:///" + m.Zone + "/" + m.ID },
	unauthorized: func(route string) map[string]any {
		switch {
		case strings.HasPrefix(route, ec2Route):
			return map[string]any{"status": http.StatusUnauthorized, "code": "AuthFailure", "body": "AWS was not able to validate the provided access credentials"}
		case strings.HasPrefix(route, elbRoute):
			return map[string]any{"status": http.StatusForbidden, "code": "InvalidClientTokenId", "body": "The security token included in the request is invalid."}
		default:
			return map[string]any{"status": http.StatusBadRequest, "code": "UnrecognizedClientException", "body": "The security token included in the request is invalid."}
		}
	},
	machine: "_devcloud/aws/instances/",
	act: func(ctx context.Context, s *Stack, id string, what Action) error {
		action := map[Action]string{Delete: "TerminateInstances", PowerOff: "StopInstances", PowerOn: "StartInstances"}[what]
		_, err := s.EC2(ctx, action, url.Values{"InstanceId.1": {id}})
		return err
	},
	twin:   copyInstance,
	scarce: lackCapacity,
	credentials: func(secret func(string) string) (string, map[string]string) {
		return "env:AWS_CREDENTIALS", map[string]string{
			"AWS_CREDENTIALS": fmt.Sprintf(`{"accessKeyId": %q, "secretAccessKey": %q, "sessionToken": %q}`,
				workerKey, secret("the credentials"), secret("the credentials' session token")),
		}
	},
	accept:  acceptKeys,
	ground:  Ground{Credentials: "chain:", Zone: "eu-central-1a", Flavor: "m6i.large"},
	prepare: prepareNetwork,
	born:    "RunInstances", gone: "instance_is_terminated",
	kinds: func(kind string, r *Resource) bool {
		r.Kind = map[string]string{
			"instances": Machines, "vpcs": Networks, "networkInterfaces": "network interfaces", "internetGateways": "internet gateways",
			"routeTables": "route tables", "securityGroups": "security groups", "placementGroups": "placement groups",
			"loadBalancers": LoadBalancers, "targetGroups": "target groups",
		}[kind]
		switch kind {
		case "instances":
			return r.State != "terminated"
		case "snapshots":
			// One that is written is an image to be; one of an image belongs to it.
			if r.Kind = "snapshots"; r.State == "pending" {
				r.Kind = Imports
			}
		case "placementGroups":
			r.ID = r.Detail // its name, by which launches and deletions call it
		case "securityGroups":
			return r.Detail != "default" // comes and goes with its VPC
		case "routeTables":
			return len(r.Tags) > 0 // the main one has none, and goes with its VPC
		}
		if r.Kind == "" {
			r.Kind = kind
		}
		return true
	},
}

// EC2 calls an action of EC2 with the account's credentials, as the owner of the
// account would, and returns the answer.
func (s *Stack) EC2(ctx context.Context, action string, params url.Values) ([]byte, error) {
	form := maps.Clone(params)
	form.Set("Action", action)
	form.Set("Version", "2016-11-15")
	body := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.AWS["AWS_ENDPOINT_URL_EC2"], strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(body))
	keys := sdk.Credentials{AccessKeyID: s.AWSOwner["AWS_ACCESS_KEY_ID"], SecretAccessKey: s.AWSOwner["AWS_SECRET_ACCESS_KEY"]}
	if err := v4.NewSigner().SignHTTP(ctx, keys, req, hex.EncodeToString(sum[:]), "ec2", s.AWS["AWS_REGION"], time.Now()); err != nil {
		return nil, err
	}
	res, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end or given up
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s: %s", action, res.Status, b)
	}
	return b, err
}

// copyInstance launches another instance of the image, in the subnet and with the
// type of one that there is.
func copyInstance(ctx context.Context, s *Stack, of Resource, name string, tags map[string]string) (string, error) {
	raw, err := s.EC2(ctx, "DescribeInstances", url.Values{"InstanceId.1": {of.ID}})
	if err != nil {
		return "", err
	}
	var was struct {
		Image  string `xml:"reservationSet>item>instancesSet>item>imageId"`
		Type   string `xml:"reservationSet>item>instancesSet>item>instanceType"`
		Subnet string `xml:"reservationSet>item>instancesSet>item>subnetId"`
	}
	if err := xml.Unmarshal(raw, &was); err != nil {
		return "", err
	}
	form := url.Values{
		"ImageId": {was.Image}, "InstanceType": {was.Type}, "SubnetId": {was.Subnet}, "MinCount": {"1"}, "MaxCount": {"1"},
		"TagSpecification.1.ResourceType": {"instance"},
	}
	all := maps.Clone(tags)
	if all == nil {
		all = map[string]string{}
	}
	all["Name"] = name
	for i, k := range slices.Sorted(maps.Keys(all)) {
		at := "TagSpecification.1.Tag." + strconv.Itoa(i+1)
		form.Set(at+".Key", k)
		form.Set(at+".Value", all[k])
	}
	if raw, err = s.EC2(ctx, "RunInstances", form); err != nil {
		return "", err
	}
	var made struct {
		ID string `xml:"instancesSet>item>instanceId"`
	}
	return made.ID, xml.Unmarshal(raw, &made)
}

// lackCapacity leaves no room for a type in a zone.
func lackCapacity(ctx context.Context, s *Stack, what string) error {
	return s.SetAWS(ctx, "capacity", map[string]int{what: 0})
}

// workerKey is the id of the worker's key.
const workerKey = "AKIADEVCLOUDWORKER00"

// acceptKeys gives the worker's key another secret.
func acceptKeys(ctx context.Context, s *Stack, settings map[string]string) error {
	var key struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal([]byte(settings["AWS_CREDENTIALS"]), &key); err != nil {
		return err
	}
	all := maps.Clone(s.awsKeys)
	if all[key.AccessKeyID] == "" {
		return fmt.Errorf("devcloud knows no key %s", key.AccessKeyID)
	}
	all[key.AccessKeyID] = key.SecretAccessKey + ":" + key.SessionToken
	return s.SetAWS(ctx, "keys", all)
}

// SetAWS changes one of the settings of the emulated AWS.
func (s *Stack) SetAWS(ctx context.Context, field string, value any) error {
	all := map[string]any{}
	if err := s.Cloud(ctx, http.MethodGet, "_devcloud/aws/settings", nil, &all); err != nil {
		return err
	}
	all[field] = value
	return s.Cloud(ctx, http.MethodPut, "_devcloud/aws/settings", all, nil)
}

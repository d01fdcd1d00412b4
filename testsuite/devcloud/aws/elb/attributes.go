package elb

import (
	"maps"
	"slices"
	"strconv"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Attributes that change what is done; the others are kept and told.
const (
	deletionProtection  = "deletion_protection.enabled"
	deregistrationDelay = "deregistration_delay.timeout_seconds"
	preserveClientIP    = "preserve_client_ip.enabled"
)

// balancerDefaults are the attributes of a new network load balancer.
func balancerDefaults() map[string]string {
	return map[string]string{
		deletionProtection:                  "false",
		"load_balancing.cross_zone.enabled": "false",
		"access_logs.s3.enabled":            "false",
		"access_logs.s3.bucket":             "",
		"access_logs.s3.prefix":             "",
		"ipv6.deny_all_igw_traffic":         "false",
		"zonal_shift.config.enabled":        "false",
		"dns_record.client_routing_policy":  "any_availability_zone",
	}
}

// groupDefaults are the attributes of a new TCP target group.
func groupDefaults(kind string) map[string]string {
	return map[string]string{
		deregistrationDelay: "300",
		"deregistration_delay.connection_termination.enabled": "false",
		preserveClientIP:                    strconv.FormatBool(kind == byInstance),
		"proxy_protocol_v2.enabled":         "false",
		"stickiness.enabled":                "false",
		"stickiness.type":                   "source_ip",
		"load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
		"target_health_state.unhealthy.connection_termination.enabled":                   "true",
		"target_group_health.dns_failover.minimum_healthy_targets.count":                 "1",
		"target_group_health.dns_failover.minimum_healthy_targets.percentage":            "off",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.count":      "1",
		"target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
	}
}

type attribute struct {
	Key   string `xml:"Key"`
	Value string `xml:"Value"`
}

type attributesXML struct {
	Attributes []attribute `xml:"Attributes>member"`
}

func toXML(m map[string]string) attributesXML {
	var out attributesXML
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out.Attributes = append(out.Attributes, attribute{k, m[k]})
	}
	return out
}

// modify changes all given attributes or none.
func modify(have map[string]string, kind string, want []attribute) (attributesXML, error) {
	if len(want) == 0 {
		return attributesXML{}, invalid("%s attributes must be specified", kind)
	}
	next := maps.Clone(have)
	for _, a := range want {
		old, ok := have[a.Key]
		if !ok {
			return attributesXML{}, invalid("%s attribute key '%s' is not recognized", kind, a.Key)
		}
		n, err := strconv.Atoi(a.Value)
		switch {
		case (old == "true" || old == "false") && a.Value != "true" && a.Value != "false":
			return attributesXML{}, invalid("%s attribute '%s' must be 'true' or 'false'", kind, a.Key)
		case a.Key == deregistrationDelay && (err != nil || n < 0 || n > 3600):
			return attributesXML{}, invalid("'%s' must be between 0 and 3600", deregistrationDelay)
		case a.Key == "proxy_protocol_v2.enabled" && a.Value == "true":
			return attributesXML{}, invalid("devcloud does not speak the proxy protocol")
		}
		next[a.Key] = a.Value
	}
	maps.Copy(have, next)
	return attributesXML{Attributes: want}, nil
}

type modifyBalancerAttributes struct {
	LoadBalancerArn string
	Attributes      []attribute
}

func (s *Service) modifyLoadBalancerAttributes(_ faults.Bend, in modifyBalancerAttributes) (attributesXML, error) {
	b, err := s.balancer(in.LoadBalancerArn)
	if err != nil {
		return attributesXML{}, err
	}
	return modify(b.attributes, "Load balancer", in.Attributes)
}

func (s *Service) describeLoadBalancerAttributes(_ faults.Bend, in ofBalancer) (attributesXML, error) {
	b, err := s.balancer(in.LoadBalancerArn)
	if err != nil {
		return attributesXML{}, err
	}
	return toXML(b.attributes), nil
}

type modifyGroupAttributes struct {
	TargetGroupArn string
	Attributes     []attribute
}

func (s *Service) modifyTargetGroupAttributes(_ faults.Bend, in modifyGroupAttributes) (attributesXML, error) {
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return attributesXML{}, err
	}
	return modify(g.attributes, "Target group", in.Attributes)
}

func (s *Service) describeTargetGroupAttributes(_ faults.Bend, in ofGroup) (attributesXML, error) {
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return attributesXML{}, err
	}
	return toXML(g.attributes), nil
}

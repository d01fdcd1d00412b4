package elb

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/lb"
)

// Kinds of targets.
const (
	byInstance = "instance"
	byIP       = "ip"
)

// trafficPort stands for the port of each target.
const trafficPort = "traffic-port"

// targetGroup is a set of targets.
type targetGroup struct {
	arn, name, vpc, kind string
	port                 int32
	created              time.Time
	check                healthCheck
	attributes, tags     map[string]string
	targets              []*target
	draining             []*target
}

// healthCheck says how targets are checked; intervals are simulated seconds.
type healthCheck struct {
	protocol, port, path, codes string
	interval, timeout, up, down int32
}

type matcher struct {
	HTTPCode string `query:"HttpCode" xml:"HttpCode"`
}

// checkSpec are the parameters of a health check in requests.
type checkSpec struct {
	HealthCheckEnabled         *bool
	HealthCheckProtocol        string
	HealthCheckPort            string
	HealthCheckPath            string
	HealthCheckIntervalSeconds *int32
	HealthCheckTimeoutSeconds  *int32
	HealthyThresholdCount      *int32
	UnhealthyThresholdCount    *int32
	Matcher                    *matcher
}

// apply returns a check with what a request says of it.
func (c healthCheck) apply(in checkSpec) (healthCheck, error) {
	if !or(in.HealthCheckEnabled, true) {
		return c, invalid("Health check enabled must be true for target groups with target type 'instance' or 'ip'")
	}
	if in.HealthCheckProtocol != "" && in.HealthCheckProtocol != c.protocol {
		c.protocol, c.path, c.codes = in.HealthCheckProtocol, "", ""
		if c.web() {
			c.path, c.codes = "/", "200-399"
		}
	}
	if in.HealthCheckPort != "" {
		c.port = in.HealthCheckPort
	}
	if in.HealthCheckPath != "" {
		c.path = in.HealthCheckPath
	}
	if in.Matcher != nil && in.Matcher.HTTPCode != "" {
		c.codes = in.Matcher.HTTPCode
	}
	c.interval = or(in.HealthCheckIntervalSeconds, c.interval)
	c.timeout = or(in.HealthCheckTimeoutSeconds, c.timeout)
	c.up, c.down = or(in.HealthyThresholdCount, c.up), or(in.UnhealthyThresholdCount, c.down)
	return c, c.valid()
}

func (c healthCheck) web() bool { return c.protocol == "HTTP" || c.protocol == "HTTPS" }

func (c healthCheck) valid() error {
	port, err := strconv.Atoi(c.port)
	switch {
	case c.protocol != "TCP" && !c.web():
		return invalid("Health check protocol '%s' must be one of 'TCP, HTTP, HTTPS'", c.protocol)
	case c.port != trafficPort && (err != nil || port < 1 || port > 65535):
		return invalid("Health check port '%s' must be '%s' or in the range 1-65535", c.port, trafficPort)
	case !c.web() && (c.path != "" || c.codes != ""):
		return invalid("You cannot specify a path or a matcher for health checks of protocol TCP")
	case c.interval < 5 || c.interval > 300:
		return invalid("Health check interval must be between 5 and 300 seconds")
	case c.timeout < 2 || c.timeout > 120:
		return invalid("Health check timeout must be between 2 and 120 seconds")
	case c.timeout > c.interval:
		return invalid("Health check timeout must not exceed the interval")
	case c.up < 2 || c.up > 10 || c.down < 2 || c.down > 10:
		return invalid("Health check thresholds must be between 2 and 10")
	}
	return nil
}

// monitor is the check as it is really made.
func (s *Service) monitor(c healthCheck) *lb.Monitor {
	m := &lb.Monitor{
		Type: lb.TCP, Up: int(c.up), Down: int(c.down),
		Interval: max(s.account.Clock().Scale(time.Duration(c.interval)*time.Second), minStep),
		// Answers of real programs do not become faster with the clock.
		Timeout: time.Duration(c.timeout) * time.Second,
	}
	if c.web() {
		m.Type, m.Method, m.Path, m.Codes = lb.HTTP, "GET", c.path, []string{c.codes}
		if c.protocol == "HTTPS" {
			m.Type = lb.HTTPS
		}
	}
	return m
}

type createTargetGroup struct {
	checkSpec
	Name, Protocol, TargetType string
	VPC                        string `query:"VpcId"`
	IPAddressType              string `query:"IpAddressType"`
	Port                       *int32
	Tags                       []account.Tag
}

type targetGroupXML struct {
	TargetGroupArn             string   `xml:"TargetGroupArn"`
	TargetGroupName            string   `xml:"TargetGroupName"`
	Protocol                   string   `xml:"Protocol"`
	Port                       int32    `xml:"Port"`
	VPCID                      string   `xml:"VpcId"`
	HealthCheckProtocol        string   `xml:"HealthCheckProtocol"`
	HealthCheckPort            string   `xml:"HealthCheckPort"`
	HealthCheckEnabled         bool     `xml:"HealthCheckEnabled"`
	HealthCheckIntervalSeconds int32    `xml:"HealthCheckIntervalSeconds"`
	HealthCheckTimeoutSeconds  int32    `xml:"HealthCheckTimeoutSeconds"`
	HealthyThresholdCount      int32    `xml:"HealthyThresholdCount"`
	UnhealthyThresholdCount    int32    `xml:"UnhealthyThresholdCount"`
	HealthCheckPath            string   `xml:"HealthCheckPath,omitempty"`
	Matcher                    *matcher `xml:"Matcher,omitempty"`
	LoadBalancerArns           []string `xml:"LoadBalancerArns>member"`
	TargetType                 string   `xml:"TargetType"`
	IPAddressType              string   `xml:"IpAddressType"`
}

type targetGroupsXML struct {
	TargetGroups []targetGroupXML `xml:"TargetGroups>member"`
	NextMarker   string           `xml:"NextMarker,omitempty"`
}

func (s *Service) groupXML(g *targetGroup) targetGroupXML {
	out := targetGroupXML{
		TargetGroupArn: g.arn, TargetGroupName: g.name, Protocol: "TCP", Port: g.port, VPCID: g.vpc,
		HealthCheckProtocol: g.check.protocol, HealthCheckPort: g.check.port, HealthCheckEnabled: true,
		HealthCheckIntervalSeconds: g.check.interval, HealthCheckTimeoutSeconds: g.check.timeout,
		HealthyThresholdCount: g.check.up, UnhealthyThresholdCount: g.check.down, HealthCheckPath: g.check.path,
		TargetType: g.kind, IPAddressType: "ipv4",
	}
	if g.check.codes != "" {
		out.Matcher = &matcher{g.check.codes}
	}
	if b := s.user(g); b != nil {
		out.LoadBalancerArns = []string{b.arn}
	}
	return out
}

func (s *Service) createTargetGroup(_ faults.Bend, in createTargetGroup) (targetGroupsXML, error) {
	g, err := s.newGroup(in)
	if err != nil {
		return targetGroupsXML{}, err
	}
	for _, o := range s.groups {
		if o.name != g.name {
			continue
		}
		// Creating is idempotent for the same settings; attributes are none.
		if o.vpc == g.vpc && o.kind == g.kind && o.port == g.port && o.check == g.check && maps.Equal(o.tags, g.tags) {
			return targetGroupsXML{TargetGroups: []targetGroupXML{s.groupXML(o)}}, nil
		}
		return targetGroupsXML{}, query.Refuse("DuplicateTargetGroupName", "A target group with the same name '%s' exists, but with different settings", g.name)
	}
	if n := s.limits.TargetGroups; n > 0 && len(s.groups) >= n {
		return targetGroupsXML{}, query.Refuse("TooManyTargetGroups", "The maximum number of target groups has been reached")
	}
	s.groups = append(s.groups, g)
	return targetGroupsXML{TargetGroups: []targetGroupXML{s.groupXML(g)}}, nil
}

func (s *Service) newGroup(in createTargetGroup) (*targetGroup, error) {
	if err := checkName("Target group", in.Name); err != nil {
		return nil, err
	}
	if in.TargetType == "" {
		in.TargetType = byInstance
	}
	switch {
	case in.Protocol != "TCP":
		return nil, invalid("devcloud has target groups of protocol TCP only, not '%s'", in.Protocol)
	case in.TargetType != byInstance && in.TargetType != byIP:
		return nil, invalid("devcloud has target groups of type instance and ip only, not '%s'", in.TargetType)
	case in.IPAddressType != "" && in.IPAddressType != "ipv4":
		return nil, invalid("devcloud has target groups of address type ipv4 only")
	case in.Port == nil || *in.Port < 1 || *in.Port > 65535:
		return nil, invalid("A port must be specified, in the range 1-65535")
	case in.VPC == "":
		return nil, invalid("A VPC ID must be specified")
	case !slices.ContainsFunc(s.account.Omniscient().VPCs(), func(v account.VPC) bool { return v.ID == in.VPC }):
		return nil, invalid("The VPC ID '%s' is not found", in.VPC)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	check, err := healthCheck{protocol: "TCP", port: trafficPort, interval: 30, timeout: 10, up: 5, down: 2}.apply(in.checkSpec)
	if err != nil {
		return nil, err
	}
	return &targetGroup{
		arn: s.arn("targetgroup", in.Name), name: in.Name, vpc: in.VPC, kind: in.TargetType, port: *in.Port, created: time.Now(),
		check: check, attributes: groupDefaults(in.TargetType), tags: tagMap(in.Tags),
	}, nil
}

type describeTargetGroups struct {
	TargetGroupArns, Names []string
	LoadBalancerArn        string
	Marker                 string
	PageSize               *int32
}

func (s *Service) describeTargetGroups(bend faults.Bend, in describeTargetGroups) (targetGroupsXML, error) {
	var of *balancer
	if in.LoadBalancerArn != "" {
		var err error
		if of, err = s.balancer(in.LoadBalancerArn); err != nil {
			return targetGroupsXML{}, err
		}
	}
	var out []*targetGroup
	for _, g := range s.groups {
		if (len(in.TargetGroupArns) == 0 || slices.Contains(in.TargetGroupArns, g.arn)) &&
			(len(in.Names) == 0 || slices.Contains(in.Names, g.name)) &&
			(of == nil || s.user(g) == of) && !hidden(bend, g.created) {
			out = append(out, g)
		}
	}
	for _, id := range append(slices.Clone(in.TargetGroupArns), in.Names...) {
		if !slices.ContainsFunc(out, func(g *targetGroup) bool { return g.arn == id || g.name == id }) {
			return targetGroupsXML{}, query.Refuse("TargetGroupNotFound", "One or more target groups not found: '%s'", id)
		}
	}
	part, next, err := encoded(out, func(g *targetGroup) string { return g.arn }, in.PageSize, in.Marker, s.groupXML)
	return targetGroupsXML{part, next}, err
}

// group finds one by its name.
func (s *Service) group(arn string) (*targetGroup, error) {
	i := slices.IndexFunc(s.groups, func(g *targetGroup) bool { return g.arn == arn })
	if i < 0 {
		return nil, query.Refuse("TargetGroupNotFound", "One or more target groups not found: '%s'", arn)
	}
	return s.groups[i], nil
}

// user returns the balancer that a group's traffic comes from, if any.
func (s *Service) user(g *targetGroup) *balancer {
	for _, l := range s.listeners {
		if l.group == g {
			return l.balancer
		}
	}
	return nil
}

type modifyTargetGroup struct {
	checkSpec
	TargetGroupArn string
}

func (s *Service) modifyTargetGroup(_ faults.Bend, in modifyTargetGroup) (targetGroupsXML, error) {
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return targetGroupsXML{}, err
	}
	check, err := g.check.apply(in.checkSpec)
	if err != nil {
		return targetGroupsXML{}, err
	}
	g.check = check
	return targetGroupsXML{TargetGroups: []targetGroupXML{s.groupXML(g)}}, nil
}

type ofGroup struct {
	TargetGroupArn string
}

// deleteTargetGroup removes a group that no listener uses; one that is not there
// is success.
func (s *Service) deleteTargetGroup(_ faults.Bend, in ofGroup) (none, error) {
	i := slices.IndexFunc(s.groups, func(g *targetGroup) bool { return g.arn == in.TargetGroupArn })
	if i < 0 {
		return none{}, nil
	}
	if s.user(s.groups[i]) != nil {
		return none{}, query.Refuse("ResourceInUse", "Target group '%s' is currently in use by a listener or a rule", in.TargetGroupArn)
	}
	s.groups = slices.Delete(s.groups, i, i+1)
	return none{}, nil
}

// seconds reads an attribute that is a number of seconds.
func (g *targetGroup) seconds(name string) time.Duration {
	n, err := strconv.Atoi(g.attributes[name])
	if err != nil {
		panic(fmt.Sprintf("attribute %s has been checked: %v", name, err))
	}
	return time.Duration(n) * time.Second
}

// checkPort reads the port of a health check that is a number.
func checkPort(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		panic(fmt.Sprintf("port %s has been checked: %v", text, err))
	}
	return uint16(n)
}

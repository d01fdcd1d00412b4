package elb

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// target is a machine's port that receives traffic.
type target struct {
	id, zone string
	port     int32
	address  netip.Addr
	since    time.Time // of registration, in real time
	until    time.Time // end of draining, in real time
	stopped  bool      // its instance does not run
	known    bool      // it has been checked
	up       bool
}

func (t *target) is(d targetID) bool { return t.id == d.ID && (d.Port == nil || *d.Port == t.port) }

// member is the target's name in the balancer.
func (t *target) member(g *targetGroup) string {
	return g.arn + "|" + t.id + "|" + strconv.Itoa(int(t.port))
}

// targetID is a target in requests.
type targetID struct {
	ID               string `query:"Id"`
	Port             *int32
	AvailabilityZone string
}

type groupAndTargets struct {
	TargetGroupArn string
	Targets        []targetID
}

// registerTargets adds targets, all or none; those that are there stay as they
// are, and those that drain come back.
func (s *Service) registerTargets(_ faults.Bend, in groupAndTargets) (none, error) {
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return none{}, err
	}
	if len(in.Targets) == 0 {
		return none{}, invalid("At least one target must be specified")
	}
	var fresh []*target
	for _, d := range in.Targets {
		t, err := s.newTarget(g, d)
		if err != nil {
			return none{}, err
		}
		if !slices.ContainsFunc(append(slices.Clone(g.targets), fresh...), func(o *target) bool { return o.id == t.id && o.port == t.port }) {
			fresh = append(fresh, t)
		}
	}
	if n := s.limits.Targets; n > 0 && len(g.targets)+len(fresh) > n {
		return none{}, query.Refuse("TooManyTargets", "The maximum number of targets has been reached for target group '%s'", g.arn)
	}
	g.targets = append(g.targets, fresh...)
	g.draining = slices.DeleteFunc(g.draining, func(o *target) bool {
		return slices.ContainsFunc(g.targets, func(t *target) bool { return t.id == o.id && t.port == o.port })
	})
	return none{}, nil
}

func (s *Service) newTarget(g *targetGroup, d targetID) (*target, error) {
	t := &target{id: d.ID, port: or(d.Port, g.port), since: time.Now()}
	if t.port < 1 || t.port > 65535 {
		return nil, invalid("The port of a target must be in the range 1-65535")
	}
	refuse := func(format string, args ...any) (*target, error) {
		return nil, query.Refuse("InvalidTarget", format, args...)
	}
	if g.kind == byIP {
		at, err := netip.ParseAddr(d.ID)
		if err != nil {
			return nil, invalid("The IP address '%s' is not a valid IPv4 address", d.ID)
		}
		t.address = at
		for _, n := range s.account.Omniscient().Subnets() {
			if n.VPC == g.vpc && n.CIDR.Contains(at) {
				t.zone = n.Zone
				return t, nil
			}
		}
		return refuse("The IP address '%s' is not within any subnet of the VPC", d.ID)
	}
	i, err := s.account.Instance(d.ID)
	switch {
	case err != nil:
		return refuse("The following targets are not valid: '%s'", d.ID)
	case i.State != account.Running:
		return refuse("The following targets are not in a running state and cannot be registered: '%s'", d.ID)
	case i.VPC != g.vpc:
		return refuse("The following targets are not in the target group VPC '%s': '%s'", g.vpc, d.ID)
	}
	t.zone = i.Zone
	t.address, err = netip.ParseAddr(i.Private)
	return t, err
}

// deregisterTargets ends new connections to targets. Those that a balancer uses
// drain for a while; what is not registered is not missed.
func (s *Service) deregisterTargets(_ faults.Bend, in groupAndTargets) (none, error) {
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return none{}, err
	}
	until := time.Now().Add(s.account.Clock().Scale(g.seconds(deregistrationDelay)))
	s.dropTargets(g, until, func(t *target) bool {
		return slices.ContainsFunc(in.Targets, t.is)
	})
	return none{}, nil
}

func (s *Service) dropTargets(g *targetGroup, until time.Time, match func(*target) bool) {
	used := s.user(g) != nil
	g.targets = slices.DeleteFunc(g.targets, func(t *target) bool {
		if !match(t) {
			return false
		}
		if used && time.Now().Before(until) {
			t.until = until
			g.draining = append(g.draining, t)
		}
		return true
	})
}

type describeTargetHealth struct {
	TargetGroupArn string
	Targets        []targetID
	Include        []string
}

type targetXML struct {
	ID               string `xml:"Id"`
	Port             int32  `xml:"Port,omitempty"`
	AvailabilityZone string `xml:"AvailabilityZone,omitempty"`
}

type healthXML struct {
	State       string `xml:"State"`
	Reason      string `xml:"Reason,omitempty"`
	Description string `xml:"Description,omitempty"`
}

type targetHealth struct {
	Target          targetXML `xml:"Target"`
	HealthCheckPort string    `xml:"HealthCheckPort,omitempty"`
	TargetHealth    healthXML `xml:"TargetHealth"`
}

type targetHealthXML struct {
	TargetHealthDescriptions []targetHealth `xml:"TargetHealthDescriptions>member"`
}

func (s *Service) describeTargetHealth(_ faults.Bend, in describeTargetHealth) (targetHealthXML, error) {
	g, err := s.group(in.TargetGroupArn)
	if err != nil {
		return targetHealthXML{}, err
	}
	var out targetHealthXML
	all := append(slices.Clone(g.targets), g.draining...)
	asked := func(t *target) bool { return len(in.Targets) == 0 || slices.ContainsFunc(in.Targets, t.is) }
	for _, t := range all {
		if !asked(t) {
			continue
		}
		port := g.check.port
		if port == trafficPort {
			port = strconv.Itoa(int(t.port))
		}
		x := targetXML{ID: t.id, Port: t.port}
		if g.kind == byIP {
			x.AvailabilityZone = t.zone
		}
		out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, targetHealth{x, port, s.health(g, t)})
	}
	for _, d := range in.Targets {
		if !slices.ContainsFunc(all, func(t *target) bool { return t.is(d) }) {
			out.TargetHealthDescriptions = append(out.TargetHealthDescriptions, targetHealth{
				Target:       targetXML{ID: d.ID, Port: or(d.Port, g.port)},
				TargetHealth: healthXML{"unused", "Target.NotRegistered", "Target is not registered to the target group"},
			})
		}
	}
	return out, nil
}

// health is what is told of a target.
func (s *Service) health(g *targetGroup, t *target) healthXML {
	b := s.user(g)
	switch {
	case !t.until.IsZero():
		return healthXML{"draining", "Target.DeregistrationInProgress", "Target deregistration is in progress"}
	case b == nil:
		return healthXML{"unused", "Target.NotInUse", "Target group is not configured to receive traffic from the load balancer"}
	case !b.serves(t.zone):
		return healthXML{"unused", "Target.NotInUse", "Target is in an Availability Zone that is not enabled for the load balancer"}
	case t.stopped:
		return healthXML{"unused", "Target.InvalidState", "Target is in the stopped state"}
	case !s.ready(b, t):
		return healthXML{"initial", "Elb.RegistrationInProgress", "Target registration is in progress"}
	case !t.known:
		return healthXML{"initial", "Elb.InitialHealthChecking", "Initial health checks in progress"}
	case !t.up:
		return healthXML{"unhealthy", "Target.FailedHealthChecks", "Health checks failed"}
	}
	return healthXML{State: "healthy"}
}

// ready says whether a target is checked and may get traffic.
func (s *Service) ready(b *balancer, t *target) bool {
	return b.state == active && b.serves(t.zone) && !t.stopped &&
		time.Since(t.since) >= s.account.Clock().Scale(s.lat.Register)
}

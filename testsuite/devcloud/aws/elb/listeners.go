package elb

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// listener forwards one port of a balancer to one group.
type listener struct {
	arn      string
	balancer *balancer
	port     int32
	group    *targetGroup
	created  time.Time
	tags     map[string]string
}

// tuple is a target group in an action of type forward.
type tuple struct {
	TargetGroupArn string `xml:"TargetGroupArn"`
	Weight         *int32 `xml:"Weight,omitempty"`
}

type forwardConfig struct {
	TargetGroups []tuple `xml:"TargetGroups>member"`
}

type action struct {
	Type           string         `xml:"Type"`
	TargetGroupArn string         `xml:"TargetGroupArn"`
	Order          *int32         `xml:"Order,omitempty"`
	ForwardConfig  *forwardConfig `xml:"ForwardConfig,omitempty"`
}

type createListener struct {
	LoadBalancerArn string
	Protocol        string
	Port            *int32
	DefaultActions  []action
	Tags            []account.Tag
}

type listenerXML struct {
	ListenerArn     string   `xml:"ListenerArn"`
	LoadBalancerArn string   `xml:"LoadBalancerArn"`
	Port            int32    `xml:"Port"`
	Protocol        string   `xml:"Protocol"`
	DefaultActions  []action `xml:"DefaultActions>member"`
}

type listenersXML struct {
	Listeners  []listenerXML `xml:"Listeners>member"`
	NextMarker string        `xml:"NextMarker,omitempty"`
}

func (l *listener) xml() listenerXML {
	return listenerXML{l.arn, l.balancer.arn, l.port, "TCP", []action{{
		Type: "forward", TargetGroupArn: l.group.arn, ForwardConfig: &forwardConfig{[]tuple{{TargetGroupArn: l.group.arn}}},
	}}}
}

func (s *Service) createListener(_ faults.Bend, in createListener) (listenersXML, error) {
	b, err := s.balancer(in.LoadBalancerArn)
	if err != nil {
		return listenersXML{}, err
	}
	g, err := s.actionGroup(in, b)
	if err != nil {
		return listenersXML{}, err
	}
	mine := 0
	for _, l := range s.listeners {
		if l.balancer != b {
			continue
		}
		mine++
		if l.port != *in.Port {
			continue
		}
		// Creating is idempotent for the same settings.
		if l.group == g && maps.Equal(l.tags, tagMap(in.Tags)) {
			return listenersXML{Listeners: []listenerXML{l.xml()}}, nil
		}
		return listenersXML{}, query.Refuse("DuplicateListener", "A listener already exists on this port for this load balancer '%s'", b.arn)
	}
	if n := s.limits.Listeners; n > 0 && mine >= n {
		return listenersXML{}, query.Refuse("TooManyListeners", "The maximum number of listeners has been reached on load balancer '%s'", b.arn)
	}
	l := &listener{
		arn: s.arn("listener", strings.Split(b.arn, "/")[1:]...), balancer: b, port: *in.Port, group: g, created: time.Now(), tags: tagMap(in.Tags),
	}
	s.listeners = append(s.listeners, l)
	return listenersXML{Listeners: []listenerXML{l.xml()}}, nil
}

// actionGroup checks a listener and returns the group that it forwards to.
func (s *Service) actionGroup(in createListener, b *balancer) (*targetGroup, error) {
	switch {
	case in.Protocol != "TCP":
		return nil, invalid("devcloud has listeners of protocol TCP only, not '%s'", in.Protocol)
	case in.Port == nil || *in.Port < 1 || *in.Port > 65535:
		return nil, invalid("A port must be specified, in the range 1-65535")
	case len(in.DefaultActions) != 1 || in.DefaultActions[0].Type != "forward":
		return nil, invalid("A listener of a network load balancer has one default action of type forward")
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	a := in.DefaultActions[0]
	arn := a.TargetGroupArn
	if a.ForwardConfig != nil {
		all := a.ForwardConfig.TargetGroups
		if len(all) != 1 || arn != "" && arn != all[0].TargetGroupArn {
			return nil, invalid("devcloud forwards to exactly one target group")
		}
		arn = all[0].TargetGroupArn
	}
	g, err := s.group(arn)
	if err != nil {
		return nil, err
	}
	if g.vpc != b.vpc {
		return nil, query.Refuse("InvalidConfigurationRequest", "The target group '%s' and the load balancer '%s' are in different VPCs", g.arn, b.arn)
	}
	if o := s.user(g); o != nil && o != b {
		return nil, query.Refuse("TargetGroupAssociationLimit", "The target group '%s' cannot be associated with more than one load balancer", g.arn)
	}
	return g, nil
}

type describeListeners struct {
	LoadBalancerArn string
	ListenerArns    []string
	Marker          string
	PageSize        *int32
}

func (s *Service) describeListeners(bend faults.Bend, in describeListeners) (listenersXML, error) {
	if (in.LoadBalancerArn == "") == (len(in.ListenerArns) == 0) {
		return listenersXML{}, invalid("You must specify either listener ARNs or a load balancer ARN")
	}
	if in.LoadBalancerArn != "" {
		if _, err := s.balancer(in.LoadBalancerArn); err != nil {
			return listenersXML{}, err
		}
	}
	var out []*listener
	for _, l := range s.listeners {
		if (l.balancer.arn == in.LoadBalancerArn || slices.Contains(in.ListenerArns, l.arn)) && !hidden(bend, l.created) {
			out = append(out, l)
		}
	}
	for _, arn := range in.ListenerArns {
		if !slices.ContainsFunc(out, func(l *listener) bool { return l.arn == arn }) {
			return listenersXML{}, query.Refuse("ListenerNotFound", "One or more listeners not found: '%s'", arn)
		}
	}
	part, next, err := encoded(out, func(l *listener) string { return l.arn }, in.PageSize, in.Marker, (*listener).xml)
	return listenersXML{part, next}, err
}

type ofListener struct {
	ListenerArn string
}

func (s *Service) deleteListener(_ faults.Bend, in ofListener) (none, error) {
	i := slices.IndexFunc(s.listeners, func(l *listener) bool { return l.arn == in.ListenerArn })
	if i < 0 {
		return none{}, query.Refuse("ListenerNotFound", "Listener '%s' not found", in.ListenerArn)
	}
	s.listeners = slices.Delete(s.listeners, i, i+1)
	return none{}, nil
}

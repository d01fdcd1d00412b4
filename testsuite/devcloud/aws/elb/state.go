package elb

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
)

// State is a dump of the service.
type State struct {
	LoadBalancers []account.Item `json:"loadBalancers"`
	TargetGroups  []account.Item `json:"targetGroups"`
	Listeners     []account.Item `json:"listeners"`
	// Count is zero exactly when there is nothing.
	Count int `json:"count"`
}

// State returns a dump of the service.
func (s *Service) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := State{LoadBalancers: []account.Item{}, TargetGroups: []account.Item{}, Listeners: []account.Item{}}
	for _, b := range s.balancers {
		out.LoadBalancers = append(out.LoadBalancers, account.Item{
			ID: b.arn, Name: b.name, State: b.state, Address: b.address.String(), Tags: maps.Clone(b.tags),
		})
	}
	for _, g := range s.groups {
		healthy, ids := 0, make([]string, 0, len(g.targets))
		for _, t := range g.targets {
			ids = append(ids, t.id)
			if s.health(g, t).State == "healthy" {
				healthy++
			}
		}
		out.TargetGroups = append(out.TargetGroups, account.Item{
			ID: g.arn, Name: g.name, Tags: maps.Clone(g.tags),
			Detail: strings.TrimSpace(fmt.Sprintf("%d of %d targets healthy: %s", healthy, len(g.targets), strings.Join(ids, " "))),
		})
	}
	for _, l := range s.listeners {
		out.Listeners = append(out.Listeners, account.Item{ID: l.arn, Detail: "TCP " + strconv.Itoa(int(l.port)), Tags: maps.Clone(l.tags)})
	}
	out.Count = len(s.balancers) + len(s.groups) + len(s.listeners)
	return out
}

package plan

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Values of UpgradeStrategy.Approve.
const (
	ApproveLeg  = "leg"
	ApproveNode = "node"
)

// CheckStrategy returns all that is wrong with a strategy for a cluster that has
// these node groups, in the order of its fields. Paths begin with "strategy".
// Expressions are only checked to be there; their language is not known here.
func CheckStrategy(s UpgradeStrategy, groups []string) []Refusal {
	var c strategyCheck
	c.unavailable("maxUnavailable", s.MaxUnavailable)
	c.groups(s.Groups, groups)
	c.span("soak", s.Soak)
	if s.Soak > 0 && !s.Canary {
		c.add("soak", "needs canary: nothing else soaks")
	}
	if s.FailureBudget < 0 {
		c.add("failureBudget", "must not be negative")
	}
	for i, w := range s.Windows {
		c.window(fmt.Sprintf("windows[%d]", i), w)
	}
	if s.Approve != "" && s.Approve != ApproveLeg && s.Approve != ApproveNode {
		c.add("approve", "must be leg or node, or left out")
	}
	c.span("drainTimeout", s.DrainTimeout)
	c.span("stable", s.Stable)
	c.gates(s.Gates)
	return c.found
}

type strategyCheck struct{ found []Refusal }

func (c *strategyCheck) add(field, format string, args ...any) {
	c.found = append(c.found, Refusal{Field: "strategy." + field, Kind: RefusedInvalid, Reason: fmt.Sprintf(format, args...)})
}

func (c *strategyCheck) span(field string, d cluster.Duration) {
	if d < 0 {
		c.add(field, "must not be negative")
	}
}

func (c *strategyCheck) unavailable(field, value string) {
	if value == "" {
		return
	}
	n, percent, ok := amount(value)
	switch {
	case !ok:
		c.add(field, "must be a number or a percentage, for example 3 or 10%%")
	case n < 1:
		c.add(field, "must be at least 1: a roll that may spare no node never ends")
	case percent && n > 100:
		c.add(field, "must be at most 100%%")
	}
}

func (c *strategyCheck) groups(overrides []GroupStrategy, known []string) {
	for i, g := range overrides {
		at := fmt.Sprintf("groups[%d]", i)
		switch {
		case g.Group == "":
			c.add(at+".group", "is required")
		case g.Group == cluster.ControlPlaneGroup:
			if g.MaxUnavailable != "" && g.MaxUnavailable != "1" {
				c.add(at+".maxUnavailable", "control planes go one at a time")
			}
		case !slices.Contains(known, g.Group):
			c.add(at+".group", "the cluster has no group %q", g.Group)
		}
		if g.Group != "" && slices.ContainsFunc(overrides[:i], func(o GroupStrategy) bool { return o.Group == g.Group }) {
			c.add(at+".group", "%q is there twice", g.Group)
		}
		switch {
		case g.Surge < 0:
			c.add(at+".surge", "must not be negative")
		case g.Surge > 0 && g.Group == cluster.ControlPlaneGroup:
			c.add(at+".surge", "a control plane is not replaced by adding one first")
		case g.Surge > 0 && g.MaxUnavailable != "":
			c.add(at+".maxUnavailable", "has no meaning with surge, by which no node is missing")
		}
		if g.Group != cluster.ControlPlaneGroup {
			c.unavailable(at+".maxUnavailable", g.MaxUnavailable)
		}
		c.span(at+".grace", g.Grace)
	}
}

func (c *strategyCheck) window(at string, w Window) {
	for i, d := range w.Days {
		if !slices.Contains(weekdays[:], d) {
			c.add(fmt.Sprintf("%s.days[%d]", at, i), "must be one of mon, tue, wed, thu, fri, sat, sun")
		} else if slices.Contains(w.Days[:i], d) {
			c.add(fmt.Sprintf("%s.days[%d]", at, i), "%s is there twice", d)
		}
	}
	if _, ok := clock(w.Start); !ok {
		c.add(at+".start", "must be a time in UTC, for example 22:00")
	}
	if length := time.Duration(w.Length); length <= 0 || length > MaxWindow {
		c.add(at+".length", "must be more than nothing and at most a week, for example 6h")
	}
}

func (c *strategyCheck) gates(gates []Gate) {
	for i, g := range gates {
		at := fmt.Sprintf("gates[%d]", i)
		if g.Name == "" {
			c.add(at+".name", "is required")
		} else if slices.ContainsFunc(gates[:i], func(o Gate) bool { return o.Name == g.Name }) {
			c.add(at+".name", "%q is there twice", g.Name)
		}
		objects := g.Resource != "" || g.Expression != "" || g.Namespace != "" || g.ObjectName != "" || g.Selector != ""
		switch {
		case objects && (g.URL != "" || g.Status != 0):
			c.add(at, "checks either objects or a URL; make two gates of it")
		case objects:
			c.objects(at, g)
		case g.URL == "":
			c.add(at, "needs resource and expression, or url")
		default:
			c.request(at, g)
		}
	}
}

func (c *strategyCheck) objects(at string, g Gate) {
	parts := strings.Split(g.Resource, "/")
	switch {
	case g.Resource == "":
		c.add(at+".resource", "is required with expression, for example apps/v1/deployments")
	case len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, ""):
		c.add(at+".resource", "must be group/version/resource, for example apps/v1/deployments or v1/pods")
	}
	if g.Expression == "" {
		c.add(at+".expression", "is required with resource, for example object.status.readyReplicas == object.spec.replicas")
	}
}

func (c *strategyCheck) request(at string, g Gate) {
	u, err := url.Parse(g.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		c.add(at+".url", "must be an http or https URL")
	} else if u.User != nil {
		c.add(at+".url", "must not hold credentials: it is shown to everybody who may see the upgrade")
	}
	if g.Status != 0 && (g.Status < 100 || g.Status > 599) {
		c.add(at+".status", "must be an HTTP status, from 100 to 599")
	}
}

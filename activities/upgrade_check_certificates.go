package activities

import (
	"context"
	"time"
)

// authorityLife is how much longer than the upgrade the cluster's authorities must
// be valid, so that nodes get new certificates from them.
const authorityLife = 30 * 24 * time.Hour

// authorities looks at when each ends. What Ichor itself shows to nodes and to the
// Kubernetes API is made from them for each call and ends with them, too.
func (c *preflight) authorities(context.Context) {
	const field, do = "certificates", "Ichor cannot replace an authority: move to a new cluster before"
	list, err := c.u.Inspect.Authorities(c.bundle)
	if err != nil {
		c.problem(field, "the cluster's authorities cannot be read: %v; see that the worker's store has this cluster's secrets", err)
	}
	now := c.u.Now()
	for _, a := range list {
		switch {
		case a.NotAfter.Before(now):
			c.problem(field, "the %s expired on %s; nothing of this cluster is trusted any more", a.Name, day(a.NotAfter))
		case a.NotAfter.Before(now.Add(authorityLife)):
			c.problem(field, "the %s expires on %s; %s", a.Name, day(a.NotAfter), do)
		}
	}
}

// nodeLook is everything that the pre-flight reads from a node.
type nodeLook struct {
	facts NodeFacts
	err   error
	// inspection is read where facts could be.
	inspection NodeInspection
	unread     error
}

func (c *preflight) look(ctx context.Context, t UpgradeTarget) nodeLook {
	var out nodeLook
	if out.facts, out.err = c.u.facts(ctx, c.bundle, t); out.err != nil || out.facts.Stage == maintenance {
		return out
	}
	bounded, cancel := within(ctx, factsTimeout)
	defer cancel()
	out.inspection, out.unread = c.u.Inspect.Node(bounded, c.bundle, t.Node.Address)
	return out
}

// inspected judges what a node has, but for its versions and its state.
func (c *preflight) inspected(t UpgradeTarget, look nodeLook) {
	if look.unread != nil {
		c.problem(t.Node.Name, "its certificates and its disk cannot be looked at: %v; try again", look.unread)
		return
	}
	c.room(t, look.inspection.FreeBytes, look.inspection.DiskBytes)
	now := c.u.Now()
	for _, cert := range look.inspection.Certificates {
		const do = "check the node's clock, and that it reaches the control planes; a reboot asks for a new one"
		switch {
		case cert.NotAfter.Before(now):
			c.problem(t.Node.Name, "its %s expired at %s; %s", cert.Name, minute(cert.NotAfter), do)
		case !cert.Renewed.IsZero() && cert.Renewed.Before(now):
			c.problem(t.Node.Name, "its %s expires at %s and should have been renewed by %s; %s", cert.Name, minute(cert.NotAfter), minute(cert.Renewed), do)
		}
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

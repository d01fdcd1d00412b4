package cluster

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// MaxAlternatives bounds how often a machine is tried elsewhere before its
// group backs off.
const MaxAlternatives = 8

// MinNodeProvisionTime is the least that maxNodeProvisionTime must exceed: a
// machine boots for about a minute, and an autoscaler that gives up before it
// has booted deletes each one.
const MinNodeProvisionTime = time.Minute

func (g NodeGroup) validateAlternatives(field string, p *Problems) {
	if len(g.Alternatives) > MaxAlternatives {
		p.Add(field, "has %d entries; the limit is %d", len(g.Alternatives), MaxAlternatives)
	}
	seen := map[Alternative]int{}
	for i, a := range g.Alternatives {
		at := index(field, i)
		first, twice := seen[a]
		switch {
		case a == Alternative{}:
			p.Add(at, "needs a zone, a flavor or both")
		case strings.TrimSpace(a.Zone) != a.Zone || strings.TrimSpace(a.Flavor) != a.Flavor:
			p.Add(at, "has white space around a name")
		case (a.Flavor == "" || a.Flavor == g.Flavor) && a.Zone != "" && a.Zone == g.Zone,
			a.Zone == "" && a.Flavor == g.Flavor:
			p.Add(at, "is what the group asks for anyway")
		case twice:
			p.Add(at, "is listed twice, first as %s", index(field, first))
		default:
			seen[a] = i
		}
	}
}

// validate demands all fields: the autoscaler takes all of its options from a
// group or none, and takes what is missing as zero.
func (a Autoscaling) validate(field string, p *Problems) {
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"scaleDownUtilizationThreshold", a.ScaleDownUtilizationThreshold},
		{"scaleDownGPUUtilizationThreshold", a.ScaleDownGPUUtilizationThreshold},
	} {
		if f.value <= 0 || f.value > 1 {
			p.Add(field+"."+f.name, "must be more than 0 and at most 1, for example 0.5; all options are needed, since the autoscaler takes what is missing as zero")
		}
	}
	for _, f := range []struct {
		name, example string
		value         Duration
	}{
		{"scaleDownUnneededTime", "10m", a.ScaleDownUnneededTime},
		{"scaleDownUnreadyTime", "20m", a.ScaleDownUnreadyTime},
		{"maxNodeProvisionTime", "15m", a.MaxNodeProvisionTime},
	} {
		if f.value <= 0 {
			p.Add(field+"."+f.name, "must be a time span, for example %s; all options are needed, since the autoscaler takes what is missing as zero", f.example)
		}
	}
	if t := time.Duration(a.MaxNodeProvisionTime); t > 0 && t <= MinNodeProvisionTime {
		p.Add(field+".maxNodeProvisionTime", "must be longer than %s: no machine becomes a node faster than that", MinNodeProvisionTime)
	}
}

// ValidateExternal checks a group whose nodes get their config from elsewhere,
// by the rules of a spec's groups. Its labels and taints are only what the
// autoscaler is told of nodes, so they may be such as others set; field is the
// path of the group.
func (g NodeGroup) ValidateExternal(field string) Problems {
	var p Problems
	if why := badLabel(g.Name, MaxGroupName); why != "" {
		p.Add(field+".name", "%s", why)
	} else if g.Name == ControlPlaneGroup {
		p.Add(field+".name", "%s is the name of control planes; only workers scale", ControlPlaneGroup)
	}
	g.validateScaling(field, &p)
	for _, key := range slices.Sorted(maps.Keys(g.Labels)) {
		at := JoinField(field+".labels", key)
		if why := badQualifiedName(key); why != "" {
			p.Add(at, "%s", why)
		}
		if why := badLabelValue(g.Labels[key]); why != "" {
			p.Add(at, "%s", why)
		}
	}
	validateTaints(field+".taints", g.Taints, &p)
	return p
}

// BadClusterName says why s cannot name a cluster, "" when it can.
func BadClusterName(s string) string { return badLabel(s, MaxClusterName) }

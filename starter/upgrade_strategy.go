package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
)

// strategyFlags are a file and shorthands for what is changed most; a shorthand
// wins over the file.
type strategyFlags struct {
	strategyFile, unavailable, approve string
	canary, single                     bool
	soak, drain                        time.Duration
	budget                             int
	windows                            []string
	changed                            func(flag string) bool
}

func (s *strategyFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.strategyFile, "strategy", "", "YAML or JSON file that says how to go over the nodes; - for standard input")
	f.StringVar(&s.unavailable, "max-unavailable", "", "nodes of a node group at work at once: a number or a percentage (default 1)")
	f.BoolVar(&s.canary, "canary", false, "upgrade one worker first")
	f.DurationVar(&s.soak, "soak", 0, "how long the canary must do well before others follow")
	f.StringVar(&s.approve, "approve", "", "ask before each leg or each node: leg or node")
	f.BoolVar(&s.single, "single-control-plane", false, "consent to an outage of the API of a cluster with one control plane")
	f.IntVar(&s.budget, "failure-budget", 0, "failed nodes to tolerate; with one more, no new node is begun")
	f.DurationVar(&s.drain, "drain-timeout", 0, "how long a drain may take before the node parks and asks (default 10m)")
	f.StringArrayVar(&s.windows, "window", nil, `when a new node may be begun, in UTC, as "sat,sun 22:00 6h" or "22:00 6h"; may be repeated`)
	s.changed = f.Changed
}

// strategy is the file with the shorthands over it, checked for a cluster with
// these groups. All problems come at once, as cluster.Problems.
func (s *strategyFlags) strategy(a *app, groups []cluster.NodeGroup) (plan.UpgradeStrategy, error) {
	out, pos, err := s.read(a)
	if err != nil {
		return out, err
	}
	if err := s.shorthands(&out); err != nil {
		return out, err
	}
	names := make([]string, 0, len(groups))
	for _, g := range groups {
		names = append(names, g.Name)
	}
	var problems cluster.Problems
	for _, r := range plan.CheckStrategy(out, names) {
		problems.Add(strings.TrimPrefix(r.Field, "strategy."), "%s", r.Reason)
	}
	return out, pos.Locate(problems).Err()
}

func (s *strategyFlags) read(a *app) (plan.UpgradeStrategy, cluster.Positions, error) {
	var out plan.UpgradeStrategy
	a.specFile, a.isStrategy = "the strategy", true
	if s.strategyFile == "" {
		return out, nil, nil
	}
	if s.strategyFile != "-" {
		a.specFile = s.strategyFile
	}
	data, err := a.readSpec(s.strategyFile)
	if err != nil {
		return out, nil, usageError{err}
	}
	pos, err := cluster.DecodeInto(data, &out)
	return out, pos, err
}

func (s *strategyFlags) shorthands(out *plan.UpgradeStrategy) error {
	for flag, set := range map[string]func(){
		"max-unavailable":      func() { out.MaxUnavailable = s.unavailable },
		"canary":               func() { out.Canary = s.canary },
		"soak":                 func() { out.Soak = cluster.Duration(s.soak) },
		"approve":              func() { out.Approve = s.approve },
		"single-control-plane": func() { out.SingleControlPlane = s.single },
		"failure-budget":       func() { out.FailureBudget = s.budget },
		"drain-timeout":        func() { out.DrainTimeout = cluster.Duration(s.drain) },
	} {
		if s.changed(flag) {
			set()
		}
	}
	if !s.changed("window") {
		return nil
	}
	out.Windows = nil
	for _, text := range s.windows {
		w, err := parseWindow(text)
		if err != nil {
			return err
		}
		out.Windows = append(out.Windows, w)
	}
	return nil
}

// parseWindow reads "sat,sun 22:00 6h"; without days it is every day. What the
// parts mean is checked with the whole strategy.
func parseWindow(text string) (plan.Window, error) {
	parts := strings.Fields(text)
	var w plan.Window
	if len(parts) == 3 {
		w.Days, parts = strings.Split(strings.ToLower(parts[0]), ","), parts[1:]
	}
	if len(parts) != 2 {
		return w, usageError{fmt.Errorf(`--window: %q is not of the form "sat,sun 22:00 6h" or "22:00 6h"`, text)}
	}
	length, err := time.ParseDuration(parts[1])
	if err != nil {
		return w, usageError{fmt.Errorf("--window: %q is not a time span such as 6h", parts[1])}
	}
	w.Start, w.Length = parts[0], cluster.Duration(length)
	return w, nil
}

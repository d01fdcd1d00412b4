package main

import (
	"strings"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/resolve"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/internal/telemetry"
	"github.com/ichor-project/ichor/workflows"
)

// newResolver reads references where the worker runs. Who may write specs names
// what is read, so an installation can say which variables and folders it means.
func newResolver(c config, st *store.Store) secrets.Resolver {
	return resolve.New(resolve.Options{
		Objects: st, Kube: resolve.NewKube(""), EnvNames: list(c.SecretEnv), FileRoots: list(c.SecretFiles),
	})
}

// list splits a comma-separated setting; nil when it is empty.
func list(s string) []string {
	var out []string
	for _, part := range strings.Split(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

// newActivities ties the activities to what they act on.
func newActivities(c config, st *store.Store, resolver secrets.Resolver, temporal client.Client, seen *telemetry.Telemetry) workflows.Activities {
	kept := storeAdapter{st}
	accounts := accounts(c, resolver, seen)
	factory := factoryAdapter{talos.Factory{URL: c.FactoryURL}}
	kube := &activities.Kube{Store: kept, Kube: kubeAdapter{}, Secrets: resolver, Timing: c.Timing}
	return workflows.Activities{
		Records: &activities.Records{Store: kept, Checker: check.Checker{}, Configs: configAdapter{}, Now: time.Now},
		Cloud: &activities.Cloud{
			Clouds: accounts, Store: kept, Configs: configAdapter{}, Factory: factory, Timing: c.Timing, Secrets: resolver,
		},
		Watch: &activities.Watch{Clouds: accounts, Kube: kube, Timing: c.Timing},
		Talos: &activities.Talos{Store: kept, Configs: configAdapter{}, Machines: machineAdapter{}, Timing: c.Timing},
		Kube:  kube,
		Locks: &activities.Locks{Runs: runs{temporal}},
		Upgrades: &activities.Upgrades{
			Store: kept, Checker: check.Checker{}, Configs: configAdapter{}, Factory: factory, Releases: factory,
			Machines: machineAdapter{}, Inspect: inspector(factory), Kube: kube, Groups: groupLeases{temporal}, Replacements: groupReplacements{temporal}, Clouds: accounts, Timing: c.Timing, Now: time.Now,
		},
		Sweeps: &activities.Sweeps{
			Store: kept, Clouds: accounts, Schedules: schedules{temporal, c.TaskQueue}, Owners: owners{temporal},
			Settings: c.Sweep, Now: time.Now,
		},
	}
}

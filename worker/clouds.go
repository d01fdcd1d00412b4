package main

import (
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/registry"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/telemetry"
)

// accounts opens what specs name.
func accounts(c config, resolver secrets.Resolver, seen *telemetry.Telemetry) *registry.Registry {
	return registry.New(registry.Options{
		Secrets: resolver, Rate: c.RequestRate, CloudscaleURL: c.CloudscaleURL, Logger: seen.Logger(), Observe: seen.CloudCalls,
		InstanceProfile: c.InstanceProfile, ControlPlaneProfile: c.ControlPlaneProfile,
		Waits: cloud.Waits{
			Settle: c.Settle, AbsenceWindow: c.AbsenceWindow, CreateTimeout: c.CreateTimeout, PostWindow: c.PostWindow, Poll: c.CloudPoll,
		},
	})
}

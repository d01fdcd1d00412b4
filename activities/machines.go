package activities

import (
	"context"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Cloud acts on machines, infrastructure and images of a cloud account.
type Cloud struct {
	Clouds  Clouds
	Store   Store
	Configs MachineConfigs
	Factory Factory
	Timing  Timing
	Secrets secrets.Resolver
}

// EnsureMachineInput is a frozen machine. Create is set by the workflow only
// when no earlier create of this machine can be under way; without it the
// activity only looks, adopts and repairs.
type EnsureMachineInput struct {
	Cloud   cluster.Cloud     `json:"cloud"`
	Machine cloud.MachineSpec `json:"machine"`
	Create  bool              `json:"create"`
	// UserData is what the machine boots with instead of a rendered config.
	UserData *UserData `json:"userData,omitempty"`
}

// EnsureMachineResult says what was found or made.
type EnsureMachineResult struct {
	cloud.MachineLook
	// ConfigSHA256 is the digest of the user data that was sent; only with
	// Created.
	ConfigSHA256 string `json:"configSHA256,omitempty"`
}

// EnsureMachine adopts the machine of the given id or creates it. With Create it
// must be scheduled with one attempt only: an attempt that ends without a
// recorded answer is Ambiguous, and only the workflow's evidence permits the
// next create.
func (c *Cloud) EnsureMachine(ctx context.Context, in EnsureMachineInput) (EnsureMachineResult, error) {
	var out EnsureMachineResult
	p, _, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return out, err
	}
	defer alive(ctx, "ensuring machine "+in.Machine.Name)()
	begun := time.Now()
	req := cloud.EnsureMachineRequest{Spec: in.Machine, Create: in.Create}
	if in.Create {
		data, sum, err := c.userData(ctx, in, p.Capabilities().UserDataGzip)
		if err != nil {
			return out, err
		}
		req.UserData, req.Spec.UserDataSHA256, out.ConfigSHA256 = data, sum, sum
		if late := time.Since(begun); late > p.Capabilities().PostWindow {
			// Whoever gave this attempt up may be settling already.
			return EnsureMachineResult{}, fault.New(fault.Unavailable, "create machine "+in.Machine.Name,
				"rendering its config took %s, longer than a create may be sent after its start; nothing was sent", late.Round(time.Second))
		}
	}
	out.MachineLook, err = p.EnsureMachine(ctx, req)
	if !out.Created {
		out.ConfigSHA256 = ""
	}
	return out, err
}

// userData renders the config of a machine, or reads the one that was given.
func (c *Cloud) userData(ctx context.Context, in EnsureMachineInput, gzip bool) (secrets.Value, string, error) {
	if u := in.UserData; u != nil {
		body, err := c.Store.Body(ctx, u.Ref, u.SHA256)
		return body, u.SHA256, err
	}
	m := in.Machine
	return machineConfig(ctx, c.Store, c.Configs, configOf{
		cluster: m.Owner.Cluster, role: m.Role, group: m.Owner.Group, name: m.Name, gzip: gzip,
	})
}

// ListMachinesInput names an account and an owner.
type ListMachinesInput struct {
	Cloud cluster.Cloud `json:"cloud"`
	Owner cloud.Owner   `json:"owner"`
}

// ListMachines returns every machine of the owner, or an error.
func (c *Cloud) ListMachines(ctx context.Context, in ListMachinesInput) ([]cloud.Machine, error) {
	defer alive(ctx, "listing machines")()
	p, _, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return nil, err
	}
	return p.ListMachines(ctx, in.Owner)
}

// DeleteMachineInput names one machine.
type DeleteMachineInput struct {
	Cloud cluster.Cloud    `json:"cloud"`
	Ref   cloud.MachineRef `json:"ref"`
	// Account is where an owner without a record began, if that is known.
	Account string `json:"account,omitempty"`
}

// DeleteMachine deletes a machine and returns when it is gone. Absent is gone;
// Unauthorized when it is absent from an account that may be another one.
func (c *Cloud) DeleteMachine(ctx context.Context, in DeleteMachineInput) error {
	p, account, err := c.Clouds.Open(ctx, in.Cloud)
	if err != nil {
		return err
	}
	seen := false
	return poll(ctx, "delete machine "+in.Ref.ID, p.Capabilities().Poll, func(ctx context.Context) (bool, string, error) {
		gone, err := p.DeleteMachine(ctx, in.Ref)
		if err == nil && gone && !seen {
			err = accounts{store: c.Store, known: in.Account}.prove(ctx, in.Ref.Owner.Cluster, p, account)
		}
		seen = seen || err == nil && !gone
		return gone, "machine is being deleted", err
	})
}

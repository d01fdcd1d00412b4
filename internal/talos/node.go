package talos

import (
	"context"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/client"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// call makes one call with a deadline and maps its error.
func call[T any](ctx context.Context, n *Node, op string, e effect, limit time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	out, err := f(ctx)
	return out, callError(op+" of "+n.address, e, err)
}

// Version returns the Talos version that runs, for example "v1.13.5".
func (n *Node) Version(ctx context.Context) (string, error) {
	const op = "read version"
	resp, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (*machine.VersionResponse, error) {
		return n.api.Version(ctx)
	})
	if err != nil {
		return "", err
	}
	if len(resp.GetMessages()) == 0 {
		return "", fault.New(fault.Internal, op, "%s answered nothing", n.address)
	}
	return resp.GetMessages()[0].GetVersion().GetTag(), nil
}

// MachineStatus is what a node says of itself.
type MachineStatus struct {
	// Stage in Talos' words: booting, installing, running, rebooting, …
	Stage string
	Ready bool
	Unmet []Unmet
}

// Unmet is a condition that keeps a node from being ready.
type Unmet struct{ Name, Reason string }

// MachineStatus returns stage and readiness. A control plane is not ready before
// etcd runs and its node is Ready, so not before a CNI works. NotYet while the
// node has not computed it.
func (n *Node) MachineStatus(ctx context.Context) (MachineStatus, error) {
	const op = "read machine status"
	var out MachineStatus
	res, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (*runtime.MachineStatus, error) {
		return getResource[*runtime.MachineStatus](ctx, n, runtime.MachineStatusID)
	})
	if err != nil {
		return out, err
	}
	if res == nil {
		return out, fault.New(fault.NotYet, op, "%s has no status yet", n.address)
	}
	spec := res.TypedSpec()
	out.Stage, out.Ready = spec.Stage.String(), spec.Status.Ready
	for _, u := range spec.Status.UnmetConditions {
		out.Unmet = append(out.Unmet, Unmet{Name: u.Name, Reason: u.Reason})
	}
	return out, nil
}

// Service is one of Talos' own services.
type Service struct {
	ID    string
	State string // Running, Waiting, Preparing, Finished, Failed, …
	// Healthy is meaningful when Checked is true; not every service is checked.
	Healthy, Checked bool
	Message          string // of the last health check
}

// Services lists the services of a node.
func (n *Node) Services(ctx context.Context) ([]Service, error) {
	resp, err := call(ctx, n, "list services", repeatable, readTimeout, func(ctx context.Context) (*machine.ServiceListResponse, error) {
		return n.api.ServiceList(ctx)
	})
	if err != nil {
		return nil, err
	}
	var out []Service
	for _, m := range resp.GetMessages() {
		for _, s := range m.GetServices() {
			out = append(out, Service{
				ID: s.GetId(), State: s.GetState(), Healthy: s.GetHealth().GetHealthy(),
				Checked: !s.GetHealth().GetUnknown(), Message: s.GetHealth().GetLastMessage(),
			})
		}
	}
	return out, nil
}

// NeedsReboot is the code of a fault of Apply when the node takes the config only
// with a reboot.
const NeedsReboot = "NeedsReboot"

// Apply gives a running node a new config, plain or compressed: at once and
// without a reboot, or staged for the next boot. The same config twice changes
// nothing. Errors: Invalid when the node refuses it, with code NeedsReboot when it
// takes it only staged (Talos before 1.14; later ones take everything at once);
// Conflict while another one is applied; Unavailable when the answer was lost.
func (n *Node) Apply(ctx context.Context, config secrets.Value, staged bool) error {
	const op = "apply config"
	raw, err := plainConfig(config.Reveal())
	if err != nil || len(raw) == 0 {
		return fault.New(fault.Internal, op, "the machine config is empty or cannot be decompressed")
	}
	// The mode's zero value is REBOOT, which Talos 1.14 no longer has.
	mode := machine.ApplyConfigurationRequest_NO_REBOOT
	if staged {
		mode = machine.ApplyConfigurationRequest_STAGED
	}
	_, err = call(ctx, n, op, repeatable, writeTimeout, func(ctx context.Context) (*machine.ApplyConfigurationResponse, error) {
		return n.api.ApplyConfiguration(ctx, &machine.ApplyConfigurationRequest{Data: raw, Mode: mode})
	})
	return applyError(err)
}

func applyError(err error) error {
	return sharpen(err, func(f *fault.Error) {
		if f.Kind == fault.Invalid && strings.Contains(f.Message, "immediate mode") {
			f.Code, f.Message = NeedsReboot, "the change needs a reboot: it must be staged"
		}
	})
}

// Reset wipes a node's state and powers it off, without draining or leaving
// etcd: both are the caller's, who sees whether they worked. A node that keeps
// its user data would join again after a reboot, so it is not rebooted. The
// answer comes before anything happens. Errors: Ambiguous when it is unknown
// whether the node took the request.
func (n *Node) Reset(ctx context.Context) error {
	_, err := call(ctx, n, "reset", once, writeTimeout, func(ctx context.Context) (*machine.ResetResponse, error) {
		return n.api.ResetGenericWithResponse(ctx, &machine.ResetRequest{Graceful: false, Reboot: false})
	})
	return err
}

// ApplyMaintenance sends a config to a node in maintenance mode. Talos takes it
// from whoever reaches the port, so the connection is pinned to the certificate
// that was seen first, and the caller must know the address from the cloud. The
// node restarts its API with the cluster's certificate: a broken connection is
// Unavailable, and the next look shows whether the config arrived. Errors:
// Conflict when the node has a config already, Invalid when it refuses this one.
func ApplyMaintenance(ctx context.Context, address string, config secrets.Value) error {
	const op = "apply config"
	address = withPort(address)
	cert, err := maintenance(ctx, address)
	if err != nil {
		return err
	}
	api, err := client.New(ctx, client.WithMaintenanceMode(address, []string{fingerprint(cert)}))
	if err != nil {
		return fault.New(fault.Unavailable, op, "%s: %s", address, err)
	}
	n := &Node{api: api, address: address}
	// The node cuts this connection itself once it has answered.
	defer func() { _ = n.Close() }()
	return n.applyOnce(ctx, config)
}

func (n *Node) applyOnce(ctx context.Context, config secrets.Value) error {
	_, err := call(ctx, n, "apply config in maintenance mode", repeatable, writeTimeout, func(ctx context.Context) (*machine.ApplyConfigurationResponse, error) {
		return n.api.ApplyConfiguration(ctx, &machine.ApplyConfigurationRequest{Data: config.Reveal(), Mode: machine.ApplyConfigurationRequest_AUTO})
	})
	return err
}

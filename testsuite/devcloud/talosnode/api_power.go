package talosnode

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
)

// errBusy is the answer while another sequence holds the machine.
func errBusy() error {
	return status.Error(codes.FailedPrecondition, "another sequence is in progress")
}

// Reboot implements the machine service. The answer comes before anything
// happens, and the node does not drain itself.
func (a *machineAPI) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	actor := newBootID()

	if !a.s.request(departure{kind: exitReboot, sequence: "reboot", stage: machine.MachineStatusEvent_REBOOTING, actor: actor}) {
		return nil, errBusy()
	}

	if err := a.s.loseAnswer(); err != nil {
		return nil, err
	}

	return &machine.RebootResponse{Messages: []*machine.Reboot{{ActorId: actor}}}, nil
}

// loseAnswer breaks the connection of an accepted request when a fault says so.
func (s *session) loseAnswer() error {
	if s.node.takeFault(func(f *Faults) *bool { return &f.LoseRebootResponse }) {
		return s.breakConnections()
	}

	return nil
}

// Shutdown implements the machine service.
func (a *machineAPI) Shutdown(context.Context, *machine.ShutdownRequest) (*machine.ShutdownResponse, error) {
	actor := newBootID()

	if !a.s.request(departure{kind: exitOff, sequence: "shutdown", stage: machine.MachineStatusEvent_SHUTTING_DOWN, actor: actor}) {
		return nil, errBusy()
	}

	return &machine.ShutdownResponse{Messages: []*machine.Shutdown{{ActorId: actor}}}, nil
}

// Rollback implements the machine service: the other slot boots next.
func (a *machineAPI) Rollback(context.Context, *machine.RollbackRequest) (*machine.RollbackResponse, error) {
	d := a.s.node.read()

	other := 1 - d.active
	if d.slots[other].empty() {
		return nil, status.Errorf(codes.FailedPrecondition, "cannot rollback, no previous installation")
	}

	if !a.s.request(departure{kind: exitReboot, sequence: "reboot", stage: machine.MachineStatusEvent_REBOOTING}) {
		return nil, errBusy()
	}

	a.s.node.write(func(d *disk) { d.active, d.fallback = other, false })

	if err := a.s.loseAnswer(); err != nil {
		return nil, err
	}

	return &machine.RollbackResponse{Messages: []*machine.Rollback{{}}}, nil
}

// wipeable are the partitions that Reset knows.
var wipeable = []string{
	constants.EFIPartitionLabel, constants.BIOSGrubPartitionLabel, constants.BootPartitionLabel,
	constants.MetaPartitionLabel, constants.StatePartitionLabel, constants.EphemeralPartitionLabel,
}

// Reset implements the machine service: leave etcd when graceful, wipe, then
// reboot or stop. A wiped machine reads its user data again.
func (a *machineAPI) Reset(_ context.Context, in *machine.ResetRequest) (*machine.ResetResponse, error) {
	labels := []string{}

	for _, p := range in.GetSystemPartitionsToWipe() {
		if !slices.Contains(wipeable, p.GetLabel()) {
			return nil, fmt.Errorf("failed to get volume status with label %q: not found", p.GetLabel())
		}

		if p.GetWipe() {
			labels = append(labels, p.GetLabel())
		}
	}

	d := departure{
		kind: exitOff, sequence: "reset", stage: machine.MachineStatusEvent_RESETTING, actor: newBootID(),
		before: func(context.Context) error { return a.s.wipe(in, labels) },
	}
	if in.GetReboot() {
		d.kind = exitReboot
	}

	if !a.s.request(d) {
		return nil, errBusy()
	}

	return &machine.ResetResponse{Messages: []*machine.Reset{{ActorId: d.actor}}}, nil
}

func (s *session) wipe(in *machine.ResetRequest, labels []string) error {
	if in.GetGraceful() {
		if err := s.leaveEtcd(); err != nil {
			return fmt.Errorf("leaving etcd: %w", err)
		}
	}

	if in.GetMode() == machine.ResetRequest_USER_DISKS {
		return nil
	}

	all := len(labels) == 0

	if all || slices.Contains(labels, constants.EphemeralPartitionLabel) {
		s.stopEtcd()

		var lost etcdData

		s.node.write(func(d *disk) {
			lost = d.etcd
			d.etcd, d.recovery, d.images = etcdData{}, nil, nil
		})
		s.fleet.etcdDataLost(lost)
	}

	if all || slices.Contains(labels, constants.StatePartitionLabel) {
		s.node.write(func(d *disk) { d.config, d.staged, d.nodeID = nil, nil, newID() })
	}

	return nil
}

// Upgrade implements the machine service's own upgrade, which checks etcd,
// drains, installs and reboots by itself.
func (a *machineAPI) Upgrade(ctx context.Context, in *machine.UpgradeRequest) (*machine.UpgradeResponse, error) {
	s := a.s

	config, err := s.running()
	if err != nil {
		return nil, err
	}

	// Talos wraps both errors, which costs them their codes.
	next, _, err := installer(in.GetImage())
	if err == nil {
		err = s.pull(ctx, in.GetImage())
	}

	if err != nil {
		return nil, fmt.Errorf("error validating installer image %q: %w", in.GetImage(), err)
	}

	if config.controlPlane && !in.GetForce() && !in.GetPreserve() {
		if err := s.etcdAllowsUpgrade(); err != nil {
			return nil, fmt.Errorf("error validating etcd for upgrade: %w", err)
		}
	}

	actor := newBootID()

	if !s.request(departure{
		kind: exitReboot, sequence: "upgrade", stage: machine.MachineStatusEvent_UPGRADING, actor: actor,
		drain: true,
		before: func(context.Context) error {
			if code := s.install(next, func(string) {}); code != 0 {
				return fmt.Errorf("installer ended with exit code %d", code)
			}

			return nil
		},
	}) {
		return nil, errBusy()
	}

	if err := s.loseAnswer(); err != nil {
		return nil, err
	}

	return &machine.UpgradeResponse{Messages: []*machine.Upgrade{{Ack: "Upgrade request received", ActorId: actor}}}, ctx.Err()
}

// etcdAllowsUpgrade is the server-side gate of the old upgrade.
func (s *session) etcdAllowsUpgrade() error {
	data := s.runningEtcd()
	if data.empty() {
		return fmt.Errorf("etcd is not running")
	}

	members := data.cluster.Members()
	if len(members) == 2 {
		return fmt.Errorf("etcd cluster has 2 members, upgrading one would lose quorum")
	}

	for _, m := range members {
		if !m.Alive || m.Learner {
			return fmt.Errorf("etcd member %s is not healthy", m.Name)
		}
	}

	return nil
}

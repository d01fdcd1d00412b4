package talosnode

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config/configdiff"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/apid"
)

// trial is a config applied in TRY mode, which reverts by itself.
type trial struct {
	timer  *time.Timer
	before *nodeConfig
}

// defaultTry is how long Talos tries a config when the request does not say.
const defaultTry = time.Minute

// ApplyConfiguration implements the machine service: in maintenance it makes
// the machine a node, later it changes the node's config by the semantics of
// its version.
func (a *machineAPI) ApplyConfiguration(ctx context.Context, in *machine.ApplyConfigurationRequest) (*machine.ApplyConfigurationResponse, error) {
	s := a.s
	current := s.current()

	// Readers come this far because of maintenance alone.
	if current != nil && !apid.Roles(ctx).Includes(role.Admin) {
		return nil, status.Error(codes.PermissionDenied, "not authorized")
	}

	if !s.applyLock.TryLock() {
		return nil, status.Error(codes.FailedPrecondition, "another apply configuration is already in progress")
	}
	defer s.applyLock.Unlock()

	var (
		reply *machine.ApplyConfiguration
		err   error
	)

	if current == nil {
		reply, err = s.applyInMaintenance(ctx, in)
	} else {
		reply, err = s.applyRunning(ctx, in, current)
	}

	if err != nil {
		return nil, err
	}

	if !in.GetDryRun() && s.node.takeFault(func(f *Faults) *bool { return &f.LoseApplyResponse }) {
		return nil, s.breakConnections()
	}

	return &machine.ApplyConfigurationResponse{Messages: []*machine.ApplyConfiguration{reply}}, nil
}

// breakConnections makes the caller lose its answer.
func (s *session) breakConnections() error {
	s.mu.Lock()
	running := s.apid
	s.apid = nil
	s.mu.Unlock()

	if running != nil {
		// Stop waits for no handler; this one's reply goes nowhere.
		running.server.Stop()
		<-running.done
		s.nudge()
	}

	return status.Error(codes.Unavailable, "connection lost")
}

func (s *session) applyInMaintenance(ctx context.Context, in *machine.ApplyConfigurationRequest) (*machine.ApplyConfiguration, error) {
	s.mu.Lock()
	pending := s.pending != nil
	s.mu.Unlock()

	if pending {
		return nil, status.Error(codes.FailedPrecondition, "another apply configuration is already in progress")
	}

	if in.GetMode() == machine.ApplyConfigurationRequest_TRY || in.GetMode() == machine.ApplyConfigurationRequest_STAGED {
		if s.version.atLeast(14) || in.GetMode() == machine.ApplyConfigurationRequest_TRY {
			return nil, status.Errorf(codes.Unimplemented, "apply configuration --mode=%s is not supported in maintenance mode", in.GetMode())
		}
	}

	config, err := parseConfig(ctx, in.GetData(), s.version, s.cosi)
	if errors.Is(err, errIncomplete) {
		return &machine.ApplyConfiguration{Mode: in.GetMode(), ModeDetails: "Applied partial configuration; the machine stays in maintenance mode"}, nil
	}

	if err != nil {
		s.logf("[talos] apply-config refused: %v", err)
		s.emitConfigError(err)

		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	if in.GetDryRun() {
		return &machine.ApplyConfiguration{Mode: in.GetMode(), Warnings: config.warnings, ModeDetails: "Dry run summary:\nNode is running in maintenance mode and does not have a config yet."}, nil
	}

	s.logf("[talos] machine configuration applied in maintenance")
	s.node.write(func(d *disk) { d.config = config.raw })

	s.mu.Lock()
	s.pending = config
	s.mu.Unlock()
	s.nudge()

	return &machine.ApplyConfiguration{Mode: in.GetMode(), Warnings: config.warnings, ModeDetails: "Applied configuration without a reboot"}, nil
}

// chooseMode applies the version's rules to the requested mode.
func (s *session) chooseMode(in *machine.ApplyConfigurationRequest, live bool) (machine.ApplyConfigurationRequest_Mode, error) {
	mode := in.GetMode()

	switch mode {
	case machine.ApplyConfigurationRequest_REBOOT:
		if s.version.atLeast(14) {
			return mode, status.Error(codes.Unimplemented, "apply configuration with reboot mode is not supported, use auto or no-reboot mode")
		}
	case machine.ApplyConfigurationRequest_AUTO:
		if s.version.atLeast(14) || live {
			return machine.ApplyConfigurationRequest_NO_REBOOT, nil
		}

		return machine.ApplyConfigurationRequest_REBOOT, nil
	case machine.ApplyConfigurationRequest_NO_REBOOT, machine.ApplyConfigurationRequest_TRY:
		if !s.version.atLeast(14) && !live {
			return mode, status.Error(codes.InvalidArgument, "this config change can't be applied in immediate mode")
		}
	case machine.ApplyConfigurationRequest_STAGED:
	}

	return mode, nil
}

func (s *session) applyRunning(ctx context.Context, in *machine.ApplyConfigurationRequest, current *nodeConfig) (*machine.ApplyConfiguration, error) {
	next, err := parseConfig(ctx, in.GetData(), s.version, s.cosi)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	mode, err := s.chooseMode(in, appliesLive(current, next))
	if err != nil {
		return nil, err
	}

	if next.machineType != current.machineType {
		return nil, status.Error(codes.InvalidArgument, "machine type can't be changed without a reset")
	}

	if in.GetDryRun() {
		diff, err := configdiff.DiffConfigs(current.provider, next.provider)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}

		return &machine.ApplyConfiguration{
			Mode: mode, Warnings: next.warnings,
			ModeDetails: fmt.Sprintf("Dry run summary:\n%s (skipped in dry-run).\nConfig diff:\n\n%s", applied(mode), diff),
		}, nil
	}

	if err := s.apply(in, mode, current, next); err != nil {
		return nil, err
	}

	s.logf("[talos] machine configuration applied, mode %s", mode)

	return &machine.ApplyConfiguration{Mode: mode, Warnings: next.warnings, ModeDetails: applied(mode)}, nil
}

func (s *session) apply(in *machine.ApplyConfigurationRequest, mode machine.ApplyConfigurationRequest_Mode, current, next *nodeConfig) error {
	s.endTrial()

	switch mode {
	case machine.ApplyConfigurationRequest_STAGED:
		s.node.write(func(d *disk) { d.staged = next.raw })
	case machine.ApplyConfigurationRequest_TRY:
		timeout := defaultTry
		if t := in.GetTryModeTimeout(); t != nil && t.AsDuration() > 0 {
			timeout = t.AsDuration()
		}

		s.use(next)
		s.mu.Lock()
		s.trial = &trial{before: current, timer: time.AfterFunc(s.scale(timeout), func() { s.revert(next) })}
		s.mu.Unlock()
	case machine.ApplyConfigurationRequest_REBOOT:
		s.node.write(func(d *disk) { d.staged = next.raw })

		if !s.request(departure{kind: exitReboot, sequence: "applyConfiguration", stage: machine.MachineStatusEvent_REBOOTING}) {
			return status.Error(codes.FailedPrecondition, "another sequence is in progress")
		}
	default:
		s.node.write(func(d *disk) { d.config, d.staged = next.raw, nil })
		s.use(next)
	}

	return nil
}

// use makes a config the active one.
func (s *session) use(next *nodeConfig) {
	s.mu.Lock()
	s.config = next
	s.mu.Unlock()
	s.publishConfig(next)
	s.nudge()
}

// endTrial confirms or drops a config in trial: any other apply does.
func (s *session) endTrial() {
	s.mu.Lock()
	t := s.trial
	s.trial = nil
	s.mu.Unlock()

	if t != nil {
		t.timer.Stop()
	}
}

// revert puts the config from before a trial back.
func (s *session) revert(tried *nodeConfig) {
	s.mu.Lock()
	t := s.trial
	current := s.trial != nil && s.config == tried
	s.trial = nil
	s.mu.Unlock()

	if current && s.ctx.Err() == nil {
		s.logf("[talos] configuration in trial was not confirmed: reverting")
		s.use(t.before)
	}
}

// appliesLive says whether Talos 1.13 takes the change without a reboot: the
// v1alpha1 documents may differ only in what its runtime lists.
//
// Source: CanApplyImmediate of machined, Talos 1.13.
func appliesLive(current, next *nodeConfig) bool {
	a, b := current.provider.RawV1Alpha1(), next.provider.RawV1Alpha1()

	return a != nil && b != nil && reflect.DeepEqual(fixedPart(a), fixedPart(b))
}

// fixedPart is a copy without everything that may change at run time.
func fixedPart(c *v1alpha1.Config) *v1alpha1.Config {
	c = c.DeepCopy()
	c.ConfigDebug, c.ClusterConfig = nil, nil

	if m := c.MachineConfig; m != nil {
		kept := &v1alpha1.MachineConfig{
			MachineType: m.MachineType, MachineToken: m.MachineToken, MachineDisks: m.MachineDisks, MachineFiles: m.MachineFiles,
			MachineEnv: m.MachineEnv, MachineSystemDiskEncryption: m.MachineSystemDiskEncryption, MachineUdev: m.MachineUdev,
			MachineBaseRuntimeSpecOverrides: m.MachineBaseRuntimeSpecOverrides,
		}

		if f := m.MachineFeatures; f != nil {
			kept.MachineFeatures = &v1alpha1.FeaturesConfig{
				RBAC: f.RBAC, StableHostname: f.StableHostname, ApidCheckExtKeyUsage: f.ApidCheckExtKeyUsage, DiskQuotaSupport: f.DiskQuotaSupport,
			}
		}

		c.MachineConfig = kept
	}

	return c
}

func applied(mode machine.ApplyConfigurationRequest_Mode) string {
	switch mode {
	case machine.ApplyConfigurationRequest_REBOOT:
		return "Applied configuration with a reboot"
	case machine.ApplyConfigurationRequest_STAGED:
		return "Staged configuration to be applied after the next reboot"
	case machine.ApplyConfigurationRequest_TRY:
		return "Applied configuration in try mode, it reverts unless it is applied again"
	default:
		return "Applied configuration without a reboot"
	}
}

package talosnode

import (
	"context"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/apid"
)

// boot brings the machine to the point where its machine API exists: running,
// or in maintenance. False means that it never will.
func (s *session) boot() bool {
	if !s.firmware() {
		return false
	}

	if !s.chooseSlot() {
		return false
	}

	s.logf("[talos] booting Talos %s (schematic %s), boot id %s", s.slot.version, s.slot.schematic, s.bootID)
	s.setStage(machine.MachineStatusEvent_BOOTING)

	if err := s.startMachined(); err != nil {
		s.logf("[talos] machined: %v", err)

		return false
	}

	if !s.sleep(s.timings().Boot + s.node.Faults().BootDelay) {
		return false
	}

	config := s.acquireConfig()

	s.mu.Lock()
	s.config = config
	s.mu.Unlock()

	if config == nil {
		s.logf("[talos] this machine is reachable in maintenance mode at %v:%d", s.addresses(), PortAPID)
		s.setStage(machine.MachineStatusEvent_MAINTENANCE)
	} else {
		s.started(config)
	}

	return s.ctx.Err() == nil
}

// firmware is what happens before any Talos code.
func (s *session) firmware() bool {
	image := s.node.server.Image
	faults := s.node.Faults()

	switch {
	case faults.NeverBoots:
		return false
	case image.TalosVersion == "":
		s.logf("[firmware] booting image %s: not Talos Linux, no machine API on this machine", image.UUID)

		return false
	case image.Firmware == "bios":
		s.logf("[firmware] SeaBIOS: no bootable device: the machine has firmware type bios, Talos needs uefi")

		return false
	case image.Platform != "" && image.Platform != s.node.platform():
		s.logf("[firmware] image is built for platform %q: it finds no metadata service here", image.Platform)
	}

	return true
}

// chooseSlot picks the boot entry, with Talos' fallback to the other one after
// an upgrade that was never ready.
func (s *session) chooseSlot() bool {
	old := s.node.takeFault(func(f *Faults) *bool { return &f.BootOldSlot })

	s.node.write(func(d *disk) {
		if other := 1 - d.active; old && !d.slots[other].empty() {
			d.active = other
			d.fallback = false
			s.logf("[boot] entry failed, falling back to the previous one")
		}

		s.entry, s.slot = d.active, d.slots[d.active]
	})

	version, err := parseVersion(s.slot.version)
	if err != nil {
		s.logf("[boot] %v", err)

		return false
	}

	s.version = version

	return true
}

// startMachined starts the machine service behind apid.
func (s *session) startMachined() error {
	cosi, err := newResourceState(s.ctx)
	if err != nil {
		return err
	}

	s.cosi = cosi
	s.pipe = bufconn.Listen(256 << 10)
	s.machined = grpc.NewServer(append(apid.Authorize(),
		grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize),
		grpc.MaxSendMsgSize(constants.GRPCMaxMessageSize))...)
	s.register(s.machined)

	s.background(func() {
		if err := s.machined.Serve(s.pipe); err != nil && s.ctx.Err() == nil {
			s.logf("[talos] machined: %v", err)
		}
	})

	s.local, err = grpc.NewClient("passthrough:///machined",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.pipe.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}

	s.publishBoot()

	return nil
}

func (s *session) stopServers() {
	s.stopAPID()

	if s.machined != nil {
		s.machined.Stop()
	}

	if s.local != nil {
		closeQuietly(s.local)
	}

	if s.pipe != nil {
		closeQuietly(s.pipe)
	}
}

// acquireConfig finds the machine config in the order Talos does: the STATE
// partition, then the platform. nil means maintenance.
func (s *session) acquireConfig() *nodeConfig {
	d := s.node.read()

	raw, source := d.config, "state"
	if d.staged != nil {
		raw, source = d.staged, "state (staged)"
	}

	if raw == nil {
		if delay := s.node.Faults().UserDataDelay; delay > 0 {
			s.logf("[talos] waiting for the metadata service")

			if !s.sleep(delay) {
				return nil
			}
		}

		data, err := decodeUserData(s.node.server.UserData, s.node.server.Image.UserDataHandling)
		if err != nil {
			s.logf("[talos] platform openstack: %v; going to maintenance", err)
			s.emitConfigError(err)

			return nil
		}

		raw, source = data, "platform openstack"
	}

	config, err := parseConfig(s.ctx, raw, s.version, s.cosi)
	if err != nil {
		s.logf("[talos] machine configuration from %s refused: %v; going to maintenance", source, err)
		s.emitConfigError(err)

		return nil
	}

	s.logf("[talos] machine configuration loaded from %s, machine type %s", source, config.machineType)
	s.node.write(func(d *disk) { d.config, d.staged = raw, nil })

	return config
}

// configure turns a maintenance machine into a running one.
func (s *session) configure() {
	s.mu.Lock()
	next := s.pending
	s.pending = nil
	s.mu.Unlock()

	if next == nil {
		return
	}

	if !s.sleep(s.timings().Configure) {
		return
	}

	time.Sleep(replyTime)
	s.stopAPID()

	s.mu.Lock()
	s.config = next
	s.mu.Unlock()
	s.started(next)
}

// started enters the running stage; readiness comes later.
func (s *session) started(config *nodeConfig) {
	for _, w := range config.warnings {
		s.logf("[talos] config: %s", w)
	}

	s.setStage(machine.MachineStatusEvent_BOOTING)
	s.publishConfig(config)
	s.setStage(machine.MachineStatusEvent_RUNNING)
	s.logf("[talos] running as %s, host name %s", config.machineType, s.hostname())
}

// reconcileTime lets the clock come into sync some time after boot.
func (s *session) reconcileTime() {
	config := s.current()
	if config == nil {
		return
	}

	faulty := s.node.Faults().NTPNeverSyncs && !config.timeSyncDisabled

	s.mu.Lock()
	before := s.timeSync
	s.timeSync = !faulty && (before || config.timeSyncDisabled || s.elapsed(s.booted, s.timings().TimeSync))
	now := s.timeSync
	s.mu.Unlock()

	if now != before {
		s.logf("[talos] time in sync: %v", now)
	} else if faulty {
		s.node.console.onChange("time", "no answer from %s", timeServer)
	}
}

func (s *session) timeSynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	return s.timeSync
}

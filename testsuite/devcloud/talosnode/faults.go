package talosnode

import "time"

// Faults are what can be wrong with one machine. The zero value is a healthy
// one. Fields marked once clear themselves when they have struck.
type Faults struct {
	// NeverBoots keeps the machine dark although the cloud calls it running.
	NeverBoots bool `json:"neverBoots,omitempty"`
	// UserDataDelay is how much later (simulated) the metadata service answers.
	UserDataDelay time.Duration `json:"userDataDelay,omitempty"`
	// NTPNeverSyncs keeps the time out of sync, which holds up etcd, the
	// kubelet and Bootstrap.
	NTPNeverSyncs bool `json:"ntpNeverSyncs,omitempty"`
	// NeverJoins keeps the kubelet from starting.
	NeverJoins bool `json:"neverJoins,omitempty"`
	// LearnerNeverPromotes leaves this node's etcd member a learner.
	LearnerNeverPromotes bool `json:"learnerNeverPromotes,omitempty"`
	// HangAfterReboot freezes the machine in its next reboot: open connections
	// stay open and silent. Once; only the cloud's API can reset it.
	HangAfterReboot bool `json:"hangAfterReboot,omitempty"`
	// BootOldSlot makes the next boot after an upgrade fall back. Once.
	BootOldSlot bool `json:"bootOldSlot,omitempty"`
	// LoseApplyResponse breaks the connection after the next
	// ApplyConfiguration has taken effect. Once.
	LoseApplyResponse bool `json:"loseApplyResponse,omitempty"`
	// LoseBootstrapResponse does the same to Bootstrap. Once.
	LoseBootstrapResponse bool `json:"loseBootstrapResponse,omitempty"`
	// InstallExitCode, when not zero, is what the installer ends with.
	InstallExitCode int32 `json:"installExitCode,omitempty"`
	// InstallHangs keeps the installer busy and silent, until the fault is
	// cleared or the machine restarts.
	InstallHangs bool `json:"installHangs,omitempty"`
	// BreakInstallStream breaks the connection in the middle of the next
	// LifecycleService.Upgrade; the installer goes on. Once.
	BreakInstallStream bool `json:"breakInstallStream,omitempty"`
	// ImagePullFails makes every pull of an image fail that is not on the disk.
	ImagePullFails bool `json:"imagePullFails,omitempty"`
	// LoseRebootResponse breaks the connection after the next Reboot, Rollback
	// or MachineService.Upgrade has been accepted. Once.
	LoseRebootResponse bool `json:"loseRebootResponse,omitempty"`
	// BootDelay is how much longer (simulated) a boot takes.
	BootDelay time.Duration `json:"bootDelay,omitempty"`
	// DiskFull leaves no room on /var: Mounts says so, pulls and installations
	// fail.
	DiskFull bool `json:"diskFull,omitempty"`
	// EtcdAlarm raises an alarm of this node's etcd member, "NOSPACE" for one;
	// EtcdAlarmDisarm ends it. Once; writes are not refused because of it.
	EtcdAlarm string `json:"etcdAlarm,omitempty"`
	// KubeletCertificateLeft, when not zero, is how long the kubelet's client
	// certificate still lives, of a year; less than zero has it expired.
	KubeletCertificateLeft time.Duration `json:"kubeletCertificateLeft,omitempty"`
}

// Inject replaces the machine's faults. It takes effect at once where that
// makes sense, else at the next step that asks.
func (n *Node) Inject(f Faults) {
	n.mu.Lock()
	n.faults = f
	n.mu.Unlock()

	if s := n.session.Load(); s != nil {
		s.nudge()
	}
}

// Faults returns what is still wrong with the machine.
func (n *Node) Faults() Faults {
	n.mu.Lock()
	defer n.mu.Unlock()

	return n.faults
}

// takeFault reports and clears a fault that strikes once.
func (n *Node) takeFault(pick func(*Faults) *bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()

	p := pick(&n.faults)
	was := *p
	*p = false

	return was
}

// takeAlarm reports and clears the etcd alarm to raise.
func (n *Node) takeAlarm() string {
	n.mu.Lock()
	defer n.mu.Unlock()

	alarm := n.faults.EtcdAlarm
	n.faults.EtcdAlarm = ""

	return alarm
}

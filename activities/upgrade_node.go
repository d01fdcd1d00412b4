package activities

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// telling is alive for a call that reports progress: the heartbeat carries its
// last line.
func telling(ctx context.Context, step string) (say func(string), stop func()) {
	every := activity.GetInfo(ctx).HeartbeatTimeout / 3
	if every <= 0 {
		return func(string) {}, func() {}
	}
	var mu sync.Mutex
	last := step
	// The attempt's start counts as a beat; each beat is a billed action.
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-t.C:
				mu.Lock()
				saw := last
				mu.Unlock()
				activity.RecordHeartbeat(ctx, Observation{Saw: saw})
			}
		}
	}()
	say = func(line string) {
		mu.Lock()
		defer mu.Unlock()
		last = step + ": " + line
	}
	return say, func() { close(done); <-ended }
}

// PullImage makes a node fetch an image. Present already is success. Errors:
// Invalid when there is no such image.
func (u *Upgrades) PullImage(ctx context.Context, in PullImageInput) error {
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	return u.pull(ctx, bundle, in.Target, in.Image, in.Space)
}

func (u *Upgrades) pull(ctx context.Context, bundle secrets.Value, t UpgradeTarget, image string, space ImageSpace) error {
	say, stop := telling(ctx, "pulling "+image)
	defer stop()
	return u.Machines.Pull(ctx, bundle, t.Node.Address, image, space, say)
}

// PullComponentImages makes a node fetch the images of Kubernetes that its config
// of a leg names, so that a change of versions does not wait for a registry.
// Present already is success.
func (u *Upgrades) PullComponentImages(ctx context.Context, in PullComponentsInput) error {
	r, bundle, err := u.renderer(ctx, in.Ref, &in.Leg)
	if err != nil {
		return err
	}
	config, _, err := r.config(ctx, in.Target.Role, in.Target.Group, in.Target.Node.Name, Components{})
	if err != nil {
		return err
	}
	images, err := u.Configs.Images(config)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		image string
		space ImageSpace
	}{
		{images.Kubelet, SystemImage},
		{images.APIServer, KubernetesImage},
		{images.ControllerManager, KubernetesImage},
		{images.Scheduler, KubernetesImage},
	} {
		if p.image == "" {
			continue
		}
		if err := u.pull(ctx, bundle, in.Target, p.image, p.space); err != nil {
			return err
		}
	}
	return nil
}

// InstallTalos writes an installer image into the slot of a node that does not
// run. The running system is untouched, so it may be repeated at any time; while
// an earlier attempt is still at it, this one waits. An image that the node has
// cleared away meanwhile is pulled again. Errors: Invalid and Unsafe
// when the installer refuses, Unavailable when it may succeed later.
func (u *Upgrades) InstallTalos(ctx context.Context, in InstallInput) error {
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	say, stop := telling(ctx, "installing "+in.Image)
	defer stop()
	var failed error
	pulled := false
	err = poll(ctx, "install "+in.Image+" on "+in.Target.Node.Name, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		failed = u.Machines.Install(ctx, bundle, in.Target.Node.Address, in.Image, say)
		switch {
		case fault.Is(failed, fault.Conflict):
			return false, "another installation runs there", failed
		case fault.Is(failed, fault.NotFound) && !pulled:
			pulled = true
			failed = u.Machines.Pull(ctx, bundle, in.Target.Node.Address, in.Image, SystemImage, say)
			return failed != nil, "pulled the image again", nil
		}
		return true, "", nil // a failure is the workflow's to repeat, after a pause
	})
	if err != nil {
		return err
	}
	return failed
}

// restart brings a node to its next boot once: it calls until the call is
// accepted, and takes a boot id other than before for done. After an answer that
// was lost it looks whether the node goes down before it calls again.
func (u *Upgrades) restart(ctx context.Context, in NodeWorkInput, op, bootID string, do func(context.Context, secrets.Value) error) error {
	if bootID == "" {
		return fault.New(fault.Internal, op, "which boot it shall end is not known")
	}
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return err
	}
	var asked time.Time // when the answer was lost
	return poll(ctx, op+" "+in.Target.Node.Name, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		f, err := u.facts(ctx, bundle, in.Target)
		switch {
		case err != nil:
			return false, "does not answer; it may be on its way already", err
		case f.BootID == "":
			return false, "does not say which boot it is in", nil
		case f.BootID != bootID:
			return true, "has booted anew", nil
		case slices.Contains(goingDown, f.Stage):
			return true, "is " + f.Stage, nil
		case !asked.IsZero() && time.Since(asked) < u.settle():
			return false, "the answer to the call was lost; watching whether it goes down", nil
		}
		err = do(ctx, bundle)
		switch {
		case err == nil:
			return true, "accepted", nil
		case fault.Is(err, fault.Ambiguous):
			asked = time.Now()
			return false, "the answer to the call was lost", nil
		}
		return false, "", err
	})
}

// goingDown are the stages of a node that a new boot follows, in Talos' words.
var goingDown = []string{"rebooting", "shutting-down", "upgrading"}

// settle is for how long a node is watched after a lost answer: the sequence of a
// reboot begins within a second of the call, and a node that is still up and
// running ten looks later has not heard it.
func (u *Upgrades) settle() time.Duration { return 10 * u.Timing.Poll }

// RebootNode makes a node reboot, once: a node whose boot is not the one to be
// ended is done already. It returns when the node has accepted; WaitBooted waits.
func (u *Upgrades) RebootNode(ctx context.Context, in RebootInput) error {
	return u.restart(ctx, in.NodeWorkInput, "reboot", in.BootID, func(ctx context.Context, bundle secrets.Value) error {
		mode := in.Mode
		if mode == "" {
			mode = RebootDefault
		}
		return u.Machines.Reboot(ctx, bundle, in.Target.Node.Address, mode)
	})
}

// RollbackNode makes a node boot its other slot, once, as RebootNode. Errors:
// Unsafe when that slot is empty.
func (u *Upgrades) RollbackNode(ctx context.Context, in RebootInput) error {
	return u.restart(ctx, in.NodeWorkInput, "roll back", in.BootID, func(ctx context.Context, bundle secrets.Value) error {
		return u.Machines.Rollback(ctx, bundle, in.Target.Node.Address)
	})
}

// UpgradeTalosWhole has a node of Talos before 1.13 drain, install and reboot by
// itself, once, as RebootNode.
func (u *Upgrades) UpgradeTalosWhole(ctx context.Context, in WholeUpgradeInput) error {
	return u.restart(ctx, in.NodeWorkInput, "upgrade", in.BootID, func(ctx context.Context, bundle secrets.Value) error {
		return u.Machines.UpgradeWhole(ctx, bundle, in.Target.Node.Address, in.Image)
	})
}

// WaitBooted returns what a node runs when it has booted anew, is ready, runs what
// is wanted, is Ready in Kubernetes, and has stayed so. A node that is ready after
// a new boot with something else has fallen back to its old slot: Unsafe, naming
// both. When its time is over it ends with NotYet, naming what is missing.
func (u *Upgrades) WaitBooted(ctx context.Context, in WaitBootedInput) (plan.UpgradeNode, error) {
	var out plan.UpgradeNode
	_, bundle, err := open(ctx, u.Store, in.Ref)
	if err != nil {
		return out, err
	}
	hold := stable{need: in.Stable}
	err = poll(ctx, "wait for "+in.Target.Node.Name, u.Timing.Poll, func(ctx context.Context) (bool, string, error) {
		n, missing, err := u.booted(ctx, bundle, in)
		if err != nil || missing != "" {
			hold.broken()
			return false, missing, err
		}
		out = n
		done, saw := hold.holds()
		return done, saw, nil
	})
	return out, err
}

// booted looks once; missing says what is not as wanted yet.
func (u *Upgrades) booted(ctx context.Context, bundle secrets.Value, in WaitBootedInput) (n plan.UpgradeNode, missing string, err error) {
	f, err := u.facts(ctx, bundle, in.Target)
	if err != nil {
		return n, "its machine API does not answer", err
	}
	n = nodeOf(in.Target, f)
	switch {
	case f.Stage == maintenance:
		return n, "it waits for a config (maintenance mode)", nil
	case in.BootID != "" && (f.BootID == "" || f.BootID == in.BootID):
		return n, "it has not booted anew: stage " + f.Stage, nil
	case f.Stage != "running" || !f.Ready:
		return n, fmt.Sprintf("stage %s, not ready: %s", f.Stage, listed(f.Unmet)), nil
	case in.Want.Schematic != "" && n.Schematic == "":
		return n, "it does not tell its schematic", nil
	case !sameImage(n, in.Want) && in.BootID != "":
		return n, "", fault.New(fault.Unsafe, "verify "+in.Target.Node.Name, "booted the old slot: runs %s, wanted %s; its new system did not become ready, and the boot loader went back",
			imageText(n.Talos, n.Schematic), imageText(in.Want.Talos, in.Want.Schematic))
	case !sameImage(n, in.Want):
		return n, fmt.Sprintf("it runs %s, wanted is %s", imageText(n.Talos, n.Schematic), imageText(in.Want.Talos, in.Want.Schematic)), nil
	}
	o, missing, err := u.nodeReady(ctx, in.NodeWorkInput)
	n.Cordoned, n.NodeReady = o.Cordoned, o.Ready
	return n, missing, err
}

// nodeReady looks at the Node object of a target.
func (u *Upgrades) nodeReady(ctx context.Context, in NodeWorkInput) (KubeNode, string, error) {
	_, k, err := u.kubeUpgrades(ctx, in.Ref)
	if err != nil {
		return KubeNode{}, apiSilent, err
	}
	ctx, cancel := within(ctx, nodeTimeout)
	defer cancel()
	o, err := k.GetNode(ctx, in.Target.Node.Name)
	switch {
	case fault.Is(err, fault.NotFound):
		return o, "it has no Node object", nil
	case err != nil:
		return o, apiSilent, err
	case !o.Ready:
		return o, "its node is not Ready: " + o.Reason, nil
	}
	return o, "", nil
}

func imageText(version, schematic string) string {
	if schematic == "" {
		return version
	}
	return version + " with schematic " + shortID(schematic)
}

// stable measures for how long a condition has held without a break.
type stable struct {
	need  time.Duration
	since time.Time
}

func (s *stable) broken() { s.since = time.Time{} }

func (s *stable) holds() (done bool, saw string) {
	if s.since.IsZero() {
		s.since = time.Now()
	}
	held := time.Since(s.since)
	return held >= s.need, strings.TrimSpace(fmt.Sprintf("all is well for %s of %s", held.Round(time.Second), s.need))
}

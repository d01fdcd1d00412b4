package account

import (
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Change is what an action did to the state of an instance.
type Change struct{ ID, Previous, Current string }

var byUser = Reason{"Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"}

// each finds all instances, checks all of them and only then acts.
func (v View) each(ids []string, check func(*Instance) error, act func(*Instance)) ([]Change, error) {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if len(ids) == 0 {
		return nil, query.Refuse("MissingParameter", "The request must contain the parameter InstanceId")
	}
	var found []*Instance
	for _, id := range ids {
		i, err := find(v, &v.a.instances, "InvalidInstanceID.NotFound", "instance ID", id)
		if err != nil {
			return nil, err
		}
		if err := check(i); err != nil {
			return nil, err
		}
		found = append(found, i)
	}
	var out []Change
	for _, i := range found {
		before := i.State
		act(i)
		out = append(out, Change{i.ID, before, i.State})
	}
	return out, nil
}

// Terminate ends instances; those that are ending or have ended stay so.
func (v View) Terminate(ids []string) ([]Change, error) {
	return v.each(ids, func(*Instance) error { return nil }, func(i *Instance) {
		if i.State == ShuttingDown || i.State == Terminated {
			return
		}
		v.a.note(v.Action, i.ID)
		v.a.shutDown(i, byUser)
	})
}

// shutDown takes an instance to its end. The caller holds the lock.
func (a *Account) shutDown(i *Instance, why Reason) {
	i.State, i.Reason = ShuttingDown, why
	i.turn++
	a.note("instance_is_ending", i.ID)
	a.background(func() {
		i.machine.Destroy()
		if a.clock.Sleep(i.ctx, a.lat.Terminate) != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if _, ok := a.instances.rows[i.ID]; ok && i.State == ShuttingDown {
			a.gone(i)
		}
	})
}

// Stop powers instances off; stopped ones stay so.
func (v View) Stop(ids []string) ([]Change, error) {
	return v.each(ids, func(i *Instance) error {
		switch {
		case i.Spot:
			return query.Refuse("UnsupportedOperation", "You can't stop the Spot Instance '%s' because it is associated with a one-time Spot Instance request.", i.ID)
		case i.State == Running || i.State == Stopping || i.State == Stopped:
			return nil
		}
		return query.Refuse("IncorrectInstanceState", "This instance '%s' is not in a state from which it can be stopped.", i.ID)
	}, func(i *Instance) {
		if i.State == Running {
			v.a.note(v.Action, i.ID)
			v.a.powerOff(i)
		}
	})
}

func (a *Account) powerOff(i *Instance) {
	i.State, i.Reason = Stopping, byUser
	i.turn++
	turn := i.turn
	a.background(func() {
		i.machine.PowerOff()
		if a.clock.Sleep(i.ctx, a.lat.Stop) != nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if i.turn == turn {
			i.State = Stopped
			a.note("instance_is_stopped", i.ID)
		}
	})
}

// Start powers instances on again, on the same disk and with the same
// addresses; running ones stay so.
func (v View) Start(ids []string) ([]Change, error) {
	return v.each(ids, func(i *Instance) error {
		switch i.State {
		case Pending, Running:
			return nil
		case Stopped:
			return v.fits(i.Type, i.Zone, i.Placement, i.Spot)
		}
		return query.Refuse("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started.", i.ID)
	}, func(i *Instance) {
		if i.State != Stopped {
			return
		}
		v.a.takeCapacity(i.Type.Name, i.Zone)
		i.State, i.Reason, i.Launched = Pending, Reason{}, time.Now().UTC()
		v.a.note(v.Action, i.ID)
		v.boot(i)
	})
}

// Vanish removes an instance at once and without a trace, as if it had been
// terminated long ago.
func (a *Account) Vanish(id string) error {
	return a.byHand(id, func(i *Instance) {
		if i.State != Terminated {
			a.gone(i)
		}
		i.cancel()
		remove(a, &a.instances, id)
	}, (*guest.Machine).Destroy)
}

// Interrupt ends a Spot instance as EC2 does when it needs the capacity.
func (a *Account) Interrupt(id string) error {
	return a.byHand(id, func(i *Instance) {
		if i.counts() && i.State != ShuttingDown {
			a.shutDown(i, Reason{"Server.SpotInstanceTermination", "Server.SpotInstanceTermination: Spot instance termination"})
		}
	}, nil)
}

// StopByHand powers an instance off as somebody at the console does.
func (a *Account) StopByHand(id string) error {
	return a.byHand(id, func(i *Instance) {
		if i.State == Running {
			a.powerOff(i)
		}
	}, nil)
}

// StartByHand powers an instance on again as somebody at the console does.
func (a *Account) StartByHand(id string) error {
	_, err := a.Omniscient().Start([]string{id})
	return err
}

// TerminateByHand ends an instance as somebody at the console does.
func (a *Account) TerminateByHand(id string) error {
	_, err := a.Omniscient().Terminate([]string{id})
	return err
}

func (a *Account) byHand(id string, act func(*Instance), after func(*guest.Machine)) error {
	a.mu.Lock()
	i, err := find(a.Omniscient(), &a.instances, "InvalidInstanceID.NotFound", "instance ID", id)
	if err != nil {
		a.mu.Unlock()
		return err
	}
	act(i)
	a.mu.Unlock()
	if after != nil {
		after(i.machine)
	}
	return nil
}

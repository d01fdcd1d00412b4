package world

import (
	"context"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// StopServer powers a server off; a stopped one stays as it is.
func (w *World) StopServer(id string) error {
	return w.power(id, "server_stop", Stopped, func(s *Server) {
		s.machine.PowerOff()
		_ = w.clock.Sleep(s.ctx, w.lat.ServerStop) // an ended server needs no waiting
	})
}

// StartServer powers a server on; a running one stays as it is.
func (w *World) StartServer(id string) error {
	return w.power(id, "server_start", Running, func(s *Server) {
		if w.clock.Sleep(s.ctx, w.lat.ServerStart) != nil {
			return
		}
		w.mu.Lock()
		boot := w.guestSpec(s)
		w.mu.Unlock()
		s.machine.PowerOn(func() guest.Guest { return w.boot(boot) })
	})
}

// RebootServer resets a running server.
func (w *World) RebootServer(id string) error {
	return w.power(id, "server_reboot", "", func(s *Server) {
		s.machine.Reboot()
		_ = w.clock.Sleep(s.ctx, w.lat.ServerReboot) // an ended server needs no waiting
	})
}

func (w *World) power(id, action, target string, do func(*Server)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.idle(id)
	if err != nil {
		return err
	}
	if s.Status == target {
		return nil
	}
	if target == "" {
		if s.Status != Running {
			return refuse(Invalid, "Only running servers can be rebooted.")
		}
		target = Running
	}
	s.Status = Changing
	w.record(action, s.Meta)
	w.background(func(context.Context) {
		do(s)
		w.finish(s, target)
	})
	return nil
}

package world

import "context"

// DeleteServer starts the deletion; the server answers until it is gone. Its
// addresses in private networks and its groups are free at once.
func (w *World) DeleteServer(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.idle(id)
	if err != nil {
		return err
	}
	w.release(s)
	s.Status = Changing
	w.record("server_delete", s.Meta)
	w.background(func(context.Context) {
		s.machine.Destroy()
		if w.clock.Sleep(s.ctx, w.lat.ServerDelete) != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, err := w.servers.get(s.UUID); err == nil {
			w.forget(s)
			w.servers.remove(s.UUID)
			w.note("server_is_gone", s.Meta)
		}
	})
	return nil
}

// Vanish removes a server as if its owner had deleted it long ago.
func (w *World) Vanish(id string) error {
	w.mu.Lock()
	s, err := w.servers.get(id)
	if err != nil {
		w.mu.Unlock()
		return err
	}
	w.forget(s)
	w.servers.remove(id)
	w.mu.Unlock()
	s.machine.Destroy()
	return nil
}

// forget frees everything a server holds and stops its transitions.
func (w *World) forget(s *Server) {
	w.release(s)
	s.cancel()
	w.pool.give(s.Loopback)
}

// release detaches a server from networks, groups, volumes and floating IPs.
func (w *World) release(s *Server) {
	if s.deleting {
		return
	}
	s.deleting = true
	for n, id := range s.VolumeIDs {
		if n == 0 {
			w.volumes.remove(id)
		} else if v, err := w.volumes.get(id); err == nil {
			v.Servers = nil
		}
	}
	for _, f := range w.floating.all() {
		if f.Server == s.UUID {
			f.Server, f.NextHop = "", ""
		}
	}
}

// idle returns a server that is not in a transition.
func (w *World) idle(id string) (*Server, error) {
	s, err := w.servers.get(id)
	if err != nil {
		return nil, err
	}
	if s.Status == Changing {
		return nil, refuse(Busy, ChangingText)
	}
	return s, nil
}

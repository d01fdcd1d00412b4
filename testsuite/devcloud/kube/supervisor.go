package kube

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// restartDelay keeps a process that cannot start from eating the machine; about
// what a kubelet waits before the first restart of a static pod.
const restartDelay = time.Second

// supervisor keeps one process running until it is stopped.
type supervisor struct {
	name   string
	log    *slog.Logger
	spec   func() (proc.Spec, error)
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	// again asks for a new process with a new spec.
	again chan struct{}

	mu      sync.Mutex
	process *proc.Process
}

// supervise starts the process that spec describes, anew each time it ends. It
// returns at once. Failures go to the log: they are what a crashing static pod
// is, and the rest of the cluster shows them by its behaviour.
func supervise(name string, log *slog.Logger, spec func() (proc.Spec, error)) *supervisor {
	s := &supervisor{name: name, log: log.With("process", name), spec: spec, done: make(chan struct{}), again: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run()
	return s
}

func (s *supervisor) run() {
	defer close(s.done)
	for s.ctx.Err() == nil {
		if s.once() {
			continue
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(restartDelay):
		}
	}
}

// once runs the process until it ends and says whether a new one is wanted at
// once.
func (s *supervisor) once() (restart bool) {
	spec, err := s.spec()
	if err != nil {
		s.log.Error("cannot be started", "error", err)
		return false
	}
	process, err := proc.Start(spec)
	if err != nil {
		s.log.Error("cannot be started", "error", err)
		return false
	}
	s.set(process)
	defer s.set(nil)
	select {
	case <-process.Done():
		s.log.Warn("ended by itself", "error", process.Err(), "log", process.LogFile())
	case <-s.again:
		restart = true
		s.kill(process)
	case <-s.ctx.Done():
		s.kill(process)
	}
	return restart
}

// kill ends a process. All of them keep their state in the database, which
// survives being killed; an orderly end would only take longer.
func (s *supervisor) kill(process *proc.Process) {
	if err := process.Kill(); err != nil {
		s.log.Error("cannot be killed", "error", err)
	}
}

// restart asks for a new process, with what spec says then.
func (s *supervisor) restart() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

func (s *supervisor) set(process *proc.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process = process
}

// pid is the running process, or 0.
func (s *supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.PID()
}

// stop ends the process and waits until it is gone.
func (s *supervisor) stop() {
	s.cancel()
	<-s.done
}

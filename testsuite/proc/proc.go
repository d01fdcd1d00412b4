// Package proc runs helper processes for tests and for the demo: databases, API
// servers, workers. A process started here cannot outlive its parent unless it is
// meant to: the kernel kills it when the parent dies, however the parent dies.
package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// DefaultGrace is how long a process may take to end after SIGTERM before it
// gets SIGKILL.
const DefaultGrace = 5 * time.Second

// Spec says what to run.
type Spec struct {
	// Name is how errors call the process; the base name of Path if empty.
	Name string
	// Path is the program; it is not searched for in PATH.
	Path string
	Args []string
	// Env is the whole environment as "key=value"; nil means the parent's.
	Env []string
	// Dir is the working directory; empty means the parent's.
	Dir string
	// Log is the file that gets standard output and standard error. It is
	// appended to, so that it tells the story across restarts; its folder is
	// made. It is required: output that nobody can read hides failures.
	Log string
	// Grace is the time between SIGTERM and SIGKILL; DefaultGrace if zero.
	Grace time.Duration
	// Detached gives the process a session of its own, in which it outlives its
	// parent: whoever starts it must leave somebody a way to end it.
	Detached bool
}

// Process is a started process. All methods may be called at any time from any
// goroutine.
type Process struct {
	name  string
	log   string
	pid   int
	grace time.Duration
	done  chan struct{}

	// stop makes the signals of concurrent Stop and Kill calls one at a time.
	stop sync.Mutex
	// exit is written before done is closed and only read after it.
	exit error
}

// Start runs the program and returns once it has been executed (not once it is
// ready: see WaitReady). The process gets its own process group, so that Ctrl-C
// in a terminal reaches only the parent, which can then stop things in order.
func Start(spec Spec) (*Process, error) {
	if spec.Name == "" {
		spec.Name = filepath.Base(spec.Path)
	}
	if spec.Log == "" {
		return nil, fmt.Errorf("proc: start %s: no log file given", spec.Name)
	}
	if spec.Grace == 0 {
		spec.Grace = DefaultGrace
	}
	if err := os.MkdirAll(filepath.Dir(spec.Log), 0o700); err != nil {
		return nil, fmt.Errorf("proc: start %s: %w", spec.Name, err)
	}
	out, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("proc: start %s: %w", spec.Name, err)
	}

	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if spec.Detached {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}

	p := &Process{name: spec.Name, log: spec.Log, grace: spec.Grace, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer stay()()
		err := cmd.Start()
		// The child has its own copy of the descriptor by now, if it runs at all.
		closeErr := out.Close()
		if err != nil {
			started <- errors.Join(err, closeErr)
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		if err := errors.Join(cmd.Wait(), closeErr); err != nil {
			p.exit = fmt.Errorf("%s (pid %d): %w", p.name, p.pid, err)
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("proc: start %s: %w", spec.Name, err)
	}
	return p, nil
}

// Run runs a prepared command to its end, as cmd.Run does: for what a test or the
// demo calls and waits for. Where the parent dies first, the command dies, too.
func Run(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	defer stay()()
	return cmd.Run()
}

// stay keeps the thread of a goroutine until the returned function is called: the
// parent-death signal fires when the *thread* that forked ends, so that thread has
// to stay for as long as the child lives.
func stay() (leave func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// Name is the name given in the Spec.
func (p *Process) Name() string { return p.name }

// PID is the process id; it is also the id of the process group.
func (p *Process) PID() int { return p.pid }

// LogFile is the file that holds the output.
func (p *Process) LogFile() string { return p.log }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Err returns why the process ended: nil while it runs and after exit code 0.
func (p *Process) Err() error {
	if p.Running() {
		return nil
	}
	return p.exit
}

// WaitReady calls probe until it succeeds. It fails when ctx ends or when the
// process ends first, and then says what the probe said last and how the log
// ends.
func (p *Process) WaitReady(ctx context.Context, every time.Duration, probe func(context.Context) error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		last := probe(ctx)
		if last == nil {
			return nil
		}
		select {
		case <-p.done:
			if p.exit != nil {
				last = p.exit
			}
			return fmt.Errorf("proc: %s ended before it was ready: %w\n%s", p.name, last, p.Tail(20))
		case <-ctx.Done():
			return fmt.Errorf("proc: %s is not ready: %w (%w)\n%s", p.name, last, ctx.Err(), p.Tail(20))
		case <-tick.C:
		}
	}
}

// Signal sends a signal to the process; a process that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.signal(p.pid, sig)
}

// Kill ends the process and its group with SIGKILL and waits until it is gone.
func (p *Process) Kill() error {
	p.stop.Lock()
	defer p.stop.Unlock()
	if err := p.signal(-p.pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop ends the process with SIGTERM, after the grace with SIGKILL, and waits
// until it is gone. Stopping a process that has ended is success.
func (p *Process) Stop() error {
	p.stop.Lock()
	defer p.stop.Unlock()
	if err := p.signal(p.pid, syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(p.grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	if err := p.signal(-p.pid, syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

func (p *Process) signal(target int, sig syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	err := syscall.Kill(target, sig)
	if err == nil || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return fmt.Errorf("proc: signal %s to %s (pid %d): %w", sig, p.name, p.pid, err)
}

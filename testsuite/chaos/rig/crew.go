package rig

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

var started, killed atomic.Int64

// Totals counts the systems started and the workers killed by this process.
func Totals() (systems, kills int64) { return started.Load(), killed.Load() }

// crew is one worker at a time: each one killed is replaced at once. A worker
// that ends without having been killed is remembered as a failure.
type crew struct {
	stack *stack.Stack
	env   []string

	mu     sync.Mutex
	now    *proc.Process
	kills  int
	closed bool
	crash  error
}

// hire starts the first worker and waits until it polls.
func (c *crew) hire(ctx context.Context) error {
	w, err := c.stack.StartWorker(ctx, c.env...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = w
	if w != nil {
		go c.mourn(w)
	}
	return err
}

// kill ends the worker of an identity with SIGKILL and starts the next. A worker
// that is dead already stays so.
func (c *crew) kill(identity string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil && strings.HasSuffix(identity, "/"+strconv.Itoa(c.now.PID())) {
		c.replace()
	}
}

// killNow is kill for whichever worker lives. It returns the next one, nil if
// there is none, and what tells whether that polls.
func (c *crew) killNow() (next *proc.Process, ready func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready = c.replace()
	return c.now, ready
}

// replace needs the lock.
func (c *crew) replace() (ready func(context.Context) error) {
	if c.closed || c.now == nil {
		return nil
	}
	old := c.now
	c.now = nil
	if err := old.Kill(); err != nil {
		c.crash = fmt.Errorf("kill a worker: %w", err)
		return nil
	}
	c.kills++
	killed.Add(1)
	w, ready, err := c.stack.LaunchWorker(c.env...)
	if err != nil {
		c.crash = fmt.Errorf("start a worker: %w", err)
		return nil
	}
	c.now = w
	go c.mourn(w)
	return ready
}

// mourn notices a worker that ends by itself.
func (c *crew) mourn(w *proc.Process) {
	<-w.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == w && !c.closed {
		c.crash = fmt.Errorf("a worker ended that nobody killed: %w\n%s", w.Err(), w.Tail(20))
	}
}

func (c *crew) dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

func (c *crew) state() (kills int, crash error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kills, c.crash
}

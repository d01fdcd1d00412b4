package aws

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

const (
	// gathering is how long the first of several reads waits for the others:
	// nothing to the one who waits, enough for those that a timer woke together.
	gathering = 5 * time.Millisecond
	// following is how long a call waits for the one before it, so that whoever
	// comes meanwhile shares it: as long as a slow answer takes. With many machines
	// under way there is one call at a time, not one for each.
	following = 250 * time.Millisecond
	// maxFilter is how many values one filter takes (EC2 API, filters).
	maxFilter = 200
)

// collector reads instances by one property. Reads that come together share one
// call; each call begins after all of its reads have, so no read gets an answer
// that is older than its question.
type collector struct {
	// fetch lists everything whose property is one of the keys.
	fetch func(ctx context.Context, keys []string) ([]instance, error)
	keyOf func(*instance) string
	wait  time.Duration
	// follow bounds how long a call waits for the end of the one before it.
	follow time.Duration
	limit  int

	mu      sync.Mutex
	open    *batch
	running *batch // the newest that is being fetched, or was
}

// batch is one call to be made, and then what it found.
type batch struct {
	keys  map[string]bool
	start chan struct{} // closed when it is full
	done  chan struct{} // closed when found and err are set
	found map[string][]instance
	err   error
}

// get returns the instances with a key, none when there are none to be seen.
func (c *collector) get(ctx context.Context, op, key string) ([]instance, error) {
	b := c.join(ctx, key)
	select {
	case <-b.done:
		return slices.Clone(b.found[key]), b.err
	case <-ctx.Done():
		return nil, &fault.Error{Kind: fault.Unavailable, Op: op, Message: "no answer in time", Err: ctx.Err()}
	}
}

func (c *collector) join(ctx context.Context, key string) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = &batch{keys: map[string]bool{}, start: make(chan struct{}), done: make(chan struct{})}
		// It goes on for the others when the first one gives up. The call has a
		// bound of its own.
		go c.run(context.WithoutCancel(ctx), c.open)
	}
	b := c.open
	b.keys[key] = true
	if len(b.keys) >= c.limit {
		close(b.start)
		c.open = nil
	}
	return b
}

func (c *collector) run(ctx context.Context, b *batch) {
	c.gather(b)
	c.mu.Lock()
	if c.open == b {
		c.open = nil
	}
	c.running = b
	keys := make([]string, 0, len(b.keys))
	for k := range b.keys {
		keys = append(keys, k)
	}
	c.mu.Unlock()
	slices.Sort(keys)
	found, err := c.fetch(ctx, keys)
	b.err = err
	if err == nil {
		b.found = map[string][]instance{}
		for i := range found {
			k := c.keyOf(&found[i])
			b.found[k] = append(b.found[k], found[i])
		}
	}
	close(b.done)
}

// gather lets reads join until it is time to fetch, or until there are enough.
func (c *collector) gather(b *batch) {
	timer := time.NewTimer(c.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.start:
		return
	}
	c.mu.Lock()
	before := c.running
	c.mu.Unlock()
	if before == nil {
		return
	}
	timer.Reset(c.follow)
	select {
	case <-before.done:
	case <-timer.C:
	case <-b.start:
	}
}

package chaos

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ichor-project/ichor/testsuite/chaos/killer"
)

// trouble is one thing that goes wrong during an upgrade.
type trouble struct {
	kind string
	// node is whom it befalls; empty if it is of no node.
	node string
	// at is the activity, for a node or for any, before which it begins; without
	// one it begins before the upgrade.
	at moment
	// after is how long it lasts; zero is until the roll asks for help.
	after time.Duration
	// arm prepares it before the upgrade, strike makes it happen (or not, if that
	// would be more than one thing at once), cure ends it. Each may be nil.
	arm, cure func(context.Context) error
	strike    func(context.Context) (bool, error)
	// says are words of which a report that tells of it has one, beside the name
	// of the node.
	says []string

	mu     sync.Mutex
	taken  bool
	since  time.Time
	mended bool
}

type moment struct{ activity, node string }

// due reports, once, that an attempt is the moment at which it begins.
func (x *trouble) due(task killer.Task) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.taken || x.at.activity == "" || task.Activity != x.at.activity || x.at.node != "" && nodeOf(task.Workflow) != x.at.node {
		return false
	}
	x.taken = true
	return true
}

func (x *trouble) began() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.since = time.Now()
}

func (x *trouble) started() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.since.IsZero()
}

// ripe reports that it has lasted long enough.
func (x *trouble) ripe() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.since.IsZero() && !x.mended && x.after > 0 && time.Since(x.since) > x.after
}

func (x *trouble) mend(ctx context.Context) error {
	x.mu.Lock()
	mended := x.mended
	x.mended = true
	x.mu.Unlock()
	if mended || x.cure == nil {
		return nil
	}
	if err := x.cure(ctx); err != nil {
		return fmt.Errorf("mend %s of %s: %w", x.kind, x.node, err)
	}
	return nil
}

func (x *trouble) told(text string) bool {
	if x.node != "" && !strings.Contains(text, x.node) {
		return false
	}
	for _, word := range x.says {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

func (x *trouble) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.kind
	if x.node != "" {
		s += " of " + x.node
	}
	if x.at.activity != "" {
		s += " at " + x.at.activity
		if x.at.node != "" && x.at.node != x.node {
			s += " of " + x.at.node
		}
	}
	switch {
	case x.since.IsZero():
		s += " (did not happen)"
	case x.after > 0:
		s += " for " + x.after.Round(100*time.Millisecond).String()
	}
	return s
}

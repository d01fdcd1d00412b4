package talosnode

import (
	"fmt"
	"slices"
	"sync"
)

// console keeps what a screen would show.
type console struct {
	mu    sync.Mutex
	lines []string
	last  map[string]string
}

// maxConsole bounds the memory of machines that retry for ever.
const maxConsole = 2000

func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.append(fmt.Sprintf(format, args...))
}

func (c *console) append(line string) {
	if len(c.lines) >= maxConsole {
		c.lines = slices.Delete(c.lines, 0, maxConsole/4)
	}

	c.lines = append(c.lines, line)
}

// onChange prints what a topic has to say unless it said the same before.
func (c *console) onChange(topic, format string, args ...any) {
	line := fmt.Sprintf(format, args...)

	c.mu.Lock()
	defer c.mu.Unlock()

	if c.last == nil {
		c.last = map[string]string{}
	}

	if c.last[topic] != line {
		c.last[topic] = line
		c.append(topic + ": " + line)
	}
}

func (c *console) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()

	return slices.Clone(c.lines)
}

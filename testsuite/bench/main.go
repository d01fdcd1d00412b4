// Command bench measures what Ichor adds to the time and to the price of a
// cluster, and how fast its autoscaler provider answers. It starts the real
// commands with a real Temporal server and devcloud, runs in the root of the
// repository and writes a page of Markdown; with -only it makes some sections of
// that page anew and leaves the others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/stack"
)

func main() { stack.Main("bench", run) }

// settings are the command's flags.
type settings struct {
	out    string
	only   []string
	runs   int
	bin    string
	keep   string
	prefix string
	// page is what the page says of sections that are not measured now.
	page string

	shapes []shape
	speed  float64

	sizes []size
	calls int

	burst int

	idle       int
	idleEvery  time.Duration
	idleRounds int

	rolls     []int
	window    int
	rollSpeed float64
}

// shape is the size of a cluster, written as "3+10".
type shape struct{ controlPlanes, workers int }

func (s shape) String() string { return fmt.Sprintf("%d+%d", s.controlPlanes, s.workers) }

func (s shape) nodes() int { return s.controlPlanes + s.workers }

// size is a number of groups and of members in each, written as "20x50".
type size struct{ groups, members int }

func (s size) String() string { return fmt.Sprintf("%dx%d", s.groups, s.members) }

func (s size) nodes() int { return s.groups * s.members }

// pair reads two positive numbers with a separator between them.
func pair(text, separator string) (a, b int, ok bool) {
	before, after, _ := strings.Cut(text, separator)
	a, errA := strconv.Atoi(before)
	b, errB := strconv.Atoi(after)
	return a, b, errA == nil && errB == nil && a > 0 && b > 0
}

func parseShape(text string) (shape, error) {
	c, w, ok := pair(text, "+")
	if !ok {
		return shape{}, fmt.Errorf("%q is not a shape such as 3+10", text)
	}
	return shape{c, w}, nil
}

func parseSize(text string) (size, error) {
	g, m, ok := pair(text, "x")
	if !ok {
		return size{}, fmt.Errorf("%q is not a size such as 20x50", text)
	}
	return size{g, m}, nil
}

func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a number of machines", text)
	}
	return n, nil
}

// each parses every part of a comma-separated list.
func each[T any](list string, parse func(string) (T, error)) (out []T, err error) {
	for text := range strings.SplitSeq(list, ",") {
		v, err := parse(text)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func parse(args []string) (s settings, err error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := fs.String("only", strings.Join(names(), ","), "sections to measure, comma-separated")
	shapes := fs.String("shapes", "3+10,3+50", "control planes + workers of the clusters, comma-separated")
	sizes := fs.String("sizes", "20x50,20x250", "groups x machines in each that the provider serves, comma-separated")
	fs.StringVar(&s.out, "out", "", "page whose sections are replaced; standard output without it")
	fs.IntVar(&s.runs, "runs", 3, "runs of each provisioning and scale-up; the page shows medians")
	fs.Float64Var(&s.speed, "speed", 10, "how many times faster than real time the cloud of provisioning runs")
	fs.StringVar(&s.bin, "bin", "bin", "folder of the commands")
	fs.StringVar(&s.keep, "keep", "", "folder in which state and logs of every run stay; without it they are removed")
	fs.StringVar(&s.prefix, "loopback-prefix", "127.91", "first two octets of the emulated public addresses")
	fs.IntVar(&s.calls, "calls", 2000, "calls of each of the provider's answers")
	fs.IntVar(&s.burst, "burst", 100, "machines of the scale-up")
	fs.IntVar(&s.idle, "idle", 1000, "groups of the idle worker")
	fs.DurationVar(&s.idleEvery, "idle-every", time.Minute, "reconcile interval of the idle groups")
	fs.IntVar(&s.idleRounds, "idle-rounds", 3, "reconcile intervals for which the idle worker is watched")
	rolls := fs.String("rolls", "100,500", "workers of the clusters that are upgraded, comma-separated")
	fs.IntVar(&s.window, "window", 10, "maxUnavailable of the upgrades")
	fs.Float64Var(&s.rollSpeed, "roll-speed", 4, "how many times faster than real time the cloud of upgrades runs")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if s.shapes, err = each(*shapes, parseShape); err != nil {
		return s, err
	}
	if s.sizes, err = each(*sizes, parseSize); err != nil {
		return s, err
	}
	if s.rolls, err = each(*rolls, parseCount); err != nil {
		return s, err
	}
	s.only, err = each(*only, func(name string) (string, error) {
		if !slices.Contains(names(), name) {
			return "", fmt.Errorf("%q is none of the sections %s", name, strings.Join(names(), ", "))
		}
		return name, nil
	})
	if err != nil {
		return s, err
	}
	if s.runs < 1 || s.speed < 1 || s.calls < 1 || s.burst < 1 || s.idle < 1 || s.idleRounds < 1 || s.window < 1 || s.rollSpeed < 1 || s.idleEvery < time.Second {
		return s, errors.New("numbers of runs, calls, machines, groups and rounds, windows and speeds must be at least 1, and idle-every a second")
	}
	s.bin, err = filepath.Abs(s.bin)
	return s, err
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	page := ""
	if s.out != "" {
		old, err := os.ReadFile(s.out)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		page = string(old)
	}
	for _, section := range sections {
		if !slices.Contains(s.only, section.name) {
			continue
		}
		s.page = page
		text, err := section.make(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", section.name, err)
		}
		page = replace(page, section.name, text)
		// What was measured is kept, whatever happens to the next section.
		if s.out != "" {
			if err := os.WriteFile(s.out, []byte(page), 0o644); err != nil {
				return err
			}
		}
	}
	if s.out == "" {
		fmt.Print(page)
	}
	return nil
}

// provisioning measures whole clusters on a cloud.
func provisioning(on manner) func(context.Context, settings) (string, error) {
	return func(ctx context.Context, s settings) (string, error) {
		host := watchHost()
		var all []series
		for _, sh := range s.shapes {
			one := series{shape: sh}
			for i := range s.runs {
				fmt.Fprintf(os.Stderr, "%s on %s, run %d of %d at %gx\n", sh, on.provider, i+1, s.runs, s.speed)
				m, err := s.measure(ctx, on, sh, i+1)
				if err != nil {
					return "", fmt.Errorf("%s, run %d: %w", sh, i+1, err)
				}
				fmt.Fprint(os.Stderr, m.explain(s.speed))
				one.runs = append(one.runs, m)
			}
			all = append(all, one)
		}
		return provisioningText(s, on, host(), all), nil
	}
}

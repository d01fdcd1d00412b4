// Command bench measures what Ichor adds to the time and to the price of a
// cluster: it provisions and deletes clusters on devcloud and compares the wall
// time with the critical path of the cloud in the same run. It runs in the root
// of the repository and writes a page of Markdown.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	out    string
	shapes []shape
	runs   int
	speed  float64
	bin    string
	keep   string
	prefix string
}

// shape is the size of a cluster, written as "3+10".
type shape struct{ controlPlanes, workers int }

func (s shape) String() string { return fmt.Sprintf("%d+%d", s.controlPlanes, s.workers) }

func (s shape) nodes() int { return s.controlPlanes + s.workers }

func parseShape(text string) (shape, error) {
	before, after, _ := strings.Cut(text, "+")
	c, err := strconv.Atoi(before)
	w, werr := strconv.Atoi(after)
	if err != nil || werr != nil || c < 1 || w < 1 {
		return shape{}, fmt.Errorf("%q is not a shape such as 3+10", text)
	}
	return shape{c, w}, nil
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	shapes := fs.String("shapes", "3+10,3+50", "control planes + workers of the clusters, comma-separated")
	fs.StringVar(&s.out, "out", "", "file to write the page to; standard output without it")
	fs.IntVar(&s.runs, "runs", 3, "runs of each shape; the page shows medians")
	fs.Float64Var(&s.speed, "speed", 10, "how many times faster than real time the cloud runs")
	fs.StringVar(&s.bin, "bin", "bin", "folder of the commands")
	fs.StringVar(&s.keep, "keep", "", "folder in which state and logs of every run stay; without it they are removed")
	fs.StringVar(&s.prefix, "loopback-prefix", "127.91", "first two octets of the emulated public addresses")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	for text := range strings.SplitSeq(*shapes, ",") {
		sh, err := parseShape(text)
		if err != nil {
			return s, err
		}
		s.shapes = append(s.shapes, sh)
	}
	if s.runs < 1 || s.speed < 1 {
		return s, errors.New("runs and speed must be at least 1")
	}
	var err error
	s.bin, err = filepath.Abs(s.bin)
	return s, err
}

func run(ctx context.Context, args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	var all []series
	for _, sh := range s.shapes {
		one := series{shape: sh}
		for i := range s.runs {
			fmt.Fprintf(os.Stderr, "%s, run %d of %d at %gx\n", sh, i+1, s.runs, s.speed)
			m, err := s.measure(ctx, sh, i+1)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", sh, i+1, err)
			}
			fmt.Fprint(os.Stderr, m.explain(s.speed))
			one.runs = append(one.runs, m)
		}
		all = append(all, one)
	}
	text := page(s, machine(), all)
	if s.out == "" {
		fmt.Print(text)
		return nil
	}
	return os.WriteFile(s.out, []byte(text), 0o644)
}

// Command devcloud serves a cloud on loopback until it gets SIGTERM or SIGINT.
// When it is ready it prints one line of JSON with its URLs to standard output;
// its log goes to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "devcloud:", err)
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	options   devcloud.Options
	chaosSeed uint64
	verbose   bool
}

func parse(args []string) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("devcloud", flag.ContinueOnError)
	fs.StringVar(&s.options.Listen, "listen", "127.0.0.1:8899", "address of the cloud's API")
	fs.StringVar(&s.options.FactoryListen, "factory-listen", "127.0.0.1:8898", "address of the Image Factory")
	fs.Float64Var(&s.options.Speed, "speed", 1, "how many times faster than real time the cloud runs")
	fs.StringVar(&s.options.LoopbackPrefix, "loopback-prefix", "127.77", "first two octets of the public addresses")
	fs.Uint64Var(&s.chaosSeed, "seed", 0, "seed of random faults; zero for none")
	fs.BoolVar(&s.verbose, "verbose", false, "log every change")
	fs.Func("image-host", "HOST=URL: fetch images of HOST from URL; may be repeated", func(v string) error {
		host, url, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("want HOST=URL")
		}
		if s.options.ImageHosts == nil {
			s.options.ImageHosts = map[string]string{}
		}
		s.options.ImageHosts[host] = url
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if s.chaosSeed != 0 {
		c := faults.DefaultChaos(s.chaosSeed)
		s.options.Chaos = &c
	}
	return s, nil
}

func run(args []string) error {
	s, err := parse(args)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	s.options.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d, err := devcloud.Start(ctx, s.options)
	if err != nil {
		return err
	}
	ready := map[string]any{"url": d.URL(), "factory": d.FactoryURL(), "speed": d.World().Clock().Speed(), "pid": os.Getpid()}
	if err := json.NewEncoder(os.Stdout).Encode(ready); err != nil {
		return errors.Join(err, d.Close())
	}
	<-ctx.Done()
	return d.Close()
}

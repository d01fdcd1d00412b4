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
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/machines"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "devcloud:", err)
		stop()
		os.Exit(1)
	}
}

// settings are the command's flags.
type settings struct {
	options   devcloud.Options
	machines  machines.Options
	chaos     bool
	chaosSeed uint64
	verbose   bool
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("devcloud", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&s.machines.ToolsDir, "tools", "", "folder of kine and the Kubernetes programs; without it nothing runs on servers")
	fs.StringVar(&s.machines.DataDir, "data", "", "folder for the state of clusters; empty means a temporary one, removed at the end")
	fs.BoolVar(&s.machines.SharedAPIServers, "shared-apiservers", false, "one kube-apiserver per cluster instead of one per control plane node")
	fs.StringVar(&s.options.Listen, "listen", "127.0.0.1:8899", "address of the cloud's API")
	fs.StringVar(&s.options.FactoryListen, "factory-listen", "127.0.0.1:8898", "address of the Image Factory")
	fs.Float64Var(&s.options.Speed, "speed", 1, "how many times faster than real time the cloud runs")
	fs.StringVar(&s.options.LoopbackPrefix, "loopback-prefix", "127.77", "first two octets of the public addresses")
	fs.BoolVar(&s.chaos, "chaos", false, "begin with random faults (see PUT /_devcloud/chaos)")
	fs.Uint64Var(&s.chaosSeed, "seed", 1, "seed of random faults")
	fs.BoolVar(&s.verbose, "verbose", false, "log every change")
	policy := func(to *[]byte) func(string) error {
		return func(file string) (err error) {
			*to, err = os.ReadFile(file)
			return err
		}
	}
	fs.Func("aws-policy", "FILE with the IAM policy of whoever makes clusters; without it everything is allowed", policy(&s.options.AWSPolicies.Worker))
	fs.Func("aws-node-policy", "FILE with the IAM policy of what runs on machines; without it everything is allowed", policy(&s.options.AWSPolicies.Nodes))
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
	if s.chaos {
		c := faults.DefaultChaos(s.chaosSeed)
		s.options.Chaos = &c
	}
	return s, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if s.verbose {
		level = slog.LevelDebug
	}
	s.options.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if s.machines.ToolsDir != "" {
		if s.machines.DataDir == "" {
			if s.machines.DataDir, err = os.MkdirTemp("", "devcloud-"); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, os.RemoveAll(s.machines.DataDir)) }()
		}
		s.options.NewGuests = machines.New(s.machines)
	}
	d, err := devcloud.Start(ctx, s.options)
	if err != nil {
		return err
	}
	ready := map[string]any{
		"url": d.URL(), "factory": d.FactoryURL(), "speed": d.World().Clock().Speed(), "pid": os.Getpid(),
		"aws": d.AWSEnvironment(), "awsOwner": d.AWSOwner(), "awsKeys": d.AWSKeys(),
	}
	if err := json.NewEncoder(stdout).Encode(ready); err != nil {
		return errors.Join(err, d.Close())
	}
	<-ctx.Done()
	return d.Close()
}

// Command ichor-demo shows Ichor on one machine: it starts a real Temporal
// server, an emulated cloud with real Kubernetes behind it and a worker, and
// provisions a cluster of examples. It can let the real Cluster Autoscaler scale
// it, or upgrade it under a workload.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ichor-project/ichor/testsuite/stack"
)

func main() { stack.Main("demo", run) }

// demo is where things are.
type demo struct {
	root  string // of the repository
	dir   string // state, removed by down
	bins  string // the programs
	speed float64
	cloud string
	spec  string
	// scarce is the type of machines that one zone has none of, or nothing.
	scarce string
	// tied: the system ends with this process, however that ends.
	tied bool
}

// examples are what each demonstration provisions, by cloud.
var examples = map[string]map[string]string{
	"cloudscale": {"up": "demo.yaml", "autoscale": "autoscale.yaml", "upgrade": "upgrade/demo.yaml"},
	"aws":        {"up": "aws/demo.yaml", "autoscale": "aws/autoscale.yaml", "upgrade": "aws/upgrade.yaml"},
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("usage: ichor-demo up|autoscale|upgrade|down|serve [flags]")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	d := demo{root: root, dir: filepath.Join(root, ".demo")}
	fs := flag.NewFlagSet("ichor-demo "+args[0], flag.ContinueOnError)
	fs.Float64Var(&d.speed, "speed", 20, "how many times faster than real time the cloud runs")
	fs.StringVar(&d.cloud, "cloud", "cloudscale", "the cloud of the cluster: cloudscale or aws")
	fs.StringVar(&d.spec, "spec", "", "the cluster to provision; by default the example for the cloud")
	bins := os.Getenv("ICHOR_BIN")
	if bins == "" {
		bins = filepath.Join(root, "bin")
	}
	fs.StringVar(&d.bins, "bin", bins, "folder with the programs")
	fs.StringVar(&d.dir, "dir", d.dir, "folder for all state")
	fs.BoolVar(&d.tied, "tied", false, "end the system with this process, however that ends; up then stays until it is told to end")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	shown, ok := examples[d.cloud]
	if !ok {
		return fmt.Errorf("unknown cloud %q", d.cloud)
	}
	if d.cloud == "aws" {
		d.scarce = scarce[args[0]]
	}
	if d.spec == "" {
		d.spec = filepath.Join("examples", filepath.FromSlash(shown[args[0]]))
	}
	switch args[0] {
	case "up":
		return d.up(ctx)
	case "autoscale":
		return d.autoscale(ctx)
	case "upgrade":
		return d.upgrade(ctx)
	case "down":
		return d.down()
	case "serve":
		return d.serve(ctx)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func (d demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d demo) bin(name string) string { return filepath.Join(d.bins, name) }

// up provisions the demo cluster. On a terminal, and where the system is tied to it,
// it stays until it is told to end and then stops everything; elsewhere it returns
// and leaves the system running.
func (d demo) up(ctx context.Context) error {
	started := time.Now()
	sys, err := d.start(ctx)
	if errors.Is(err, errRuns) {
		return err
	}
	if err != nil {
		return errors.Join(err, d.down())
	}
	if err := d.provision(ctx, sys); err != nil {
		if ctx.Err() != nil {
			return d.told()
		}
		return d.end(ctx, err)
	}
	if err := d.refused(ctx, sys); err != nil {
		return d.end(ctx, err)
	}
	fmt.Printf("\nA cluster from nothing in %s (cloud speed factor %g).\n", time.Since(started).Round(time.Second), d.speed)
	d.next(sys)
	if !isTerminal() && !d.tied {
		return nil
	}
	fmt.Println("\nCtrl-C stops everything; so does make demo-down from elsewhere.")
	select {
	case <-ctx.Done():
		return d.told()
	case <-sys.gone(ctx):
		return nil
	}
}

func (d demo) told() error {
	fmt.Println("\nStopping everything.")
	return d.down()
}

// provision makes the cluster and shows its nodes.
func (d demo) provision(ctx context.Context, sys *system) error {
	fmt.Printf("Cloud runs %gx faster than real time; Temporal UI: %s\n\n", d.speed, sys.UI)
	if err := d.exhaust(ctx, sys); err != nil {
		return err
	}
	if err := d.ichor(ctx, sys, "provision", "-f", d.spec); err != nil {
		return err
	}
	return d.nodes(ctx, sys)
}

// session is a demonstration on a provisioned cluster; everything is stopped after
// it.
func (d demo) session(ctx context.Context, show func(*system) error) error {
	sys, err := d.start(ctx)
	if errors.Is(err, errRuns) {
		return err
	}
	if err == nil {
		err = d.provision(ctx, sys)
	}
	if err == nil {
		err = show(sys)
	}
	return d.end(ctx, err)
}

// end stops everything. After a failure the state stays to be looked at, and so does
// the system unless it is tied to this process.
func (d demo) end(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return errors.Join(err, d.down())
	}
	if d.tied {
		err = errors.Join(err, d.stop())
	}
	fmt.Fprintf(os.Stderr, "\nlogs are in %s until make demo-down\n", d.path("logs"))
	return err
}

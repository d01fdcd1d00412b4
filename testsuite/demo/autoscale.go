package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// autoscale provisions a cluster without workers and lets the real Cluster
// Autoscaler run it up to its max and back, with nobody's help: pods are created
// and deleted, nothing else. It stops everything in the end.
func (d demo) autoscale(ctx context.Context) error {
	return d.session(ctx, func(sys *system) error {
		pair, err := d.pair(ctx, sys, shortened...)
		for _, p := range pair {
			defer func() { _ = p.Stop() }() // it is told to end; how it does says nothing
		}
		if err != nil {
			return err
		}
		return d.show(ctx, sys)
	})
}

// group is the workload's node group; podsWanted pods of half a core ask for
// more of it than its max.
const (
	group      = "worker"
	podsWanted = 50
)

// shortened are the times of a demonstration of scaling down; see
// docs/guides/autoscaler.md for those of real use.
var shortened = []string{
	"--scale-down-delay-after-add=5s", "--scale-down-delay-after-delete=0s", "--scale-down-unneeded-time=10s",
	"--node-delete-delay-after-taint=0s", "--unremovable-node-recheck-timeout=5s",
}

// pair starts the provider and the autoscaler, over mutual TLS.
func (d demo) pair(ctx context.Context, sys *system, flags ...string) (started []*proc.Process, err error) {
	listen, err := proc.FreeAddress()
	if err != nil {
		return nil, err
	}
	server, client, err := d.issue()
	if err != nil {
		return nil, err
	}
	metrics, err := proc.FreeAddress()
	if err != nil {
		return nil, err
	}
	provider, err := proc.Start(proc.Spec{
		Name: "provider", Path: d.bin("ichor-grpcprovider"), Log: d.path("logs/provider.log"), Env: sys.Env,
		Args: []string{
			"--cluster=demo", "--listen=" + listen, "--metrics-listen=" + metrics,
			"--tls-cert=" + server.Cert, "--tls-key=" + server.Key, "--tls-client-ca=" + server.CA,
		},
	})
	if err != nil {
		return nil, err
	}
	started = append(started, provider)
	if err := provider.WaitReady(ctx, 50*time.Millisecond, func(context.Context) error {
		c, err := net.DialTimeout("tcp", listen, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}); err != nil {
		return started, err
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return started, err
	}
	body, err := json.Marshal(map[string]string{"address": net.JoinHostPort("localhost", port), "cert": client.Cert, "key": client.Key, "cacert": client.CA})
	if err != nil {
		return started, err
	}
	config := d.path("cloud-config.json")
	if err := os.WriteFile(config, body, 0o600); err != nil {
		return started, err
	}
	address, err := proc.FreeAddress()
	if err != nil {
		return started, err
	}
	autoscaler, err := proc.Start(proc.Spec{
		Name: "cluster-autoscaler", Path: d.bin("tools/cluster-autoscaler"), Log: d.path("logs/cluster-autoscaler.log"),
		Args: append([]string{
			"--kubeconfig=" + d.path("kubeconfig"), "--cloud-provider=externalgrpc", "--cloud-config=" + config, "--leader-elect=false",
			"--address=" + address, "--namespace=kube-system", "--v=2", "--expander=least-waste",
			"--scan-interval=2s", "--ok-total-unready-count=100",
			"--skip-nodes-with-system-pods=false", "--startup-taint=node.cloudprovider.kubernetes.io/uninitialized",
		}, flags...),
	})
	if err != nil {
		return started, err
	}
	return append(started, autoscaler), nil
}

func (d demo) issue() (server, client certs.Files, err error) {
	ca, err := certs.NewAuthority("demo")
	if err != nil {
		return server, client, err
	}
	for name, files := range map[string]*certs.Files{"provider": &server, "autoscaler": &client} {
		pair, err := ca.Issue(name, "localhost", "127.0.0.1")
		if err != nil {
			return server, client, err
		}
		dir := d.path(filepath.Join("tls", name))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return server, client, err
		}
		if *files, err = ca.Write(dir, pair); err != nil {
			return server, client, err
		}
	}
	return server, client, nil
}

// scene is what one look at the group and its pods shows.
type scene struct {
	Running, Pods                         int
	Target, Ready, Creating, Leaving, Bad int
	Nodes                                 int
}

func (s scene) String() string {
	return fmt.Sprintf("pods %2d of %2d running   target %d   ready %d   coming %d   leaving %d   failed %d   nodes %d",
		s.Running, s.Pods, s.Target, s.Ready, s.Creating, s.Leaving, s.Bad, s.Nodes)
}

// status asks Ichor for the group, as anybody would.
func (d demo) status(ctx context.Context, sys *system, out any) error {
	b, err := d.output(ctx, sys, "group", "demo/"+group, "-o", "json")
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

func say(started time.Time, format string, args ...any) {
	fmt.Printf("%9s  %s\n", strconv.FormatFloat(time.Since(started).Seconds(), 'f', 1, 64)+"s", fmt.Sprintf(format, args...))
}

package rig

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// KillWorker ends whichever worker lives with SIGKILL and returns when the next
// one polls.
func (r *Rig) KillWorker(ctx context.Context) error {
	next, ready := r.crew.killNow()
	if next == nil {
		_, crash := r.crew.state()
		return errors.Join(errors.New("no worker runs"), crash)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return next.WaitReady(ctx, 50*time.Millisecond, ready)
}

// Nodes proves that the cluster's own API shows one ready node for each machine
// and no other.
func (r *Rig) Nodes(ctx context.Context) error {
	s, err := r.State(ctx)
	if err != nil {
		return err
	}
	return r.nodes(ctx, s)
}

// Provider is the autoscaler's server with a client of it. It may be killed and
// started again and keeps its address.
type Provider struct {
	pb.CloudProviderClient

	rig     *Rig
	name    string
	address string
	now     *proc.Process
}

// StartProvider runs a provider until the test ends. Its name is that of its log.
func (r *Rig) StartProvider(t *testing.T, name string) *Provider {
	t.Helper()
	address, err := proc.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	p := &Provider{rig: r, name: name, address: address}
	// A client that waits long between two attempts to connect would see little
	// of what is done to the server.
	conn, err := grpc.NewClient(p.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: 300 * time.Millisecond}, MinConnectTimeout: time.Second,
		}))
	if err != nil {
		t.Fatal(err)
	}
	p.CloudProviderClient = pb.NewCloudProviderClient(conn)
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), p.now.Stop()); err != nil {
			t.Errorf("stop the provider: %v", err)
		}
	})
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = p.now.WaitReady(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		_, err := p.Refresh(ctx, &pb.RefreshRequest{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Kill ends the provider with SIGKILL.
func (p *Provider) Kill() error { return p.now.Kill() }

// Start runs the provider again, without waiting for it.
func (p *Provider) Start() (err error) {
	p.now, err = proc.Start(proc.Spec{
		Name: "ichor-grpcprovider", Path: filepath.Join(p.rig.bin, "ichor-grpcprovider"), Log: p.rig.Log(p.name), Env: p.rig.Env(),
		Args: []string{
			"--insecure", "--listen", p.address, "--cluster", Cluster, "--metrics-listen", "", "--request-rate", "50", "--log-level", "debug",
		},
	})
	return err
}

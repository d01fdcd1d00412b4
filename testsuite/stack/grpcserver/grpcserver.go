// Package grpcserver runs the autoscaler's server beside a stack. It is no part of the
// stack, because a program can know one generation of the autoscaler's contract only,
// and the autoscaler's own suite knows the other.
package grpcserver

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// Provider is a running ichor-grpcprovider without TLS, and its client.
type Provider struct {
	pb.CloudProviderClient
	Process *proc.Process
	conn    *grpc.ClientConn
}

// Launch starts an ichor-grpcprovider on a free address and does not wait for
// it. It has no metrics; its log has the name of log.
func Launch(s *stack.Stack, log string, args ...string) (*Provider, error) {
	address, err := proc.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := proc.Start(proc.Spec{
		Name: "ichor-grpcprovider", Path: s.Program("ichor-grpcprovider"), Log: s.Log(log), Env: s.Env(),
		Args: append([]string{"--insecure", "--listen", address, "--metrics-listen", ""}, args...),
	})
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return &Provider{CloudProviderClient: pb.NewCloudProviderClient(conn), Process: p, conn: conn}, nil
}

// Ready waits until the provider answers what it is asked. It is an error when it
// ends before.
func (p *Provider) Ready(ctx context.Context, ask func(context.Context) error) error {
	return p.Process.WaitReady(ctx, 50*time.Millisecond, ask)
}

// Close ends the provider and its client.
func (p *Provider) Close() error { return errors.Join(p.conn.Close(), p.Process.Stop()) }

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// system is everything that serves an autoscaler: Temporal, a cloud, a worker,
// and a provider once it is asked for.
type system struct {
	*stack.Stack
	bin, dir string
	temporal client.Client
	worker   *worker
	provider *serving
	undo     []func() error
}

// begin starts a system whose worker has some settings; every other one is at
// its default.
func (s settings) begin(ctx context.Context, name string, speed float64, worker map[string]string) (*system, error) {
	dir, forget, err := s.folder(name)
	if err != nil {
		return nil, err
	}
	out := &system{bin: s.bin, dir: dir, undo: []func() error{forget}}
	out.Stack, err = stack.Start(ctx, stack.Options{
		Bin: s.bin, Dir: dir, Speed: speed, LoopbackPrefix: s.prefix, UIPort: -1, Settings: worker,
	})
	out.undo = append(out.undo, out.Close)
	if err != nil {
		return nil, errors.Join(err, out.end())
	}
	if out.temporal, err = out.Dial(ctx); err != nil {
		return nil, errors.Join(err, out.end())
	}
	out.undo = append(out.undo, func() error { out.temporal.Close(); return nil })
	if out.worker, err = startWorker(ctx, s.bin, out.Stack); err != nil {
		return nil, errors.Join(err, out.end())
	}
	out.undo = append(out.undo, out.worker.stop)
	return out, nil
}

// end stops everything, last things first.
func (s *system) end() error {
	var errs []error
	for i := len(s.undo) - 1; i >= 0; i-- {
		errs = append(errs, s.undo[i]())
	}
	return errors.Join(errs...)
}

// explain adds the ends of all logs to an error.
func (s *system) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w\n%s--- provider\n%s", err, s.Tail(20), proc.Tail(s.Log("provider"), 20))
}

// bend has the cloud answer as devcloud's README says.
func (s *system) bend(ctx context.Context, route, effect string) error {
	_, err := s.Fault(ctx, map[string]any{"route": route, "effect": effect, "count": -1})
	return err
}

// requests are the product's requests to the cloud since a moment.
func (s *system) requests(ctx context.Context, since time.Time) (out []request, err error) {
	var all []request
	if err := s.Cloud(ctx, http.MethodGet, "/_devcloud/requests", nil, &all); err != nil {
		return nil, err
	}
	for _, r := range all {
		if product(r) && r.Time.After(since) {
			out = append(out, r)
		}
	}
	return out, nil
}

// serving is a running provider, and a connection to it as the autoscaler has one.
type serving struct {
	pb.CloudProviderClient
	health  healthpb.HealthClient
	process *proc.Process
}

// serve starts the provider behind mutual TLS and waits until it answers.
func (s *system) serve(ctx context.Context, args ...string) error {
	address, err := proc.FreeAddress()
	if err != nil {
		return err
	}
	files, config, err := s.trust()
	if err != nil {
		return err
	}
	p, err := proc.Start(proc.Spec{
		Name: "ichor-grpcprovider", Path: filepath.Join(s.bin, "ichor-grpcprovider"), Log: s.Log("provider"), Env: s.Env(),
		Args: append([]string{
			"--listen", address, "--metrics-listen", "",
			"--tls-cert", files.Cert, "--tls-key", files.Key, "--tls-client-ca", files.CA,
		}, args...),
		Grace: 15 * time.Second,
	})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, p.Stop)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		return err
	}
	s.undo = append(s.undo, conn.Close)
	s.provider = &serving{CloudProviderClient: pb.NewCloudProviderClient(conn), health: healthpb.NewHealthClient(conn), process: p}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return p.WaitReady(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		_, err := s.provider.NodeGroups(ctx, &pb.NodeGroupsRequest{})
		return err
	})
}

// trust makes the certificates of both ends.
func (s *system) trust() (files certs.Files, config *tls.Config, err error) {
	authority, err := certs.NewAuthority("bench")
	if err != nil {
		return files, nil, err
	}
	of, err := authority.Issue("provider", "127.0.0.1")
	if err != nil {
		return files, nil, err
	}
	if files, err = authority.Write(filepath.Join(s.dir, "tls"), of); err != nil {
		return files, nil, err
	}
	own, err := authority.Issue("autoscaler")
	if err != nil {
		return files, nil, err
	}
	config, err = authority.Config(own)
	return files, config, err
}

// until waits for a state that is bound to come.
func until(ctx context.Context, every time.Duration, what string, f func(context.Context) (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last error
	for {
		ok, err := f(ctx)
		if ok {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: never: %w", what, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

// joinEnd ends a system whatever happened before.
func joinEnd(err error, s *system) error { return errors.Join(err, s.end()) }

// Command ichor-grpcprovider answers the Cluster Autoscaler for the node groups
// that Ichor's entities own. It keeps nothing: what it shows is read from
// Temporal, what it accepts is a signal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/ichor-project/ichor/grpcprovider/mtls"
	"github.com/ichor-project/ichor/grpcprovider/server"
	"github.com/ichor-project/ichor/grpcprovider/snapshot"
	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/resolve"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/telemetry"
)

var version = "dev"

// stopTimeout lets calls that are under way finish; they take 4 s at most.
const stopTimeout = 5 * time.Second

// wholeFor is how long a start waits for groups that cannot be read, before it
// serves the others: longer than a workflow task of a killed worker and a restart
// of Temporal, far shorter than the 15 minutes in which an autoscaler forgets what
// it asked of a group that it sees no more.
const wholeFor = 2 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "ichor-grpcprovider:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. It listens once all groups were read: until then a
// caller is refused, which the autoscaler understands, instead of being told of
// no groups, which it believes.
func run(ctx context.Context, args []string) (err error) {
	c, err := parseConfig(args, os.Getenv, os.Stderr)
	if err != nil {
		return err
	}
	prices, err := loadPrices(c)
	if err != nil {
		return err
	}
	seen, err := telemetry.New(ctx, telemetry.Options{
		Service: "ichor-grpcprovider", Version: version, MetricsListen: c.MetricsListen, OTLPEndpoint: c.OTLPEndpoint,
		LogFormat: c.LogFormat, LogLevel: c.LogLevel,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, seen.Shutdown(context.WithoutCancel(ctx))) }()
	fresh := newFreshness(c.Refresh, seen.Logger())
	seen.Readiness("groups", fresh.check)
	creds, err := loadTLS(ctx, c, seen)
	if err != nil {
		return err
	}

	var st *store.Store
	if c.Store != "" || c.File != "" {
		if st, err = store.Open(ctx, store.Options{URL: c.Store, Key: c.StoreKey}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
	}
	resolver := seen.Redact.Watch(newResolver(c, st))
	temporal, how, err := dial(ctx, c, resolver, seen)
	if err != nil {
		return err
	}
	defer temporal.Close()
	groups, err := standaloneGroups(ctx, c, st, temporal, how, seen.Logger())
	if err != nil {
		return err
	}
	how.Temporal, how.Log, how.Cluster = temporal, seen.Logger(), c.Cluster
	how.Cloud = newClouds(c, resolver, seen).list
	if groups != nil {
		how.Cluster = groups.Cluster.Name
		if prices == nil && groups.Prices != nil {
			prices = &server.Prices{Flavors: groups.Prices}
		}
	}
	how.WholeUntil = time.Now().Add(wholeFor)
	source, err := open(ctx, how, groups, seen.Logger())
	if err != nil {
		return err
	}
	defer source.Close()
	if err := seen.Registerer().Register(gauges{source.Numbers}); err != nil {
		return err
	}
	fresh.watch(ctx, source)
	return serve(ctx, c, creds, server.Options{Source: source, Prices: prices, GPULabel: c.GPULabel, Logger: seen.Logger()}, fresh, seen)
}

func loadPrices(c config) (*server.Prices, error) {
	if c.Prices == "" {
		return nil, nil
	}
	return server.LoadPrices(c.Prices)
}

// loadTLS reads the files, watches them and shows when they end; nil without TLS.
func loadTLS(ctx context.Context, c config, seen *telemetry.Telemetry) (credentials.TransportCredentials, error) {
	if c.Insecure {
		seen.Logger().Warn("serving without TLS: everybody on this machine can delete nodes", "listen", c.Listen)
		return nil, nil
	}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ichor_provider_refused_connections_total", Help: "TLS connections that were refused, by reason.",
	}, []string{"reason"})
	files, err := mtls.Load(mtls.Options{
		Cert: c.TLSCert, Key: c.TLSKey, ClientCA: c.TLSClientCA, ClientNames: c.ClientNames, Logger: seen.Logger(),
		Refused: func(r mtls.Reason) { refused.WithLabelValues(string(r)).Inc() },
	})
	if err != nil {
		return nil, err
	}
	until := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ichor_provider_certificate_not_after_seconds", Help: "When the server's certificate ends, in seconds since 1970.",
	}, func() float64 { return float64(files.NotAfter().Unix()) })
	if err := errors.Join(seen.Registerer().Register(refused), seen.Registerer().Register(until)); err != nil {
		return nil, err
	}
	go files.Watch(ctx, mtls.DefaultEvery)
	return files.Credentials(), nil
}

// newResolver reads references where the provider runs: those of the codec keys,
// and of the accounts whose machines are listed.
func newResolver(c config, st *store.Store) secrets.Resolver {
	o := resolve.Options{Kube: resolve.NewKube(""), EnvNames: c.SecretEnv, FileRoots: c.SecretFiles}
	if st != nil {
		o.Objects = st
	}
	return resolve.New(o)
}

// dial prepares a client of Temporal as the temporal CLI would. It does not
// connect yet: what comes first is repeated until it succeeds.
func dial(ctx context.Context, c config, resolver secrets.Resolver, seen *telemetry.Telemetry) (client.Client, snapshot.Config, error) {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, snapshot.Config{}, fmt.Errorf("settings of Temporal: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	opts.Identity = fmt.Sprintf("ichor-grpcprovider@%s/%d", host, os.Getpid())
	// The server answers as it is asked: to compress the state of hundreds of nodes
	// there, and to undo it here, takes longer than to send it.
	opts.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	opts.Logger = log.NewStructuredLogger(seen.Logger())
	opts.MetricsHandler = seen.MetricsHandler()
	opts.Interceptors = seen.Interceptors()
	keys, err := codec.LoadKeys(ctx, resolver, references(c.CodecKeys))
	if err != nil {
		return nil, snapshot.Config{}, err
	}
	if err := codec.ClientOptions(&opts, keys); err != nil {
		return nil, snapshot.Config{}, err
	}
	if opts.DataConverter == nil {
		opts.DataConverter = converter.GetDefaultDataConverter()
	}
	t, err := client.NewLazyClient(opts)
	if err != nil {
		return nil, snapshot.Config{}, fmt.Errorf("connect to Temporal at %s: %w", opts.HostPort, err)
	}
	return t, snapshot.Config{Namespace: opts.Namespace, Converter: opts.DataConverter, Identity: opts.Identity}, nil
}

func references(list []string) []secrets.Ref {
	out := make([]secrets.Ref, 0, len(list))
	for _, r := range list {
		out = append(out, secrets.Ref(r))
	}
	return out
}

// serve answers until ctx ends.
func serve(ctx context.Context, c config, creds credentials.TransportCredentials, o server.Options, fresh *freshness, seen *telemetry.Telemetry) error {
	metrics, err := server.NewMetrics(seen.Registerer(), o.Source)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	g := server.NewGRPC(creds, o.Logger, metrics)
	server.New(o).Register(g)
	healthpb.RegisterHealthServer(g, fresh.health)
	failed := make(chan error, 1)
	go func() { failed <- g.Serve(ln) }()
	o.Logger.Info("serving", "version", version, "listen", ln.Addr().String(), "groups", len(o.Source.Groups()))
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	o.Logger.Info("stopping")
	fresh.health.Shutdown()
	stop(g, o.Logger)
	return <-failed
}

// stop lets calls finish, but not for ever.
func stop(g *grpc.Server, l *slog.Logger) {
	done := make(chan struct{})
	go func() { g.GracefulStop(); close(done) }()
	select {
	case <-done:
	case <-time.After(stopTimeout):
		l.Warn("calls did not end in time", "after", stopTimeout)
		g.Stop()
		<-done
	}
}

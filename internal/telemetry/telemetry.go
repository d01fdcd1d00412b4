// Package telemetry is what a long-running command shows of itself: Prometheus
// metrics, health endpoints, optional OpenTelemetry traces, and structured logs
// that do not repeat secrets.
package telemetry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"

	"github.com/ichor-project/ichor/internal/fault"
)

// Options configure a command's telemetry. The zero value serves nothing and
// logs text at level info to standard error.
type Options struct {
	// Service names the command in traces, for example "ichor-worker".
	Service string
	Version string
	// MetricsListen is the address of /metrics, /healthz and /readyz; empty for
	// none.
	MetricsListen string
	// OTLPEndpoint is the URL of an OpenTelemetry collector that speaks gRPC,
	// http://host:4317 or https://host:4317; empty for no traces.
	OTLPEndpoint string
	// LogFormat is "text" or "json"; empty is text.
	LogFormat string
	// LogLevel is "debug", "info", "warn" or "error"; empty is info.
	LogLevel string
	// LogOutput is os.Stderr when nil.
	LogOutput io.Writer
}

// Telemetry is in use from New to Shutdown. It is safe for concurrent use.
type Telemetry struct {
	// Redact takes the values that the logs must not show.
	Redact *Redactor

	logger   *slog.Logger
	registry *prometheus.Registry
	meters   *sdkmetric.MeterProvider
	handler  client.MetricsHandler
	traces   *tracing

	activities       metric.Int64Counter
	activitySeconds  metric.Float64Histogram
	cloudCalls       metric.Int64Counter
	cloudCallSeconds metric.Float64Histogram

	addr   net.Addr
	server *http.Server
	served chan struct{}

	mu     sync.Mutex
	checks []check
}

// New starts telemetry. Invalid when an option makes no sense, Unavailable when
// the address cannot be listened on. A collector that is not there yet is no
// error.
func New(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{Redact: &Redactor{}, registry: prometheus.NewRegistry()}
	if o.LogOutput == nil {
		o.LogOutput = os.Stderr
	}
	var err error
	if t.logger, err = newLogger(o, t.Redact); err != nil {
		return nil, err
	}
	if err := t.startMetrics(); err != nil {
		return nil, fault.Wrap(fault.Internal, "start metrics", err)
	}
	if t.traces, err = startTraces(ctx, o); err != nil {
		return nil, errors.Join(err, t.Shutdown(ctx))
	}
	if o.MetricsListen != "" {
		if err := t.serve(ctx, o.MetricsListen); err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx))
		}
	}
	return t, nil
}

// secondsBuckets are the bounds of all histograms: from a workflow task of a
// few milliseconds to an image import of half an hour.
var secondsBuckets = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600, 1800}

func (t *Telemetry) startMetrics() error {
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := promexporter.New(promexporter.WithRegisterer(t.registry), promexporter.WithoutScopeInfo(), promexporter.WithoutTargetInfo())
	if err != nil {
		return err
	}
	t.meters = sdkmetric.NewMeterProvider(
		sdkmetric.WithReader(exporter),
		sdkmetric.WithView(sdkmetric.NewView(
			sdkmetric.Instrument{Kind: sdkmetric.InstrumentKindHistogram},
			sdkmetric.Stream{Aggregation: sdkmetric.AggregationExplicitBucketHistogram{Boundaries: secondsBuckets}},
		)),
	)
	t.handler = temporalotel.NewMetricsHandler(temporalotel.MetricsHandlerOptions{
		Meter:                t.meters.Meter("temporal"),
		UseMonotonicCounters: true,
		OnError:              func(err error) { t.logger.Warn("a metric of the Temporal SDK is not recorded", "error", err) },
	})
	m := t.meters.Meter("ichor")
	var errs [4]error
	t.activities, errs[0] = m.Int64Counter("ichor_activity_attempts", metric.WithDescription("Attempts of activities by outcome: ok, or the kind of error."))
	t.activitySeconds, errs[1] = m.Float64Histogram("ichor_activity_duration", metric.WithUnit("s"), metric.WithDescription("How long attempts of activities took."))
	t.cloudCalls, errs[2] = m.Int64Counter("ichor_cloud_requests", metric.WithDescription("Requests to cloud APIs by route, method and status; 0 when there was no answer."))
	t.cloudCallSeconds, errs[3] = m.Float64Histogram("ichor_cloud_request_duration", metric.WithUnit("s"), metric.WithDescription("How long requests to cloud APIs took."))
	return errors.Join(errs[:]...)
}

// Logger writes the command's log.
func (t *Telemetry) Logger() *slog.Logger { return t.logger }

// Registerer takes metrics that a command collects by itself.
func (t *Telemetry) Registerer() prometheus.Registerer { return t.registry }

// MetricsHandler is for client.Options: it collects the metrics of the SDK.
func (t *Telemetry) MetricsHandler() client.MetricsHandler { return t.handler }

// ActivityDone counts one attempt of an activity; kind is empty on success. It
// fits the observer of the activity boundary.
func (t *Telemetry) ActivityDone(activity string, kind fault.Kind, took time.Duration) {
	outcome := string(kind)
	if outcome == "" {
		outcome = "ok"
	}
	name := attribute.String("activity", activity)
	t.activities.Add(context.Background(), 1, metric.WithAttributes(name, attribute.String("outcome", outcome)))
	t.activitySeconds.Record(context.Background(), took.Seconds(), metric.WithAttributes(name))
}

// CloudCalls returns what counts the requests to one cloud. route has ids
// replaced by a placeholder, status is 0 when there was no answer.
func (t *Telemetry) CloudCalls(provider string) func(route, method string, status int, took time.Duration) {
	cloud := attribute.String("cloud", provider)
	return func(route, method string, status int, took time.Duration) {
		where := []attribute.KeyValue{cloud, attribute.String("route", route), attribute.String("method", method)}
		t.cloudCallSeconds.Record(context.Background(), took.Seconds(), metric.WithAttributes(where...))
		where = append(where, attribute.String("status", strconv.Itoa(status)))
		t.cloudCalls.Add(context.Background(), 1, metric.WithAttributes(where...))
	}
}

// Addr is where metrics and health are served, nil when they are not.
func (t *Telemetry) Addr() net.Addr { return t.addr }

// Shutdown stops serving, sends what is left of traces and leaves no goroutine
// behind. The logger stays usable.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var errs []error
	if t.server != nil {
		if err := t.server.Shutdown(ctx); err != nil {
			errs = append(errs, err, t.server.Close())
		}
		<-t.served
	}
	if t.traces != nil {
		errs = append(errs, t.traces.provider.Shutdown(ctx))
	}
	errs = append(errs, t.meters.Shutdown(ctx))
	return fault.Wrap(fault.Unavailable, "stop telemetry", errors.Join(errs...))
}

func (t *Telemetry) serve(ctx context.Context, addr string) error {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return fault.New(fault.Invalid, "serve metrics", "%q is not host:port", addr)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "serve metrics", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(t.logger.Handler(), slog.LevelWarn),
		ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /healthz", t.healthz)
	mux.HandleFunc("GET /readyz", t.readyz)
	t.addr = ln.Addr()
	t.served = make(chan struct{})
	t.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(t.logger.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(t.served)
		if err := t.server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.logger.Error("metrics and health are no longer served", "error", err)
		}
	}()
	return nil
}

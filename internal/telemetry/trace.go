package telemetry

import (
	"context"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"

	"github.com/ichor-project/ichor/internal/fault"
)

type tracing struct {
	provider    *sdktrace.TracerProvider
	interceptor interceptor.Interceptor
}

// startTraces returns nil when no endpoint is set. Spans are sent in the
// background; what cannot be sent is dropped.
func startTraces(ctx context.Context, o Options) (*tracing, error) {
	if o.OTLPEndpoint == "" {
		return nil, nil
	}
	const op = "start traces"
	u, err := url.Parse(o.OTLPEndpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fault.New(fault.Invalid, op, "the collector's endpoint is not a URL such as http://localhost:4317")
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(o.OTLPEndpoint))
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "no exporter for the collector at %s", u.Host)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service),
			attribute.String("service.version", o.Version),
		)),
	)
	i, err := temporalotel.NewTracingInterceptor(temporalotel.TracerOptions{
		Tracer: provider.Tracer("ichor"),
		// The UI and the autoscaler query all the time.
		DisableQueryTracing: true,
		// A run may have been started by something else that traces.
		AllowInvalidParentSpans: true,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	return &tracing{provider: provider, interceptor: i}, nil
}

// Interceptors are for client.Options: they trace client calls, and workflows
// and activities of workers that use the client. Empty without a collector.
func (t *Telemetry) Interceptors() []interceptor.ClientInterceptor {
	if t.traces == nil {
		return nil
	}
	return []interceptor.ClientInterceptor{t.traces.interceptor}
}

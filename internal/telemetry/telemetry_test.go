package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/telemetry"
)

func get(t *testing.T, c *http.Client, tel *telemetry.Telemetry, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tel.Addr().String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// collector is an OpenTelemetry collector as far as an exporter can tell: it
// takes any call and says which.
func collector(t *testing.T) (url string, calls func() int) {
	t.Helper()
	var mu sync.Mutex
	n := 0
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(s)
		if method != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
			return status.Error(codes.Unimplemented, method)
		}
		mu.Lock()
		defer mu.Unlock()
		n++
		return status.Error(codes.InvalidArgument, "seen") // final: the exporter does not repeat it
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return "http://" + ln.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func TestMetricsAndHealth(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tel, err := telemetry.New(t.Context(), telemetry.Options{Service: "test", MetricsListen: "127.0.0.1:0", LogOutput: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	c := &http.Client{Transport: transport}

	tel.ActivityDone("EnsureMachine", "", 300*time.Millisecond)
	tel.ActivityDone("EnsureMachine", fault.Quota, time.Second)
	observe := tel.CloudCalls("cloudscale")
	observe("/v1/servers/{id}", "GET", 200, 20*time.Millisecond)
	observe("/v1/servers/{id}", "GET", 0, time.Second)
	h := tel.MetricsHandler().WithTags(map[string]string{"namespace": "default"})
	h.Counter("temporal_request").Inc(2)
	h.Gauge("temporal_sticky_cache_size").Update(7)
	h.Timer("temporal_activity_execution_latency").Record(2 * time.Second)

	code, body := get(t, c, tel, "/metrics")
	if code != http.StatusOK {
		t.Fatal(code, body)
	}
	for _, line := range []string{
		`ichor_activity_attempts_total{activity="EnsureMachine",outcome="ok"} 1`,
		`ichor_activity_attempts_total{activity="EnsureMachine",outcome="Quota"} 1`,
		`ichor_activity_duration_seconds_bucket{activity="EnsureMachine",le="0.5"} 1`,
		`ichor_activity_duration_seconds_count{activity="EnsureMachine"} 2`,
		`ichor_cloud_requests_total{cloud="cloudscale",method="GET",route="/v1/servers/{id}",status="200"} 1`,
		`ichor_cloud_requests_total{cloud="cloudscale",method="GET",route="/v1/servers/{id}",status="0"} 1`,
		`ichor_cloud_request_duration_seconds_count{cloud="cloudscale",method="GET",route="/v1/servers/{id}"} 2`,
		`temporal_request_total{namespace="default"} 2`,
		`temporal_sticky_cache_size{namespace="default"} 7`,
		`temporal_activity_execution_latency_seconds_bucket{namespace="default",le="2.5"} 1`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
	if t.Failed() {
		t.Log(body)
	}

	if code, _ := get(t, c, tel, "/readyz"); code != http.StatusOK {
		t.Errorf("/readyz without checks: %d", code)
	}
	var broken error
	tel.Redact.Add(secrets.NewValue([]byte(canary)))
	tel.Readiness("store", func(context.Context) error { return broken })
	tel.Readiness("temporal", func(context.Context) error { return nil })
	if code, body := get(t, c, tel, "/readyz"); code != http.StatusOK || body != "store: ok\ntemporal: ok\n" {
		t.Errorf("%d %q", code, body)
	}
	broken = errors.New("no route with " + canary)
	if code, body := get(t, c, tel, "/readyz"); code != http.StatusServiceUnavailable || body != "store: no route with [redacted]\ntemporal: ok\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _ := get(t, c, tel, "/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	transport.CloseIdleConnections()
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPortInUse(t *testing.T) {
	tel := start(t, telemetry.Options{MetricsListen: "127.0.0.1:0", LogOutput: io.Discard})
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	if _, err := telemetry.New(t.Context(), telemetry.Options{MetricsListen: tel.Addr().String(), LogOutput: io.Discard}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("error = %v", err)
	}
}

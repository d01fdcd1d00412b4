package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/grpcprovider/server"
	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/telemetry"
)

type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	wake chan struct{}
}

func newLines() *lines { return &lines{wake: make(chan struct{}, 1)} }

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// wait returns what the pattern finds in the log once it does.
func (l *lines) wait(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		if m := re.FindStringSubmatch(l.String()); m != nil {
			return m[1]
		}
		select {
		case <-l.wake:
		case <-time.After(30 * time.Second):
			t.Fatalf("the log never says %s:\n%s", pattern, l)
		}
	}
}

func TestServesAndStops(t *testing.T) {
	out := newLines()
	seen, err := telemetry.New(t.Context(), telemetry.Options{MetricsListen: "127.0.0.1:0", LogOutput: out})
	if err != nil {
		t.Fatal(err)
	}
	fresh := newFreshness(time.Hour, seen.Logger())
	seen.Readiness("groups", fresh.check)
	get := func(path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+seen.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if code, _ := get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz is %d before anything was read", code)
	}
	s := &source{refreshed: time.Now()}
	fresh.watch(t.Context(), s)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c := config{Listen: "127.0.0.1:0", Insecure: true}
	go func() {
		done <- serve(ctx, c, nil, server.Options{Source: s, Logger: seen.Logger()}, fresh, seen)
	}()
	addr := out.wait(t, `msg=serving .*listen=(\S+)`)
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pb.NewCloudProviderClient(conn).NodeGroups(t.Context(), &pb.NodeGroupsRequest{}); err != nil {
		t.Error(err)
	}
	health, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: pb.CloudProvider_ServiceDesc.ServiceName})
	if err != nil || health.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", health, err)
	}
	if code, text := get("/readyz"); code != http.StatusOK {
		t.Errorf("/readyz is %d: %s", code, text)
	}
	if _, text := get("/metrics"); !strings.Contains(text, `ichor_provider_requests_total{code="OK",method="NodeGroups"} 1`) {
		t.Errorf("/metrics does not count calls:\n%s", text)
	}

	stop()
	if err := <-done; err != nil {
		t.Errorf("stopping: %v", err)
	}
	if _, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("after the end: %v", err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if err := seen.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func TestRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("flavors: {flex-8-4: -1}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"without TLS":       {nil, "tls-cert: is required"},
		"with absent files": {[]string{"--tls-cert", dir + "/c", "--tls-key", dir + "/k", "--tls-client-ca", dir + "/a"}, "no such file"},
		"with bad prices":   {[]string{"--insecure", "--listen", "127.0.0.1:0", "--prices", bad}, "is not a positive number"},
	} {
		err := run(t.Context(), append(tc.args, "--metrics-listen", ""))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// Without Temporal the provider waits and says so; it does not listen, since to
// tell the autoscaler of no groups would be wrong.
func TestWaitsForTemporal(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEMPORAL_ADDRESS", nobody)
	out := newLines()
	seen, err := telemetry.New(t.Context(), telemetry.Options{LogOutput: out})
	if err != nil {
		t.Fatal(err)
	}
	temporal, how, err := dial(t.Context(), defaultConfig(), newResolver(defaultConfig(), nil), seen)
	if err != nil {
		t.Fatal(err)
	}
	defer temporal.Close()
	how.Temporal, how.Log = temporal, seen.Logger()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := open(ctx, how, nil, seen.Logger())
		done <- err
	}()
	out.wait(t, `(waiting to read the node groups)`)
	stop()
	if err := <-done; err == nil {
		t.Error("nothing was read, and that is no error")
	}
	if err := seen.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func cloudSpec(provider, credentials string) cluster.Cloud {
	return cluster.Cloud{Provider: provider, Credentials: credentials}
}

func TestOneClientPerAccount(t *testing.T) {
	t.Setenv("ICHOR_TEST_TOKEN_A", "token-a-token")
	t.Setenv("ICHOR_TEST_TOKEN_B", "token-b-token")
	seen, err := telemetry.New(t.Context(), telemetry.Options{LogOutput: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaultConfig()
	c := newClouds(cfg, newResolver(cfg, nil), seen)
	open := func(provider, ref string) (any, error) {
		p, _, err := c.accounts.Open(t.Context(), cloudSpec(provider, ref))
		return p, err
	}
	a, err := open("cloudscale", "env:ICHOR_TEST_TOKEN_A")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := open("cloudscale", "env:ICHOR_TEST_TOKEN_A"); err != nil || again != a {
		t.Errorf("one account has two clients: %v", err)
	}
	if b, err := open("cloudscale", "env:ICHOR_TEST_TOKEN_B"); err != nil || b == a {
		t.Errorf("two accounts share a client: %v", err)
	}
	t.Setenv("ICHOR_TEST_TOKEN_A", "token-a-renewed")
	if renewed, err := open("cloudscale", "env:ICHOR_TEST_TOKEN_A"); err != nil || renewed == a {
		t.Errorf("a renewed token is not used: %v", err)
	}
	if _, err := open("nimbus", "env:ICHOR_TEST_TOKEN_A"); !fault.Is(err, fault.Invalid) {
		t.Errorf("an unknown cloud: %v", err)
	}
	if _, err := open("cloudscale", "env:ICHOR_TEST_TOKEN_ABSENT"); err == nil {
		t.Error("an absent token was found")
	}
	if err := seen.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

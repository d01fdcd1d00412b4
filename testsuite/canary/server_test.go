package canary_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/testsuite/proc"
)

// startTemporal runs a real server and returns how to make clients of it. A
// missing server fails the test: `make bin/tools/temporal` builds it.
func startTemporal(t *testing.T) (dial func(keys []codec.Key) client.Client) {
	t.Helper()
	path, err := filepath.Abs("../../bin/tools/temporal")
	if err != nil {
		t.Fatal(err)
	}
	port, err := proc.FreePort(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	address := "127.0.0.1:" + strconv.Itoa(int(port))
	p, err := proc.Start(proc.Spec{
		Name: "temporal", Path: path, Log: filepath.Join(dir, "temporal.log"),
		Args: []string{
			"server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", strconv.Itoa(int(port)), "--log-level", "error",
			"--search-attribute", "IchorTestKeyword=Keyword",
		},
		Env: append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir),
	})
	if err != nil {
		t.Fatalf("make bin/tools/temporal builds the server: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	})
	options := func(keys []codec.Key) client.Options {
		o := client.Options{HostPort: address, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))}
		if err := codec.ClientOptions(&o, keys); err != nil {
			t.Fatal(err)
		}
		return o
	}
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.WaitReady(ready, 100*time.Millisecond, func(ctx context.Context) error {
		c, err := client.DialContext(ctx, options(nil))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return func(keys []codec.Key) client.Client {
		c, err := client.DialContext(t.Context(), options(keys))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
}

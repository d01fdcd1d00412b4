package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"golang.org/x/term"

	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/resolve"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

// app is one run of the command line.
type app struct {
	cfg      config
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	// payloads reads what Temporal keeps, once dial has succeeded.
	payloads converter.DataConverter
	// specFile is the file that a command reads, for messages.
	specFile string
	// isStrategy says that it is the strategy of an upgrade, not a spec.
	isStrategy bool
}

// dialTimeout bounds the first contact with Temporal.
const dialTimeout = 10 * time.Second

// openStore opens the encrypted store. The caller closes it.
func (a *app) openStore(ctx context.Context) (*store.Store, error) {
	return store.Open(ctx, store.Options{URL: a.cfg.Store, Key: a.cfg.StoreKey})
}

// dial connects to Temporal with the settings of the temporal CLI, and with
// payload encryption if keys are configured. The caller closes the client.
func (a *app) dial(ctx context.Context) (client.Client, error) {
	opts, err := envconfig.LoadClientOptions(envconfig.LoadClientOptionsRequest{ConfigFileProfile: a.cfg.Profile})
	if err != nil {
		return nil, usageError{fmt.Errorf("the settings of Temporal: %w", err)}
	}
	if a.cfg.Address != "" {
		opts.HostPort = a.cfg.Address
	}
	if a.cfg.Namespace != "" {
		opts.Namespace = a.cfg.Namespace
	}
	if opts.HostPort == "" {
		opts.HostPort = client.DefaultHostPort
	}
	opts.Identity = identity()
	opts.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	keys, err := codec.LoadKeys(ctx, resolve.New(resolve.Options{}), a.cfg.codecKeys())
	if err != nil {
		return nil, err
	}
	if err := codec.ClientOptions(&opts, keys); err != nil {
		return nil, err
	}
	a.payloads = opts.DataConverter
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := client.DialContext(ctx, opts)
	if err != nil {
		return nil, fault.New(fault.Unavailable, "reach Temporal at "+opts.HostPort, "%v", plain(err))
	}
	return c, nil
}

// identity is what the Temporal UI shows as the author of what we do.
func identity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("ichor@%s/%d", host, os.Getpid())
}

// plain is an error of Temporal without the layers of gRPC.
func plain(err error) error {
	text := err.Error()
	var svc serviceerror.ServiceError
	if errors.As(err, &svc) {
		text = svc.Status().Message()
	}
	if _, desc, ok := strings.Cut(text, "desc = "); ok {
		text = strings.TrimPrefix(strings.Trim(desc, "\""), "transport: Error while dialing: ")
	}
	return errors.New(text)
}

// terminal reports whether w is a screen on which lines can be redrawn.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

func (a *app) specName() string {
	switch a.specFile {
	case "":
		return "the spec"
	case "-":
		return "standard input"
	}
	return a.specFile
}

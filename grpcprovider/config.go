package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/workflows"
)

// config is what the provider can be told. Every setting is a flag and an
// environment variable (--tls-cert is ICHOR_TLS_CERT; --config is
// ICHOR_PROVIDER_CONFIG, since ICHOR_CONFIG is the CLI's); the flag wins. Temporal's
// own settings come from its environment and profile file, as for the temporal
// CLI.
type config struct {
	Listen      string
	Cluster     string
	File        string
	TLSCert     string
	TLSKey      string
	TLSClientCA string
	ClientNames []string
	Insecure    bool
	Prices      string
	GPULabel    string
	Refresh     time.Duration

	TaskQueue     string
	CodecKeys     []string
	Store         string
	StoreKey      string
	SecretEnv     []string
	SecretFiles   []string
	CloudscaleURL string
	RequestRate   float64

	MetricsListen string
	OTLPEndpoint  string
	LogFormat     string
	LogLevel      string
}

// defaultConfig listens everywhere, since mutual TLS is required there. 8086 is
// the port that the contract's own examples use.
func defaultConfig() config {
	return config{
		Listen: ":8086", GPULabel: "ichor.dev/gpu", Refresh: 30 * time.Second, TaskQueue: workflows.TaskQueue,
		CloudscaleURL: "https://api.cloudscale.ch/", RequestRate: 2,
		MetricsListen: "127.0.0.1:9091", LogFormat: "text", LogLevel: "info",
	}
}

// setting ties one value to its flag, its variable and its explanation.
type setting struct {
	name, usage string
	set         func(string) error
	show        string
	yesNo       bool
	list        *[]string
}

func (c *config) settings() []setting {
	return []setting{
		text("listen", &c.Listen, "address that the autoscaler dials"),
		text("cluster", &c.Cluster, "cluster whose groups are served; empty for all"),
		text("config", &c.File, "file of node groups of a cluster that was built by other means"),
		text("tls-cert", &c.TLSCert, "certificate of the server, PEM; read again when it changes"),
		text("tls-key", &c.TLSKey, "key of the certificate, PEM"),
		text("tls-client-ca", &c.TLSClientCA, "authorities whose clients are let in, PEM"),
		many("tls-client-names", &c.ClientNames, "names of which a client's certificate must have one, comma-separated; empty for any"),
		yesNo("insecure", &c.Insecure, "no TLS; on a loopback address only"),
		text("prices", &c.Prices, "file with the price of each flavor, for --expander=price"),
		text("gpu-label", &c.GPULabel, "label of nodes with GPUs; its value is their type"),
		span("refresh-every", &c.Refresh, "how long state may age while no autoscaler asks"),
		text("task-queue", &c.TaskQueue, "task queue of the entities that --config starts"),
		many("codec-keys", &c.CodecKeys, "references of payload encryption keys, comma-separated, the first encrypts; empty for none"),
		text("store", &c.Store, "URL of the encrypted store; with --config, and for store: references"),
		text("store-key", &c.StoreKey, "URL of the store's key (default: a key file beside a file store)"),
		many("secret-env", &c.SecretEnv, "environment variables that may be referred to, comma-separated; empty for any"),
		many("secret-files", &c.SecretFiles, "folders that may be referred to files of, comma-separated; empty for any"),
		text("cloudscale-url", &c.CloudscaleURL, "cloudscale.ch API; CLOUDSCALE_API_URL is read too"),
		number("request-rate", &c.RequestRate, "requests per second to one cloud account"),
		text("metrics-listen", &c.MetricsListen, "address of /metrics, /healthz and /readyz; empty for none"),
		text("otlp-endpoint", &c.OTLPEndpoint, "where to send OpenTelemetry traces; empty for none"),
		text("log-format", &c.LogFormat, "text or json"),
		text("log-level", &c.LogLevel, "debug, info, warn or error"),
	}
}

func text(name string, v *string, usage string) setting {
	return setting{name: name, usage: usage, show: *v, set: func(s string) error { *v = s; return nil }}
}

// many takes a comma-separated list; a flag that is given twice adds to it.
func many(name string, v *[]string, usage string) setting {
	return setting{name: name, usage: usage, list: v, set: func(s string) error {
		for _, part := range strings.Split(s, ",") {
			if part = strings.TrimSpace(part); part != "" && !slices.Contains(*v, part) {
				*v = append(*v, part)
			}
		}
		return nil
	}}
}

func yesNo(name string, v *bool, usage string) setting {
	return setting{name: name, usage: usage, yesNo: true, set: func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", s)
		}
		*v = b
		return nil
	}}
}

func span(name string, v *time.Duration, usage string) setting {
	return setting{name: name, usage: usage, show: v.String(), set: func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a positive duration such as 30s", s)
		}
		*v = d
		return nil
	}}
}

func number(name string, v *float64, usage string) setting {
	return setting{name: name, usage: usage, show: strconv.FormatFloat(*v, 'g', -1, 64), set: func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f > 0) {
			return fmt.Errorf("%q is not a positive number", s)
		}
		*v = f
		return nil
	}}
}

func variable(name string) string {
	if name == "config" {
		// The CLI's ICHOR_CONFIG is another file, and both may run in one shell.
		name = "provider-config"
	}
	return "ICHOR_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// parseConfig reads environment and flags and reports every problem at once.
func parseConfig(args []string, getenv func(string) string, out io.Writer) (config, error) {
	c := defaultConfig()
	var problems []error
	if v := getenv("CLOUDSCALE_API_URL"); v != "" {
		c.CloudscaleURL = v
	}
	fs := flag.NewFlagSet("ichor-grpcprovider", flag.ContinueOnError)
	fs.SetOutput(out)
	for _, s := range c.settings() {
		if v := getenv(variable(s.name)); v != "" {
			if err := s.set(v); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", variable(s.name), err))
			}
		}
		usage := fmt.Sprintf("%s [%s]", s.usage, variable(s.name))
		if s.show != "" {
			usage += " (default " + s.show + ")"
		}
		switch {
		case s.yesNo:
			fs.BoolFunc(s.name, usage, s.set)
		case s.list != nil:
			// The first use replaces what the environment said, more add to it.
			first := true
			fs.Func(s.name, usage, func(v string) error {
				if first {
					*s.list, first = nil, false
				}
				return s.set(v)
			})
		default:
			fs.Func(s.name, usage, s.set)
		}
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		problems = append(problems, err)
	}
	if fs.NArg() > 0 {
		problems = append(problems, fmt.Errorf("%q is not a flag", fs.Arg(0)))
	}
	return c, errors.Join(append(problems, c.validate()...)...)
}

func (c *config) validate() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		bad("listen: %q is not host:port", c.Listen)
	}
	switch given := c.TLSCert != "" || c.TLSKey != "" || c.TLSClientCA != "" || len(c.ClientNames) > 0; {
	case c.Insecure && given:
		bad("insecure: cannot be combined with TLS files")
	case c.Insecure && err == nil && !loopback(host):
		bad("insecure: %s is not a loopback address; who reaches this port can delete machines", c.Listen)
	case !c.Insecure:
		for name, v := range map[string]string{"tls-cert": c.TLSCert, "tls-key": c.TLSKey, "tls-client-ca": c.TLSClientCA} {
			if v == "" {
				bad("%s: is required; or --insecure on a loopback address", name)
			}
		}
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			bad("metrics-listen: %q is not host:port", c.MetricsListen)
		}
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		bad("log-format: %q is neither text nor json", c.LogFormat)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, strings.ToLower(c.LogLevel)) {
		bad("log-level: %q is none of debug, info, warn and error", c.LogLevel)
	}
	if c.StoreKey != "" && c.Store == "" {
		bad("store-key: needs --store")
	}
	if !strings.HasSuffix(c.CloudscaleURL, "/") {
		c.CloudscaleURL += "/"
	}
	return problems
}

// loopback says that only this machine can reach a host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

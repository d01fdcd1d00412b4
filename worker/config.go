package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/workflows"
)

// config is what a worker can be told. Every setting is a flag and an
// environment variable (--store is ICHOR_STORE); the flag wins. Temporal's own
// settings come from its environment and profile file, as for the temporal CLI.
type config struct {
	TaskQueue     string
	Store         string
	StoreKey      string
	FactoryURL    string
	CloudscaleURL string
	// InstanceProfile and ControlPlaneProfile are of machines on AWS.
	InstanceProfile     string
	ControlPlaneProfile string
	MetricsListen       string
	OTLPEndpoint        string
	LogFormat           string
	LogLevel            string
	CodecKeys           string
	SecretEnv           string
	SecretFiles         string
	RequestRate         float64
	Activities          int
	Sweep               activities.SweepSettings

	Timing        activities.Timing
	Settle        time.Duration
	AbsenceWindow time.Duration
	CreateTimeout time.Duration
	PostWindow    time.Duration
	CloudPoll     time.Duration
}

// defaultConfig has the values of a real cloud; the reasons are with the types
// that the values go to.
func defaultConfig() config {
	return config{
		TaskQueue: workflows.TaskQueue, FactoryURL: "https://factory.talos.dev", CloudscaleURL: "https://api.cloudscale.ch/",
		MetricsListen: "127.0.0.1:9090", LogFormat: "text", LogLevel: "info", RequestRate: 10, Activities: 200,
		Timing: activities.DefaultTiming(),
		// An orphan costs little for half an hour; a machine that is being made
		// must never be taken for one.
		Sweep: activities.SweepSettings{Mode: activities.SweepReport, Every: 30 * time.Minute, Age: 30 * time.Minute},
	}
}

// setting ties one value to its flag, its variable and its explanation.
type setting struct {
	name, usage string
	set         func(string) error
	show        string
}

func (c *config) settings() []setting {
	t := &c.Timing
	return []setting{
		text("task-queue", &c.TaskQueue, "task queue to work on"),
		text("store", &c.Store, "URL of the encrypted store (default: in the user's data folder)"),
		text("store-key", &c.StoreKey, "URL of the store's key (default: a key file beside a file store)"),
		text("factory-url", &c.FactoryURL, "Image Factory"),
		text("cloudscale-url", &c.CloudscaleURL, "cloudscale.ch API; CLOUDSCALE_API_URL is read too"),
		text("aws-instance-profile", &c.InstanceProfile, "instance profile of machines on AWS; empty for none"),
		text("aws-control-plane-profile", &c.ControlPlaneProfile, "instance profile of control planes on AWS, if another"),
		text("metrics-listen", &c.MetricsListen, "address of /metrics, /healthz and /readyz; empty for none"),
		text("otlp-endpoint", &c.OTLPEndpoint, "where to send OpenTelemetry traces; empty for none"),
		text("log-format", &c.LogFormat, "text or json"),
		text("log-level", &c.LogLevel, "debug, info, warn or error"),
		text("codec-keys", &c.CodecKeys, "references of payload encryption keys, comma-separated, the first encrypts; empty for none"),
		text("secret-env", &c.SecretEnv, "environment variables that specs may refer to, comma-separated; empty for any"),
		text("secret-files", &c.SecretFiles, "folders that specs may refer to files of, comma-separated; empty for any"),
		number("request-rate", &c.RequestRate, "requests per second to one cloud account"),
		whole("activities", &c.Activities, "activities at once"),
		span("heartbeat", &t.Heartbeat, "after how long without a sign of life an activity counts as lost"),
		span("poll", &t.Poll, "time between two looks at nodes"),
		span("backoff", &t.Backoff, "first pause before a refused call is repeated"),
		span("running-deadline", &t.Running, "how long a machine may take to run"),
		span("joined-deadline", &t.Joined, "how long a running machine may take to become a ready node"),
		span("image-deadline", &t.Image, "how long an image import may take"),
		span("bootstrap-deadline", &t.Bootstrap, "how long etcd and the Kubernetes API may take"),
		span("delete-deadline", &t.Delete, "how long the deletion of one resource may take"),
		span("provision-deadline", &t.Provision, "how long a machine that scaling wants may take to become a ready node, replacements included"),
		count("replacements", &t.Replacements, "how often a machine that does not join is replaced within that time"),
		span("group-backoff", &t.GroupBackoff, "first pause of a group that cannot make its machines"),
		span("drain-deadline", &t.Drain, "how long one attempt to drain a node may take"),
		orOff(&t.Reconcile, span("reconcile-interval", &t.Reconcile, "time between two comparisons of a group with the cloud; off for never")),
		count("group-history", &t.HistoryLimit, "events after which a group continues as new; 0 leaves it to the server"),
		ofCloud("settle", &c.Settle, "how long an unanswered create is left alone before looks count"),
		ofCloud("absence-window", &c.AbsenceWindow, "least time between the looks that prove absence"),
		ofCloud("create-timeout", &c.CreateTimeout, "bound of one create call"),
		ofCloud("post-window", &c.PostWindow, "how late in an attempt its create request may still be sent"),
		text("sweep", (*string)(&c.Sweep.Mode), "what to do with machines that no group claims: off, report or delete"),
		span("sweep-every", &c.Sweep.Every, "time between two sweeps of a cluster"),
		span("sweep-age", &c.Sweep.Age, "least age of a machine that may be called an orphan"),
		ofCloud("cloud-poll", &c.CloudPoll, "time between two looks at a cloud resource"),
	}
}

func text(name string, v *string, usage string) setting {
	return setting{name: name, usage: usage, show: *v, set: func(s string) error { *v = s; return nil }}
}

// ofCloud is a span of time that suits the cloud when nobody says another.
func ofCloud(name string, v *time.Duration, usage string) setting {
	return setting{name: name, usage: usage, show: "what suits the cloud", set: positive(v)}
}

func span(name string, v *time.Duration, usage string) setting {
	return setting{name: name, usage: usage, show: v.String(), set: positive(v)}
}

func positive(v *time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is not a positive duration such as 30s", s)
		}
		*v = d
		return nil
	}
}

// orOff lets a duration be switched off.
func orOff(v *time.Duration, s setting) setting {
	set := s.set
	s.set = func(text string) error {
		if text == "0" || text == "off" {
			*v = 0
			return nil
		}
		if err := set(text); err != nil {
			return fmt.Errorf("%w, nor off", err)
		}
		return nil
	}
	return s
}

// count is a whole number from 0.
func count(name string, v *int, usage string) setting {
	return setting{name: name, usage: usage, show: strconv.Itoa(*v), set: func(s string) error {
		i, err := strconv.Atoi(s)
		if err != nil || i < 0 {
			return fmt.Errorf("%q is not a whole number from 0", s)
		}
		*v = i
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

func whole(name string, v *int, usage string) setting {
	return setting{name: name, usage: usage, show: strconv.Itoa(*v), set: func(s string) error {
		i, err := strconv.Atoi(s)
		if err != nil || i <= 0 {
			return fmt.Errorf("%q is not a positive whole number", s)
		}
		*v = i
		return nil
	}}
}

func variable(name string) string {
	return "ICHOR_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// parseConfig reads environment and flags and reports every problem at once.
func parseConfig(args []string, getenv func(string) string, out io.Writer) (config, error) {
	c := defaultConfig()
	var problems []error
	if v := getenv("CLOUDSCALE_API_URL"); v != "" {
		c.CloudscaleURL = v
	}
	fs := flag.NewFlagSet("ichor-worker", flag.ContinueOnError)
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
		fs.Func(s.name, usage, s.set)
	}
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		problems = append(problems, err)
	}
	return c, errors.Join(append(problems, c.validate()...)...)
}

const (
	// maxReplacements: who needs more has another problem than bad luck.
	maxReplacements = 10
	// leastCreateTimeout and mostPostWindow are the shortest and the longest that any
	// cloud has when nobody says.
	leastCreateTimeout = time.Minute
	mostPostWindow     = 20 * time.Second
	// leastHistory leaves a group room to do something between two runs: its
	// first task alone has a dozen events.
	leastHistory = 50
)

func (c *config) validate() []error {
	var problems []error
	if c.LogFormat != "text" && c.LogFormat != "json" {
		problems = append(problems, fmt.Errorf("log-format: %q is neither text nor json", c.LogFormat))
	}
	if m := c.Sweep.Mode; m != activities.SweepOff && m != activities.SweepReport && m != activities.SweepDelete {
		problems = append(problems, fmt.Errorf("sweep: %q is none of off, report and delete", m))
	}
	if !strings.HasSuffix(c.CloudscaleURL, "/") {
		c.CloudscaleURL += "/"
	}
	if c.MetricsListen != "" {
		if _, _, err := net.SplitHostPort(c.MetricsListen); err != nil {
			problems = append(problems, fmt.Errorf("metrics-listen: %q is not host:port", c.MetricsListen))
		}
	}
	if c.Timing.Replacements > maxReplacements {
		problems = append(problems, fmt.Errorf("replacements: %d are too many, the most is %d", c.Timing.Replacements, maxReplacements))
	} else if share := c.Timing.Provision / time.Duration(1+c.Timing.Replacements); share <= c.Timing.Poll {
		problems = append(problems, fmt.Errorf("provision-deadline %s, shared by %d machines, must be longer than poll %s each",
			c.Timing.Provision, 1+c.Timing.Replacements, c.Timing.Poll))
	}
	if h := c.Timing.HistoryLimit; h != 0 && h < leastHistory {
		problems = append(problems, fmt.Errorf("group-history: %d events are too few, the least is %d", h, leastHistory))
	}
	if post, bound := cmp.Or(c.PostWindow, mostPostWindow), cmp.Or(c.CreateTimeout, leastCreateTimeout); post >= bound {
		problems = append(problems, fmt.Errorf("post-window %s must be shorter than create-timeout %s", post, bound))
	}
	return problems
}

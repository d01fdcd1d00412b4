package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/workflows"
)

func TestConfigReportsEveryProblemAtOnce(t *testing.T) {
	env := map[string]string{"ICHOR_POLL": "soon", "ICHOR_LOG_FORMAT": "xml", "ICHOR_SWEEP": "maybe", "ICHOR_REQUEST_RATE": "-1"}
	_, err := parseConfig([]string{"--metrics-listen", "nowhere", "--create-timeout", "5s"}, func(k string) string { return env[k] }, io.Discard)
	if err == nil {
		t.Fatal("bad settings were accepted")
	}
	for _, want := range []string{"ICHOR_POLL", "log-format", "sweep", "ICHOR_REQUEST_RATE", "metrics-listen", "post-window"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
}

func TestFlagWinsOverEnvironment(t *testing.T) {
	env := map[string]string{"ICHOR_POLL": "3s", "ICHOR_SETTLE": "4s", "CLOUDSCALE_API_URL": "http://127.0.0.1:1"}
	c, err := parseConfig([]string{"--poll", "5s"}, func(k string) string { return env[k] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Timing.Poll != 5*time.Second || c.Settle != 4*time.Second || c.CloudscaleURL != "http://127.0.0.1:1/" {
		t.Errorf("poll %s, settle %s, URL %s", c.Timing.Poll, c.Settle, c.CloudscaleURL)
	}
}

func TestScalingSettings(t *testing.T) {
	env := map[string]string{"ICHOR_RECONCILE_INTERVAL": "off", "ICHOR_PROVISION_DEADLINE": "2m", "ICHOR_GROUP_HISTORY": "60"}
	args := []string{"--replacements", "0", "--group-backoff", "10s", "--drain-deadline", "1m"}
	c, err := parseConfig(args, func(k string) string { return env[k] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := activities.DefaultTiming()
	want.Reconcile, want.Provision, want.HistoryLimit = 0, 2*time.Minute, 60
	want.Replacements, want.GroupBackoff, want.Drain = 0, 10*time.Second, time.Minute
	if diff := cmp.Diff(want, c.Timing); diff != "" {
		t.Errorf("timing (-want +got):\n%s", diff)
	}

	for args, name := range map[string]string{
		"--provision-deadline=0":   "provision-deadline",
		"--provision-deadline=3s":  "provision-deadline",
		"--replacements=-1":        "replacements",
		"--replacements=11":        "replacements",
		"--group-backoff=off":      "group-backoff",
		"--drain-deadline=-1s":     "drain-deadline",
		"--reconcile-interval=-5m": "reconcile-interval",
		"--group-history=49":       "group-history",
		"--group-history=-1":       "group-history",
	} {
		_, err := parseConfig([]string{args}, func(string) string { return "" }, io.Discard)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestAWorkerWaitsForTemporal(t *testing.T) {
	refused := errors.New("refused")
	for name, tc := range map[string]struct {
		answers []error
		want    error
	}{
		"starts":     {[]error{serviceerror.NewUnavailable("starting"), serviceerror.NewDeadlineExceeded("slow"), nil}, nil},
		"overloaded": {[]error{fmt.Errorf("list: %w", serviceerror.NewResourceExhausted(0, "busy")), nil}, nil},
		"refuses":    {[]error{serviceerror.NewUnavailable("starting"), refused}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := whileUnavailable(t.Context(), time.Millisecond, slog.New(slog.DiscardHandler), func(context.Context) error {
				calls++
				return tc.answers[calls-1]
			})
			if !errors.Is(err, tc.want) || calls != len(tc.answers) {
				t.Errorf("%d of %d calls, error %v", calls, len(tc.answers), err)
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	err := whileUnavailable(ctx, time.Hour, slog.New(slog.DiscardHandler), func(context.Context) error {
		stop()
		return serviceerror.NewUnavailable("starting")
	})
	if err == nil {
		t.Error("a worker that is told to stop goes on as if Temporal had answered")
	}
}

// A name that is registered twice panics on a real worker only: the test
// environment replaces it silently.
func TestRegistrationOnARealWorker(t *testing.T) {
	c, err := client.NewLazyClient(client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := worker.New(c, workflows.TaskQueue, worker.Options{})
	workflows.Register(w, workflows.Activities{
		Records: &activities.Records{}, Cloud: &activities.Cloud{}, Watch: &activities.Watch{}, Talos: &activities.Talos{},
		Kube: &activities.Kube{}, Sweeps: &activities.Sweeps{}, Locks: &activities.Locks{},
	})
	defer func() {
		if recover() == nil {
			t.Error("a second registration of the same names did not panic")
		}
	}()
	workflows.Register(w, workflows.Activities{
		Records: &activities.Records{}, Cloud: &activities.Cloud{}, Watch: &activities.Watch{}, Talos: &activities.Talos{},
		Kube: &activities.Kube{}, Sweeps: &activities.Sweeps{}, Locks: &activities.Locks{},
	})
}

package main

import (
	"io"
	"strings"
	"testing"
	"time"

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

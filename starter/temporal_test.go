package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// server is a real Temporal server with workflows that speak the language of
// Ichor's, so that every turn of a conversation can be brought about.
type server struct {
	client client.Client
	addr   string
}

var quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

func startServer(t *testing.T) *server {
	t.Helper()
	binary, err := filepath.Abs("../bin/tools/temporal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("%v; build it with: make bin/tools/temporal", err)
	}
	t.Setenv("HOME", t.TempDir()) // the server writes into its user's folders
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(os.Getenv("HOME"), "config"))
	dev, err := testsuite.StartDevServer(t.Context(), testsuite.DevServerOptions{
		ExistingPath: binary, LogLevel: "error", Stdout: io.Discard, Stderr: io.Discard,
		ClientOptions: &client.Options{Logger: quiet},
		ExtraArgs: []string{
			"--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000",
			"--dynamic-config-value", "matching.numTaskqueueReadPartitions=1",
			"--dynamic-config-value", "matching.numTaskqueueWritePartitions=1",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dev.Client().Close()
		if err := dev.Stop(); err != nil {
			t.Errorf("stop Temporal: %v", err)
		}
	})
	return &server{client: dev.Client(), addr: dev.FrontendHostPort()}
}

func (s *server) searchAttributes(t *testing.T) {
	t.Helper()
	attributes := map[string]enumspb.IndexedValueType{}
	for _, k := range []temporal.SearchAttributeKeyKeyword{workflows.AttrCluster, workflows.AttrPhase, workflows.AttrCloud, workflows.AttrKind} {
		attributes[k.GetName()] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
	}
	if _, err := s.client.OperatorService().AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{
		Namespace: client.DefaultNamespace, SearchAttributes: attributes,
	}); err != nil {
		t.Fatal(err)
	}
}

// work runs a worker. Provisioning waits for the signal go, then ends as the
// signal says: "" for success, "cancel" only by cancellation, else a failure.
func (s *server) work(t *testing.T) {
	t.Helper()
	w := worker.New(s.client, workflows.TaskQueue, worker.Options{WorkerStopTimeout: time.Second})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in workflows.ProvisionInput) (workflows.ProvisionResult, error) {
		p := workflows.Progress{
			Cluster: cluster.Ref{Name: in.Metadata.Name, UID: "u1"}, Kind: workflows.TypeProvisionCluster, Phase: cluster.PhaseCreating,
			Steps: []workflows.StepStatus{{Name: "first step", State: workflows.StepDoing, Started: workflow.Now(ctx)}},
		}
		if err := workflow.SetQueryHandler(ctx, workflows.QueryProgress, func() (workflows.Progress, error) { return p, nil }); err != nil {
			return workflows.ProvisionResult{}, err
		}
		resume := workflow.GetSignalChannel(ctx, workflows.SignalResume)
		var how string
		var err error
		workflow.NewSelector(ctx).
			AddReceive(workflow.GetSignalChannel(ctx, "go"), func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, &how) }).
			AddReceive(resume, func(c workflow.ReceiveChannel, _ bool) { c.Receive(ctx, nil) }).
			AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {
				err = temporal.NewCanceledError("everything that was created has been removed")
			}).Select(ctx)
		p.Steps[0].State, p.Steps[0].Ended = workflows.StepDone, workflow.Now(ctx)
		if err == nil && how != "" {
			err = temporal.NewApplicationErrorWithOptions("the account is full", how, temporal.ApplicationErrorOptions{NonRetryable: true})
		}
		return workflows.ProvisionResult{
			Cluster: p.Cluster, Endpoint: "https://198.51.100.1:6443", Nodes: 3, Message: "cluster \"" + in.Metadata.Name + "\" is ready: 3 nodes",
		}, err
	}, workflow.RegisterOptions{Name: workflows.TypeProvisionCluster})
	w.RegisterWorkflowWithOptions(func(_ workflow.Context, in workflows.DeleteInput) (workflows.DeleteResult, error) {
		if in.Name == "unheard-of" {
			return workflows.DeleteResult{}, temporal.NewApplicationErrorWithOptions("there is no such cluster", string(fault.NotFound), temporal.ApplicationErrorOptions{NonRetryable: true})
		}
		return workflows.DeleteResult{Machines: 8, Resources: 1, Message: "cluster \"" + in.Name + "\" is deleted"}, nil
	}, workflow.RegisterOptions{Name: workflows.TypeDeleteCluster})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

// buffer may be read while a command writes.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// command is a running ichor.
type command struct {
	out, err buffer
	stop     context.CancelFunc
	code     chan int
}

func (s *server) ichor(t *testing.T, args ...string) *command {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &command{stop: stop, code: make(chan int, 1)}
	args = append(args, "--address", s.addr)
	go func() { c.code <- run(ctx, args, strings.NewReader(""), &c.out, &c.err) }()
	t.Cleanup(stop)
	return c
}

// wait returns the exit code.
func (c *command) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-c.code:
		return code
	case <-time.After(time.Minute):
		t.Fatalf("the command does not end; output:\n%s%s", c.out.String(), c.err.String())
		return 0
	}
}

// says waits until the output has a text.
func (c *command) says(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(c.out.String()+c.err.String(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the command never says %q; output:\n%s%s", text, c.out.String(), c.err.String())
		}
	}
}

func (c *command) wants(t *testing.T, code int, texts ...string) {
	t.Helper()
	got := c.wait(t)
	all := c.out.String() + c.err.String()
	if got != code {
		t.Errorf("exit code %d, want %d; output:\n%s", got, code, all)
	}
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("the output lacks %q:\n%s", text, all)
		}
	}
}

// specNamed writes a valid spec.
func specNamed(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".yaml")
	doc := `apiVersion: ichor.dev/v1alpha1
kind: Cluster
metadata: {name: ` + name + `}
spec:
  cloud: {provider: cloudscale, zone: lpg1, credentials: "env:TOKEN"}
  talos: {version: v1.13.5}
  kubernetes: {version: v1.36.3}
  network: {cidr: 10.200.0.0/24, adminCIDRs: [192.0.2.0/24]}
  controlPlane: {replicas: 3, flavor: flex-4-2}
  nodeGroups: [{name: a, flavor: flex-4-1, min: 1, max: 2}]
  manifests: [{name: ccm, inline: "{apiVersion: v1, kind: Namespace, metadata: {name: canary-body}}"}]
`
	if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (s *server) signal(t *testing.T, name, how string) {
	t.Helper()
	if err := s.client.SignalWorkflow(t.Context(), cluster.LifecycleID(name), "", "go", how); err != nil {
		t.Fatal(err)
	}
}

// hidesBodies fails when the body of a manifest of specNamed is in the history of a
// cluster's latest run.
func (s *server) hidesBodies(t *testing.T, name string) {
	t.Helper()
	history := s.client.GetWorkflowHistory(t.Context(), cluster.LifecycleID(name), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		e, err := history.Next()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(e.String(), "canary-body") {
			t.Errorf("a body reached Temporal: %s", e.GetEventType())
		}
	}
}

func TestConversationsWithTemporal(t *testing.T) {
	s := startServer(t)
	t.Setenv("ICHOR_STORE", "file://"+filepath.Join(t.TempDir(), "store"))

	t.Run("no worker ever ran", func(t *testing.T) {
		s.ichor(t, "provision", "-f", specNamed(t, "early")).wants(t, exitUnavailable, "does not know Ichor's search attributes; start ichor-worker once")
	})
	s.searchAttributes(t)
	s.work(t)

	t.Run("success, and the lock while it runs", func(t *testing.T) {
		file := specNamed(t, "demo")
		first := s.ichor(t, "provision", "-f", file)
		first.says(t, "first step: doing")
		s.ichor(t, "provision", "-f", file).wants(t, exitConflict, "ProvisionCluster, running since", "holds the lock", "run ", "ichor watch demo")
		watcher := s.ichor(t, "watch", "demo", "-o", "json")
		watcher.says(t, `"state":"doing"`)
		s.ichor(t, "status", "demo").wants(t, exitOK, "ProvisionCluster, running")
		s.signal(t, "demo", "")
		first.wants(t, exitOK, "first step: done", `Cluster "demo" is ready: 3 nodes`, "https://198.51.100.1:6443", "ichor kubeconfig demo")
		watcher.wants(t, exitOK, `"event":"result"`)
		for _, line := range strings.Split(strings.TrimSpace(watcher.out.String()), "\n") {
			if !json.Valid([]byte(line)) {
				t.Errorf("not a line of JSON: %q", line)
			}
		}
		s.ichor(t, "resume", "demo").wants(t, exitNotFound, "nothing runs for it")
	})

	t.Run("what the run looks like in Temporal", func(t *testing.T) {
		d, err := s.client.DescribeWorkflow(t.Context(), cluster.LifecycleID("demo"), "")
		if err != nil {
			t.Fatal(err)
		}
		summary, err := d.GetStaticSummary()
		if err != nil || summary != "demo: 3 control planes and 1 worker on cloudscale lpg1" {
			t.Errorf("summary = %q, %v", summary, err)
		}
		if cloud, ok := d.TypedSearchAttributes.GetKeyword(workflows.AttrCloud); !ok || cloud != "cloudscale" {
			t.Errorf("search attribute of the cloud = %q, %v", cloud, ok)
		}
		s.hidesBodies(t, "demo")
	})

	t.Run("failure has the kind and its exit code", func(t *testing.T) {
		c := s.ichor(t, "provision", "-f", specNamed(t, "full"))
		c.says(t, "first step: doing")
		s.signal(t, "full", string(fault.Quota))
		c.wants(t, exitFailed, "the account is full (Quota)")
		c = s.ichor(t, "provision", "-f", specNamed(t, "other"), "-o", "json")
		c.says(t, `"state":"doing"`)
		s.signal(t, "other", string(fault.Conflict))
		c.wants(t, exitConflict, `"kind":"Conflict"`)
	})

	t.Run("interrupted watching leaves the run alone; delete ends it", func(t *testing.T) {
		c := s.ichor(t, "provision", "-f", specNamed(t, "long"))
		c.says(t, "first step: doing")
		c.stop()
		c.wants(t, exitInterrupted, "the run goes on", "ichor watch long", "ichor delete long")
		l, err := describe(t.Context(), s.client, "long")
		if err != nil || l == nil || !l.Running {
			t.Fatalf("the run has ended: %+v, %v", l, err)
		}
		s.ichor(t, "delete", "long").wants(t, exitOK,
			"ProvisionCluster is under way", "everything that was created has been removed", `Cluster "long" is deleted (8 machines, 1 resource)`)
		if l, err = describe(t.Context(), s.client, "long"); err != nil || l.Type != workflows.TypeDeleteCluster {
			t.Errorf("the last run is %+v, %v; want a deletion", l, err)
		}
	})

	t.Run("resume reaches the run", func(t *testing.T) {
		c := s.ichor(t, "provision", "-f", specNamed(t, "parked"), "--detach")
		c.wants(t, exitOK, "ichor watch parked")
		s.ichor(t, "resume", "parked").wants(t, exitOK, "Told 1 run to go on")
		w := s.ichor(t, "watch", "parked")
		if code := w.wait(t); code != exitOK && code != exitNotFound { // it may have ended already, and this worker writes no record
			t.Errorf("exit code %d: %s", code, w.err.String())
		}
	})

	t.Run("deleting what never was", func(t *testing.T) {
		s.ichor(t, "delete", "unheard-of").wants(t, exitNotFound, "there is no such cluster (NotFound)")
	})

	t.Run("terminated from outside", func(t *testing.T) {
		c := s.ichor(t, "provision", "-f", specNamed(t, "killed"))
		c.says(t, "first step: doing")
		if err := s.client.TerminateWorkflow(t.Context(), cluster.LifecycleID("killed"), "", "test"); err != nil {
			t.Fatal(err)
		}
		c.wants(t, exitFailed, "was terminated from outside, so nothing was undone")
	})
}

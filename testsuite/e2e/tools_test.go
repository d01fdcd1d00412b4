package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// published is what `ichor spec publish` prints, in a file.
func (s *system) published(c cluster.Cluster) string {
	s.t.Helper()
	r := s.ichor(codeOK, nil, "spec", "publish", "-f", s.write(c))
	return s.file(r.Stdout)
}

func (s *system) file(content string) string {
	s.t.Helper()
	f, err := os.CreateTemp(s.dir, "input-*.json")
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	return f.Name()
}

// temporalStart and tctlStart are how people start a workflow without Ichor's
// own command line; without an id the tools choose one.
func (s *system) temporalStart(id, input string) stack.Result {
	s.t.Helper()
	args := []string{
		"workflow", "start", "--address", s.TemporalAddress, "--type", workflows.TypeProvisionCluster,
		"--task-queue", workflows.TaskQueue, "--input-file", input,
	}
	if id != "" {
		args = append(args, "--workflow-id", id, "--fail-existing")
	}
	return s.tool("temporal", args...)
}

func (s *system) tctlStart(id, input string) stack.Result {
	s.t.Helper()
	args := []string{
		"--address", s.TemporalAddress, "workflow", "start", "--workflow_type", workflows.TypeProvisionCluster,
		"--taskqueue", workflows.TaskQueue, "--execution_timeout", "3600", "--input_file", input,
	}
	if id != "" {
		args = append(args, "--workflow_id", id)
	}
	return s.tool("tctl", args...)
}

func (s *system) tool(name string, args ...string) stack.Result {
	s.t.Helper()
	r, err := s.Tool(s.t.Context(), nil, name, args...)
	if err != nil {
		s.t.Fatalf("%s %v: %v %s", name, args, err, r)
	}
	return r
}

// runError waits for the end of the run that a tool has started, by the id in
// the tool's answer, and returns its error.
func (s *system) runError(id, run string) error {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	return s.temporal.GetWorkflow(ctx, id, run).Get(ctx, nil)
}

// startedRun reads the workflow id and run id that both tools print.
func startedRun(t *testing.T, r stack.Result) (id, run string) {
	t.Helper()
	for line := range strings.Lines(r.Stdout + r.Stderr) {
		words := strings.Fields(strings.NewReplacer(",", " ", ":", " ").Replace(line))
		for i := 0; i+1 < len(words); i++ {
			switch strings.ToLower(words[i]) {
			case "workflowid":
				id = words[i+1]
			case "runid":
				run = words[i+1]
			case "id": // tctl: "Started Workflow Id: x, run Id: y"
				if id == "" {
					id = words[i+1]
				} else {
					run = words[i+1]
				}
			}
		}
	}
	if id == "" || run == "" {
		t.Fatalf("no ids in: %s", r)
	}
	return id, run
}

// TestStartedByOtherTools starts what `ichor spec publish` prints with temporal
// and with tctl.
func TestStartedByOtherTools(t *testing.T) {
	s := start(t, nil)
	tools := []struct {
		name  string
		start func(s *system, id, input string) stack.Result
	}{
		{"temporal", (*system).temporalStart},
		{"tctl", (*system).tctlStart},
	}
	for _, tool := range tools {
		t.Run(tool.name, func(t *testing.T) {
			s, name := s.on(t), "by-"+tool.name
			input := s.published(s.spec(name))
			before, err := s.Requests(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			refused := func(id, input string, texts ...string) {
				t.Helper()
				r := tool.start(s, id, input)
				if r.Code != 0 {
					t.Fatalf("%s: %s", tool.name, r)
				}
				err := s.runError(startedRun(t, r))
				if err == nil {
					t.Fatalf("the run under id %q succeeded", id)
				}
				for _, text := range append(texts, "type: Invalid") {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("the error lacks %q: %v", text, err)
					}
				}
			}
			right := "--workflow-id " + cluster.LifecycleID(name)
			refused("", input, "othing was done", right)
			refused("some/other/id", input, "othing was done", right)

			const value = "value-of-an-inline-body"
			for field, change := range map[string]func(c *cluster.Cluster, s cluster.Source){
				"spec.manifests[0]":             func(c *cluster.Cluster, s cluster.Source) { c.Spec.Manifests[0].Source = s },
				"spec.talos.patches[0]":         func(c *cluster.Cluster, s cluster.Source) { c.Spec.Talos.Patches = []cluster.Source{s} },
				"spec.nodeGroups[0].patches[0]": func(c *cluster.Cluster, s cluster.Source) { c.Spec.NodeGroups[0].Patches = []cluster.Source{s} },
			} {
				c := s.spec("inline-" + tool.name)
				c.Spec.Manifests = c.Spec.Manifests[:1:1]
				c.Spec.Manifests[0].Source = cluster.Source{Ref: cluster.BodyPrefix(c.Metadata.Name) + strings.Repeat("0", 64), SHA256: strings.Repeat("0", 64)}
				change(&c, cluster.Source{Inline: value})
				raw, err := os.ReadFile(s.write(c))
				if err != nil {
					t.Fatal(err)
				}
				r := tool.start(s, cluster.LifecycleID(c.Metadata.Name), s.file(string(raw)))
				err = s.runError(startedRun(t, r))
				if err == nil || !strings.Contains(err.Error(), "type: Invalid") || !strings.Contains(err.Error(), field) {
					t.Errorf("an inline body at %s: %v", field, err)
				} else if strings.Contains(err.Error(), value) {
					t.Errorf("the error repeats the inline body at %s: %v", field, err)
				}
			}
			after, err := s.Requests(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if before != after {
				t.Errorf("refused starts made %d requests to the cloud", after-before)
			}

			r := tool.start(s, cluster.LifecycleID(name), input)
			id, run := startedRun(t, r)
			// While it runs, every other start is told who holds the lock.
			s.ichor(codeConflict, []string{"holds the lock", run, "ichor watch " + name}, "provision", "-f", s.write(s.spec(name)))
			if again := s.temporalStart(cluster.LifecycleID(name), input); again.Code == 0 {
				t.Errorf("temporal started a second run: %s", again)
			} else if !strings.Contains(again.Stdout+again.Stderr, run) {
				t.Errorf("the refusal does not name the run %s: %s", run, again)
			}
			refused("", input, "othing was done", right, run)
			if err := s.runError(id, run); err != nil {
				t.Fatalf("provisioning by %s: %v", tool.name, err)
			}
			s.wantNodes(name, 2)

			// Of a live cluster, another spec is refused at once by the workflow, too.
			other := s.spec(name)
			two := 2
			other.Spec.NodeGroups[0].Count = &two
			err = s.runError(startedRun(t, tool.start(s, cluster.LifecycleID(name), s.published(other))))
			if err == nil || !strings.Contains(err.Error(), "type: Conflict") || !strings.Contains(err.Error(), "another spec") {
				t.Errorf("another spec: %v", err)
			}
			s.ichor(codeOK, nil, "delete", name)
			s.wantEmpty()
		})
	}
}

// TestTwoProvisionsAtOnce starts one cluster twice at the same moment.
func TestTwoProvisionsAtOnce(t *testing.T) {
	s := start(t, nil)
	file := s.write(s.spec("twice"))
	a, b := s.background("provision", "-f", file), s.background("provision", "-f", file)
	var winner, loser stack.Result
	if first := <-a; first.Code == codeOK {
		winner, loser = first, <-b
	} else {
		winner, loser = <-b, first
	}
	s.judge(winner, codeOK, []string{`Cluster "twice" is ready: 2 nodes`}, "the first")
	s.judge(loser, codeConflict, []string{"holds the lock", cluster.LifecycleID("twice"), "ichor watch twice"}, "the second")
	history := s.tool("temporal", "workflow", "list", "--address", s.TemporalAddress, "--query", fmt.Sprintf("WorkflowId = %q", cluster.LifecycleID("twice")), "-o", "json")
	run := history.Stdout
	if i := strings.Index(run, `"runId": "`); i < 0 {
		t.Errorf("no run in %s", history)
	} else if id := run[i+len(`"runId": "`):]; !strings.Contains(loser.Stderr, id[:strings.Index(id, `"`)]) {
		t.Errorf("the refusal does not name the run: %s\nruns: %s", loser, history)
	}
	if a := s.account(); len(a.Machines()) != 2 || len(a.Kind(stack.LoadBalancers)) != 1 || len(a.Kind(stack.Images)) != 1 {
		t.Errorf("want 2 machines, 1 load balancer, 1 image: %s", a)
	}
	s.ichor(codeOK, nil, "delete", "twice")
	s.wantEmpty()
}

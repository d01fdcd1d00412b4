package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/workflows"
)

func TestUpgrading(t *testing.T) {
	s := startServer(t)
	s.searchAttributes(t)
	s.upgradeWorker(t)
	file := specNamed(t, "demo")
	recorded(t, file, "silent", "refused")

	t.Run("the plan, as a table and as JSON", func(t *testing.T) {
		s.ichor(t, "upgrade", "demo", "--talos", "1.14.1", "--plan").wants(t, exitOK,
			"Upgrade of cluster demo, which runs Talos v1.13.5, schematic aaaaaaaaaaaa, Kubernetes v1.36.3",
			"1    Talos v1.13.5 to v1.14.1 with schematic bbbbbbbbbbbb  3      3       Talos first",
			"2    Kubernetes v1.36.3 to v1.37.0", "demo-cp-aaaa0", "Unchanged: demo-a-zzzzz", "snapshots: the last one is old", "Nothing was changed.")
		c := s.ichor(t, "upgrade", "demo", "--plan", "-o", "json")
		c.wants(t, exitOK)
		var r workflows.UpgradeResult
		if err := json.Unmarshal([]byte(c.out.String()), &r); err != nil || len(r.Plan.Legs) != 2 || r.To != newVersions {
			t.Errorf("%+v, %v", r, err)
		}
	})

	t.Run("a plan that is refused has its own exit code and everything that is known", func(t *testing.T) {
		s.ichor(t, "upgrade", "refused", "--plan").wants(t, exitConflict,
			"2    Kubernetes v1.36.3", "In the way:", "refused-a-aaaa1: nothing is known of it", "1 thing in the way; nothing was changed (Unsafe)")
		s.ichor(t, "upgrade", "refused").wants(t, exitConflict, "In the way:", "refused-a-aaaa1: nothing is known of it", "that cannot be (Unsafe)")
		s.ichor(t, "upgrade", "silent", "--plan", "-o", "json").wants(t, exitConflict, `"reason": "nothing is known of it`, `"kind":"Unsafe"`)
	})

	t.Run("drift, node by node", func(t *testing.T) {
		c := s.ichor(t, "status", "demo", "--drift")
		c.wants(t, exitOK, "The record of cluster demo says: Talos v1.13.5, Kubernetes v1.36.3", "ok 1234567890ab")
		c = s.ichor(t, "status", "silent", "--drift")
		c.wants(t, exitFailed, "not seen: it does not answer", "drifted 1234567890ab", "2 of 3 nodes differ", "ichor upgrade silent")
		c = s.ichor(t, "status", "silent", "--drift", "-o", "json")
		c.wants(t, exitFailed)
		var d drift
		if err := json.Unmarshal([]byte(c.out.String()), &d); err != nil || d.Drifted != 2 || len(d.Nodes) != 3 || !cmp.Equal(d.Nodes[2].Differs, []string{"config"}) {
			t.Errorf("%+v, %v", d, err)
		}
	})

	t.Run("what is asked for reaches the workflow, and no document does", func(t *testing.T) {
		strategy := filepath.Join(t.TempDir(), "s.yaml")
		if err := os.WriteFile(strategy, []byte("maxUnavailable: 10%\ncanary: true\nsoak: 5m\ngates: [{name: shop, url: 'https://shop.example/healthz'}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.ichor(t, "upgrade", "demo", "-f", file, "--talos", "v1.14.1", "--kubernetes", "1.37.0", "--extensions", "a/b,c/d",
			"--strategy", strategy, "--max-unavailable", "2", "--window", "sat,sun 22:00 6h", "--window", "03:00 1h", "--detach").
			wants(t, exitOK, "Started cluster/demo/lifecycle", "ichor watch demo")
		v, err := s.client.QueryWorkflow(t.Context(), cluster.LifecycleID("demo"), "", queryInput)
		if err != nil {
			t.Fatal(err)
		}
		var in workflows.UpgradeInput
		if err := v.Get(&in); err != nil {
			t.Fatal(err)
		}
		if in.Spec == nil || in.Spec.Manifests[0].Ref == "" || in.Spec.Manifests[0].Inline != "" {
			t.Errorf("the spec: %+v", in.Spec)
		}
		if in.TalosVersion != "v1.14.1" || in.KubernetesVersion != "v1.37.0" || !cmp.Equal(in.Extensions, []string{"a/b", "c/d"}) || in.PlanOnly {
			t.Errorf("the change: %+v", in.UpgradeChange)
		}
		want := plan.UpgradeStrategy{
			MaxUnavailable: "2", Canary: true, Soak: cluster.Duration(5 * time.Minute),
			Gates: []plan.Gate{{Name: "shop", URL: "https://shop.example/healthz"}},
			Windows: []plan.Window{
				{Days: []string{"sat", "sun"}, Start: "22:00", Length: cluster.Duration(6 * time.Hour)},
				{Start: "03:00", Length: cluster.Duration(time.Hour)},
			},
		}
		if diff := cmp.Diff(want, in.Strategy); diff != "" {
			t.Errorf("the strategy (-want +got):\n%s", diff)
		}
		s.hidesBodies(t, "demo")
		d, err := s.client.DescribeWorkflow(t.Context(), cluster.LifecycleID("demo"), "")
		if err != nil {
			t.Fatal(err)
		}
		if title, err := d.GetStaticSummary(); err != nil || title != "demo: upgrade to the given spec, Talos v1.14.1, extensions a/b, c/d, Kubernetes v1.37.0" {
			t.Errorf("summary %q, %v", title, err)
		}
	})

	// From here on the upgrade of before goes on.
	t.Run("only one run at a time", func(t *testing.T) {
		s.ichor(t, "upgrade", "demo").wants(t, exitConflict, "RollingUpgrade, running since", "holds the lock", "run ", "ichor watch demo")
		s.ichor(t, "upgrade", "demo", "--plan").wants(t, exitConflict, "holds the lock")
		s.ichor(t, "status", "demo", "--drift").wants(t, exitConflict, "RollingUpgrade, running since", "ichor status demo")
		s.ichor(t, "status", "demo").wants(t, exitOK, "ready, upgrading", "RollingUpgrade, running", "Upgrade: nothing was changed yet", "2    Kubernetes v1.36.3 to v1.37.0")
	})

	t.Run("watched, paused, parked, approved, through a new run, to its end", func(t *testing.T) {
		c := s.ichor(t, "watch", "demo")
		machine := s.ichor(t, "watch", "demo", "-o", "json")
		c.says(t, "leg 1: doing")
		s.rolls(t, "demo", rolling("demo", plan.RollDone, plan.RollRunning, plan.RollPending))
		c.says(t, "leg 1: doing: 1 of 3 done, 1 at work")
		c.says(t, "node demo-a-aaaa1: running")

		s.ichor(t, "pause", "demo", "--reason", "lunch", "--request-id", "r1").wants(t, exitOK, "demo: pause it is")
		c.says(t, "parked: paused: nodes at work are finished, no other is begun; go on with: ichor resume demo")
		s.ichor(t, "pause", "demo").wants(t, exitConflict, "demo: pause: the upgrade is paused already (Conflict)")
		s.ichor(t, "status", "demo").wants(t, exitOK, "Paused: nodes at work are finished", "Note: pause by r1: lunch")
		s.ichor(t, "resume", "demo", "-o", "json").wants(t, exitOK, `"upgrade": "resume it is"`)
		s.ichor(t, "resume", "demo").wants(t, exitConflict, "neither paused nor parked (Conflict)")
		c.says(t, "resumed")

		parked := rolling("demo", plan.RollDone, plan.RollRunning, plan.RollFailed)
		parked.Nodes[1].Parked, parked.Nodes[1].Note, parked.Parked = true, "drain: a budget allows none", "demo-a-aaaa1: drain: a budget allows none"
		s.rolls(t, "demo", parked)
		c.says(t, "node demo-a-aaaa1: parked: drain: a budget allows none")
		c.says(t, "parked: demo-a-aaaa1: drain: a budget allows none")
		s.ichor(t, "status", "demo").wants(t, exitOK, "leg 1 of 2, Talos v1.13.5 to v1.14.1", "1 of 3 done, 1 parked, 1 failed",
			"Parked: demo-a-aaaa1: drain", "ichor resume demo", "ichor skip-node demo NODE", "ichor cancel demo")
		s.ichor(t, "skip-node", "demo", "nobody").wants(t, exitInvalid, `there is no node "nobody" (Invalid)`)
		s.ichor(t, "skip-node", "demo", "demo-a-aaaa1").wants(t, exitOK, "demo: demo-a-aaaa1 is left out")

		s.ichor(t, "approve", "demo").wants(t, exitConflict, "nothing waits for an approval (Conflict)")
		asks := rolling("demo", plan.RollDone, plan.RollSkipped, plan.RollPending)
		asks.Asks, asks.Waits, asks.Until = "talos on demo-a-aaaa2", "waits for the maintenance window", time.Date(2026, 1, 3, 22, 0, 0, 0, time.UTC)
		s.rolls(t, "demo", asks)
		c.says(t, "asks for approval of talos on demo-a-aaaa2; give it with: ichor approve demo")
		c.says(t, "1 of 3 done, 1 left out; waits for the maintenance window until 2026-01-03 22:00 UTC")
		s.ichor(t, "status", "demo", "-o", "json").wants(t, exitOK, `"asks": "talos on demo-a-aaaa2"`)
		s.ichor(t, "approve", "demo", "demo-a-aaaa2").wants(t, exitOK, "demo: approved: talos on demo-a-aaaa2")

		s.renewed(t, "demo")
		s.rolls(t, "demo", rolling("demo", plan.RollDone, plan.RollDone, plan.RollDone))
		c.says(t, "leg 1: doing: 3 of 3 done")
		s.signal(t, "demo", "")
		c.wants(t, exitOK, `Cluster "demo": 3 nodes were upgraded`, "runs:    Talos v1.14.1", "ichor status demo --drift")
		machine.wants(t, exitOK, `"event":"parked"`, `"event":"result"`)
		if strings.Contains(c.out.String(), "a machine") {
			t.Errorf("machines are shown instead of the roll:\n%s", c.out.String())
		}
		s.ichor(t, "status", "demo").wants(t, exitOK, "RollingUpgrade, completed", "Last upgrade", "3 nodes were upgraded")
		s.ichor(t, "upgrade", "demo", "--plan").wants(t, exitOK)
		until(t, "the report of the last upgrade outlives a plan", func() bool { // lists lag behind
			c := s.ichor(t, "status", "demo")
			return c.wait(t) == exitOK && strings.Contains(c.out.String(), "3 nodes were upgraded")
		})
		for _, op := range []string{"pause", "approve", "cancel"} {
			s.ichor(t, op, "demo").wants(t, exitNotFound)
		}
		s.ichor(t, "skip-node", "demo", "x").wants(t, exitNotFound, "no upgrade of it runs")
	})

	t.Run("followed, interrupted, cancelled with its report", func(t *testing.T) {
		c := s.ichor(t, "upgrade", "demo", "--no-extensions")
		c.says(t, "leg 1: doing")
		c.stop()
		c.wants(t, exitInterrupted, "the run goes on", "ichor watch demo", "ichor cancel demo")
		if strings.Contains(c.err.String(), "delete") {
			t.Errorf("who stops watching an upgrade is told to delete the cluster: %s", c.err.String())
		}
		s.ichor(t, "cancel", "demo").wants(t, exitOK, "Canceling RollingUpgrade", "one that was is seen through", "Canceled: 1 nodes were upgraded; not done: demo-a-aaaa1")
		s.ichor(t, "status", "demo").wants(t, exitOK, "RollingUpgrade, canceled", "not done: demo-a-aaaa1")

		c = s.ichor(t, "upgrade", "demo")
		c.says(t, "leg 1: doing")
		s.ichor(t, "cancel", "demo", "--detach", "-o", "json").wants(t, exitOK, `"type": "RollingUpgrade"`)
		c.wants(t, exitFailed, "canceled: 1 nodes were upgraded")
	})

	t.Run("failure has the kind and its exit code", func(t *testing.T) {
		c := s.ichor(t, "upgrade", "demo")
		c.says(t, "leg 1: doing")
		s.signal(t, "demo", string(fault.Unsafe))
		c.wants(t, exitConflict, "it went wrong (Unsafe)")
	})

	t.Run("the commands of the reference work as they are", s.documented)

	t.Run("other runs are not told what only an upgrade understands", func(t *testing.T) {
		if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
			ID: cluster.LifecycleID("refused"), TaskQueue: workflows.TaskQueue,
		}, workflows.TypeProvisionCluster); err != nil {
			t.Fatal(err)
		}
		s.ichor(t, "pause", "refused").wants(t, exitConflict, "ProvisionCluster runs (run ", "only an upgrade can be told that")
		s.ichor(t, "upgrade", "refused").wants(t, exitConflict, "ProvisionCluster, running since")
		s.ichor(t, "resume", "refused", "--reason", "x").wants(t, exitUsage, "--reason goes with CLUSTER/GROUP or a running upgrade only")
		s.ichor(t, "resume", "refused").wants(t, exitOK, "Told 1 run to go on")
	})
}

// documented runs what the reference tells users of temporal and
// tctl to type.
func (s *server) documented(t *testing.T) {
	t.Helper()
	doc, err := os.ReadFile("../docs/reference/workflows.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## RollingUpgrade\n")
	section, _, _ = strings.Cut(section, "\n## ")
	tools, err := filepath.Abs("../bin/tools")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(section, -1) {
		for _, line := range strings.Split(strings.TrimSpace(strings.ReplaceAll(block[1], "\\\n", " ")), "\n") {
			if line == "" {
				continue
			}
			ran++
			s.ready(t, strings.Contains(line, "workflow start") || strings.Contains(line, "workflow execute"))
			c := exec.CommandContext(t.Context(), "sh", "-c", line)
			c.Env = append(os.Environ(), "PATH="+tools+":"+os.Getenv("PATH"), "TEMPORAL_ADDRESS="+s.addr, "TEMPORAL_CLI_ADDRESS="+s.addr)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%s\n%v\n%s", line, err, out)
				continue
			}
			if strings.Contains(line, "workflow start") {
				v, err := s.client.QueryWorkflow(t.Context(), cluster.LifecycleID("demo"), "", queryInput)
				if err != nil {
					t.Fatal(err)
				}
				var in workflows.UpgradeInput
				if err := v.Get(&in); err != nil || in.Cluster != "demo" || in.TalosVersion != "v1.14.1" {
					t.Errorf("%s\narrived as %+v, %v", line, in, err)
				}
			}
		}
	}
	if ran < 10 {
		t.Errorf("only %d commands were found", ran)
	}
}

// ready leaves nothing running for demo, or an upgrade to which every request
// makes sense.
func (s *server) ready(t *testing.T, nothing bool) {
	t.Helper()
	id := cluster.LifecycleID("demo")
	if l, err := describe(t.Context(), s.client, "demo"); err != nil {
		t.Fatal(err)
	} else if l != nil && l.Running {
		if err := s.client.TerminateWorkflow(t.Context(), id, "", "next"); err != nil && !ended(err) {
			t.Fatal(err)
		}
	}
	if nothing {
		return
	}
	if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue},
		workflows.TypeRollingUpgrade, workflows.UpgradeInput{Cluster: "demo"}); err != nil {
		t.Fatal(err)
	}
	status := rolling("demo", plan.RollDone, plan.RollRunning, plan.RollPending)
	status.Asks, status.Parked, status.Nodes[1].Name = "something", "something", "demo-worker-k3vxa"
	s.rolls(t, "demo", status)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		now, err := upgradeOf(t.Context(), s.client, "demo", "")
		if err == nil && now.Asks != "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it never asks: %+v, %v", now, err)
		}
	}
}

// TestDocumentedInputs reads the JSON and YAML of the reference as strictly as
// workflow and command line do.
func TestDocumentedInputs(t *testing.T) {
	doc, err := os.ReadFile("../docs/reference/workflows.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## RollingUpgrade\n")
	block := func(kind string) string {
		_, text, _ := strings.Cut(section, "\n```"+kind+"\n")
		text, _, _ = strings.Cut(text, "\n```")
		return text
	}
	type plain workflows.UpgradeInput // strict by itself: no decoder of its own
	var in plain
	dec := json.NewDecoder(strings.NewReader(block("json")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil || in.Cluster != "demo" || len(in.Extensions) != 2 {
		t.Errorf("the documented input: %+v, %v", in, err)
	}
	var strategy plan.UpgradeStrategy
	if _, err := cluster.DecodeInto([]byte(block("yaml")), &strategy); err != nil || len(strategy.Gates) != 2 {
		t.Errorf("the documented strategy: %+v, %v", strategy, err)
	}
	for _, s := range []plan.UpgradeStrategy{in.Strategy, strategy} {
		if refused := plan.CheckStrategy(s, []string{"database"}); len(refused) > 0 {
			t.Errorf("a documented strategy is refused: %v", refused)
		}
	}
	// Every field is in the table.
	for _, typ := range []reflect.Type{reflect.TypeFor[plan.UpgradeStrategy](), reflect.TypeFor[plan.GroupStrategy](), reflect.TypeFor[plan.Window](), reflect.TypeFor[plan.Gate]()} {
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			if !strings.Contains(section, "`"+name+"`") && !strings.Contains(section, "`"+name+"[]`") {
				t.Errorf("the reference does not explain %s of %s", name, typ.Name())
			}
		}
	}
}

func TestTheExampleOfAStrategy(t *testing.T) {
	recorded(t, specNamed(t, "demo"))
	_, errOut := ichor(t, exitUnavailable, "upgrade", "demo", "--talos", "v1.14.1", "--strategy", "../examples/upgrade/careful.yaml")
	wantText(t, errOut, "reach Temporal at 127.0.0.1:1") // so it was read and found good
}

func TestUpgradesOfUnknownClustersAskNobody(t *testing.T) {
	recorded(t, specNamed(t, "demo"))
	_, errOut := ichor(t, exitNotFound, "upgrade", "other", "--talos", "v1.14.1")
	wantText(t, errOut, "no such cluster; ichor list shows those it has")
	_, errOut = ichor(t, exitNotFound, "status", "other", "--drift")
	wantText(t, errOut, "no such cluster")
	_, errOut = ichor(t, exitUnavailable, "upgrade", "demo", "--talos", "v1.14.1")
	wantText(t, errOut, "reach Temporal at 127.0.0.1:1")
	_, errOut = ichor(t, exitUsage, "upgrade", "demo", "-f", specNamed(t, "other"))
	wantText(t, errOut, `is the spec of cluster "other", not of "demo"`)
}

func TestStrategiesAreJudgedAsAWhole(t *testing.T) {
	recorded(t, specNamed(t, "demo"))
	file := filepath.Join(t.TempDir(), "s.yaml")
	write := func(doc string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("maxUnavailable: none\nsoak: 5m\ngroups:\n- group: nobody\nwindows:\n- start: 25:00\n  length: 1h\n")
	_, errOut := ichor(t, exitInvalid, "upgrade", "demo", "--strategy", file, "--approve", "all")
	wantText(t, errOut, "s.yaml is not valid", "maxUnavailable (line 1): must be a number", "soak (line 2): needs canary", `groups[0].group (line 4): the cluster has no group "nobody"`,
		"windows[0].start (line 6): must be a time", "approve: must be leg or node")
	write("maxUnavailble: 1\ncanary: maybe\n")
	_, errOut = ichor(t, exitInvalid, "upgrade", "demo", "--strategy", file)
	wantText(t, errOut, "maxUnavailble (line 1): unknown field", "canary (line 2): must be true or false")
	_, errOut = ichor(t, exitInvalid, "upgrade", "demo", "--failure-budget", "-1", "--soak", "1m", "-o", "json")
	wantText(t, errOut, `"error":"the strategy is not valid"`, `"field":"failureBudget"`, `"field":"soak"`)
}

func TestPhasesOfARollFitTheFrame(t *testing.T) {
	s := rolling("demo", plan.RollDone, plan.RollRunning, plan.RollPending)
	s.Nodes[0].Ended, s.Nodes[1].Began, s.Nodes[1].Parked, s.Nodes[1].Note = at(30), at(31), true, "drain: shop/web-1 may not be evicted"
	s.Parked = "demo-a-aaaa1: " + s.Nodes[1].Note
	p := workflows.Progress{
		Kind: workflows.TypeRollingUpgrade,
		Steps: []workflows.StepStatus{
			{Name: "pre-flight", State: workflows.StepDone, Started: at(0), Ended: at(3), Detail: "0 warnings"},
			{Name: "leg 1: Talos v1.13.5 to v1.14.1", State: workflows.StepDoing, Started: at(3)},
			{Name: "leg 2: Kubernetes v1.36.3 to v1.37.0", State: workflows.StepPending},
		},
	}
	f := frame{title: "RollingUpgrade demo", progress: rollProgress(p, s, "demo"), start: t0, now: at(75), width: 110, height: 40}
	golden(t, "frame-upgrade.golden", strings.Join(f.render(), "\n")+"\n")
}

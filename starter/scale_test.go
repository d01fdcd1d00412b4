package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/workflows"
)

func TestScaling(t *testing.T) {
	s := startServer(t)
	t.Setenv("ICHOR_STORE", "file://"+filepath.Join(t.TempDir(), "store"))
	s.ichor(t, "groups").wants(t, exitUnavailable, "does not know Ichor's search attributes; start ichor-worker once")
	s.searchAttributes(t)
	w := s.groupWorker(t)
	running := true
	t.Cleanup(func() {
		if running {
			w.Stop()
		}
	})
	s.group(t, workerGroup("demo", "worker", 2))
	s.group(t, workerGroup("demo", "other", 1))
	s.group(t, workerGroup("prod", "worker", 1))

	t.Run("asked, answered", func(t *testing.T) {
		c := s.ichor(t, "scale", "demo/worker", "--to", "4", "--reason", "more load")
		c.wants(t, exitOK, "demo/worker: set-target: the target is 4 (request cli-")
		c = s.ichor(t, "scale", "demo/worker", "--by", "+1", "-o", "json")
		c.wants(t, exitOK)
		var res workflows.ScaleResult
		if err := json.Unmarshal([]byte(c.out.String()), &res); err != nil || !res.Accepted || res.Target != 5 || res.Op != workflows.SignalIncreaseSize {
			t.Errorf("result %+v, %v", res, err)
		}
		s.ichor(t, "scale", "demo/worker", "--delete", "demo-worker-aaaa0").wants(t, exitOK, "the target is 4")
	})

	t.Run("one id counts once, also in another run of the group", func(t *testing.T) {
		for range 2 {
			s.ichor(t, "scale", "demo/other", "--by", "1", "--request-id", "r-1").wants(t, exitOK, "the target is 2 (request r-1)")
		}
		if err := s.client.SignalWorkflow(t.Context(), cluster.GroupID("demo", "other"), "", "forget", nil); err != nil {
			t.Fatal(err)
		}
		s.ichor(t, "scale", "demo/other", "--by", "1", "--request-id", "r-1").wants(t, exitOK, "the target is 2 (request r-1)")
	})

	t.Run("refused, with the reason", func(t *testing.T) {
		s.ichor(t, "scale", "demo/worker", "--to", "9").wants(t, exitInvalid, "demo/worker: target 9 is above max 5 (Invalid)")
		s.ichor(t, "scale", "demo/worker", "--to", "9", "-o", "json").wants(t, exitInvalid, `"kind":"Invalid"`)
		s.ichor(t, "scale", "demo/worker", "--delete", "nobody").wants(t, exitInvalid, "no member nobody")
		s.ichor(t, "scale", "demo/worker", "--by", "4").wants(t, exitConflict, "increase-size: the target is 4 (Conflict)")
		s.ichor(t, "scale", "demo/unheard-of", "--to", "1").wants(t, exitNotFound, "no such group runs; ichor groups lists those that do")
		s.ichor(t, "group", "demo/unheard-of").wants(t, exitNotFound, "no such group runs")
		s.ichor(t, "pause", "demo/worker", "--reason", "kernel trouble").wants(t, exitOK, "demo/worker: pause")
		s.ichor(t, "scale", "demo/worker", "--to", "3").wants(t, exitConflict, "paused: kernel trouble (Conflict)")
		s.ichor(t, "groups", "demo").wants(t, exitOK, "paused since", "(kernel trouble)")
		s.ichor(t, "resume", "demo/worker").wants(t, exitOK, "demo/worker: resume")
		s.ichor(t, "scale", "demo/worker", "--to", "3").wants(t, exitOK, "the target is 3")
	})

	t.Run("shown until it is done", func(t *testing.T) {
		s.become(t, "demo/worker", 1, member("demo-worker-aaaa1", workflows.MemberReady, nil))
		c := s.ichor(t, "scale", "demo/worker", "--to", "2", "--wait")
		c.says(t, "set-target: doing: 1 of 2 ready")
		s.become(t, "demo/worker", 2, member("demo-worker-aaaa1", workflows.MemberReady, nil), member("demo-worker-bbbbb", workflows.MemberBooting, nil))
		c.says(t, "node demo-worker-bbbbb: booting")
		s.become(t, "demo/worker", 2, member("demo-worker-aaaa1", workflows.MemberReady, nil), member("demo-worker-bbbbb", workflows.MemberReady, nil))
		c.wants(t, exitOK, "node demo-worker-bbbbb: ready", "demo/worker: 2 of 2 ready.")
		if strings.Contains(c.out.String(), "aaaa1: ready") {
			t.Errorf("what was ready before is told as news:\n%s", c.out.String())
		}

		c = s.ichor(t, "scale", "demo/worker", "--to", "1", "--wait", "-o", "json")
		s.become(t, "demo/worker", 1, member("demo-worker-aaaa1", workflows.MemberReady, nil), member("demo-worker-bbbbb", workflows.MemberDraining, nil))
		c.says(t, `"state":"draining"`)
		s.become(t, "demo/worker", 1, member("demo-worker-aaaa1", workflows.MemberReady, nil))
		c.wants(t, exitOK, `"name":"demo-worker-bbbbb","state":"gone"`)
		lines := strings.Split(strings.TrimSpace(c.out.String()), "\n")
		var last struct {
			Event  string `json:"event"`
			Result scaled `json:"result"`
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Event != "result" || !last.Result.Request.Accepted || last.Result.Group.Target != 1 {
			t.Errorf("the last line is %s (%v)", lines[len(lines)-1], err)
		}
	})

	t.Run("shown until it has failed, and how to go on", func(t *testing.T) {
		c := s.ichor(t, "scale", "demo/worker", "--to", "2", "--wait")
		s.becomes(t, "demo/worker", workflows.GroupStatus{
			Target: 2, Backoff: &workflows.BackoffStatus{Until: time.Now().Add(time.Hour), Failures: 2},
			Members: []workflows.GroupMember{
				member("demo-worker-aaaa1", workflows.MemberReady, nil),
				member("demo-worker-ccccc", workflows.MemberFailed, &workflows.Failure{Kind: fault.Quota, Message: "the account is full"}),
			},
		})
		c.wants(t, exitFailed, "1 of 2 ready, 1 failed: demo-worker-ccccc: the account is full (Quota)", "backs off until")
		s.ichor(t, "watch", "demo/worker").wants(t, exitFailed, "the account is full (Quota)")
		s.ichor(t, "group", "demo/worker").wants(t, exitOK,
			"demo/worker, worker", "flex-4-1 in lpg1, cloudscale", "1 of 2 ready, 1 failed; bounds 1–5", "backs off until", "after 2 failures",
			"demo-worker-ccccc", "the account is full (Quota)", "refused (Conflict)")
		c = s.ichor(t, "groups", "-o", "json")
		c.wants(t, exitOK)
		var views []groupView
		if err := json.Unmarshal([]byte(c.out.String()), &views); err != nil || len(views) != 3 || views[1].Name != "demo/worker" ||
			views[1].Counts != (counts{Ready: 1, Failed: 1}) || views[1].Max != 5 || views[1].Stale != "" {
			t.Errorf("groups: %+v, %v", views, err)
		}
		c = s.ichor(t, "groups", "prod")
		c.wants(t, exitOK, "prod/worker", "ok")
		if strings.Contains(c.out.String(), "demo") {
			t.Errorf("groups of another cluster are listed:\n%s", c.out.String())
		}

		c = s.ichor(t, "watch", "prod/worker")
		c.wants(t, exitOK, "prod/worker: 1 of 1 ready.")
		s.become(t, "prod/worker", 2)
		c = s.ichor(t, "watch", "prod/worker")
		c.says(t, "watch: doing: 0 of 2 ready")
		c.stop()
		c.wants(t, exitInterrupted, "the group goes on", "ichor watch prod/worker")
	})

	t.Run("another cluster of the same name", func(t *testing.T) {
		withRecord(t, cluster.Record{Ref: cluster.Ref{Name: "demo", UID: "another"}, Phase: cluster.PhaseReady})
		s.ichor(t, "scale", "demo/worker", "--to", "3").wants(t, exitConflict, "another cluster of that name, uid 0123456789ab")
	})

	t.Run("resume reaches imports, and leaves pauses alone", func(t *testing.T) {
		withRecord(t, cluster.Record{
			Ref: cluster.Ref{Name: "demo", UID: "0123456789ab"}, Phase: cluster.PhaseCreating,
			Spec: cluster.Spec{Cloud: cluster.Cloud{Provider: "cloudscale", Zone: "lpg1"}}, Frozen: cluster.Frozen{Image: "talos-x"},
			Entities: []string{cluster.GroupID("demo", "worker"), cluster.GroupID("demo", "other")},
		})
		held, theirs, foreign := cluster.ImageID("cloudscale", "acc", "one"), cluster.ImageID("cloudscale", "acc", "talos-x-lpg1"), cluster.ImageID("cloudscale", "acc", "talos-y-lpg1")
		for id, kind := range map[string]string{cluster.LifecycleID("demo"): workflows.TypeProvisionCluster, theirs: workflows.TypeHoldImage, foreign: workflows.TypeHoldImage} {
			if _, err := s.client.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: workflows.TaskQueue}, kind, held); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "all imports are listed", func() bool {
			d, err := s.client.DescribeWorkflowExecution(t.Context(), cluster.LifecycleID("demo"), "")
			r, lerr := s.client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowType = 'HoldImage'"})
			return err == nil && lerr == nil && len(d.GetPendingChildren()) == 1 && len(r.GetExecutions()) == 3
		})
		s.ichor(t, "pause", "demo/other", "--reason", "mine").wants(t, exitOK)
		s.ichor(t, "resume", "demo").wants(t, exitOK, "Told 4 runs to go on", "demo/other is paused and stays so; end that with: ichor resume demo/other")
		for id, want := range map[string]bool{held: false, theirs: false, foreign: true} {
			until(t, id+" is as it should be", func() bool {
				d, err := s.client.DescribeWorkflow(t.Context(), id, "")
				return err == nil && (d.Status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING) == want
			})
		}
		s.ichor(t, "group", "demo/worker").wants(t, exitOK, "resumed by signal")
		c := s.ichor(t, "group", "demo/other")
		c.wants(t, exitOK, "(mine)")
		if strings.Contains(c.out.String(), "resumed by signal") {
			t.Errorf("the paused group was resumed:\n%s", c.out.String())
		}
		s.ichor(t, "resume", "demo", "--reason", "x").wants(t, exitUsage, "--reason goes with CLUSTER/GROUP or a running upgrade only")
	})

	t.Run("ended", func(t *testing.T) {
		s.group(t, workerGroup("old", "worker", 1))
		s.ichor(t, "group", "old/worker").wants(t, exitOK, "1 of 1 ready")
		if err := s.client.TerminateWorkflow(t.Context(), cluster.GroupID("old", "worker"), "", "test"); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"group", "old/worker"}, {"watch", "old/worker"}, {"scale", "old/worker", "--to", "2"}, {"pause", "old/worker"}} {
			s.ichor(t, args...).wants(t, exitNotFound)
		}
	})

	t.Run("nobody answers", func(t *testing.T) {
		s.become(t, "prod/worker", 2)
		s.ichor(t, "scale", "prod/worker", "--to", "1").wants(t, exitOK)
		w.Stop()
		running = false
		s.ichor(t, "scale", "prod/worker", "--by", "2", "--request-id", "late", "--timeout", "1s").wants(t, exitUnanswered,
			"prod/worker: no answer within 1s", "request late may still be applied", "--request-id late")
		s.ichor(t, "scale", "prod/worker", "--by", "2", "--request-id", "late", "--timeout", "1s", "-o", "json").wants(t, exitUnanswered,
			`"requestID":"late"`, `"exitCode":7`)
		s.ichor(t, "group", "prod/worker").wants(t, exitOK, "Not current", "the group does not answer", "zzzzz", "account full (Quota)", "0 of 1 ready, 2 creating, 1 failed")
		s.ichor(t, "groups", "prod").wants(t, exitOK, "stale: the group does not answer")

		w = s.groupWorker(t)
		running = true
		s.ichor(t, "scale", "prod/worker", "--by", "2", "--request-id", "late").wants(t, exitOK, "the target is 3 (request late)")
		s.ichor(t, "groups", "prod", "-o", "json").wants(t, exitOK, `"target": 3`)
	})
}

// withRecord gives the test a store of its own with one record.
func withRecord(t *testing.T, rec cluster.Record) {
	t.Helper()
	t.Setenv("ICHOR_STORE", "file://"+filepath.Join(t.TempDir(), "store"))
	st, err := store.Open(t.Context(), store.Options{URL: os.Getenv("ICHOR_STORE")})
	if err != nil {
		t.Fatal(err)
	}
	rec.Schema = 1
	_, err = st.PutRecord(t.Context(), rec, 0)
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never happened: %s", what)
		}
	}
}

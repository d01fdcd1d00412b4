package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	enumspb "go.temporal.io/api/enums/v1"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

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

// flaky answers updates with one error after the other, then with success.
type flaky struct {
	client.Client
	errs []error
	ids  []string
}

type answeredHandle struct{ client.WorkflowUpdateHandle }

func (answeredHandle) Get(_ context.Context, v any) error {
	*v.(*workflows.ScaleResult) = workflows.ScaleResult{Accepted: true, Target: 7}
	return nil
}

func (f *flaky) UpdateWorkflow(_ context.Context, o client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	f.ids = append(f.ids, o.UpdateID+" "+o.UpdateName+" "+o.WorkflowID)
	if len(f.errs) == 0 {
		return answeredHandle{}, nil
	}
	err := f.errs[0]
	f.errs = f.errs[1:]
	return nil, err
}

func (f *flaky) DescribeWorkflow(context.Context, string, string) (*client.WorkflowExecutionDescription, error) {
	d := &client.WorkflowExecutionDescription{}
	d.Status = enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	return d, nil
}

func TestEveryAttemptHasTheSameID(t *testing.T) {
	for _, err := range []error{
		serviceerror.NewWorkflowNotReady("Unable to perform workflow execution update due to unexpected workflow task failure."),
		serviceerror.NewUnavailable("connection refused"),
		serviceerror.NewDeadlineExceeded("too late"),
		serviceerror.NewResourceExhausted(enumspb.RESOURCE_EXHAUSTED_CAUSE_CONCURRENT_LIMIT, "too many updates"),
		serviceerror.NewNotFound("workflow execution already completed"),
		client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded),
		temporal.NewApplicationError("Workflow Update failed because the Workflow completed before the Update completed.", closedMeanwhile),
	} {
		f := &flaky{errs: []error{err}}
		a := &app{out: io.Discard, err: io.Discard}
		res, got := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalSetTarget, workflows.ScaleRequest{RequestID: "r1"}, time.Minute)
		if got != nil || res.Target != 7 {
			t.Errorf("after %v: %+v, %v", err, res, got)
		}
		once := "r1 set-target cluster/demo/group/worker"
		if diff := cmp.Diff([]string{once, once}, f.ids); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", err, diff)
		}
	}
	f := &flaky{errs: []error{serviceerror.NewPermissionDenied("no", "")}}
	a := &app{out: io.Discard, err: io.Discard}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalSetTarget, workflows.ScaleRequest{RequestID: "r1"}, time.Minute); exitCode(err) != exitUnavailable || len(f.ids) != 1 {
		t.Errorf("not allowed: %v after %d attempts", err, len(f.ids))
	}
}

func (f *flaky) SignalWorkflow(_ context.Context, id, _, name string, arg any) error {
	f.ids = append(f.ids, name+" "+arg.(workflows.ScaleRequest).RequestID+" "+id)
	return nil
}

// TestRunsOfOlderCode asks a run that cannot answer yet to continue as one that
// can, once.
func TestRunsOfOlderCode(t *testing.T) {
	old := temporal.NewApplicationError("this run of the group began before it could answer", string(fault.Conflict))
	f := &flaky{errs: []error{old}}
	a := &app{out: io.Discard, err: io.Discard}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Minute); err != nil {
		t.Error(err)
	}
	asked := "r1 pause cluster/demo/group/worker"
	if diff := cmp.Diff([]string{asked, "cancel-request r1.handover cluster/demo/group/worker", asked}, f.ids); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	f = &flaky{errs: []error{old, old, old}}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Minute); err != nil || len(f.ids) != 5 {
		t.Errorf("it took a while: %v after %q", err, f.ids)
	}
	f = &flaky{errs: []error{old}}
	if _, err := a.request(t.Context(), f, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Millisecond); exitCode(err) != exitConflict {
		t.Errorf("it took too long: %v", err)
	}
}

// renewing rejects the first questions as a run does that has just ended.
type renewing struct {
	client.Client
	ends []enumspb.WorkflowExecutionStatus
}

func (r *renewing) QueryWorkflowWithOptions(context.Context, *client.QueryWorkflowWithOptionsRequest) (*client.QueryWorkflowWithOptionsResponse, error) {
	if len(r.ends) == 0 {
		return nil, serviceerror.NewUnavailable("the next run was asked")
	}
	end := r.ends[0]
	r.ends = r.ends[1:]
	return &client.QueryWorkflowWithOptionsResponse{QueryRejected: &querypb.QueryRejected{Status: end}}, nil
}

func TestRunsThatEndWhileAsked(t *testing.T) {
	again := enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW
	var next *serviceerror.Unavailable
	if _, err := groupOf(t.Context(), &renewing{ends: []enumspb.WorkflowExecutionStatus{again, again}}, "x"); !errors.As(err, &next) {
		t.Errorf("after continue-as-new the next run is to be asked: %v", err)
	}
	if _, err := groupOf(t.Context(), &renewing{ends: []enumspb.WorkflowExecutionStatus{enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED}}, "x"); !ended(err) {
		t.Errorf("a group that has ended is absent: %v", err)
	}
}

// mute never answers; it interrupts whoever asks.
type mute struct {
	client.Client
	interrupt func()
}

func (m mute) UpdateWorkflow(ctx context.Context, _ client.UpdateWorkflowOptions) (client.WorkflowUpdateHandle, error) {
	m.interrupt()
	<-ctx.Done()
	return nil, client.NewWorkflowUpdateServiceTimeoutOrCanceledError(ctx.Err())
}

func (mute) DescribeTaskQueue(context.Context, string, enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	return nil, serviceerror.NewUnavailable("gone")
}

func TestInterruptedWhileAsking(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	var said strings.Builder
	a := &app{out: io.Discard, err: &said}
	_, err := a.request(ctx, mute{interrupt: interrupt}, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Minute)
	if exitCode(err) != exitInterrupted {
		t.Errorf("exit code %d (%v)", exitCode(err), err)
	}
	wantText(t, said.String(), "Request r1 may still be applied", "--request-id r1")

	_, err = a.request(t.Context(), mute{interrupt: func() {}}, groupName{"demo", "worker"}, workflows.SignalPause, workflows.ScaleRequest{RequestID: "r1"}, time.Millisecond)
	if exitCode(err) != exitUnanswered {
		t.Errorf("exit code %d (%v)", exitCode(err), err)
	}
	wantText(t, err.Error(), "Temporal does not answer (gone)", "request r1 may still be applied")
}

func TestWhenAGroupHasSettled(t *testing.T) {
	now := time.Now()
	ready, booting := member("a-b-aaaaa", workflows.MemberReady, nil), member("a-b-bbbbb", workflows.MemberBooting, nil)
	wanted, leaving := member("a-b-ccccc", workflows.MemberWanted, nil), member("a-b-ddddd", workflows.MemberDeleting, nil)
	broken := member("a-b-eeeee", workflows.MemberFailed, &workflows.Failure{Kind: fault.Capacity, Message: "sold out"})
	gone := member("a-b-fffff", workflows.MemberGone, nil)
	backoff := &workflows.BackoffStatus{Until: now.Add(time.Minute), Failures: 1}
	paused := &workflows.PauseStatus{Reason: "mine"}
	group := func(target int, ms ...workflows.GroupMember) workflows.GroupStatus {
		return workflows.GroupStatus{Target: target, Members: ms}
	}
	with := func(s workflows.GroupStatus, change func(*workflows.GroupStatus)) workflows.GroupStatus {
		change(&s)
		return s
	}
	for _, tc := range []struct {
		name string
		s    workflows.GroupStatus
		done bool
		code int
		says string
	}{
		{"all ready", group(1, ready, gone), true, exitOK, ""},
		{"none wanted", group(0), true, exitOK, ""},
		{"one boots", group(2, ready, booting), false, 0, ""},
		{"not listed yet", group(2, ready), false, 0, ""},
		{"one leaves", group(1, ready, leaving), false, 0, ""},
		{"one failed, one still boots", group(3, ready, booting, broken), false, 0, ""},
		{"one failed", group(2, ready, broken), true, exitFailed, "1 of 2 ready, 1 failed: a-b-eeeee: sold out (Capacity)"},
		{"waits for the end of a backoff", with(group(2, ready, wanted), func(s *workflows.GroupStatus) { s.Backoff = backoff }), true, exitFailed, "backs off until"},
		{"backoff is over", with(group(2, ready, wanted), func(s *workflows.GroupStatus) {
			s.Backoff = &workflows.BackoffStatus{Until: now.Add(-time.Second)}
		}), false, 0, ""},
		{"paused with all ready", with(group(1, ready), func(s *workflows.GroupStatus) { s.Paused = paused }), true, exitOK, ""},
		{"paused with one wanted", with(group(2, ready, wanted), func(s *workflows.GroupStatus) { s.Paused = paused }), true, exitConflict, "paused (mine); go on with: ichor resume demo/worker"},
		{"paused while one boots", with(group(2, ready, booting), func(s *workflows.GroupStatus) { s.Paused = paused }), false, 0, ""},
		{"parked", with(group(2, ready, wanted), func(s *workflows.GroupStatus) { s.Parked = "no token" }), false, 0, ""},
		{"ending", with(group(1, leaving), func(s *workflows.GroupStatus) { s.Ending = true }), true, exitFailed, "the group is ending"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			done, err := settled(groupName{"demo", "worker"}, tc.s, now)
			if done != tc.done {
				t.Fatalf("settled: %v, want %v (%v)", done, tc.done, err)
			}
			if done && exitCode(err) != tc.code {
				t.Errorf("exit code %d, want %d (%v)", exitCode(err), tc.code, err)
			}
			if tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
				t.Errorf("error %v, want %q", err, tc.says)
			}
		})
	}
}

func TestMemosAreCounted(t *testing.T) {
	m := groupMemo{workflows.GroupMemo{
		Ready: 3, Wanted: []workflows.InstanceRange{{From: 2, To: 4}, {From: 0, To: 0}},
		Others: []workflows.MemoInstance{{Phase: workflows.MemberBooting}, {Phase: workflows.MemberFailed}, {Phase: workflows.MemberDraining}, {Phase: workflows.MemberGone}},
	}}
	if diff := cmp.Diff(counts{Ready: 3, Creating: 5, Failed: 1, Deleting: 1}, m.counts()); diff != "" {
		t.Error(diff)
	}
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

const (
	// answerWithin is how long a request waits for its answer unless told otherwise.
	// After the death of a worker the next one takes over within 5 s (the
	// sticky queue's timeout), so several tries fit.
	answerWithin = 30 * time.Second
	// tryFor bounds one attempt, so that an answer that was lost on the way is
	// asked for again.
	tryFor = 10 * time.Second
	// retryAfter is the pause between two attempts: about the time of one
	// workflow task.
	retryAfter = 250 * time.Millisecond
)

// groupName names a node group as people and the autoscaler do: CLUSTER/GROUP.
type groupName struct{ cluster, group string }

func (g groupName) String() string     { return g.cluster + "/" + g.group }
func (g groupName) workflowID() string { return cluster.GroupID(g.cluster, g.group) }

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// parseGroup reads CLUSTER/GROUP.
func parseGroup(s string) (groupName, error) {
	c, g, ok := strings.Cut(s, "/")
	if !ok || !label.MatchString(c) || !label.MatchString(g) {
		return groupName{}, usageError{fmt.Errorf("%q does not name a node group; write CLUSTER/GROUP, as in demo/worker", s)}
	}
	return groupName{c, g}, nil
}

// requestIDs become part of placeholder instance ids, so they are kept plain.
var requestIDs = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// requestFlags are the flags of every command that asks a group for something.
type requestFlags struct {
	id, reason string
	timeout    time.Duration
}

func (f *requestFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.reason, "reason", "", "shown to people with the request")
	c.Flags().StringVar(&f.id, "request-id", "", "id of the request; one that was used before counts once, and its first answer is given again")
	c.Flags().DurationVar(&f.timeout, "timeout", answerWithin, "how long to wait for the answer")
}

func (f *requestFlags) complete() error {
	if f.timeout <= 0 {
		return usageError{errors.New("--timeout must be positive")}
	}
	if f.id == "" {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails: it ends the program instead
		f.id = "cli-" + hex.EncodeToString(b[:])
	}
	if !requestIDs.MatchString(f.id) {
		return usageError{errors.New("--request-id must be up to 64 letters, digits, dots, dashes and underscores")}
	}
	return nil
}

// unanswered is a request whose fate is not known: it may be applied yet.
type unanswered struct {
	who       fmt.Stringer
	requestID string
	waited    time.Duration
	why       string
}

func (e unanswered) Error() string {
	return fmt.Sprintf("%s: no answer within %s: %s; request %s may still be applied; ask again, it counts once, with: --request-id %s",
		e.who, e.waited, e.why, e.requestID, e.requestID)
}

// request sends a request as an update until it is answered. Every attempt has
// the same id, so that it counts once however often it arrives: an attempt that
// got no answer may have been applied.
func (a *app) request(ctx context.Context, t client.Client, g groupName, op string, req workflows.ScaleRequest, wait time.Duration) (workflows.ScaleResult, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sent, handedOver := false, false
	for {
		res, err := attempt(waiting, t, g, op, req)
		switch {
		case a.speechless(waiting, t, g, err):
			if !handedOver {
				if err := handOver(waiting, t, g, req.RequestID); err != nil {
					return res, temporalFault("renew the run of group "+g.String(), err)
				}
			}
			handedOver = true
			if !sleep(waiting, retryAfter) {
				return res, answered(g, op, err)
			}
			continue
		case err == nil && res.Accepted:
			return res, nil
		case err == nil:
			return res, refusal(g, res.Kind, res.Message)
		case again(err):
			sent = true
		case ended(err) && !isRunning(waiting, t, g):
			return res, fault.New(fault.NotFound, "find group "+g.String(), "no such group runs; ichor groups lists those that do")
		case ended(err): // between two runs of the group
		default:
			return res, answered(g, op, err)
		}
		if sleep(waiting, retryAfter) {
			continue
		}
		lost := unanswered{who: g, requestID: req.RequestID, waited: wait, why: a.silence(context.WithoutCancel(ctx), t, err)}
		if ctx.Err() != nil && sent {
			fmt.Fprintf(a.err, "\nStopped waiting for an answer. Request %s may still be applied;\nask again, it counts once, with: --request-id %s\n", req.RequestID, req.RequestID)
			return res, interrupted{}
		}
		return res, lost
	}
}

// sleep reports whether there is still time after d.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// attempt sends a request to a group once.
func attempt(ctx context.Context, t client.Client, g groupName, op string, req workflows.ScaleRequest) (workflows.ScaleResult, error) {
	var res workflows.ScaleResult
	err := sendUpdate(ctx, t, g.workflowID(), "", op, req.RequestID, req, &res)
	return res, err
}

// sendUpdate sends an update once and reads its answer. Without a run id it goes to
// the latest run.
func sendUpdate(ctx context.Context, t client.Client, workflowID, runID, op, id string, req, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	h, err := t.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: workflowID, RunID: runID, UpdateID: id, UpdateName: op, Args: []any{req}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return err
	}
	return h.Get(ctx, answer)
}

// closedMeanwhile is the type of the server's failure of an update whose run
// ended, here by continuing as new, after it was accepted.
const closedMeanwhile = "AcceptedUpdateCompletedWorkflow"

// again reports whether an error leaves open what became of an update, so that it
// is to be repeated with the same id. The SDK repeats none of these.
func again(err error) bool {
	var notReady *serviceerror.WorkflowNotReady
	var unavailable *serviceerror.Unavailable
	var exhausted *serviceerror.ResourceExhausted
	var deadline *serviceerror.DeadlineExceeded
	var aborted *serviceerror.Aborted
	var timeout *client.WorkflowUpdateServiceTimeoutOrCanceledError
	var app *temporal.ApplicationError
	switch {
	case errors.As(err, &notReady), errors.As(err, &unavailable), errors.As(err, &exhausted), errors.As(err, &deadline),
		errors.As(err, &aborted), errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return true
	case errors.As(err, &app):
		return app.Type() == closedMeanwhile
	}
	return false
}

// speechless reports whether a group refused because its run began before groups
// could be scaled: such a run writes no memo.
func (a *app) speechless(ctx context.Context, t client.Client, g groupName, err error) bool {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != string(fault.Conflict) {
		return false
	}
	d, err := t.DescribeWorkflow(ctx, g.workflowID(), "")
	return err == nil && d.Memo.GetFields()[workflows.MemoState] == nil
}

// handOver has such a run continue as one that answers, which it does for the
// first request that comes as a signal; this one asks for nothing.
func handOver(ctx context.Context, t client.Client, g groupName, id string) error {
	return t.SignalWorkflow(ctx, g.workflowID(), "", workflows.SignalCancelRequest,
		workflows.ScaleRequest{RequestID: id + ".handover", Cancel: id + ".none", Origin: workflows.OriginPerson})
}

func isRunning(ctx context.Context, t client.Client, g groupName) bool {
	d, err := t.DescribeWorkflow(ctx, g.workflowID(), "")
	return err != nil && !ended(err) || err == nil && d.Status == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
}

// refusal is a request that the group answered with no.
func refusal(g groupName, kind fault.Kind, message string) error {
	return &runError{Kind: kind, Message: g.String() + ": " + message}
}

// answered reads the error of an update that was answered.
func answered(g groupName, op string, err error) error {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return refusal(g, fault.Kind(app.Type()), app.Message())
	}
	return temporalFault(op+" of group "+g.String(), err)
}

// silence says why nothing answers, as well as can be found out.
func (a *app) silence(ctx context.Context, t client.Client, err error) string {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	q, qerr := t.DescribeTaskQueue(ctx, a.cfg.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if qerr != nil {
		return "Temporal does not answer (" + plain(qerr).Error() + ")"
	}
	var last time.Time
	for _, p := range q.GetPollers() {
		if at := p.GetLastAccessTime().AsTime(); at.After(last) {
			last = at
		}
	}
	// A worker that waits for tasks asks at least once a minute.
	if last.IsZero() || time.Since(last) > 70*time.Second {
		return "no worker runs on task queue " + a.cfg.TaskQueue
	}
	return fmt.Sprintf("a worker asked for tasks %s ago, but the group did not answer (%s)", time.Since(last).Round(time.Second), plain(err))
}

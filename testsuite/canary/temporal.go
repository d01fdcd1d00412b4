package canary

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	querypb "go.temporal.io/api/query/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// TemporalOptions say what to look at.
type TemporalOptions struct {
	// Namespace is "default" when empty.
	Namespace string
	// Queries are asked of every run beside Temporal's own ones. A run that
	// does not know one is not an error.
	Queries []string
	// Codecs decrypt payloads, in the order of decoding. Everything is scanned
	// twice then: as it is stored and as people see it.
	Codecs []converter.PayloadCodec
	// Dir, if set, gets every history as JSON, one file per run.
	Dir string
}

// Report tells what was found, and how much was looked at: a scan of nothing
// finds nothing.
type Report struct {
	Findings  []Finding
	Workflows int
	Events    int
	Schedules int
	// Answers counts the queries that were answered.
	Answers int
	// Unanswered lists the queries that were not, and why.
	Unanswered []string
}

// builtinQueries are answered by every worker of the SDK.
var builtinQueries = []string{"__stack_trace", "__temporal_workflow_metadata"}

// ScanTemporal scans everything that a namespace keeps and shows: of every run
// the description (memo, search attributes, details, pending activities), the
// whole history and the answers to queries, and every schedule.
func (s *Set) ScanTemporal(ctx context.Context, c client.Client, o TemporalOptions) (Report, error) {
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	t := &temporalScan{set: s, c: c, o: o, deaf: map[string]bool{}}
	if err := t.workflows(ctx); err != nil {
		return t.report, err
	}
	return t.report, t.schedules(ctx)
}

type temporalScan struct {
	set    *Set
	c      client.Client
	o      TemporalOptions
	report Report
	// deaf are the task queues that no worker serves.
	deaf map[string]bool
}

func (t *temporalScan) workflows(ctx context.Context) error {
	var page []byte
	for {
		list, err := t.c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: t.o.Namespace, NextPageToken: page})
		if err != nil {
			return fmt.Errorf("list workflows: %w", err)
		}
		for _, info := range list.GetExecutions() {
			where := fmt.Sprintf("workflow %s run %s", info.GetExecution().GetWorkflowId(), info.GetExecution().GetRunId())
			t.report.Workflows++
			if err := t.message(ctx, where+" in the list", info); err != nil {
				return err
			}
			if err := t.run(ctx, where, info.GetTaskQueue(), info.GetExecution()); err != nil {
				return err
			}
		}
		if page = list.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}

func (t *temporalScan) run(ctx context.Context, where, queue string, run *commonpb.WorkflowExecution) error {
	desc, err := t.c.DescribeWorkflowExecution(ctx, run.GetWorkflowId(), run.GetRunId())
	if err != nil {
		return fmt.Errorf("describe %s: %w", where, err)
	}
	if err := t.message(ctx, where+" description", desc); err != nil {
		return err
	}
	history := &historypb.History{}
	events := t.c.GetWorkflowHistory(ctx, run.GetWorkflowId(), run.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			return fmt.Errorf("history of %s: %w", where, err)
		}
		t.report.Events++
		history.Events = append(history.Events, event)
		name := strings.TrimPrefix(event.GetEventType().String(), "EVENT_TYPE_")
		if err := t.message(ctx, fmt.Sprintf("%s event %d %s", where, event.GetEventId(), name), event); err != nil {
			return err
		}
	}
	if err := t.export(run, history); err != nil {
		return err
	}
	return t.queries(ctx, where, queue, run)
}

func (t *temporalScan) export(run *commonpb.WorkflowExecution, history *historypb.History) error {
	if t.o.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(t.o.Dir, 0o750); err != nil {
		return err
	}
	body, err := protojson.MarshalOptions{Multiline: true}.Marshal(history)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(run.GetWorkflowId(), "/", "_") + "_" + run.GetRunId() + ".json"
	return os.WriteFile(filepath.Join(t.o.Dir, name), body, 0o600)
}

func (t *temporalScan) queries(ctx context.Context, where, queue string, run *commonpb.WorkflowExecution) error {
	for _, name := range append(append([]string(nil), builtinQueries...), t.o.Queries...) {
		if t.deaf[queue] {
			t.report.Unanswered = append(t.report.Unanswered, where+": "+name+": no worker serves the task queue "+queue)
			continue
		}
		resp, err := t.query(ctx, run, name)
		if err != nil {
			// No worker, or no such query; its text may leak all the same.
			t.add(t.set.Scan(where+" query "+name+" error", []byte(err.Error())))
			t.report.Unanswered = append(t.report.Unanswered, where+": "+name+": "+err.Error())
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if code := serviceerror.ToStatus(err).Code(); code == codes.DeadlineExceeded || code == codes.FailedPrecondition || errors.Is(err, context.DeadlineExceeded) {
				t.deaf[queue] = true
			}
			continue
		}
		t.report.Answers++
		if err := t.message(ctx, where+" query "+name, resp); err != nil {
			return err
		}
	}
	return nil
}

// queryTimeout is for runs that no worker serves any more: the server would wait
// for one.
const queryTimeout = 3 * time.Second

func (t *temporalScan) query(ctx context.Context, run *commonpb.WorkflowExecution, name string) (*workflowservice.QueryWorkflowResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return t.c.WorkflowService().QueryWorkflow(ctx, &workflowservice.QueryWorkflowRequest{
		Namespace: t.o.Namespace, Execution: run, Query: &querypb.WorkflowQuery{QueryType: name},
	})
}

func (t *temporalScan) schedules(ctx context.Context) error {
	list, err := t.c.ScheduleClient().List(ctx, client.ScheduleListOptions{})
	if err != nil {
		return fmt.Errorf("list schedules: %w", err)
	}
	for list.HasNext() {
		entry, err := list.Next()
		if err != nil {
			return fmt.Errorf("list schedules: %w", err)
		}
		t.report.Schedules++
		desc, err := t.c.WorkflowService().DescribeSchedule(ctx, &workflowservice.DescribeScheduleRequest{Namespace: t.o.Namespace, ScheduleId: entry.ID})
		if err != nil {
			return fmt.Errorf("describe schedule %s: %w", entry.ID, err)
		}
		if err := t.message(ctx, "schedule "+entry.ID, desc); err != nil {
			return err
		}
	}
	return nil
}

// message scans a message as it is stored and, with codecs, as it is shown.
func (t *temporalScan) message(ctx context.Context, where string, m proto.Message) error {
	if err := t.scanMessage(where, m); err != nil || len(t.o.Codecs) == 0 {
		return err
	}
	clear := proto.Clone(m)
	err := proxy.VisitPayloads(ctx, clear, proxy.VisitPayloadsOptions{
		SkipSearchAttributes: true, // never encrypted
		Visitor: func(_ *proxy.VisitPayloadsContext, p []*commonpb.Payload) ([]*commonpb.Payload, error) {
			var err error
			for _, codec := range t.o.Codecs {
				if p, err = codec.Decode(p); err != nil {
					return nil, err
				}
			}
			return p, nil
		},
	})
	if err != nil {
		return fmt.Errorf("decode %s: %w", where, err)
	}
	return t.scanMessage(where+" decoded", clear)
}

func (t *temporalScan) scanMessage(where string, m proto.Message) error {
	body, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("export %s: %w", where, err)
	}
	t.add(t.set.Scan(where, body))
	return nil
}

func (t *temporalScan) add(found []Finding) { t.report.Findings = append(t.report.Findings, found...) }

// Err is nil if something was looked at and nothing was found; otherwise it
// lists every finding.
func (r Report) Err() error {
	if r.Workflows == 0 || r.Events == 0 {
		return errors.New("canary: no history was scanned, so nothing is proved")
	}
	return Error(r.Findings)
}

// Error joins findings into one error, nil if there are none.
func Error(found []Finding) error {
	errs := make([]error, 0, len(found))
	for _, f := range found {
		errs = append(errs, errors.New("canary: "+f.String()))
	}
	return errors.Join(errs...)
}

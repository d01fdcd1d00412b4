// Package killer stands between workers and a Temporal server and sees every
// activity by name, so that a test can kill a worker at an exact moment without
// a hook in the product: before a task is delivered, before its completion is
// forwarded, or right after it.
package killer

import (
	"context"
	"maps"
	"net"
	"sync"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Moment is when in the life of an activity attempt something happens.
type Moment string

// Moments.
const (
	// BeforeEffect: the server has handed the task out; the worker never gets
	// it.
	BeforeEffect Moment = "before the effect"
	// AfterEffect: the worker is done; the server never hears of it.
	AfterEffect Moment = "after the effect"
	// AfterReply: the server has the completion; the worker never learns that.
	AfterReply Moment = "after the reply"
)

// Moments lists all moments.
func Moments() []Moment { return []Moment{BeforeEffect, AfterEffect, AfterReply} }

// Task is one attempt of an activity as the wire shows it.
type Task struct {
	Activity string
	Workflow string // workflow id
	Attempt  int
	Input    []byte // the first argument, JSON unless payloads are encrypted
	// Worker is the identity of the worker that asked for the task.
	Worker string
}

// Hook is asked at every moment of every activity; true kills: the message is
// not passed on. It must make sure itself that the worker is dead when it
// returns true. It is called from many goroutines.
type Hook func(Task, Moment) bool

// Proxy is a running proxy.
type Proxy struct {
	server *grpc.Server
	conn   *grpc.ClientConn
	addr   string
	hook   Hook

	mu    sync.Mutex
	tasks map[string]Task // by task token
	seen  map[string]int
}

var errKilled = status.Error(codes.Unavailable, "the worker was killed here")

// Start forwards to a Temporal server at target. Close ends it.
func Start(target string, hook Hook) (*Proxy, error) {
	p := &Proxy{hook: hook, tasks: map[string]Task{}, seen: map[string]int{}}
	conn, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // loopback
		grpc.WithUnaryInterceptor(p.intercept),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	p.conn = conn
	front, err := proxy.NewWorkflowServiceProxyServer(proxy.WorkflowServiceProxyOptions{Client: workflowservice.NewWorkflowServiceClient(conn)})
	if err != nil {
		return nil, err
	}
	p.server = grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	workflowservice.RegisterWorkflowServiceServer(p.server, front)
	operatorservice.RegisterOperatorServiceServer(p.server, &operator{next: operatorservice.NewOperatorServiceClient(conn)})
	healthpb.RegisterHealthServer(p.server, &health{next: healthpb.NewHealthClient(conn)})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.addr = l.Addr().String()
	go func() { _ = p.server.Serve(l) }() // ends by Close
	return p, nil
}

// Address is what workers dial.
func (p *Proxy) Address() string { return p.addr }

// Close ends the proxy.
func (p *Proxy) Close() error {
	p.server.Stop()
	return p.conn.Close()
}

// Seen returns how often each activity was handed out.
func (p *Proxy) Seen() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.seen)
}

func (p *Proxy) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	done, completes := p.completed(req)
	if completes && p.hook(done, AfterEffect) {
		return errKilled
	}
	calm, cancel := outlive(ctx)
	defer cancel()
	if err := invoke(calm, method, req, reply, cc, opts...); err != nil {
		return err
	}
	if completes && p.hook(done, AfterReply) {
		return errKilled
	}
	killed := false
	for _, task := range p.handedOut(req, reply) {
		killed = p.hook(task, BeforeEffect) || killed
	}
	if killed {
		return errKilled
	}
	return nil
}

// outlive lets a call go on for a moment after its caller has died. The
// development server keeps its data in SQLite, whose one connection is lost for
// good when a call is cancelled in the middle of a transaction, as happens when it
// hands the next task to a worker that is being killed.
func outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline() // the server refuses polls that have none
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	calm, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })
	return calm, func() { stop(); cancel() }
}

// grace is longer than a transaction takes and shorter than the next worker takes
// to come.
const grace = 200 * time.Millisecond

// completed returns the task whose success a request tells.
func (p *Proxy) completed(req any) (Task, bool) {
	done, ok := req.(*workflowservice.RespondActivityTaskCompletedRequest)
	if !ok {
		return Task{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.tasks[string(done.GetTaskToken())]
	return t, ok
}

// handedOut notes and returns the activity tasks in a reply: of a poll, or those
// that the server hands out eagerly with the answer to a workflow task.
func (p *Proxy) handedOut(req, reply any) []Task {
	var tasks []*workflowservice.PollActivityTaskQueueResponse
	switch r := reply.(type) {
	case *workflowservice.PollActivityTaskQueueResponse:
		if len(r.GetTaskToken()) > 0 {
			tasks = append(tasks, r)
		}
	case *workflowservice.RespondWorkflowTaskCompletedResponse:
		tasks = r.GetActivityTasks()
	}
	var worker string
	if asks, ok := req.(interface{ GetIdentity() string }); ok {
		worker = asks.GetIdentity()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []Task
	for _, r := range tasks {
		t := Task{
			Activity: r.GetActivityType().GetName(), Workflow: r.GetWorkflowExecution().GetWorkflowId(),
			Attempt: int(r.GetAttempt()), Worker: worker,
		}
		if args := r.GetInput().GetPayloads(); len(args) > 0 {
			t.Input = args[0].GetData()
		}
		p.tasks[string(r.GetTaskToken())] = t
		p.seen[t.Activity]++
		out = append(out, t)
	}
	return out
}

// operator forwards what a worker asks of the operator service.
type operator struct {
	operatorservice.UnimplementedOperatorServiceServer
	next operatorservice.OperatorServiceClient
}

func (o *operator) ListSearchAttributes(ctx context.Context, r *operatorservice.ListSearchAttributesRequest) (*operatorservice.ListSearchAttributesResponse, error) {
	return o.next.ListSearchAttributes(ctx, r)
}

func (o *operator) AddSearchAttributes(ctx context.Context, r *operatorservice.AddSearchAttributesRequest) (*operatorservice.AddSearchAttributesResponse, error) {
	return o.next.AddSearchAttributes(ctx, r)
}

// health forwards the question that a worker's readiness depends on.
type health struct {
	healthpb.UnimplementedHealthServer
	next healthpb.HealthClient
}

func (h *health) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return h.next.Check(ctx, r)
}

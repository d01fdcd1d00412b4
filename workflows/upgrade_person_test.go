package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// person makes one request and sees to what the run needs.
type person struct {
	interceptor.WorkerInterceptorBase
	t   *testing.T
	row phaseRow
	op  string
	f   *fakeFleet
	env *testsuite.TestWorkflowEnvironment

	mu       sync.Mutex
	calls    map[string]int
	made     bool
	answer   string
	begun    map[string]bool // runs of UpgradeNode
	then     int             // how many there were when the request was made
	returned bool            // that a pause was seen and ended
}

func (p *person) run() (answer, end string) {
	p.calls = map[string]int{}
	in := UpgradeInput{Cluster: "demo", Strategy: p.row.strategy}
	in.Strategy.SingleControlPlane = true
	acts := map[time.Duration]act{0: func(env *testsuite.TestWorkflowEnvironment) {
		p.env = env
		env.SetWorkerOptions(worker.Options{
			Interceptors: []interceptor.WorkerInterceptor{&activities.Boundary{}, p},
			// A busy machine with the race detector is slow, not stuck.
			DeadlockDetectionTimeout: time.Minute,
		})
		env.RegisterActivityWithOptions(p.replace, activity.RegisterOptions{Name: "ReplaceMember"})
		env.RegisterActivityWithOptions(func(context.Context, activities.ReplaceInput) error { return nil }, activity.RegisterOptions{Name: "WaitReplaced"})
	}}
	for h := range 60 {
		acts[time.Duration(h+1)*time.Hour] = p.look
	}
	out, err := p.f.run(p.t, in, acts)
	var canceled *temporal.CanceledError
	switch {
	case !p.made:
		p.t.Fatalf("the moment never came: %v", err)
	case err == nil:
		return p.answer, "done: " + out.Message
	case errors.As(err, &canceled) && canceled.HasDetails():
		var report string
		if err := canceled.Details(&report); err != nil {
			p.t.Fatal(err)
		}
		return p.answer, "canceled: " + report
	}
	return p.answer, "failed: " + messageOf(err)
}

// replace puts a machine that was made new in the place of one.
func (p *person) replace(_ context.Context, in activities.ReplaceInput) (activities.ReplaceResult, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	for _, n := range p.f.nodes {
		if n.Machine == in.Machine {
			n.Machine, n.Name = n.Machine+"n", n.Name+"n"
			n.Talos, n.Schematic = v14.Talos, v14.Schematic
			return activities.ReplaceResult{By: n.Name}, nil
		}
	}
	return activities.ReplaceResult{}, fault.New(fault.NotFound, "replace", "no member %s", in.Machine)
}

// look is what the person does every hour.
func (p *person) look(env *testsuite.TestWorkflowEnvironment) {
	s := upgradeStatus(p.t, env)
	p.mu.Lock()
	made, begun := p.made, len(p.begun)
	p.mu.Unlock()
	switch {
	case !made && p.row.when != nil && p.row.when(s):
		p.ask(p.op, true, func() {})
	case s.Paused:
		if made && p.op == SignalPause && begun != p.then {
			p.t.Errorf("%d nodes were begun after the pause", begun-p.then)
		}
		p.returned = true
		env.SignalWorkflow(SignalResume, nil)
	case s.Parked != "":
		env.SignalWorkflow(SignalResume, nil)
	case s.Asks != "":
		env.SignalWorkflow(SignalApprove, UpgradeRequest{})
	}
}

var moments = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// ask makes a request; done is called when it was answered. It runs in the loop of
// the test environment.
func (p *person) ask(op string, mine bool, done func()) {
	if mine {
		p.mu.Lock()
		p.made, p.then = true, len(p.begun)
		p.mu.Unlock()
	}
	if op == opCancel {
		p.env.CancelWorkflow()
		p.env.RegisterDelayedCallback(done, 0)
		return
	}
	req := UpgradeRequest{}
	if op == SignalSkipNode {
		if req.Node = p.row.skips; req.Node == "" {
			req.Node = "demo-worker-01"
		}
	}
	update(p.env, p.t, op, fmt.Sprint(op, mine), req, func(a UpgradeAnswer, err error) {
		if mine {
			p.answer = moments.ReplaceAllString(a.Message+messageOf(err), "T")
		}
		done()
	})
}

// InterceptActivity lets the person act while an activity is under way.
func (p *person) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &personAt{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, p: p}
}

type personAt struct {
	interceptor.ActivityInboundInterceptorBase
	p *person
}

func (a *personAt) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	p, info := a.p, activity.GetInfo(ctx)
	body, err := json.Marshal(in.Args)
	if err != nil {
		return nil, err
	}
	is := func(moment string) bool {
		words := strings.Fields(moment)
		return len(words) > 0 && words[0] == info.ActivityType.Name &&
			!slices.ContainsFunc(words[1:], func(w string) bool { return !strings.Contains(string(body), `"`+w+`"`) })
	}
	p.mu.Lock()
	if info.WorkflowType.Name == TypeUpgradeNode {
		p.begun[info.WorkflowExecution.RunID] = true
	}
	nth := map[string]int{}
	for _, moment := range []string{p.row.at, p.row.beforeAt, p.row.fails} {
		if is(moment) && nth[moment] == 0 {
			p.calls[moment]++
			nth[moment] = p.calls[moment]
		}
	}
	p.mu.Unlock()
	if nth[p.row.beforeAt] == 1 {
		p.wait(p.row.before, false)
	}
	if nth[p.row.at] > 0 && nth[p.row.at] == max(p.row.nth, 1) {
		p.wait(p.op, true)
	}
	if nth[p.row.fails] == 1 {
		// What polls itself is not tried again once its time is over.
		return nil, temporal.NewNonRetryableApplicationError(p.row.with.Error(), string(fault.KindOf(p.row.with)), nil)
	}
	return a.Next.ExecuteActivity(ctx, in)
}

// wait makes a request and waits for its answer.
func (p *person) wait(op string, mine bool) {
	answered := make(chan struct{})
	p.env.RegisterDelayedCallback(func() { p.ask(op, mine, func() { close(answered) }) }, 0)
	<-answered
}

// wantTruth compares what the run said in the end with what is.
func (p *person) wantTruth(end string) {
	// Here activities that were cancelled go on until they end by themselves.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	if strings.HasPrefix(end, "canceled") && len(p.begun) != p.then {
		p.t.Errorf("%d nodes were begun after the cancellation", len(p.begun)-p.then)
	}
	if p.op == SignalPause && p.answer == isPaused && !p.returned {
		p.t.Error("nobody saw the pause")
	}
	for _, n := range p.f.nodes {
		now := plan.Versions{Talos: n.Talos, Schematic: n.Schematic, Kubernetes: n.Kubelet}
		if n.Role == cluster.RoleControlPlane && n.APIServer != n.Kubelet && strings.HasPrefix(end, "done") {
			p.t.Errorf("%s has the API server %s and the kubelet %s", n.Name, n.APIServer, n.Kubelet)
		}
		if told := strings.Contains(end, n.Name); now != v14 && !told && !strings.Contains(end, "not finished") && strings.HasPrefix(end, "done") {
			p.t.Errorf("%s runs %v, which is not told: %s", n.Name, now, end)
		}
	}
	if slices.ContainsFunc(p.f.log, func(s string) bool { return strings.HasPrefix(s, "SKEW") }) {
		p.t.Errorf("a kubelet was newer than an API server: %v", p.f.log)
	}
}

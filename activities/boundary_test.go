package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"github.com/ichor-project/ichor/internal/fault"
)

func execute(t *testing.T, observe Observer, f func(context.Context) error) error {
	t.Helper()
	var s testsuite.WorkflowTestSuite
	env := s.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&Boundary{Observe: observe}}})
	env.RegisterActivity(f)
	_, err := env.ExecuteActivity(f)
	return err
}

func TestBoundaryMakesTheKindTheOutermostType(t *testing.T) {
	for _, kind := range fault.Kinds() {
		var seen fault.Kind
		err := execute(t, func(_ string, k fault.Kind, _ time.Duration) { seen = k }, func(context.Context) error {
			return fmt.Errorf("group worker: %w", &fault.Error{Kind: kind, Op: "create server", Message: "no", RetryAfter: 7 * time.Second})
		})
		var app *temporal.ApplicationError
		if !errors.As(err, &app) {
			t.Fatalf("%s: %v is no application error", kind, err)
		}
		if app.Type() != string(kind) || app.NonRetryable() == kind.Retryable() || app.NextRetryDelay() != 7*time.Second {
			t.Errorf("%s: type %q, non-retryable %v, next retry after %v", kind, app.Type(), app.NonRetryable(), app.NextRetryDelay())
		}
		if app.Message() != "group worker: create server: no" || app.Unwrap() != nil {
			t.Errorf("%s: message %q, cause %v", kind, app.Message(), app.Unwrap())
		}
		if benign := app.Category() == temporal.ApplicationErrorCategoryBenign; benign != (kind == fault.NotYet) {
			t.Errorf("%s: benign %v", kind, benign)
		}
		if seen != kind {
			t.Errorf("%s: observed %q", kind, seen)
		}
	}
}

func TestPollKeepsGoingThroughTransientErrors(t *testing.T) {
	looks := 0
	err := execute(t, nil, func(ctx context.Context) error {
		return poll(ctx, "wait", time.Millisecond, func(context.Context) (bool, string, error) {
			looks++
			if looks < 3 {
				return true, "nothing", fault.New(fault.Unavailable, "look", "connection refused")
			}
			return true, "all", nil
		})
	})
	if err != nil || looks != 3 {
		t.Errorf("%d looks, error %v", looks, err)
	}
}

func TestPollEndsAtOnceWhenWaitingCannotHelp(t *testing.T) {
	err := execute(t, nil, func(ctx context.Context) error {
		return poll(ctx, "wait", time.Millisecond, func(context.Context) (bool, string, error) {
			return false, "", fault.New(fault.Invalid, "look", "image failed")
		})
	})
	if err == nil || !strings.Contains(err.Error(), "image failed") {
		t.Errorf("error %v", err)
	}
}

func TestPollSaysWhatWasMissing(t *testing.T) {
	err := execute(t, nil, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		return poll(ctx, "wait for etcd", time.Millisecond, func(context.Context) (bool, string, error) {
			return false, "2 of 3 voters", fault.New(fault.Unavailable, "ask cp-1", "refused")
		})
	})
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != string(fault.Unavailable) || !strings.Contains(app.Message(), "2 of 3 voters (last error: ask cp-1: refused)") {
		t.Errorf("error %v", err)
	}
}

func TestJudgeNode(t *testing.T) {
	const id = "cloudscale://1"
	for _, tc := range []struct {
		name  string
		node  KubeNode
		ready bool
		want  string
	}{
		{"complete", KubeNode{Ready: true, ProviderID: id}, true, ""},
		{"no CNI", KubeNode{Reason: "cni"}, false, "not Ready: cni"},
		{"no cloud controller", KubeNode{Ready: true, Uninitialized: true}, false, "not initialised"},
		{"no provider ID", KubeNode{Ready: true}, false, "no provider ID"},
		{"somebody else's", KubeNode{Ready: true, ProviderID: "openstack://1"}, false, "the machine " + id},
	} {
		ready, why := judgeNode(tc.node, id)
		if ready != tc.ready || !strings.Contains(why, tc.want) {
			t.Errorf("%s: %v, %q", tc.name, ready, why)
		}
	}
}

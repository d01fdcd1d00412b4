package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/fault"
)

// Observer is told the outcome of every attempt of every activity; kind is
// empty on success.
type Observer func(activity string, kind fault.Kind, took time.Duration)

// Boundary is the one place where faults become application errors. It has to
// be the outermost layer: a kind that fmt.Errorf wraps would reach the workflow
// as an anonymous retryable error.
type Boundary struct {
	interceptor.WorkerInterceptorBase
	Observe Observer // may be nil
}

// InterceptActivity implements interceptor.WorkerInterceptor.
func (b *Boundary) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &boundaryInbound{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, observe: b.Observe}
}

type boundaryInbound struct {
	interceptor.ActivityInboundInterceptorBase
	observe Observer
}

func (b *boundaryInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	started := time.Now()
	out, err := b.Next.ExecuteActivity(ctx, in)
	if b.observe != nil {
		b.observe(activity.GetInfo(ctx).ActivityType.Name, fault.KindOf(err), time.Since(started))
	}
	if err == nil || errors.Is(err, activity.ErrResultPending) {
		return out, err
	}
	if ctx.Err() != nil && temporal.IsCanceledError(ctx.Err()) {
		return nil, ctx.Err()
	}
	return nil, ApplicationError(err)
}

// ApplicationError returns err as the application error that workflows read: its
// type is the fault's kind. The cause is left out on purpose: its text is part
// of the message already, and chains may hold more than should be recorded.
func ApplicationError(err error) error {
	if err == nil {
		return nil
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app
	}
	kind := fault.KindOf(err)
	opts := temporal.ApplicationErrorOptions{
		NonRetryable:   !kind.Retryable(),
		NextRetryDelay: fault.RetryAfter(err),
	}
	if kind == fault.NotYet {
		opts.Category = temporal.ApplicationErrorCategoryBenign
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(kind), opts)
}

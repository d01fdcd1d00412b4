package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/workflows"
)

// firstRetry and lastRetry bound the pauses between two attempts to reach
// Temporal at start.
const (
	firstRetry = time.Second
	lastRetry  = 15 * time.Second
)

// whileUnavailable repeats do until Temporal answers: a server that accepts
// connections may not serve yet, and a worker must not end for that.
func whileUnavailable(ctx context.Context, first time.Duration, log *slog.Logger, do func(context.Context) error) error {
	for pause := first; ; pause = min(2*pause, lastRetry) {
		err := do(ctx)
		if !passes(err) {
			return err
		}
		log.WarnContext(ctx, "Temporal does not answer yet", "error", err, "again", pause)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// passes reports whether an error of Temporal's goes away by itself.
func passes(err error) bool {
	var (
		unavailable *serviceerror.Unavailable
		late        *serviceerror.DeadlineExceeded
		exhausted   *serviceerror.ResourceExhausted
	)
	return errors.As(err, &unavailable) || errors.As(err, &late) || errors.As(err, &exhausted)
}

// ensureSearchAttributes makes sure that the namespace knows Ichor's search
// attributes: without them every start of a workflow would fail. Only what is
// missing is added; an operator may have added them where workers may not.
func ensureSearchAttributes(ctx context.Context, c client.Client) error {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return err
	}
	namespace := opts.Namespace
	if namespace == "" {
		namespace = client.DefaultNamespace
	}
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("list search attributes: %w", err)
	}
	missing := map[string]enumspb.IndexedValueType{}
	for _, a := range []temporal.SearchAttributeKeyKeyword{workflows.AttrCluster, workflows.AttrPhase, workflows.AttrCloud, workflows.AttrKind} {
		if _, ok := have.GetCustomAttributes()[a.GetName()]; !ok {
			missing[a.GetName()] = enumspb.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	var exists *serviceerror.AlreadyExists
	if err != nil && !errors.As(err, &exists) { // another worker was faster
		return fmt.Errorf("add search attributes: %w", err)
	}
	return nil
}

package workflows

import (
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/fault"
)

// kindOf is the one place where workflows read what activities.Boundary wrote.
// An activity that ended without an answer is Ambiguous; cancellation has no
// kind.
func kindOf(err error) fault.Kind {
	if err == nil || temporal.IsCanceledError(err) {
		return ""
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		for _, k := range fault.Kinds() {
			if string(k) == app.Type() {
				return k
			}
		}
		return fault.Internal
	}
	if temporal.IsTimeoutError(err) {
		return fault.Ambiguous
	}
	return fault.KindOf(err)
}

// unserved reports whether an activity ran out of time without any attempt that
// told anything: no worker was there. That says nothing about what was asked, so
// it is asked again however long it takes.
func unserved(err error) bool {
	var timeout *temporal.TimeoutError
	var app *temporal.ApplicationError
	if !errors.As(err, &timeout) || errors.As(err, &app) {
		return false
	}
	t := timeout.TimeoutType()
	return t == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_CLOSE || t == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START
}

// messageOf is an error's own text, without the layers that Temporal adds.
func messageOf(err error) string {
	if err == nil {
		return ""
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return "no answer in time (" + timeout.TimeoutType().String() + ")"
	}
	if temporal.IsCanceledError(err) {
		return "canceled"
	}
	return err.Error()
}

func failureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{Kind: kindOf(err), Message: messageOf(err)}
}

// fail makes the error that ends a workflow: its type is the kind.
func fail(kind fault.Kind, format string, args ...any) error {
	return temporal.NewApplicationErrorWithOptions(fmt.Sprintf(format, args...), string(kind),
		temporal.ApplicationErrorOptions{NonRetryable: true})
}

// failed says at which step an error ended a workflow; cancellation stays what
// it is.
func failed(step string, err error) error {
	if err == nil || temporal.IsCanceledError(err) || workflow.IsContinueAsNewError(err) {
		return err
	}
	return fail(kindOf(err), "%s: %s", step, messageOf(err))
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Exit codes. They are part of the command line's contract: docs/reference/cli.md.
const (
	exitOK          = 0
	exitFailed      = 1   // the operation ended in failure, or something unexpected
	exitUsage       = 2   // flags, arguments or configuration
	exitInvalid     = 3   // the spec or the request is wrong
	exitConflict    = 4   // another run holds the lock, the cluster exists differently, or what was asked is refused now
	exitNotFound    = 5   // there is no such cluster or group
	exitUnavailable = 6   // Temporal, the store or the credentials cannot be used
	exitUnanswered  = 7   // a request got no answer in time; it may be applied yet
	exitInterrupted = 130 // interrupted; what was started goes on
)

// usageError is a mistake on the command line or in the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// interrupted ends a command that stopped watching. It has been explained.
type interrupted struct{}

func (interrupted) Error() string { return "interrupted" }

// runError is a workflow that ended without success.
type runError struct {
	Kind     fault.Kind
	Message  string
	Canceled bool
}

func (e *runError) Error() string {
	switch {
	case e.Canceled:
		return "canceled: " + e.Message
	case e.Kind == "":
		return e.Message
	}
	return fmt.Sprintf("%s (%s)", e.Message, e.Kind)
}

// runFailure reads the error of a finished workflow.
func runFailure(err error) error {
	if err == nil {
		return nil
	}
	var canceled *temporal.CanceledError
	if errors.As(err, &canceled) {
		e := &runError{Canceled: true, Message: "the run was canceled"}
		var text string
		if canceled.HasDetails() && canceled.Details(&text) == nil && text != "" {
			e.Message = text
		}
		return e
	}
	var terminated *temporal.TerminatedError
	if errors.As(err, &terminated) {
		return &runError{Message: "the run was terminated from outside, so nothing was undone; `ichor delete` cleans up"}
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return &runError{Kind: fault.Kind(app.Type()), Message: app.Message()}
	}
	if temporal.IsTimeoutError(err) {
		return &runError{Message: "the run timed out, so nothing was undone; `ichor delete` cleans up"}
	}
	return err
}

// exitCode maps an error to the code that scripts see.
func exitCode(err error) int {
	var usage usageError
	var stop interrupted
	var ended *runError
	var problems cluster.Problems
	var open unanswered
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &stop):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &open):
		return exitUnanswered
	case errors.As(err, &problems):
		return exitInvalid
	case errors.As(err, &ended):
		return codeOf(ended.Kind, exitFailed)
	}
	var unavailable *serviceerror.Unavailable
	var denied *serviceerror.PermissionDenied
	var namespace *serviceerror.NamespaceNotFound
	if errors.As(err, &unavailable) || errors.As(err, &denied) || errors.As(err, &namespace) {
		return exitUnavailable
	}
	if fault.Is(err, fault.Invalid) {
		return exitUsage // not the spec: a setting, such as the store's URL
	}
	return codeOf(fault.KindOf(err), exitFailed)
}

func codeOf(k fault.Kind, other int) int {
	switch k {
	case fault.Invalid:
		return exitInvalid
	case fault.Conflict, fault.Unsafe:
		return exitConflict
	case fault.NotFound:
		return exitNotFound
	case fault.Unavailable, fault.Unauthorized:
		return exitUnavailable
	default:
		return other
	}
}

// report prints the one message of an error and returns the exit code.
func (a *app) report(err error) int {
	code := exitCode(err)
	if code == exitOK || code == exitInterrupted {
		return code
	}
	var problems cluster.Problems
	var files badFiles
	several := errors.As(err, &files)
	isSpec := errors.As(err, &problems) && !several
	if a.cfg.Output == outputJSON {
		e := map[string]any{"error": strings.TrimSpace(err.Error()), "exitCode": code}
		if k := kindOf(err); k != "" {
			e["kind"] = k
		}
		var open unanswered
		if errors.As(err, &open) {
			e["requestID"] = open.requestID
		}
		if isSpec {
			what := "the spec"
			if a.isStrategy {
				what = "the strategy"
			}
			e["error"], e["problems"] = what+" is not valid", problems
		}
		if several {
			e["error"], e["problems"] = "not both files are valid", files.located()
		}
		if b, jsonErr := json.Marshal(e); jsonErr == nil {
			fmt.Fprintln(a.err, string(b))
			return code
		}
	}
	if isSpec {
		files, several = badFiles{{a.specName(), problems}}, true
	}
	if several {
		for _, f := range files {
			if !errors.As(f.err, &problems) {
				fmt.Fprintf(a.err, "ichor: %s: %v\n", f.file, f.err)
				continue
			}
			fmt.Fprintf(a.err, "ichor: %s is not valid\n", f.file)
			for _, p := range problems {
				fmt.Fprintf(a.err, "  %s\n", p)
			}
		}
		return code
	}
	fmt.Fprintf(a.err, "ichor: %v\n", err)
	if code == exitUsage {
		fmt.Fprintln(a.err, "Run ichor --help, or ichor COMMAND --help.")
	}
	return code
}

func kindOf(err error) fault.Kind {
	var ended *runError
	if errors.As(err, &ended) {
		return ended.Kind
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Kind
	}
	return ""
}

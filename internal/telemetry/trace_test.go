package telemetry_test

import (
	"context"
	"io"
	"testing"

	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/internal/telemetry"
)

func TestTraces(t *testing.T) {
	url, calls := collector(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	tel, err := telemetry.New(t.Context(), telemetry.Options{Service: "test", OTLPEndpoint: url, LogOutput: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	traced, ok := tel.Interceptors()[0].(interceptor.WorkerInterceptor)
	if !ok {
		t.Fatal("the interceptor does not trace workers")
	}
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{traced}})
	act := func(context.Context) error { return nil }
	env.RegisterActivity(act)
	if _, err := env.ExecuteActivity(act); err != nil {
		t.Fatal(err)
	}
	// The collector refuses, which is no concern of the command.
	_ = tel.Shutdown(t.Context())
	if calls() != 1 {
		t.Errorf("the collector got %d batches", calls())
	}
}

func TestNoTracesWithoutCollector(t *testing.T) {
	if got := start(t, telemetry.Options{}).Interceptors(); len(got) != 0 {
		t.Errorf("%d interceptors", len(got))
	}
}

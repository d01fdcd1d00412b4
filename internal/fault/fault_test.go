package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestKindOf(t *testing.T) {
	quota := &Error{Kind: Quota, Op: "create server", Message: "limit reached", Code: "limit", HTTPStatus: 400, RequestID: "r1", RetryAfter: time.Second}
	for _, tc := range []struct {
		name string
		err  error
		want Kind
	}{
		{"nil", nil, ""},
		{"plain", errors.New("x"), Internal},
		{"fault", quota, Quota},
		{"wrapped by fmt", fmt.Errorf("group worker: %w", quota), Quota},
		{"outermost wins", Wrap(Ambiguous, "create", quota), Ambiguous},
		{"cancelled", fmt.Errorf("call: %w", context.Canceled), Unavailable},
		{"deadline", context.DeadlineExceeded, Unavailable},
	} {
		if got := KindOf(tc.err); got != tc.want {
			t.Errorf("%s: KindOf = %q, want %q", tc.name, got, tc.want)
		}
	}
	if got, want := quota.Error(), "create server: limit reached (limit, HTTP 400, request r1)"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if got := RetryAfter(fmt.Errorf("x: %w", quota)); got != time.Second {
		t.Errorf("RetryAfter = %v, want 1s", got)
	}
	if Wrap(Invalid, "x", nil) != nil {
		t.Error("Wrap of nil is not nil")
	}
}

func TestRetryableLeavesOutWhatMustNotRepeat(t *testing.T) {
	never := map[Kind]bool{Invalid: true, Unsafe: true, Unauthorized: true, Quota: true, Capacity: true, NotFound: true, Ambiguous: true}
	for _, k := range Kinds() {
		if k.Retryable() == never[k] {
			t.Errorf("%s: Retryable = %v", k, k.Retryable())
		}
	}
}

package server_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/internal/fault"
)

func node(id, name string) msg { return msg{}.text(1, id).text(2, name) }

func TestChangesReachTheSource(t *testing.T) {
	one, two := provider.NodeRef{ProviderID: "cloudscale://1", Name: "demo-worker-1"}, provider.NodeRef{Name: "only-a-name"}
	for name, tc := range map[string]struct {
		method string
		in     msg
		want   change
	}{
		"increase": {"NodeGroupIncreaseSize", msg{}.num(1, 2).text(2, "demo/worker"), change{Op: "increase", Group: "demo/worker", Delta: 2}},
		"decrease": {"NodeGroupDecreaseTargetSize", msg{}.num(1, -2).text(2, "demo/worker"), change{Op: "decrease", Group: "demo/worker", Delta: 2}},
		"delete": {
			"NodeGroupDeleteNodes", msg{}.sub(1, node("cloudscale://1", "demo-worker-1")).sub(1, node("", "only-a-name")).text(2, "demo/worker"),
			change{Op: "delete", Group: "demo/worker", Nodes: []provider.NodeRef{one, two}},
		},
		"delete one twice": {
			"NodeGroupDeleteNodes", msg{}.sub(1, node("cloudscale://1", "demo-worker-1")).sub(1, node("cloudscale://1", "demo-worker-1")).text(2, "demo/worker"),
			change{Op: "delete", Group: "demo/worker", Nodes: []provider.NodeRef{one}},
		},
		"delete a placeholder": {
			"NodeGroupDeleteNodes", msg{}.sub(1, node("ichor://demo/worker/r-1", "ichor://demo/worker/r-1").sub(4, msg{}.text(1, "k8s.io/cluster-autoscaler/fake-node-reason").text(2, "create-error"))).text(2, "demo/worker"),
			change{Op: "delete", Group: "demo/worker", Nodes: []provider.NodeRef{{ProviderID: "ichor://demo/worker/r-1", Name: "ichor://demo/worker/r-1"}}},
		},
	} {
		source := newFake()
		f := serve(t, source, nil)
		out, err := f.call(t, tc.method, tc.in)
		if err != nil || len(out) != 0 {
			t.Errorf("%s: %x, %v", name, out, err)
		}
		if diff := cmp.Diff([]change{tc.want}, source.changes, cmpopts.IgnoreUnexported(change{})); diff != "" {
			t.Errorf("%s: changes (-want +got):\n%s", name, diff)
		}
		if len(source.changes) == 1 && !source.changes[0].hasID {
			t.Errorf("%s: the request has no id", name)
		}
		text := f.log.String()
		for _, want := range []string{"request accepted", "group=demo/worker", "request=ca-"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the log does not say %q:\n%s", name, want, text)
			}
		}
	}
}

func TestChangesThatMeanNothing(t *testing.T) {
	for name, tc := range map[string]struct {
		method string
		in     msg
	}{
		"increase by nothing":         {"NodeGroupIncreaseSize", msg{}.text(2, "demo/worker")},
		"increase by less":            {"NodeGroupIncreaseSize", msg{}.num(1, -1).text(2, "demo/worker")},
		"decrease by nothing":         {"NodeGroupDecreaseTargetSize", msg{}.text(2, "demo/worker")},
		"decrease upwards":            {"NodeGroupDecreaseTargetSize", msg{}.num(1, 1).text(2, "demo/worker")},
		"decrease by the least int32": {"NodeGroupDecreaseTargetSize", msg{}.num(1, 0).text(2, "demo/worker")},
		"delete nothing":              {"NodeGroupDeleteNodes", msg{}.text(2, "demo/worker")},
		"delete something nameless":   {"NodeGroupDeleteNodes", msg{}.sub(1, node("cloudscale://1", "")).sub(1, msg{}).text(2, "demo/worker")},
	} {
		source := newFake()
		_, err := serve(t, source, nil).call(t, tc.method, tc.in)
		wantCode(t, name, err, codes.InvalidArgument)
		if len(source.changes) > 0 {
			t.Errorf("%s: had an effect: %v", name, source.changes)
		}
	}
}

func TestRefusalsOfTheSource(t *testing.T) {
	for _, tc := range []struct {
		err      error
		want     codes.Code
		increase codes.Code
	}{
		{fault.New(fault.Invalid, "", "beyond max 5"), codes.InvalidArgument, codes.OutOfRange},
		{fault.New(fault.NotFound, "", "no such group"), codes.NotFound, codes.NotFound},
		{fault.New(fault.Conflict, "", "the group is paused"), codes.FailedPrecondition, codes.FailedPrecondition},
		{fault.New(fault.Unsafe, "", "guard"), codes.FailedPrecondition, codes.FailedPrecondition},
		{fault.New(fault.Unavailable, "", "Temporal"), codes.Unavailable, codes.Unavailable},
		{fault.New(fault.Ambiguous, "", "no answer"), codes.Unavailable, codes.Unavailable},
		{fault.New(fault.Unauthorized, "", "API key"), codes.PermissionDenied, codes.PermissionDenied},
		{fault.New(fault.RateLimited, "", "slow down"), codes.ResourceExhausted, codes.ResourceExhausted},
		{fault.New(fault.Internal, "", "bug"), codes.Internal, codes.Internal},
		{fmt.Errorf("wrapped: %w", fault.New(fault.Conflict, "", "the group is paused")), codes.FailedPrecondition, codes.FailedPrecondition},
		{errors.New("of no kind"), codes.Internal, codes.Internal},
		{context.DeadlineExceeded, codes.Unavailable, codes.Unavailable},
	} {
		source := newFake()
		source.err = tc.err
		f := serve(t, source, nil)
		_, err := f.call(t, "NodeGroupIncreaseSize", msg{}.num(1, 1).text(2, "demo/worker"))
		wantCode(t, "increase: "+tc.err.Error(), err, tc.increase)
		_, err = f.call(t, "NodeGroupDecreaseTargetSize", msg{}.num(1, -1).text(2, "demo/worker"))
		wantCode(t, "decrease: "+tc.err.Error(), err, tc.want)
		_, err = f.call(t, "NodeGroupDeleteNodes", msg{}.sub(1, node("cloudscale://1", "")).text(2, "demo/worker"))
		wantCode(t, "delete: "+tc.err.Error(), err, tc.want)
		if got := status.Convert(err).Message(); !strings.Contains(got, tc.err.Error()) {
			t.Errorf("the answer %q hides %q", got, tc.err)
		}
		if text := f.log.String(); strings.Count(text, "request refused") != 3 || !strings.Contains(text, "op=delete-nodes group=demo/worker") {
			t.Errorf("refusals are not logged:\n%s", text)
		}
	}
}

func TestAPanicIsOneCallsError(t *testing.T) {
	source := newFake()
	source.panics = true
	f := serve(t, source, nil)
	_, err := f.call(t, "NodeGroupForNode", msg{}.sub(1, node("x", "y")))
	wantCode(t, "a bug", err, codes.Internal)
	if strings.Contains(err.Error(), "goroutine") {
		t.Errorf("the answer shows a stack: %v", err)
	}
	if !strings.Contains(f.log.String(), "a handler panicked") {
		t.Errorf("the log does not name the panic:\n%s", f.log)
	}
	if _, err := f.call(t, "NodeGroups", nil); err != nil {
		t.Errorf("the server did not survive: %v", err)
	}
}

func TestLimits(t *testing.T) {
	source := newFake()
	f := serve(t, source, nil)
	tooMany := msg{}.text(2, "demo/worker")
	for range 5001 {
		tooMany = tooMany.sub(1, nil)
	}
	_, err := f.call(t, "NodeGroupDeleteNodes", tooMany)
	if err == nil || !strings.Contains(err.Error(), "more than 5000 nodes") {
		t.Errorf("a deletion of too many nodes: %v", err)
	}
	// As many as there may be, with the labels of a real node.
	most := msg{}.text(2, "demo/worker")
	for i := range 5000 {
		n := node(fmt.Sprintf("cloudscale://%d", i), fmt.Sprintf("node-%d", i))
		for l := range 10 {
			n = n.sub(3, msg{}.text(1, fmt.Sprintf("label-%d", l)).text(2, "value"))
		}
		most = most.sub(1, n)
	}
	if _, err := f.call(t, "NodeGroupDeleteNodes", most); err != nil {
		t.Errorf("a deletion of 5000 nodes: %v", err)
	}
	if len(source.changes) != 1 || len(source.changes[0].Nodes) != 5000 {
		t.Errorf("%d changes reached the source", len(source.changes))
	}
	_, err = f.call(t, "NodeGroupForNode", msg{}.sub(1, msg{}.text(2, strings.Repeat("x", 5<<20))))
	wantCode(t, "a request of 5 MiB", err, codes.ResourceExhausted)
	_, err = f.call(t, "NodeGroupTargetSize", msg{}.text(1, strings.Repeat("x", 1<<20)))
	wantCode(t, "a long group id", err, codes.NotFound)
	if n := len(err.Error()); n > 1000 {
		t.Errorf("the answer repeats the id at a length of %d", n)
	}
}

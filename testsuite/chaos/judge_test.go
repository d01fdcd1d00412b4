package chaos

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// A judge that sees nothing would pass everything: each kind of damage must be
// told, and by its name.
func TestKillMatrixJudge(t *testing.T) {
	t.Parallel()
	r := rig.Start(t, rig.Options{SharedAPIServers: true})
	provision(t, r)
	ctx := t.Context()
	tells := func(judge func(context.Context) error, want string) {
		t.Helper()
		if err := judge(ctx); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the judge says %v, want something about %q", err, want)
		}
	}
	tells(r.Empty, "are left in the account")
	tells(r.Quiet, "still there: workflow cluster/demo/group/")
	before, err := r.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	kind, undo := here.twin(t, r, before)
	tells(r.Complete, fmt.Sprintf("%d %s, want %d", len(before.Kind(kind))+1, kind, len(before.Kind(kind))))
	undo()
	if err := r.Complete(ctx); err != nil {
		t.Fatalf("once the twin is gone: %v", err)
	}
	const nobody = "000000000000"
	stray := here.stray(t, r, before, nobody)
	tells(r.Complete, "2 networks, want 1")
	tells(r.Complete, nobody)
	workers := before.Machines()
	worker := workers[slices.IndexFunc(workers, func(m stack.Resource) bool { return m.Tags[cluster.TagGroup] != cluster.ControlPlaneGroup })]
	byHand := func(what stack.Action) {
		t.Helper()
		if err := r.ByHand(ctx, worker, what); err != nil {
			t.Fatal(err)
		}
	}
	byHand(stack.Halt)
	tells(r.Complete, "machine "+worker.Name+" is ") // on its way down, then stopped
	byHand(stack.Vanish)
	tells(r.Complete, "4 machines, want 5")
	tells(r.Complete, "nodes:")
	if _, err := r.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	tells(r.Empty, stray)
}

// post makes something by the API of cloudscale.ch and returns its id.
func post(t *testing.T, r *rig.Rig, path string, body any) string {
	t.Helper()
	var made struct{ UUID string }
	if err := r.Cloud(t.Context(), http.MethodPost, path, body, &made); err != nil {
		t.Fatal(err)
	}
	return made.UUID
}

package chaos

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
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
	post := func(path string, body any) (made struct{ UUID string }) {
		t.Helper()
		if err := r.Cloud(ctx, http.MethodPost, path, body, &made); err != nil {
			t.Fatal(err)
		}
		return made
	}
	group := before.ServerGroups[0]
	twin := post("v1/server-groups", map[string]any{"name": group.Name, "type": "anti-affinity", "zone": group.Zone, "tags": group.Tags})
	tells(r.Complete, "3 server groups, want 2")
	if err := r.Cloud(ctx, http.MethodDelete, "v1/server-groups/"+twin.UUID, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Complete(ctx); err != nil {
		t.Fatalf("once the twin is gone: %v", err)
	}
	stray := post("v1/networks", map[string]any{
		"name": "stray", "zone": group.Zone, "auto_create_ipv4_subnet": false, "tags": map[string]string{cluster.TagCluster: "000000000000"},
	})
	tells(r.Complete, "2 networks, want 1")
	tells(r.Complete, "000000000000")
	worker := before.Servers[len(before.Servers)-1]
	post("_devcloud/servers/"+worker.UUID+"/stop", nil)
	tells(r.Complete, "server "+worker.Name+" is ") // changing, then stopped
	post("_devcloud/servers/"+worker.UUID+"/vanish", nil)
	tells(r.Complete, "4 servers, want 5")
	tells(r.Complete, "nodes:")
	if _, err := r.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	tells(r.Empty, "networks: "+stray.UUID)
}

package cloudscale

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// A list that does not show what was adopted is not taken for all there is,
// whether it was adopted by this call, by one before, or at the same time.
func TestAdoptionWaitsForTheList(t *testing.T) {
	plain := map[string]string{"pool": "workers"}
	owned := maps.Clone(plain)
	maps.Copy(owned, map[string]string{
		cluster.TagCluster: "u1", cluster.TagGroup: "workers", cluster.TagMachine: adoptedID(someID), cluster.TagRole: "worker",
	})
	type server struct {
		UUID string            `json:"uuid"`
		Name string            `json:"name"`
		Tags map[string]string `json:"tags"`
	}
	for _, c := range []struct {
		name        string
		listed, now map[string]string // tags in the list of the pool, and of the server itself
		writes      int
	}{
		{"adopted now", plain, plain, 1},
		{"adopted before", owned, owned, 0},
		{"adopted meanwhile", plain, owned, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			writes, shown := 0, false
			p := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var answer any
				switch q := r.URL.Query(); {
				case r.Method == http.MethodPatch:
					writes++
					w.WriteHeader(http.StatusNoContent)
					return
				case strings.HasSuffix(r.URL.Path, someID):
					answer = server{someID, "a", c.now}
				case q.Has("tag:pool"):
					answer = []server{{someID, "a", c.listed}}
				case q.Has("tag:"+cluster.TagCluster) && shown:
					answer = []server{{someID, "a", owned}}
				default:
					answer = []server{}
				}
				if err := json.NewEncoder(w).Encode(answer); err != nil {
					t.Error(err)
				}
			}))
			req := cloud.AdoptRequest{Owner: demo, Role: cluster.RoleWorker, Tag: cluster.Tag{Key: "pool", Value: "workers"}}
			if ms, err := p.AdoptMachines(t.Context(), req); !fault.Is(err, fault.NotYet) {
				t.Errorf("got %v, %v, want kind %q", ms, err, fault.NotYet)
			}
			if writes != c.writes {
				t.Errorf("%d writes, want %d", writes, c.writes)
			}
			shown = true
			ms, err := p.AdoptMachines(t.Context(), req)
			if err != nil || len(ms) != 1 || ms[0].Ref.ID != adoptedID(someID) {
				t.Errorf("got %v, %v", ms, err)
			}
		})
	}
}

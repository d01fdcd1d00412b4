package devcloud_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// What goes wrong while a group of machines grows, as README tells to bring it
// about. Each row ends with an account in which the same request succeeds.
func TestWhatKeepsAGroupFromGrowing(t *testing.T) {
	limits := func(body string) func(*site) {
		return func(s *site) {
			if status, answer := s.call("PUT", "_devcloud/limits", body); status != 200 {
				s.t.Fatalf("limits: %d %s", status, answer)
			}
		}
	}
	fault := func(body string) func(*site) {
		return func(s *site) {
			if status, answer := s.call("POST", "_devcloud/faults", body); status != 201 {
				s.t.Fatalf("fault: %d %s", status, answer)
			}
		}
	}
	for _, tt := range []struct {
		name        string
		begin, end  func(*site)
		status      int    // of the refused creation; 0: no answer
		says        string // its words
		made        int    // servers it made nevertheless
		elsewhere   bool   // another flavor of the same account can be had meanwhile
		readsToFail bool
	}{
		{
			name: "quota of servers", begin: limits(`{"servers": 2}`), end: limits(`{}`),
			status: 400, says: world.QuotaText,
		},
		{
			name: "quota of memory", begin: limits(`{"memory_gb": 17}`), end: limits(`{}`),
			status: 400, says: world.QuotaText,
		},
		{
			name: "quota by a fault", begin: fault(`{"id": "q", "route": "POST /v1/servers", "effect": "quota", "count": -1}`), end: remove("q"),
			status: 400, says: world.QuotaText,
		},
		{
			name: "a flavor out of stock", begin: limits(`{"out_of_stock": ["flex-8-4@rma1"]}`), end: limits(`{}`),
			status: 400, says: world.NoStockText, elsewhere: true,
		},
		{
			name: "out of stock for one name", begin: fault(`{"id": "s", "route": "POST /v1/servers", "effect": "out-of-stock", "contains": "worker-2", "count": -1}`), end: remove("s"),
			status: 400, says: world.NoStockText, elsewhere: true,
		},
		{
			name: "the image is missing", begin: fault(`{"id": "i", "route": "POST /v1/servers", "effect": "image-404", "count": -1}`), end: remove("i"),
			status: 404, says: "Image not found.",
		},
		{
			name: "a lost response", begin: fault(`{"route": "POST /v1/servers", "effect": "commit-then-drop"}`), end: func(*site) {},
			made: 1, elsewhere: true,
		},
		{
			name: "the whole API is down", begin: fault(`{"id": "d", "route": "* /v1/**", "effect": "drop-before-commit", "count": -1}`), end: remove("d"),
			readsToFail: true,
		},
		{
			name: "the whole API answers 503", begin: fault(`{"id": "u", "route": "* /v1/**", "effect": "status", "status": 503, "count": -1}`), end: remove("u"),
			status: 503, readsToFail: true,
		},
		{
			name: "the whole API hangs", begin: fault(`{"id": "h", "route": "* /v1/**", "effect": "hang", "count": -1}`), end: remove("h"),
			readsToFail: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, devcloud.Options{})
			for _, name := range []string{"worker-0", "worker-1"} {
				s.server(request(name))
			}
			tt.begin(s)
			status, says := s.try(request("worker-2"))
			if status != tt.status || !strings.Contains(says, tt.says) {
				t.Errorf("creation: %d %s, want %d with %q", status, says, tt.status, tt.says)
			}
			if n := len(s.World().Servers()); n != 2+tt.made {
				t.Errorf("%d servers, want %d", n, 2+tt.made)
			}
			if tt.elsewhere {
				other := request("other")
				other.Flavor = "flex-4-2"
				if status, says := s.try(other); status != 201 {
					t.Errorf("another flavor: %d %s", status, says)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			_, err := s.sdk.Servers.List(ctx)
			cancel()
			if (err != nil) != tt.readsToFail {
				t.Errorf("list: %v", err)
			}
			tt.end(s)
			s.server(request("worker-2"))
		})
	}
}

func remove(fault string) func(*site) {
	return func(s *site) {
		if status, answer := s.call("DELETE", "_devcloud/faults/"+fault, ""); status != 204 {
			s.t.Fatalf("remove fault: %d %s", status, answer)
		}
	}
}

// try creates a server without patience and returns the status, 0 for none.
func (s *site) try(req *cloudscale.ServerRequest) (int, string) {
	s.t.Helper()
	before := len(s.Faults().Requests(0))
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	_, err := s.sdk.Servers.Create(ctx, req)
	log := s.Faults().Requests(0)
	if len(log) != before+1 || log[before].Method != http.MethodPost {
		s.t.Fatalf("the log has %d requests, want %d", len(log), before+1)
	}
	var refused *cloudscale.ErrorResponse
	switch {
	case err == nil:
		return log[before].Status, ""
	case errors.As(err, &refused):
		return refused.StatusCode, refused.Error()
	}
	return log[before].Status, err.Error()
}

// A machine that never runs, and one that somebody deletes or stops behind the
// owner's back, in the panel (fault API) or with the API itself.
func TestWhatHappensToMembersOfAGroup(t *testing.T) {
	s := start(t, devcloud.Options{})
	if _, err := s.Faults().Add(faults.Fault{Route: "POST /v1/servers", Effect: faults.StuckChanging, Contains: "stuck", Count: -1}); err != nil {
		t.Fatal(err)
	}
	stuck := s.server(request("stuck"))
	var uuids []string
	for _, name := range []string{"vanishes", "deleted", "stopped", "stopped-by-api"} {
		uuids = append(uuids, s.server(request(name)).UUID)
	}
	state := func(uuid string) string {
		v, err := s.sdk.Servers.Get(t.Context(), uuid)
		var refused *cloudscale.ErrorResponse
		if errors.As(err, &refused) && refused.StatusCode == http.StatusNotFound {
			return "gone"
		}
		if err != nil {
			t.Fatal(err)
		}
		return v.Status
	}
	for _, uuid := range uuids {
		eventually(t, "running", func() bool { return state(uuid) == "running" })
	}
	for _, c := range []struct{ method, path string }{
		{"POST", "_devcloud/servers/" + uuids[0] + "/vanish"},
		{"DELETE", "v1/servers/" + uuids[1]},
		{"POST", "_devcloud/servers/" + uuids[2] + "/stop"},
		{"POST", "v1/servers/" + uuids[3] + "/stop"},
	} {
		if status, body := s.call(c.method, c.path, ""); status != 204 {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	for i, want := range []string{"gone", "gone", "stopped", "stopped"} {
		eventually(t, want, func() bool { return state(uuids[i]) == want })
	}
	if got := state(stuck.UUID); got != "changing" {
		t.Errorf("the stuck server is %s", got)
	}
}

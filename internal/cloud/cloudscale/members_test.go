package cloudscale

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

const poolID = "5b8b8c5e-8b8b-4c5e-8b8b-8b8b8c5e8b8b"

type member struct {
	UUID          string `json:"uuid"`
	Name          string `json:"name"`
	Address       string `json:"address"`
	Port          int    `json:"protocol_port"`
	MonitorStatus string `json:"monitor_status"`
	CreatedAt     string `json:"created_at"`
}

// poolServer is one pool; it notes writes in the order in which they arrive.
type poolServer struct {
	t       *testing.T
	members []member
	writes  []string
	// status of a member that is added
	status string
	// refuse is answered to POSTs, after which the member may be there
	refuse string
	race   bool
}

func (s *poolServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, _ := strings.CutPrefix(r.URL.Path, "/v1/load-balancers/pools/"+poolID+"/members")
	id = strings.TrimPrefix(id, "/")
	switch r.Method {
	case http.MethodGet:
		if err := json.NewEncoder(w).Encode(s.members); err != nil {
			s.t.Error(err)
		}
	case http.MethodPost:
		m := member{UUID: fmt.Sprint("new-", len(s.writes)), MonitorStatus: s.status, CreatedAt: "2026-01-02T03:04:05Z"}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			s.t.Error(err)
		}
		s.writes = append(s.writes, "add "+m.Address)
		if s.refuse == "" || s.race {
			s.members = append(s.members, m)
		}
		if s.refuse != "" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, s.refuse)
			return
		}
		w.WriteHeader(http.StatusCreated)
		if err := json.NewEncoder(w).Encode(m); err != nil {
			s.t.Error(err)
		}
	case http.MethodDelete:
		s.writes = append(s.writes, "remove "+id)
		s.members = slices.DeleteFunc(s.members, func(m member) bool { return m.UUID == id })
		w.WriteHeader(http.StatusNoContent)
	}
}

func TestSyncMembersOrder(t *testing.T) {
	have := func(id, ip, status string) member {
		return member{UUID: id, Name: id, Address: ip, Port: apiPort, MonitorStatus: status, CreatedAt: "2026-01-01T00:00:00Z"}
	}
	want := func(ips ...string) (out []cloud.Member) {
		for _, ip := range ips {
			out = append(out, cloud.Member{MachineID: ip, Name: ip, Address: ip})
		}
		return out
	}
	odd := have("odd", "10.0.0.1", "up")
	odd.Port = 80
	for _, tc := range []struct {
		name   string
		server poolServer
		want   []cloud.Member
		status cloud.MembersStatus
		kind   fault.Kind
		writes []string
	}{
		{
			name: "nothing to do", server: poolServer{members: []member{have("a", "10.0.0.1", "up")}},
			want: want("10.0.0.1"), status: cloud.MembersStatus{Total: 1, Healthy: 1},
		},
		{
			name: "adds before it removes", server: poolServer{members: []member{have("a", "10.0.0.1", "up")}, status: "up"},
			want: want("10.0.0.2"), status: cloud.MembersStatus{Total: 1, Healthy: 1}, writes: []string{"add 10.0.0.2", "remove a"},
		},
		{
			name: "keeps the old one until a new one is up", server: poolServer{members: []member{have("a", "10.0.0.1", "up")}, status: "down"},
			want: want("10.0.0.2"), status: cloud.MembersStatus{Total: 1}, kind: fault.NotYet, writes: []string{"add 10.0.0.2"},
		},
		{
			name: "an old one that is down serves nobody", server: poolServer{members: []member{have("a", "10.0.0.1", "down")}, status: "down"},
			want: want("10.0.0.2"), status: cloud.MembersStatus{Total: 1}, writes: []string{"add 10.0.0.2", "remove a"},
		},
		{
			name:   "one that stays is enough",
			server: poolServer{members: []member{have("a", "10.0.0.1", "up"), have("b", "10.0.0.2", "up")}, status: "down"},
			want:   want("10.0.0.2", "10.0.0.3"), status: cloud.MembersStatus{Total: 2, Healthy: 1}, writes: []string{"add 10.0.0.3", "remove a"},
		},
		{
			name: "all go", server: poolServer{members: []member{have("a", "10.0.0.1", "up"), have("b", "10.0.0.2", "up")}},
			writes: []string{"remove a", "remove b"},
		},
		{
			name: "the younger of two goes", server: poolServer{members: []member{have("b", "10.0.0.1", "up"), have("a", "10.0.0.1", "up")}},
			want: want("10.0.0.1"), status: cloud.MembersStatus{Total: 1, Healthy: 1}, writes: []string{"remove b"},
		},
		{
			name: "another port is another member", server: poolServer{members: []member{odd}, status: "up"},
			want: want("10.0.0.1"), status: cloud.MembersStatus{Total: 1, Healthy: 1}, writes: []string{"add 10.0.0.1", "remove odd"},
		},
		{
			name: "somebody else was faster", server: poolServer{refuse: `{"address": ["The pool already has it."]}`, race: true, status: "up"},
			want: want("10.0.0.1"), status: cloud.MembersStatus{Total: 1, Healthy: 1}, writes: []string{"add 10.0.0.1"},
		},
		{
			name: "refused", server: poolServer{refuse: `{"address": ["No."]}`},
			want: want("10.0.0.1"), kind: fault.Invalid, writes: []string{"add 10.0.0.1"},
		},
		{name: "outside of the subnet", want: want("192.0.2.1"), kind: fault.Invalid},
		{name: "no address", want: want(""), kind: fault.Invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.server.t = t
			p := open(t, &tc.server)
			st, err := p.SyncMembers(t.Context(), cloud.SyncMembersRequest{
				Owner: demo, Members: tc.want,
				Have: []cloud.Resource{
					{Kind: kindSubnet, ID: "subnet", Attributes: []cluster.Tag{{Key: attrCIDR, Value: "10.0.0.0/24"}}}, {Kind: kindPool, ID: poolID},
				},
			})
			if fault.KindOf(err) != tc.kind {
				t.Errorf("got %v of kind %q, want %q", err, fault.KindOf(err), tc.kind)
			}
			if diff := cmp.Diff(tc.status, st); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.writes, tc.server.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}

package standalone

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/testsuite/stack"
)

const twoMembers = `cluster: shop
credentials: env:CLOUDSCALE_API_TOKEN
kubeconfig: none
zone: rma1
nodeGroups:
  - {name: worker, flavor: flex-8-2, min: 2, max: 5, image: flatcar, userData: "some text", tag: role=worker}
`

// A cloud that does not answer is no reason to believe that there are no
// servers: nothing is made until all that carry the tag are members, also when
// the takeover fails half-way and the worker dies in it.
func TestTakeOverInAnOutage(t *testing.T) {
	s := start(t)
	config := s.write("groups.yaml", twoMembers)
	var two []string
	for i := range 2 {
		two = append(two, s.server(fmt.Sprintf("worker-%d", i), map[string]string{"role": "worker"}))
	}
	_, seq := s.writes(0)
	s.fault(map[string]any{"id": "down", "route": "* /v1/**", "effect": "status", "status": 503, "count": -1})
	w, err := s.StartWorker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := s.serve(config)
	asked := func(method string, status, times int) func(context.Context) error {
		return func(ctx context.Context) error {
			var log []request
			if err := s.Cloud(ctx, http.MethodGet, fmt.Sprintf("_devcloud/requests?since=%d&method=%s&path=/v1/", seq, method), nil, &log); err != nil {
				return err
			}
			n := 0
			for _, r := range log {
				if r.Status == status {
					n++
				}
			}
			if n < times {
				return fmt.Errorf("%d of %d %s have failed with %d", n, times, method, status)
			}
			return nil
		}
	}
	s.eventually("the cloud is asked more than once", asked(http.MethodGet, http.StatusServiceUnavailable, 4))

	// The second tagging fails, and fails again with the next worker.
	s.fault(map[string]any{"id": "tags", "route": "PATCH /v1/servers/" + two[1], "effect": "tag-patch-500", "count": -1})
	s.mend("down")
	s.eventually("the takeover is half done", asked(http.MethodPatch, http.StatusInternalServerError, 1))
	if err := w.Kill(); err != nil {
		t.Fatal(err)
	}
	s.worker()
	s.eventually("the next worker tries", asked(http.MethodPatch, http.StatusInternalServerError, 2))
	if tags := s.tags(); tags[two[1]]["ichor/machine"] != "" {
		t.Errorf("the fault did not hold: %v", tags)
	}
	s.mend("tags")
	s.sees(p, groupID, "two members", group{Target: 2, Instances: running(two...)})
	if done, _ := s.writes(seq); len(done) > 0 {
		t.Errorf("the takeover made or deleted something: %q", done)
	}
	if log := s.log("worker"); strings.Contains(log, stack.Token) {
		t.Error("the log of the worker has the token")
	}
}

func (s *system) fault(f map[string]any) {
	s.t.Helper()
	if err := s.Cloud(s.t.Context(), http.MethodPost, "_devcloud/faults", f, nil); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) mend(id string) {
	s.t.Helper()
	if err := s.Cloud(s.t.Context(), http.MethodDelete, "_devcloud/faults/"+id, nil, nil); err != nil {
		s.t.Fatal(err)
	}
}

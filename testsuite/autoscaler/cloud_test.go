package autoscaler

import (
	"net/http"
	"strings"

	"github.com/ichor-project/ichor/testsuite/stack"
)

// prefix is what the names of a group's machines begin with.
func (s *system) prefix(group string) string { return s.name + "-" + group + "-" }

// servers are the group's machines in the account.
func (s *system) servers(group string) []stack.Resource {
	s.t.Helper()
	a, err := s.Account(s.ctx())
	s.must(err)
	var out []stack.Resource
	for _, r := range a.Machines() {
		if strings.HasPrefix(r.Name, s.prefix(group)) {
			out = append(out, r)
		}
	}
	return out
}

// bill is what the cloud's own journal says of a group: how many machines were
// ever made and how many there were at most at one time.
type bill struct{ Created, Peak int }

func (s *system) bill(group string) bill {
	s.t.Helper()
	b, err := s.Births(s.ctx(), s.prefix(group))
	s.must(err)
	return bill(b)
}

// fault bends the requests that create machines of a group until the test ends.
func (s *system) fault(group, effect string, more map[string]any) (remove func()) {
	s.t.Helper()
	f := map[string]any{"route": chosen.Routes.Machine, "contains": s.prefix(group), "effect": effect, "count": -1}
	for k, v := range more {
		f[k] = v
	}
	id, err := s.Fault(s.ctx(), f)
	s.must(err)
	done := false
	remove = func() {
		if !done {
			done = true
			s.noError(s.Cloud(s.ctx(), http.MethodDelete, "_devcloud/faults/"+id, nil, nil))
		}
	}
	s.t.Cleanup(remove)
	return remove
}

// defect makes the next machines of a group faulty.
func (s *system) defect(group string, count int, faults map[string]any) {
	s.t.Helper()
	s.must(s.Cloud(s.ctx(), http.MethodPost, "_devcloud/guests/defects",
		map[string]any{"name": s.prefix(group), "count": count, "faults": faults}, nil))
}

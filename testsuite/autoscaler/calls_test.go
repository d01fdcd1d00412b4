package autoscaler

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// Methods of the contract that the suite asks about.
const (
	mIncrease = "NodeGroupIncreaseSize"
	mDelete   = "NodeGroupDeleteNodes"
	mDecrease = "NodeGroupDecreaseTargetSize"
	mTarget   = "NodeGroupTargetSize"
	mNodes    = "NodeGroupNodes"
	mRefresh  = "Refresh"
)

// calls are the calls of one method for one group since a mark.
func (s *system) calls(mark int, method, group string) []proxy.Call {
	var out []proxy.Call
	for _, c := range s.proxy.Since(mark) {
		if c.Method == method && (group == "" || groupOf(c) == s.id(group)) {
			out = append(out, c)
		}
	}
	return out
}

// groupOf is the group that a request names.
func groupOf(c proxy.Call) string {
	if r, ok := c.Request.(interface{ GetId() string }); ok {
		return r.GetId()
	}
	return ""
}

// wanted adds up what the autoscaler asked for with success.
func wanted(calls []proxy.Call) (sum int) {
	for _, c := range calls {
		if r, ok := c.Request.(*wire.NodeGroupIncreaseSizeRequest); ok && c.Code == codes.OK {
			sum += int(r.GetDelta())
		}
	}
	return sum
}

// deleted are the ids and names of nodes in DeleteNodes calls.
func deleted(calls []proxy.Call) (ids []string) {
	for _, c := range calls {
		if r, ok := c.Request.(*wire.NodeGroupDeleteNodesRequest); ok {
			for _, n := range r.GetNodes() {
				ids = append(ids, cmp.Or(n.GetProviderID(), n.GetName()))
			}
		}
	}
	return ids
}

// first waits for a call of a method for a group that satisfies ok.
func (s *system) first(mark int, method, group string, ok func(proxy.Call) bool) proxy.Call {
	s.t.Helper()
	var found proxy.Call
	s.until(fmt.Sprintf("a %s for %s", method, group), func() bool {
		for _, c := range s.calls(mark, method, group) {
			if ok == nil || ok(c) {
				found = c
				return true
			}
		}
		return false
	})
	return found
}

func creating(i *wire.Instance) bool {
	return i.GetStatus().GetInstanceState() == wire.InstanceStatus_instanceCreating
}

// failing returns the first instance with an error in an answer to Nodes.
func failing(c proxy.Call) *wire.Instance {
	r, ok := c.Response.(*wire.NodeGroupNodesResponse)
	if !ok {
		return nil
	}
	for _, i := range r.GetInstances() {
		if i.GetStatus().GetErrorInfo().GetErrorCode() != "" {
			return i
		}
	}
	return nil
}

// judge looks at the whole log for what must hold in every scenario: the
// autoscaler waited for none of its requests in vain, and between two refreshes
// without a change the target is the number of instances that are not being
// deleted; and a deletion that was accepted stays accepted.
func (s *system) judge() {
	s.t.Helper()
	type window struct {
		target  map[string]int
		live    map[string]int
		touched map[string]bool
	}
	fresh := func() window {
		return window{target: map[string]int{}, live: map[string]int{}, touched: map[string]bool{}}
	}
	w, compared, late := fresh(), 0, 0
	flush := func() {
		for id, target := range w.target {
			live, both := w.live[id]
			if !both || w.touched[id] {
				continue
			}
			compared++
			if target != live {
				s.t.Errorf("group %s has target %d and %d instances that are not being deleted", id, target, live)
			}
		}
		w = fresh()
	}
	calls := s.proxy.Calls()
	s.judgeDeletions(calls)
	for _, c := range calls {
		id := groupOf(c)
		switch r := c.Response.(type) {
		case *wire.RefreshResponse:
			flush()
		case *wire.NodeGroupTargetSizeResponse:
			if have, ok := w.target[id]; ok && have != int(r.GetTargetSize()) {
				w.touched[id] = true
			}
			w.target[id] = int(r.GetTargetSize())
			if r.GetTargetSize() < 0 {
				s.t.Errorf("negative target: %v", c)
			}
		case *wire.NodeGroupNodesResponse:
			n := 0
			for _, i := range r.GetInstances() {
				if i.GetId() == "" {
					s.t.Errorf("an instance without id: %v", c)
				}
				if i.GetStatus().GetInstanceState() != wire.InstanceStatus_instanceDeleting {
					n++
				}
			}
			w.live[id] = n
		case *wire.NodeGroupIncreaseSizeResponse, *wire.NodeGroupDeleteNodesResponse, *wire.NodeGroupDecreaseTargetSizeResponse:
			w.touched[id] = true
		}
		if c.Code == codes.DeadlineExceeded || c.Code == codes.Canceled {
			late++
			if c.Method == mIncrease || c.Method == mDelete || c.Method == mDecrease {
				s.t.Errorf("the autoscaler gave up on a request: %v", c)
			}
		}
	}
	flush()
	s.t.Logf("%d calls, %d comparisons of target and instances, %d calls that the autoscaler gave up\n%s", len(calls), compared, late, latencies(calls))
}

// judgeDeletions looks for machines whose deletion was accepted and that are shown
// as any other afterwards: such a request was lost.
func (s *system) judgeDeletions(calls []proxy.Call) {
	s.t.Helper()
	since := map[string]proxy.Call{}
	for _, c := range calls {
		if c.Method == mDelete && c.Code == codes.OK {
			for _, id := range deleted([]proxy.Call{c}) {
				if _, again := since[id]; !again {
					since[id] = c
				}
			}
		}
	}
	for _, c := range calls {
		r, ok := c.Response.(*wire.NodeGroupNodesResponse)
		if !ok {
			continue
		}
		for _, i := range r.GetInstances() {
			accepted, ok := since[i.GetId()]
			if ok && c.Start.After(accepted.Start.Add(accepted.Took)) && i.GetStatus().GetInstanceState() != wire.InstanceStatus_instanceDeleting {
				s.t.Errorf("the deletion of %s was accepted and is forgotten: %v, %v", i.GetId(), accepted, i)
			}
		}
	}
	s.t.Logf("%d machines were given up", len(since))
}

// latencies is a table of how long answers took, for people.
func latencies(calls []proxy.Call) string {
	by := map[string][]time.Duration{}
	for _, c := range calls {
		by[c.Method] = append(by[c.Method], c.Took)
	}
	var lines []string
	for method, all := range by {
		slices.Sort(all)
		at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond) }
		lines = append(lines, fmt.Sprintf("%-28s %6d calls, p50 %v, p99 %v, most %v", method, len(all), at(0.5), at(0.99), at(1)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// tail shows the end of the log without the calls that repeat in every loop.
func (s *system) tail(n int) string {
	var lines []string
	for _, c := range s.proxy.Calls() {
		if c.Method == mIncrease || c.Method == mDelete || c.Method == mDecrease || c.Code != codes.OK && c.Code != codes.Unimplemented {
			lines = append(lines, c.String())
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// entity is a group as the server and its worker keep it, written from the
// contract of the messages and without any code of the product.
type entity struct {
	facts   workflows.GroupFacts
	run     int
	lengths []int64 // of each run
	signals [][]signal
	applied []int // signals of each run that the worker has seen
	memo    *workflows.GroupMemo
	closed  bool
	fresh   bool // has not run since it was started
	reset   bool // its second run repeats the first

	members []workflows.GroupMember
	gone    []workflows.GoneInstance
	ring    []workflows.ScaleResult
	inbox   []workflows.QueuedRequest
	dead    map[string]bool // cancelled ids
	paused  *workflows.PauseStatus
	ending  bool
	made    int
	gen     int64
}

func (e *entity) runID() string { return fmt.Sprintf("run-%d", e.run) }

func (e *entity) counted() int {
	n := 0
	for _, m := range e.members {
		if m.Counted() {
			n++
		}
	}
	return n
}

func (e *entity) grow(cause string, n int, at time.Time) {
	for i := range n {
		id := fmt.Sprintf("m%04d", e.made)
		e.made++
		m := workflows.GroupMember{Instance: "ichor://demo/" + e.facts.Group + "/" + cause + "-" + fmt.Sprint(i), Accepted: at}
		m.ID, m.Name, m.Group, m.Phase = id, "demo-"+e.facts.Group+"-"+id, e.facts.Group, workflows.MemberWanted
		if e.counted() >= e.facts.Max {
			m.Phase, m.Failure = workflows.MemberFailed, &workflows.Failure{Kind: fault.Quota, Message: "beyond max of the group"}
		}
		e.members = append(e.members, m)
	}
}

// leave takes a member out of the target; what never existed is gone at once.
func (e *entity) leave(i int) {
	m := &e.members[i]
	if !m.Counted() {
		return
	}
	if m.Phase = workflows.MemberDeleting; m.ProviderID == "" {
		m.Phase = workflows.MemberGone
	}
}

func (e *entity) sweep() {
	e.members = slices.DeleteFunc(e.members, func(m workflows.GroupMember) bool {
		if m.Phase == workflows.MemberGone {
			e.gone = append(e.gone, workflows.GoneInstance{ID: m.ID, Name: m.Name, Instance: m.Instance, ProviderID: m.ProviderID})
		}
		return m.Phase == workflows.MemberGone
	})
}

// lose takes a member out as an update does, of which no signal tells.
func (e *entity) lose(i int) {
	e.leave(i)
	e.sweep()
	e.gen++
	e.lengths[e.run] += 5
	e.write()
}

// work is one workflow task: every signal that has arrived.
func (e *entity) work(now time.Time) {
	fresh := e.signals[e.run][e.applied[e.run]:]
	if len(fresh) == 0 || e.closed {
		return
	}
	e.applied[e.run] = len(e.signals[e.run])
	e.lengths[e.run] += 3
	for _, name := range []string{
		workflows.SignalCancelRequest, workflows.SignalIncreaseSize, workflows.SignalSetTarget, workflows.SignalDecreaseTargetSize,
		workflows.SignalDeleteNodes, workflows.SignalPause, workflows.SignalResume,
	} {
		for _, s := range fresh {
			if s.name == name {
				e.handle(s, now)
			}
		}
	}
	e.sweep()
	e.write()
}

func (e *entity) handle(s signal, now time.Time) {
	id := s.req.RequestID
	if e.dead[id] || slices.ContainsFunc(e.ring, func(r workflows.ScaleResult) bool { return r.RequestID == id }) {
		return
	}
	e.gen++
	switch s.name {
	case workflows.SignalCancelRequest:
		e.dead[s.req.Cancel] = true
		for i, m := range e.members {
			if strings.HasPrefix(m.Instance, "ichor://demo/"+e.facts.Group+"/"+s.req.Cancel+"-") {
				e.leave(i)
			}
		}
	case workflows.SignalIncreaseSize:
		e.grow(id, s.req.Delta, now)
	case workflows.SignalDeleteNodes:
		for _, n := range s.req.Nodes {
			for i, m := range e.members {
				if n == m.Instance || n == m.ProviderID || n == m.Name || n == m.ID {
					e.leave(i)
				}
			}
		}
	case workflows.SignalDecreaseTargetSize:
		for n := s.req.Delta; n > 0; n-- {
			i := slices.IndexFunc(e.members, func(m workflows.GroupMember) bool { return m.Counted() && m.ProviderID == "" })
			if i < 0 {
				break
			}
			e.members[i].Phase = workflows.MemberGone
		}
	case workflows.SignalPause:
		e.paused = &workflows.PauseStatus{Since: now, Reason: s.req.Reason}
	case workflows.SignalResume:
		e.paused = nil
	}
	e.ring = append(e.ring, workflows.ScaleResult{RequestID: id, Op: s.name, Accepted: true, At: now})
	if len(e.ring) > 256 {
		e.ring = e.ring[1:]
	}
}

// advance moves every member one step on in its life.
func (e *entity) advance() {
	for i := range e.members {
		switch m := &e.members[i]; m.Phase {
		case workflows.MemberWanted:
			m.Phase, m.CloudID, m.ProviderID = workflows.MemberBooting, "c-"+m.ID, "cloudscale://"+m.ID
		case workflows.MemberBooting:
			m.Phase = workflows.MemberReady
		case workflows.MemberDeleting:
			m.Phase = workflows.MemberGone
		}
	}
	e.sweep()
	e.gen++
	e.lengths[e.run] += 5
	e.write()
}

// write puts the state into the memo.
func (e *entity) write() {
	e.memo = &workflows.GroupMemo{
		RunID: e.runID(), EventID: e.lengths[e.run], Target: e.counted(), Generation: e.gen, Paused: e.paused != nil, Ending: e.ending,
	}
	for _, m := range e.members {
		switch cut := strings.LastIndex(m.Instance, "-"); m.Phase {
		case workflows.MemberReady:
			e.memo.Ready++
		case workflows.MemberWanted:
			var n int
			if _, err := fmt.Sscan(m.Instance[cut+1:], &n); err != nil {
				panic(err)
			}
			e.memo.Wanted = append(e.memo.Wanted, workflows.InstanceRange{Prefix: m.Instance[:cut], From: n, To: n, Since: m.Accepted})
		default:
			if len(e.memo.Others) == workflows.MemoInstances {
				e.memo.More++
				continue
			}
			o := workflows.MemoInstance{ID: m.ID, Instance: m.Instance, ProviderID: m.ProviderID, Phase: m.Phase, Since: m.Accepted}
			if m.Failure != nil {
				o.Kind, o.Message = m.Failure.Kind, m.Failure.Message
			}
			e.memo.Others = append(e.memo.Others, o)
		}
	}
}

// renew continues as new, which an entity does only with no signal unseen.
func (e *entity) renew() {
	e.lengths[e.run]++
	e.run++
	e.lengths, e.signals, e.applied = append(e.lengths, 3), append(e.signals, nil), append(e.applied, 0)
	e.lengths[e.run] = 3
}

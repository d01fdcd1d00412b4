package autoscaler

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// disturbances concern every group, so they run one after the other.
var disturbances = []scenario{
	{name: "cloud hangs", groups: []cluster.NodeGroup{newGroup("hang", 0, 5)}, run: func(s *system) { cloudHangs(s, "hang") }},
	{name: "temporal is away", groups: []cluster.NodeGroup{newGroup("away", 0, 5)}, run: func(s *system) { temporalAway(s, "away") }},
	{name: "killed in the middle", groups: []cluster.NodeGroup{newGroup("middle", 0, 5)}, run: func(s *system) { killedInTheMiddle(s, "middle") }},
	{name: "clean-up and another leader", groups: []cluster.NodeGroup{newGroup("leader", 0, 5)}, run: func(s *system) { anotherLeader(s, "leader") }},
	{name: "certificates", run: certificates},
}

// TestDisturbances runs one after the other what concerns all groups.
func TestDisturbances(t *testing.T) {
	s := start(t, groupsOf(disturbances), nil)
	s.startAutoscaler(oldWire)
	for _, d := range disturbances {
		t.Run(d.name, func(t *testing.T) {
			defer report(s.on(t))
			d.run(s.on(t))
		})
	}
	s.judge()
}

// cloudHangs: for a while the cloud answers nothing, neither creates nor reads.
// The request is accepted all the same, the loops go on, and the machine is made
// when the cloud is back.
func cloudHangs(s *system, g string) {
	id, err := s.Fault(s.ctx(), map[string]any{"route": chosen.Routes.All, "effect": "hang", "count": -1})
	s.must(err)
	l := s.pods(g, 1)
	asked := s.first(0, mIncrease, g, nil)
	if asked.Code != codes.OK {
		s.t.Errorf("asked: %v", asked)
	}
	s.t.Logf("accepted in %v while the cloud hangs", asked.Took)
	mark := s.proxy.Mark()
	s.until("five loops of the autoscaler", func() bool { return len(s.calls(mark, mRefresh, "")) >= 5 })
	for _, c := range s.calls(mark, mRefresh, "") {
		if c.Code != codes.OK {
			s.t.Errorf("the cloud's silence failed a loop: %v", c)
		}
	}
	s.wantTarget(g, 1)
	if all := s.instances(g); len(all) != 1 || !creating(all[0]) || failing(proxy.Call{Response: &wire.NodeGroupNodesResponse{Instances: all}}) != nil {
		s.t.Errorf("instances: %v", all)
	}
	if b := s.bill(g); b.Created != 0 {
		s.t.Errorf("machines: %+v", b)
	}
	s.must(s.Cloud(s.ctx(), http.MethodDelete, "_devcloud/faults/"+id, nil, nil))
	l.running(1)
	if n := len(s.calls(0, mIncrease, g)); n != 1 {
		s.t.Errorf("the autoscaler asked %d times", n)
	}
	if b := s.bill(g); b.Created != 1 {
		s.t.Errorf("machines: %+v", b)
	}
	l.scale(0)
	s.cleaned(g)
}

// temporalAway: without Temporal no state can be read, so Refresh fails and the
// autoscaler does nothing at all; afterwards it goes on where it was.
func temporalAway(s *system, g string) {
	l := s.pods(g, 1)
	l.running(1)
	before := s.bill(g)
	s.must(s.KillTemporal())
	mark := s.proxy.Mark()
	l.scale(2)
	s.until("loops fail", func() bool {
		n := 0
		for _, c := range s.calls(mark, mRefresh, "") {
			if c.Code == codes.Unavailable {
				n++
			}
		}
		return n >= 4
	})
	bad := slices.IndexFunc(s.calls(mark, mRefresh, ""), func(c proxy.Call) bool { return c.Code == codes.Unavailable })
	since := s.calls(mark, mRefresh, "")[bad].Start
	for _, c := range s.proxy.Since(mark) {
		if c.Start.Before(since) || c.Code != codes.OK {
			continue
		}
		switch r := c.Response.(type) {
		case *wire.NodeGroupIncreaseSizeResponse, *wire.NodeGroupDeleteNodesResponse, *wire.NodeGroupDecreaseTargetSizeResponse:
			s.t.Errorf("accepted without Temporal: %v", c)
		case *wire.NodeGroupsResponse:
			if len(r.GetNodeGroups()) == 0 {
				s.t.Errorf("an empty list of groups: %v", c)
			}
		case *wire.NodeGroupNodesResponse:
			if groupOf(c) == s.id(g) && len(r.GetInstances()) == 0 {
				s.t.Errorf("an empty list of instances: %v", c)
			}
		}
	}
	s.must(s.StartTemporal(s.t.Context()))
	l.running(2)
	if b := s.bill(g); b.Created != before.Created+1 || b.Peak != 2 {
		s.t.Errorf("machines: %+v", b)
	}
	l.scale(0)
	s.cleaned(g)
}

// killedInTheMiddle: the provider dies while no worker runs, between the
// acceptance of a request and everything that follows from it. The new provider
// knows the request from history alone, and the autoscaler asks for nothing more.
func killedInTheMiddle(s *system, g string) {
	s.stopWorkers()
	l := s.pods(g, 3)
	asked := s.first(0, mIncrease, g, nil)
	if asked.Code != codes.OK {
		s.t.Errorf("asked: %v", asked)
	}
	before := ids(s.instances(g))
	s.must(s.provider.Kill())
	s.startProvider()
	s.wantTarget(g, 3)
	after := s.instances(g)
	if len(after) != 3 || !slices.Equal(ids(after), before) {
		s.t.Errorf("instances before %v, after %v", before, after)
	}
	for _, i := range after {
		if !creating(i) {
			s.t.Errorf("without any machine: %v", i)
		}
	}
	mark := s.proxy.Mark()
	s.until("three loops with the new provider", func() bool {
		n := 0
		for _, c := range s.calls(mark, mRefresh, "") {
			if c.Code == codes.OK {
				n++
			}
		}
		return n >= 3
	})
	s.startWorker()
	l.running(3)
	if b := s.bill(g); b != (bill{3, 3}) {
		s.t.Errorf("machines: %+v", b)
	}
	if n := wanted(s.calls(0, mIncrease, g)); n != 3 {
		s.t.Errorf("the autoscaler asked for %d", n)
	}
	l.scale(0)
	s.cleaned(g)
}

func ids(list []*wire.Instance) (out []string) {
	for _, i := range list {
		out = append(out, i.GetId())
	}
	slices.Sort(out)
	return out
}

// anotherLeader: the autoscaler ends in good order, which it tells the provider
// by Cleanup, and another takes over.
func anotherLeader(s *system, g string) {
	l := s.pods(g, 2)
	l.running(2)
	mark := s.proxy.Mark()
	s.must(s.autoscaler.Stop())
	if c := s.calls(mark, "Cleanup", ""); len(c) != 1 || c[0].Code != codes.OK {
		s.t.Errorf("Cleanup: %v", c)
	}
	elect := []string{
		"--leader-elect=true", "--leader-elect-lease-duration=4s", "--leader-elect-renew-deadline=3s", "--leader-elect-retry-period=1s",
	}
	first := s.startAutoscaler(oldWire, elect...)
	s.until("the first leads", func() bool { return len(s.calls(mark, mRefresh, "")) >= 3 })
	s.startAutoscaler(oldWire, elect...)
	s.must(first.Kill())
	mark = s.proxy.Mark()
	s.until("the second leads", func() bool { return len(s.calls(mark, mRefresh, "")) >= 3 })
	s.wantTarget(g, 2)
	if n := len(s.servers(g)); n != 2 {
		s.t.Errorf("%d machines", n)
	}
	if d := s.calls(mark, mDelete, g); len(d) != 0 {
		s.t.Errorf("deleted: %v", d)
	}
	if b := s.bill(g); b != (bill{2, 2}) {
		s.t.Errorf("machines: %+v", b)
	}
	l.scale(0)
	s.cleaned(g)
}

// stopWorkers ends every worker at once, as a node that dies does.
func (s *system) stopWorkers() {
	s.t.Helper()
	for _, w := range s.workers {
		s.must(w.Kill())
	}
	s.workers = nil
}

// TestOutages: worker or cloud are away for longer than three backoff periods
// and one provision time. What the autoscaler does in all that time is one
// request per backoff period, and the other group works. ICHOR_OUTAGE makes it
// longer, and all times with it: `make e2e-long` takes ten minutes.
func TestOutages(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*system, string){"cloud": cloudAway, "worker": workerAway} {
		t.Run(name, func(t *testing.T) {
			times := outageTimes(t)
			groups := []cluster.NodeGroup{newGroup("away", 0, 5), newGroup("other", 0, 5)}
			s := start(t, groups, map[string]string{"ICHOR_PROVISION_DEADLINE": times.provision.String(), "ICHOR_REPLACEMENTS": "0"})
			s.startAutoscaler(oldWire,
				"--initial-node-group-backoff-duration="+times.backoff.String(), "--max-node-group-backoff-duration="+times.backoff.String(),
				"--max-node-provision-time="+times.limit.String())
			s.outage = times
			away(s, "away")
			s.judge()
		})
	}
}

// times are those of an outage: the autoscaler's backoff and provision time, the
// group's own deadline below it, and how long the outage lasts.
type times struct{ backoff, limit, provision, outage time.Duration }

func outageTimes(t *testing.T) times {
	t.Helper()
	short := times{backoff: 6 * time.Second, limit: 24 * time.Second, provision: 16 * time.Second}
	short.outage = 3*short.backoff + short.limit
	long := os.Getenv("ICHOR_OUTAGE")
	if long == "" {
		return short
	}
	d, err := time.ParseDuration(long)
	if err != nil || d < short.outage {
		t.Fatalf("ICHOR_OUTAGE: want at least %s, got %q", short.outage, long)
	}
	f := float64(d) / float64(short.outage)
	scale := func(d time.Duration) time.Duration { return time.Duration(f * float64(d)).Round(time.Second) }
	return times{backoff: scale(short.backoff), limit: scale(short.limit), provision: scale(short.provision), outage: d}
}

// cloudAway: the cloud's API answers with 503 for the whole outage.
func cloudAway(s *system, g string) {
	defer report(s)
	id, err := s.Fault(s.ctx(), map[string]any{"route": chosen.Routes.All, "effect": "status", "status": 503, "body": "<html>down</html>", "count": -1})
	s.must(err)
	l := s.pods(g, 2)
	s.pass(g, s.outage.outage)
	s.must(s.Cloud(s.ctx(), http.MethodDelete, "_devcloud/faults/"+id, nil, nil))
	l.running(2)
	if b := s.bill(g); b != (bill{2, 2}) {
		s.t.Errorf("machines: %+v", b)
	}
	s.noHurry(g)
	l.scale(0)
	s.cleaned(g)
}

// workerAway: no worker runs for the whole outage. Requests are accepted and
// wait; when a worker is back, what is wanted then is made, and no more.
func workerAway(s *system, g string) {
	defer report(s)
	s.stopWorkers()
	l := s.pods(g, 2)
	s.pass(g, s.outage.outage)
	s.t.Logf("without a worker:\n%s", s.tail(25))
	s.startWorker()
	l.running(2)
	if b := s.bill(g); b.Peak != 2 {
		s.t.Errorf("machines: %+v", b)
	}
	s.noHurry(g)
	l.scale(0)
	s.cleaned(g)
}

// pass waits from the first request on.
func (s *system) pass(g string, d time.Duration) {
	s.t.Helper()
	s.first(0, mIncrease, g, nil)
	time.Sleep(d)
}

// noHurry checks that requests for a group are a backoff period apart.
func (s *system) noHurry(g string) {
	s.t.Helper()
	calls := s.calls(0, mIncrease, g)
	for i := 1; i < len(calls); i++ {
		if d := calls[i].Start.Sub(calls[i-1].Start); d < s.outage.backoff {
			s.t.Errorf("request %d came %v after the one before; the backoff is %v", i+1, d, s.outage.backoff)
		}
	}
	lines := make([]string, 0, len(calls))
	for _, c := range calls {
		lines = append(lines, fmt.Sprint(c))
	}
	s.t.Logf("%d requests:\n%s", len(calls), strings.Join(lines, "\n"))
}

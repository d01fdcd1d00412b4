package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/workflows"
)

// utc makes local times the same everywhere.
func utc(t *testing.T) {
	t.Helper()
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
}

func groupSamples() []groupView {
	worker := workerGroup("demo", "worker", 1)
	worker.Target, worker.Members[0].Since = 4, at(0)
	worker.Members[0].Address = "203.0.113.8"
	booting := member("demo-worker-bbbbb", workflows.MemberBooting, nil)
	booting.Since, booting.Note, booting.Replaces = at(60), "waits for its node", 1
	failed := member("demo-worker-ccccc", workflows.MemberFailed, &workflows.Failure{Kind: fault.Quota, Message: "the account is \x1b[2Jfull"})
	failed.Since = at(61)
	leaving := member("demo-worker-ddddd", workflows.MemberDraining, nil)
	leaving.Since, leaving.Note = at(62), "default/held: blocked by its disruption budget"
	worker.Members = append(worker.Members, booting, failed, leaving)
	worker.Backoff = &workflows.BackoffStatus{Until: at(361), Failures: 2}
	worker.Unknown = []string{"demo-worker-zzzzz (cloudscale://1)"}
	worker.Requests = []workflows.ScaleResult{
		{RequestID: "cli-1", Op: workflows.SignalSetTarget, Accepted: true, Message: "target 4, was 1", Target: 4, At: at(50)},
		{RequestID: "cli-2", Op: workflows.SignalSetTarget, Kind: fault.Invalid, Message: "9 is above max 5", Target: 4, At: at(70)},
	}
	cp := workerGroup("demo", "cp", 1)
	cp.Role, cp.Min, cp.Max, cp.Members[0].Since = cluster.RoleControlPlane, 0, 0, at(0)
	paused := workerGroup("prod", "worker", 1)
	paused.Members[0].Since = at(0)
	paused.Paused = &workflows.PauseStatus{Since: at(10), Reason: "ask Ada"}
	paused.Members[0].Note = "somebody stopped the machine"
	paused.Parked = "delete server: token refused"
	stale := workerGroup("prod", "batch", 0)
	var out []groupView
	for _, s := range []workflows.GroupStatus{cp, worker, stale, paused} {
		out = append(out, groupView{Name: s.Cluster.Name + "/" + s.Group, GroupStatus: s, Counts: countMembers(s)})
	}
	out[2].Stale = "the group does not answer: no worker runs on task queue ichor"
	return out
}

func TestGroupsTable(t *testing.T) {
	utc(t)
	var out bytes.Buffer
	if err := printGroups(&out, groupSamples(), at(100)); err != nil {
		t.Fatal(err)
	}
	golden(t, "groups.golden", out.String())
}

func TestGroupPage(t *testing.T) {
	utc(t)
	var out bytes.Buffer
	for i, v := range groupSamples() {
		if i > 0 {
			out.WriteString("--------\n")
		}
		if err := v.print(&out, at(100)); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "group.golden", out.String())
}

package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
)

// open completes what a group was started with: where it works, and bounds that
// a run of older code did not know.
func (g *group) open(ctx workflow.Context) {
	if !g.scales {
		return
	}
	for g.site.Account == "" {
		site, err := call(ctx, &g.desk, g.short("open the cloud account"), aCloud.OpenAccount, activities.OpenAccountInput{Cloud: g.in.Cloud})
		if err == nil {
			g.site = Site{Account: site.Account, Capabilities: site.Capabilities, Timing: site.Timing}
			g.in.Site, g.state.Failure = g.site, nil
			break
		}
		g.pauseFor(ctx, err)
	}
	for g.in.Role == cluster.RoleWorker && g.in.Max == 0 && g.in.Standalone == nil && !g.state.Ending {
		rec, err := call(ctx, &g.desk, g.short("read the record"), aRecords.GetRecord, activities.GetRecordInput{Name: g.in.Cluster.Name})
		if err == nil {
			i := slices.IndexFunc(rec.Spec.NodeGroups, func(ng cluster.NodeGroup) bool { return ng.Name == g.in.Group })
			if i < 0 || rec.Ref != g.in.Cluster {
				break
			}
			ng := rec.Spec.NodeGroups[i]
			g.in.Min, g.in.Max, g.in.Alternatives, g.in.Autoscaling = ng.Min, ng.Max, ng.Alternatives, ng.Autoscaling
			break
		}
		g.pauseFor(ctx, err)
	}
}

// pauseFor shows an error that keeps the group from beginning and waits a little.
func (g *group) pauseFor(ctx workflow.Context, err error) {
	g.state.Failure = failureOf(err)
	g.report(ctx)
	pause := 5 * g.timing().Backoff
	if g.scales {
		g.refused++
		pause = g.pause(g.refused)
	}
	_, _ = workflow.AwaitWithTimeout(ctx, pause, g.pending) // either way: again
	g.receive(ctx)
}

// adopt takes in the machines that carry the group's tags already: an earlier
// incarnation made them, which was terminated or whose history was lost. Until
// the cloud has told what there is, nothing is created.
func (g *group) adopt(ctx workflow.Context) {
	if g.in.Resumed {
		// What was sent last may still appear.
		c := g.site.Capabilities
		_, _ = workflow.AwaitWithTimeout(ctx, c.Settle+c.AbsenceWindow, func() bool { return g.state.Ending || g.pending() && g.endComes(ctx) })
	}
	for !g.state.Ending {
		list, err := g.existing(ctx)
		if err == nil {
			g.state.Failure = nil
			g.takeIn(ctx, list)
			return
		}
		g.pauseFor(ctx, err)
	}
}

// existing lists the group's machines; a stand-alone group first marks those
// that were made by other means as its own.
func (g *group) existing(ctx workflow.Context) ([]cloud.Machine, error) {
	if s := g.in.Standalone; s != nil && s.AdoptTag != nil {
		return call(ctx, &g.desk, g.short("adopt machines tagged "+s.AdoptTag.Key+"="+s.AdoptTag.Value), aCloud.AdoptMachines,
			activities.AdoptMachinesInput{Cloud: g.in.Cloud, Owner: g.owner(), Role: g.in.Role, Tag: *s.AdoptTag, Also: s.AdoptAlso})
	}
	return call(ctx, &g.desk, g.short("look for machines of "+g.in.Group), aCloud.ListMachines,
		activities.ListMachinesInput{Cloud: g.in.Cloud, Owner: g.owner()})
}

func (g *group) endComes(ctx workflow.Context) bool {
	g.receive(ctx)
	return g.state.Ending
}

// takeIn makes members of machines. Of several with one id the oldest counts, as
// it does for the cloud's own repair.
func (g *group) takeIn(ctx workflow.Context, list []cloud.Machine) {
	slices.SortStableFunc(list, func(a, b cloud.Machine) int { return a.CreatedAt.Compare(b.CreatedAt) })
	for _, m := range list {
		if g.member(m.Ref.ID) != nil || g.scales && m.State == cloud.MachineDeleting {
			continue
		}
		now := workflow.Now(ctx)
		g.state.Members = append(g.state.Members, &Member{
			Slot: g.freeSlot(), Instance: PlaceholderInstance(g.in.Cluster.Name, g.in.Group, m.Ref.ID, 0), Accepted: now, Begun: now, Adopted: true,
			MemberStatus: MemberStatus{
				ID: m.Ref.ID, Name: m.Name, Group: g.in.Group, Role: g.in.Role, Phase: MemberBooting, Since: now,
				CloudID: m.Ref.Cloud, CloudState: m.State, Address: m.Public, Private: m.Private, ProviderID: m.ProviderID,
			},
		})
	}
}

// tryAgain gives members that failed another chance: those that exist are watched
// again, the others created.
func (g *group) tryAgain(ctx workflow.Context) {
	g.state.Failure = nil
	for _, m := range g.state.Members {
		if m.Phase != MemberFailed || m.Beyond {
			continue
		}
		m.Failure, m.Replaces, m.Accepted, m.Begun, m.Choice = nil, 0, workflow.Now(ctx), time.Time{}, 0
		if m.CloudID == "" {
			g.set(ctx, m.ID, MemberWanted, "")
		} else {
			g.set(ctx, m.ID, MemberBooting, "")
		}
	}
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/workflows"
)

// fleet are groups whose machines exist and are ready.
type fleet struct {
	size
	inputs []workflows.GroupInput
}

const (
	fleetCluster = "fleet"
	fleetZone    = "rma1"
	fleetFlavor  = "flex-8-2"
	// room is how far groups may grow beyond what they have.
	room = 1000
)

// makers is how many servers and entities are made at once.
const makers = 8

// settle makes the servers of a fleet as devcloud's judge, with the tags that
// the product gives, and starts an entity for each group that owns them: as if
// it continued an earlier run. Nothing is asked of the product that is not
// measured.
func (s *system) settle(ctx context.Context, z size, home func(g int) string) (*fleet, error) {
	f := &fleet{size: z, inputs: make([]workflows.GroupInput, z.groups)}
	now := time.Now().UTC()
	for g := range f.inputs {
		f.inputs[g] = groupInput(home(g), g, z.members)
	}
	err := parallel(z.nodes(), func(i int) error {
		in := &f.inputs[i/z.members]
		m := readyMember(*in, i, i%z.members, now)
		made, err := s.server(ctx, *in, m)
		if err != nil {
			return err
		}
		m.CloudID, m.ProviderID = made, "cloudscale://"+made
		in.State.Members[m.Slot] = m
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make servers: %w", err)
	}
	if err := s.runs(ctx, z.nodes()); err != nil {
		return nil, err
	}
	err = parallel(z.groups, func(g int) error {
		in := f.inputs[g]
		_, err := s.temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: cluster.GroupID(in.Cluster.Name, in.Group), TaskQueue: workflows.TaskQueue,
			TypedSearchAttributes: temporal.NewSearchAttributes(
				workflows.AttrCluster.ValueSet(in.Cluster.Name), workflows.AttrKind.ValueSet("group"), workflows.AttrCloud.ValueSet(in.Cloud.Provider)),
		}, workflows.TypeScaleNodeGroup, in)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("start entities: %w", err)
	}
	return f, nil
}

// parallel calls f for 0 … n-1 and returns the first error.
func parallel(n int, f func(int) error) error {
	next, failed := make(chan int), make(chan error, makers)
	var all sync.WaitGroup
	for range makers {
		all.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	var err error
	for i := 0; i < n && err == nil; i++ {
		select {
		case next <- i:
		case err = <-failed:
		}
	}
	close(next)
	all.Wait()
	select {
	case e := <-failed:
		return e
	default:
		return err
	}
}

// oneCluster has all groups in the same cluster.
func oneCluster(int) string { return fleetCluster }

// groupInput is a stand-alone group. Half of all groups have options of their
// own for the autoscaler, so that both answers are measured.
func groupInput(home string, g, members int) workflows.GroupInput {
	in := workflows.GroupInput{
		Cluster: cluster.Ref{Name: home, UID: "standalone-" + home}, Group: fmt.Sprintf("g%04d", g),
		Role:  cluster.RoleWorker,
		Cloud: cluster.Cloud{Provider: "cloudscale", Zone: fleetZone, Credentials: "env:CLOUDSCALE_API_TOKEN"},
		Zone:  fleetZone, Flavor: fleetFlavor, DiskGiB: 50, ImageID: "flatcar", Target: members, Max: members + room,
		Standalone: &workflows.Standalone{
			Kube:   activities.KubeTarget{None: true},
			Labels: []cluster.Tag{{Key: "pool", Value: fmt.Sprintf("g%04d", g)}},
		},
		State: &workflows.GroupState{
			Target: members, Made: members, Seed: "bench", Settled: true, Detached: true, Members: make([]*workflows.Member, members),
		},
	}
	if g%2 == 0 {
		in.Autoscaling = &cluster.Autoscaling{
			ScaleDownUtilizationThreshold: 0.6, ScaleDownGPUUtilizationThreshold: 0.6,
			ScaleDownUnneededTime: cluster.Duration(5 * time.Minute), ScaleDownUnreadyTime: cluster.Duration(20 * time.Minute),
			MaxNodeProvisionTime: cluster.Duration(15 * time.Minute),
		}
	}
	return in
}

// readyMember is the n-th member of all, which joined earlier; what the cloud
// calls its machine is still missing.
func readyMember(in workflows.GroupInput, n, slot int, now time.Time) *workflows.Member {
	id := fmt.Sprintf("m%04d", n)
	return &workflows.Member{
		Slot: slot, Instance: workflows.PlaceholderInstance(in.Cluster.Name, in.Group, id, 0), Origin: workflows.OriginPerson,
		Accepted: now, Begun: now, Seen: now,
		MemberStatus: workflows.MemberStatus{
			ID: id, Name: cluster.MachineName(in.Cluster.Name, in.Group, id), Group: in.Group, Role: in.Role,
			Phase: workflows.MemberReady, Since: now, CloudState: cloud.MachineRunning,
		},
	}
}

// server makes the server of a member.
func (s *system) server(ctx context.Context, in workflows.GroupInput, m *workflows.Member) (uuid string, err error) {
	var made struct{ UUID string }
	err = s.Cloud(ctx, http.MethodPost, "/v1/servers", map[string]any{
		"name": m.Name, "zone": in.Zone, "flavor": in.Flavor, "image": in.ImageID, "ssh_keys": []string{}, "volume_size_gb": in.DiskGiB,
		"tags": map[string]string{
			cluster.TagCluster: in.Cluster.UID, cluster.TagClusterName: in.Cluster.Name, cluster.TagGroup: in.Group,
			cluster.TagMachine: m.ID, cluster.TagRole: string(in.Role), cluster.TagImage: in.ImageID,
		},
	}, &made)
	return made.UUID, err
}

// runs waits until all servers of the account run.
func (s *system) runs(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	return until(ctx, time.Second, fmt.Sprintf("%d running servers", n), func(ctx context.Context) (bool, error) {
		a, err := s.Account(ctx)
		running := 0
		for _, r := range a.Machines() {
			if r.State == "running" {
				running++
			}
		}
		return running == n, err
	})
}

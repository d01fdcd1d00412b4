package aws_test

import (
	"sync"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// spot is a machine that the cloud may take back.
func (c *testCloud) spot(id string) cloud.MachineSpec {
	m := c.Machine(cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "spot"}, Group: "workers"}, id)
	m.Spot = true
	return m
}

// launch asks for a machine as a process of its own does, once.
func (c *testCloud) launch(t *testing.T, m cloud.MachineSpec) (cloud.MachineLook, error) {
	t.Helper()
	return c.open(t).EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: m, UserData: c.UserData(), Create: true})
}

// wantSpot demands that nothing but these instances was ever made, and that they
// are ones that the cloud may take back.
func (c *testCloud) wantSpot(t *testing.T, ids ...string) {
	t.Helper()
	made := c.account.Omniscient().Instances()
	for _, i := range made {
		if !i.Spot || i.SpotID == "" {
			t.Errorf("instance %s is on demand", i.ID)
		}
	}
	if len(made) != len(ids) {
		t.Fatalf("%d instances were made, want %v", len(made), ids)
	}
	for n, id := range ids {
		if made[n].ID != id {
			t.Errorf("instance %s was made, and %s answered", made[n].ID, id)
		}
	}
}

// A launch whose answer is lost is repeated by another process, which cannot see
// what the first one made: there is one instance, and it is the answer.
func TestSpotLaunchIsRepeated(t *testing.T) {
	t.Parallel()
	for _, effect := range []string{faults.CommitThenDrop, faults.CommitThenFail} {
		t.Run(effect, func(t *testing.T) {
			t.Parallel()
			c := startCloud(t)
			m := c.spot("m1")
			c.blind(t)
			for range 2 {
				if _, err := c.Injector.Add(faults.Fault{Route: ec2Path + "RunInstances", Effect: effect}); err != nil {
					t.Fatal(err)
				}
				if look, err := c.launch(t, m); !fault.Is(err, fault.Ambiguous) || look.Machine != nil {
					t.Fatalf("the answer was lost, and is %+v, %v of kind %q", look, err, fault.KindOf(err))
				}
			}
			look, err := c.launch(t, m)
			if err != nil || look.Machine == nil {
				t.Fatalf("repeated: %+v, %v", look, err)
			}
			c.wantSpot(t, look.Machine.Ref.Cloud)
		})
	}
}

// Several processes launch one machine at once, and none of them sees what the
// others do.
func TestSpotLaunchedAtOnce(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	m := c.spot("m1")
	c.blind(t)
	var mu sync.Mutex
	answers := map[string]int{}
	var wg sync.WaitGroup
	for range 4 {
		p := c.open(t)
		wg.Go(func() {
			look, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: m, UserData: c.UserData(), Create: true})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || look.Machine == nil {
				t.Errorf("%+v, %v of kind %q", look, err, fault.KindOf(err))
				return
			}
			answers[look.Machine.Ref.Cloud]++
		})
	}
	wg.Wait()
	if len(answers) != 1 {
		t.Errorf("the answers were %v, want the same instance for all", answers)
	}
	for id := range answers {
		c.wantSpot(t, id)
	}
}

// What the cloud has taken back is not launched again by its token, whoever asks
// and however often, also where nobody has heard of the launch. Only the next
// attempt makes one more.
func TestSpotTakenBackIsNotRepeated(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	m := c.spot("m1")
	if _, err := c.Injector.Add(faults.Fault{Route: ec2Path + "RunInstances", Effect: faults.CommitThenDrop}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.launch(t, m); !fault.Is(err, fault.Ambiguous) {
		t.Fatalf("the answer was lost, and is %v of kind %q", err, fault.KindOf(err))
	}
	first := c.account.Omniscient().Instances()[0].ID
	if err := c.account.Interrupt(first); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if look, err := c.launch(t, m); !fault.Is(err, fault.NotFound, fault.Conflict) || look.Machine != nil {
			t.Fatalf("of what was taken back: %+v, %v of kind %q", look, err, fault.KindOf(err))
		}
	}
	eventually(t, "it is terminated", func() (bool, error) {
		i, err := c.account.Instance(first)
		return i.State == account.Terminated, err
	})
	if look, err := c.launch(t, m); !fault.Is(err, fault.NotFound) || look.Machine != nil {
		t.Fatalf("of what is terminated: %+v, %v of kind %q", look, err, fault.KindOf(err))
	}
	m.Attempt++
	look, err := c.launch(t, m)
	if err != nil || look.Machine == nil || !look.Created {
		t.Fatalf("the next attempt: %+v, %v", look, err)
	}
	c.wantSpot(t, first, look.Machine.Ref.Cloud)
}

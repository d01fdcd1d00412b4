package aws_test

import (
	"testing"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/cloudtest"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// A request that has changed since its answer was lost makes nothing: the cloud
// has never more than the one instance of the first request, and that is adopted
// as soon as it is visible, by another process as well.
func TestDriftAfterALostAnswer(t *testing.T) {
	owner := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "drift"}, Group: "workers"}
	for name, drift := range map[string]func(*cloud.EnsureMachineRequest){
		"user data": func(r *cloud.EnsureMachineRequest) {
			r.UserData = secrets.NewValue([]byte("version: v1alpha1 # new\n"))
		},
		"flavor":  func(r *cloud.EnsureMachineRequest) { r.Spec.Flavor = "m6i.xlarge" },
		"tags":    func(r *cloud.EnsureMachineRequest) { r.Spec.Tags = []cluster.Tag{{Key: "team", Value: "b"}} },
		"nothing": func(*cloud.EnsureMachineRequest) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCloud(t)
			req := cloud.EnsureMachineRequest{Spec: c.Machine(owner, "m1"), UserData: c.UserData(), Create: true}
			c.Inject(t, cloudtest.Fault{On: cloudtest.CreateMachine, Effect: cloudtest.LostReply})
			c.Inject(t, cloudtest.Fault{On: cloudtest.ListMachines, Count: -1, Effect: cloudtest.Stale})
			if look, err := c.open(t).EnsureMachine(t.Context(), req); !fault.Is(err, fault.Ambiguous) {
				t.Fatalf("a lost answer: %+v, %v", look, err)
			}
			drift(&req)
			p := c.open(t)
			look, err := p.EnsureMachine(t.Context(), req)
			if name == "nothing" {
				if err != nil || look.Machine == nil {
					t.Fatalf("a replay: %+v, %v", look, err)
				}
			} else if !fault.Is(err, fault.Ambiguous) {
				t.Fatalf("a mismatch that nobody can see through yet: %+v, %v of kind %q", look, err, fault.KindOf(err))
			}
			c.Heal()
			eventually(t, "the machine of the first request", func() (bool, error) {
				if look, err = p.EnsureMachine(t.Context(), req); fault.Is(err, fault.Ambiguous) {
					err = nil // as before
				}
				return look.Machine != nil, err
			})
			if look.Created || look.Removed != 0 || look.Machine.Flavor != "m6i.large" {
				t.Errorf("adopted %+v, want the machine of the first request", look)
			}
			if all := c.account.Omniscient().Instances(); len(all) != 1 {
				t.Errorf("the cloud has made %d instances, want one", len(all))
			}
		})
	}
}

// When the instance of the first request is gone by the time of the second, only
// another attempt makes a new one.
func TestDriftAfterTheInstanceIsGone(t *testing.T) {
	owner := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "drift"}, Group: "workers"}
	c := startCloud(t)
	p := c.open(t)
	req := cloud.EnsureMachineRequest{Spec: c.Machine(owner, "m1"), UserData: c.UserData(), Create: true}
	look, err := p.EnsureMachine(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	ref := look.Machine.Ref
	eventually(t, "the end of the machine", func() (bool, error) { return p.DeleteMachine(t.Context(), ref) })
	req.UserData = secrets.NewValue([]byte("version: v1alpha1 # new\n"))
	eventually(t, "proof that the attempt is spent", func() (bool, error) {
		look, err = p.EnsureMachine(t.Context(), req)
		if look.Machine != nil {
			t.Fatalf("a machine of a spent attempt: %+v", look)
		}
		return fault.Is(err, fault.NotFound), nil
	})
	req.Spec.Attempt++
	if look, err = p.EnsureMachine(t.Context(), req); err != nil || !look.Created {
		t.Fatalf("the next attempt: %+v, %v", look, err)
	}
	if all := c.account.Omniscient().Instances(); len(all) != 2 {
		t.Errorf("the cloud has made %d instances, want two", len(all))
	}
}

// A spot machine that the cloud takes back is gone as if it had been deleted, with
// proof and at once, and what is asked for in its place is a new one.
func TestSpotIsTakenBack(t *testing.T) {
	owner := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "spot"}, Group: "workers"}
	c := startCloud(t)
	p := c.open(t)
	launch := func(id string) cloud.Machine {
		t.Helper()
		req := cloud.EnsureMachineRequest{Spec: c.Machine(owner, id), UserData: c.UserData(), Create: true}
		req.Spec.Spot = true
		look, err := p.EnsureMachine(t.Context(), req)
		if err != nil || look.Machine == nil {
			t.Fatalf("%+v, %v", look, err)
		}
		return *look.Machine
	}
	first := launch("m1")
	if i, err := c.account.Instance(first.Ref.Cloud); err != nil || !i.Spot {
		t.Fatalf("%+v, %v: not a spot instance", i, err)
	}
	if err := c.account.Interrupt(first.Ref.Cloud); err != nil {
		t.Fatal(err)
	}
	eventually(t, "proof that it is gone", func() (bool, error) {
		_, err := p.GetMachine(t.Context(), first.Ref)
		if fault.Is(err, fault.NotFound) {
			return true, nil
		}
		return false, err
	})
	second := launch("m2")
	eventually(t, "the list of one", func() (bool, error) {
		all, err := p.ListMachines(t.Context(), owner)
		return len(all) == 1 && all[0].Ref.Cloud == second.Ref.Cloud, err
	})
	if gone, err := p.DeleteMachine(t.Context(), first.Ref); err != nil || !gone {
		t.Errorf("deleting what was taken back: %t, %v", gone, err)
	}
}

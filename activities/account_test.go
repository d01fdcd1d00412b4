package activities

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// TestAnotherAccountProvesNothing asks everything that concludes absence in an
// account: the one of the cluster, a renewed credential of it, and another one,
// which looks like an account from which everything is gone.
func TestAnotherAccountProvesNothing(t *testing.T) {
	gone := cloud.MachineRef{Owner: testOwner, ID: "a", Cloud: "1"}
	known := []MemberFact{fact("a", "1", wasReady)}
	asks := map[string]func(context.Context, *stage, string) error{
		"ListOwned": func(ctx context.Context, s *stage, _ string) error {
			_, err := s.cloud().ListOwned(ctx, ListOwnedInput{Owner: cloud.Owner{Cluster: testRef}})
			return err
		},
		"DeleteMachine": func(ctx context.Context, s *stage, account string) error {
			return s.cloud().DeleteMachine(ctx, DeleteMachineInput{Ref: gone, Account: account})
		},
		"InspectGroup": func(ctx context.Context, s *stage, account string) error {
			_, err := s.watch().InspectGroup(ctx, InspectGroupInput{Owner: testOwner, Kube: KubeTarget{None: true}, Known: known, Account: account})
			return err
		},
		"WatchGroup": func(ctx context.Context, s *stage, account string) error {
			out, err := s.watch().WatchGroup(ctx, WatchGroupInput{Owner: testOwner, Kube: KubeTarget{None: true}, Known: known, Account: account})
			if err != nil && len(out.Missing) > 0 {
				t.Errorf("a refused proof tells of %v", out.Missing)
			}
			return err
		},
	}
	rest := []cloud.Machine{machine("b", "2", cloud.MachineRunning)}
	for _, tc := range []struct {
		name     string
		s        stage
		began    string // of an owner without a record
		want     fault.Kind
		accounts []string // of the record afterwards
		not      string   // an activity to which this does not apply
	}{
		{name: "the cluster's own", s: stage{account: "A", accounts: []string{"A"}}, accounts: []string{"A"}},
		{name: "an old record", s: stage{account: "B"}},
		{name: "another", s: stage{account: "B", accounts: []string{"A"}}, want: fault.Unauthorized, accounts: []string{"A"}},
		{name: "a renewed credential", s: stage{account: "B", accounts: []string{"A"}, machines: rest}, accounts: []string{"A", "B"}},
		{name: "of a stand-alone group", s: stage{account: "A", unknown: true}, began: "A"},
		{name: "another of a stand-alone group", s: stage{account: "B", unknown: true}, began: "A", want: fault.Unauthorized, not: "ListOwned"},
		{name: "renewed of a stand-alone group", s: stage{account: "B", unknown: true, machines: rest}, began: "A"},
		{name: "a stand-alone group that does not know", s: stage{account: "B", unknown: true}},
	} {
		for name, ask := range asks {
			if name == tc.not {
				continue
			}
			t.Run(tc.name+" "+name, func(t *testing.T) {
				s := tc.s
				err := s.run(t, func(ctx context.Context) error { return ask(ctx, &s, tc.began) })
				wantType(t, err, tc.want)
				if diff := cmp.Diff(tc.accounts, s.accounts); diff != "" {
					t.Errorf("accounts of the record (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// A deletion that was seen needs no further proof.
func TestDeletionThatWasSeenIsBelieved(t *testing.T) {
	s := &stage{account: "B", accounts: []string{"A"}, machines: []cloud.Machine{machine("a", "1", cloud.MachineRunning)}}
	err := s.run(t, func(ctx context.Context) error {
		return s.cloud().DeleteMachine(ctx, DeleteMachineInput{Ref: s.machines[0].Ref})
	})
	wantType(t, err, "")
}

func TestResolveCloudNotesTheAccount(t *testing.T) {
	resolve := func(s *stage) error {
		s.flavors = []cloud.Flavor{{Name: "a"}}
		return s.run(t, func(ctx context.Context) error {
			_, err := s.cloud().ResolveCloud(ctx, ResolveCloudInput{Ref: testRef, Spec: cluster.Spec{ControlPlane: cluster.ControlPlane{Flavor: "a"}}})
			return err
		})
	}
	s := &stage{account: "A"}
	for range 2 {
		wantType(t, resolve(s), "")
	}
	if diff := cmp.Diff([]string{"A"}, s.accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	s.account = "B"
	wantType(t, resolve(s), fault.Unauthorized, "another account", "ichor/cluster=u1")
	if diff := cmp.Diff([]string{"A"}, s.accounts); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
}

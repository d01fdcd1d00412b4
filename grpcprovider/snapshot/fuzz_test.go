package snapshot

import (
	"context"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/grpcprovider/provider"
)

// FuzzNodeIDs asks for nodes by whatever a client can send. Nothing panics, what
// is not known belongs to no group and deletes nothing, and what is known does
// not depend on how often it was asked for.
func FuzzNodeIDs(f *testing.F) {
	for _, seed := range []string{
		"", "cloudscale://", "ichor://demo/worker/start-0", "ichor://demo/worker/r1-", "ichor://demo/worker/r1--1", "ichor://demo/worker/r1-99999999999999999999",
		"ichor://demo/worker/", "ichor://", "demo-worker-", "demo-worker-aaaaa", "\x00", strings.Repeat("-", 300),
	} {
		f.Add(seed, seed)
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, providerID, name string) {
		w := newWorld()
		w.add(worker, 0, 5, 2)
		s, err := open(context.Background(), w.config(), w)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		before, _ := s.Group(group)
		id, known := s.GroupForNode(provider.NodeRef{ProviderID: providerID, Name: name})
		if known != (id != "") {
			t.Fatalf("group %q, known %v", id, known)
		}
		err = s.DeleteNodes(t.Context(), group, []provider.NodeRef{{ProviderID: providerID, Name: name}})
		after, _ := s.Group(group)
		if (err != nil || !known) && after.Target != before.Target {
			t.Fatalf("target %d, before %d: %v", after.Target, before.Target, err)
		}
		if !known && err == nil {
			t.Fatal("an unknown node was deleted")
		}
	})
}

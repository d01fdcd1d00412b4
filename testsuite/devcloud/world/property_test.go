package world

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever is done in whatever order: addresses are never shared, groups never
// overfull, and an account from which everything was deleted is empty.
func TestAccountInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := New(Options{Speed: 1e9, LoopbackPrefix: "127.205"})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		n, err := w.CreateNetwork("n", "", 0, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		g, err := w.CreateGroup("g", "anti-affinity", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		pick := func(t *rapid.T) string {
			all := w.Servers()
			if len(all) == 0 {
				t.Skip("no server") // this random action only: rapid draws another one
			}
			return all[rapid.IntRange(0, len(all)-1).Draw(t, "server")].UUID
		}
		tolerate := func(t *rapid.T, err error, kinds ...Kind) {
			if err != nil && !slices.ContainsFunc(kinds, func(k Kind) bool { return IsKind(err, k) }) {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				spec := ServerSpec{Name: "s", Flavor: "flex-4-1", Image: "flatcar", Interfaces: []InterfaceSpec{{Network: n.UUID}}}
				if rapid.Bool().Draw(t, "grouped") {
					spec.Groups = []string{g.UUID}
				}
				if rapid.Bool().Draw(t, "public") {
					spec.Interfaces = append(spec.Interfaces, InterfaceSpec{Network: PublicNetwork})
				}
				_, err := w.CreateServer(spec)
				tolerate(t, err, Quota)
			},
			"delete": func(t *rapid.T) { tolerate(t, w.DeleteServer(pick(t)), Busy, NotFound) },
			"stop":   func(t *rapid.T) { tolerate(t, w.StopServer(pick(t)), Busy, NotFound) },
			"start":  func(t *rapid.T) { tolerate(t, w.StartServer(pick(t)), Busy, NotFound) },
			"vanish": func(t *rapid.T) { tolerate(t, w.Vanish(pick(t)), NotFound) },
			"detach": func(t *rapid.T) {
				tolerate(t, w.UpdateServer(pick(t), ServerPatch{Interfaces: []InterfaceSpec{{Network: PublicNetwork}}}), Busy, NotFound)
			},
			"": func(t *rapid.T) { invariants(t, w, g.UUID) },
		})
		for len(w.Servers()) > 0 {
			for _, s := range w.Servers() {
				tolerate(t, w.DeleteServer(s.UUID), Busy, NotFound)
			}
			time.Sleep(100 * time.Microsecond)
		}
		if err := w.DeleteNetwork(n.UUID); err != nil {
			t.Fatal(err)
		}
		if err := w.DeleteGroup(g.UUID); err != nil {
			t.Fatal(err)
		}
		if s := w.State(); s.Count != 0 || len(s.Volumes)+len(s.Subnets) != 0 {
			t.Fatalf("left: %+v", s)
		}
		if len(w.pool.used) != 0 {
			t.Fatalf("public addresses still taken: %v", w.pool.used)
		}
	})
}

func invariants(t *rapid.T, w *World, group string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	loopbacks, private := map[netip.Addr]bool{}, map[string]bool{}
	members := 0
	for _, s := range w.servers.all() {
		if loopbacks[s.Loopback] || !w.pool.used[s.Loopback] {
			t.Fatalf("loopback address %s is shared or free", s.Loopback)
		}
		loopbacks[s.Loopback] = true
		if s.deleting {
			continue
		}
		for _, i := range s.Interfaces {
			for _, a := range i.Addresses {
				key := fmt.Sprint(a)
				if private[key] {
					t.Fatalf("address %s is shared", key)
				}
				private[key] = true
			}
		}
		if slices.Contains(s.Groups, group) {
			members++
		}
	}
	if members > defaultGroupSize {
		t.Fatalf("%d servers in a group of %d", members, defaultGroupSize)
	}
	if len(loopbacks) != len(w.pool.used) {
		t.Fatalf("%d addresses taken by %d servers", len(w.pool.used), len(loopbacks))
	}
}

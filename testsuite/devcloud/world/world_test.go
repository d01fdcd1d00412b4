package world

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// Many clients at once; run with -race.
func TestConcurrentUse(t *testing.T) {
	w, _, image := newWorld(t, nil)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 10 {
				s, err := w.CreateServer(ServerSpec{Name: fmt.Sprintf("n%d-%d", n, i), Flavor: "flex-4-1", Image: image, Tags: map[string]string{"n": "x"}})
				if err != nil {
					t.Error(err)
					return
				}
				if err := w.UpdateServer(s.UUID, ServerPatch{Tags: map[string]string{"n": "y"}}); err != nil {
					t.Error(err)
				}
				for _, x := range w.Servers() {
					if x.Tags["n"] == "" {
						t.Error("a server without its tag")
					}
				}
				for w.DeleteServer(s.UUID) != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all gone", func() bool { return len(w.Servers()) == 0 })
	if n := len(w.Journal(time.Time{})); n < 240 {
		t.Errorf("%d entries in the journal, want at least 240", n)
	}
}

func TestResetForgetsEverything(t *testing.T) {
	w, p, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image})
	eventually(t, "running", func() bool { return p.log("a") == "boot" })
	if lines, err := w.Console(s.UUID); err != nil || !slices.Equal(lines, []string{"a booted"}) {
		t.Errorf("console %q, %v", lines, err)
	}
	if _, err := w.CreateBalancer("lb", "", BalancerFlavor, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateFloating(FloatingSpec{IPVersion: 4}); err != nil {
		t.Fatal(err)
	}
	w.Reset()
	if got := w.State().Count; got != 0 {
		t.Errorf("%d resources after a reset", got)
	}
	if got := p.log("a"); got != "boot destroy" {
		t.Errorf("machine saw %q", got)
	}
}

func TestClock(t *testing.T) {
	c := NewClock(60)
	if got := c.Scale(time.Minute); got != time.Second {
		t.Errorf("a minute lasts %s, want 1s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Sleep(ctx, 1000*time.Hour); err == nil {
		t.Error("slept on in a context that has ended")
	}
}

func TestLoopbackPool(t *testing.T) {
	for _, bad := range []string{"127.0", "10.0", "127", "127.300", "x"} {
		if _, err := newPool(bad); err == nil {
			t.Errorf("prefix %q was accepted", bad)
		}
	}
	p, err := newPool("127.77")
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.take()
	if err != nil {
		t.Fatal(err)
	}
	p.give(first)
	seen := map[netip.Addr]bool{}
	for n := range poolSize {
		a, err := p.take()
		if err != nil || seen[a] || a.As4()[3] == 0 || a.As4()[3] == 255 {
			t.Fatalf("address %d: %s, %v", n, a, err)
		}
		if n == 0 && a == first {
			t.Error("an address was used again at once")
		}
		seen[a] = true
	}
	if _, err := p.take(); err == nil {
		t.Error("an empty pool gave an address")
	}
}

package snapshot

import (
	"context"
	"fmt"
	"testing"

	"github.com/ichor-project/ichor/grpcprovider/provider"
)

// large is 20 groups of 250 ready machines each.
func large(b *testing.B) (*world, *Source) {
	b.Helper()
	w := newWorld()
	for g := range 20 {
		e := w.add(fmt.Sprintf("g%02d", g), 0, 500, 250)
		e.advance()
		e.advance()
	}
	cfg := w.config()
	cfg.QueryBudget = 10 * cfg.SignalBudget
	s, err := open(context.Background(), cfg, w)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return w, s
}

func BenchmarkGroupForNode(b *testing.B) {
	_, s := large(b)
	ref := provider.NodeRef{ProviderID: "cloudscale://m0007", Name: "demo-g07-m0007"}
	for b.Loop() {
		if _, ok := s.GroupForNode(ref); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkRefreshOfAllThatChanged(b *testing.B) {
	w, s := large(b)
	for b.Loop() {
		w.lock(func() {
			for _, e := range w.entities {
				e.lengths[0]++
			}
		})
		if err := s.Refresh(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIncreaseSize(b *testing.B) {
	_, s := large(b)
	for b.Loop() {
		err := s.IncreaseSize(context.Background(), "demo/g07", 1)
		if g, _ := s.Group("demo/g07"); err != nil && g.Target < 500 {
			b.Fatal(err)
		} else if err != nil {
			b.StopTimer()
			_, s = large(b)
			b.StartTimer()
		}
	}
}

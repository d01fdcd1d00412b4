package world

import "testing"

func TestFloatingIPs(t *testing.T) {
	w, _, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Zone: "rma1", Image: image})
	b, err := w.CreateBalancer("lb", "rma1", BalancerFlavor, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := w.CreateFloating(FloatingSpec{IPVersion: 4, Server: s.UUID})
	if err != nil {
		t.Fatal(err)
	}
	if f.Region != "rma" || f.NextHop != s.Loopback.String() {
		t.Errorf("region %s, next hop %s; want those of the server", f.Region, f.NextHop)
	}
	if err := w.UpdateFloating(f.UUID, FloatingPatch{LoadBalancer: &b.UUID}); err != nil {
		t.Fatal(err)
	}
	got, err := w.FloatingIP(f.UUID)
	if err != nil || got.Server != "" || got.LoadBalancer != b.UUID || got.NextHop != b.VIPs[0].Addr.String() {
		t.Errorf("moved to %+v, %v", got, err)
	}
	for name, spec := range map[string]FloatingSpec{
		"version": {IPVersion: 5}, "prefix": {IPVersion: 6, PrefixLength: 64}, "region": {IPVersion: 4, Region: "lpg", Server: s.UUID},
		"two targets": {IPVersion: 4, Server: s.UUID, LoadBalancer: b.UUID}, "nobody": {IPVersion: 4, Server: "x"}, "type": {IPVersion: 4, Type: "local"},
	} {
		if _, err := w.CreateFloating(spec); !IsKind(err, Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	eventually(t, "running", func() bool { v, err := w.Balancer(b.UUID); return err == nil && v.Status == Running })
	if err := w.DeleteBalancer(b.UUID); err != nil {
		t.Fatal(err)
	}
	if got, err := w.FloatingIP(f.UUID); err != nil || got.LoadBalancer != "" {
		t.Errorf("after its target is gone: %+v, %v", got, err)
	}
	if err := w.DeleteFloating(f.UUID); err != nil {
		t.Error(err)
	}
}

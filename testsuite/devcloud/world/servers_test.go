package world

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

func TestServerLife(t *testing.T) {
	w, p, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, UserData: []byte("config"), RootGB: 50})
	if s.Status != Changing {
		t.Errorf("created in status %s", s.Status)
	}
	steps := []struct {
		name string
		do   func(string) error
		want string
	}{
		{"create", nil, Running},
		{"reboot", w.RebootServer, Running},
		{"stop", w.StopServer, Stopped},
		{"stop again", w.StopServer, Stopped},
		{"start", w.StartServer, Running},
		{"delete", w.DeleteServer, "gone"},
	}
	for _, st := range steps {
		if st.do != nil {
			if err := st.do(s.UUID); err != nil {
				t.Fatalf("%s: %v", st.name, err)
			}
		}
		eventually(t, st.name, func() bool { return w.status(s.UUID) == st.want })
	}
	if got, want := p.log("a"), "boot reboot off on destroy"; got != want {
		t.Errorf("machine saw %q, want %q", got, want)
	}
	want := guest.Server{
		UUID: s.UUID, Name: "a", Zone: DefaultZone, Flavor: "flex-8-4", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 50,
		Loopback: s.Loopback, Public: true, UserData: []byte("config"),
		Image: guest.Image{
			UUID: image, Schematic: "abc", TalosVersion: "v1.13.5", Platform: "openstack", Arch: "amd64",
			UserDataHandling: "pass-through", Firmware: "uefi",
		},
	}
	if d := cmp.Diff(want, p.spec("a"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if n := len(w.Volumes()); n != 0 {
		t.Errorf("%d volumes are left of a deleted server", n)
	}
}

func TestChangingServersRefuse(t *testing.T) {
	w, _, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, Quirk: Quirk{Stuck: true}})
	for name, do := range map[string]func(string) error{
		"delete": w.DeleteServer, "stop": w.StopServer, "start": w.StartServer, "reboot": w.RebootServer,
	} {
		if err := do(s.UUID); !IsKind(err, Busy) {
			t.Errorf("%s: %v, want busy", name, err)
		}
	}
	if err := w.Vanish(s.UUID); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(string) error{"delete": w.DeleteServer, "vanish": w.Vanish} {
		if err := do(s.UUID); !IsKind(err, NotFound) {
			t.Errorf("%s of a vanished server: %v, want not found", name, err)
		}
	}
}

func TestQuirks(t *testing.T) {
	w, p, image := newWorld(t, nil)
	late := mustServer(t, w, ServerSpec{Name: "late", Image: image, Quirk: Quirk{Stuck: true, StuckFor: time.Minute}})
	eventually(t, "running after all", func() bool { return w.status(late.UUID) == Running })
	eventually(t, "an entry of the timeline", func() bool {
		return slices.ContainsFunc(w.Timeline(), func(a Action) bool { return a.Name == "server_is_running" && a.Subject == late.UUID })
	})
	if slices.ContainsFunc(w.Journal(time.Time{}), func(a Action) bool { return a.Internal }) {
		t.Error("the project log shows what nobody asked for")
	}
	failed := mustServer(t, w, ServerSpec{Name: "failed", Image: image, Quirk: Quirk{Status: Failed}})
	eventually(t, "error state", func() bool { return w.status(failed.UUID) == Failed })
	if err := w.DeleteServer(failed.UUID); err != nil {
		t.Errorf("a failed server cannot be deleted: %v", err)
	}
	lost := mustServer(t, w, ServerSpec{Name: "lost", Zone: "rma1", Image: image, Quirk: Quirk{WrongZone: true}})
	if lost.Zone == "rma1" {
		t.Error("the server is in the zone that was asked for")
	}
	if p.log("failed") != "" {
		t.Errorf("a machine that failed saw %q", p.log("failed"))
	}
}

func TestRefusals(t *testing.T) {
	w, _, image := newWorld(t, func(o *Options) {
		o.Limits = Limits{VCPUs: 10, StorageGB: 100, Networks: 1, LoadBalancers: 1, CustomImages: 1, FloatingIPs: 1, OutOfStock: []string{"flex-4-1@lpg1"}}
	})
	ok := ServerSpec{Name: "ok", Flavor: "flex-8-4", Image: image}
	for _, tt := range []struct {
		name   string
		change func(*ServerSpec)
		kind   Kind
		field  string
	}{
		{"upper case name", func(s *ServerSpec) { s.Name = "Node" }, Invalid, "name"},
		{"long label", func(s *ServerSpec) { s.Name = strings.Repeat("a", 64) }, Invalid, "name"},
		{"unknown zone", func(s *ServerSpec) { s.Zone = "zrh1" }, Invalid, "zone"},
		{"unknown flavor", func(s *ServerSpec) { s.Flavor = "flex-1-1" }, Invalid, "flavor"},
		{"unknown image", func(s *ServerSpec) { s.Image = "custom:nothing" }, NotFound, ""},
		{"small disk", func(s *ServerSpec) { s.RootGB = 9 }, Invalid, "volume_size_gb"},
		{"user data", func(s *ServerSpec) { s.UserData = make([]byte, 49150) }, Invalid, "user_data"},
		{"cpu quota", func(s *ServerSpec) { s.Flavor = "flex-48-12" }, Quota, ""},
		{"storage quota", func(s *ServerSpec) { s.RootGB = 101 }, Quota, ""},
		{"no stock", func(s *ServerSpec) { s.Flavor = "flex-4-1" }, NoStock, ""},
		{"unknown group", func(s *ServerSpec) { s.Groups = []string{"x"} }, Invalid, "server_groups"},
		{"unknown network", func(s *ServerSpec) { s.Interfaces = []InterfaceSpec{{Network: "x"}} }, Invalid, "interfaces"},
		{"no interface", func(s *ServerSpec) { s.Interfaces = []InterfaceSpec{} }, Invalid, "interfaces"},
		{"two public", func(s *ServerSpec) { s.Interfaces = []InterfaceSpec{{Network: "public"}, {Network: "public"}} }, Invalid, "interfaces"},
	} {
		spec := ok
		tt.change(&spec)
		_, err := w.CreateServer(spec)
		var e *Error
		if !IsKind(err, tt.kind) {
			t.Errorf("%s: %v, want kind %d", tt.name, err, tt.kind)
		} else if errors.As(err, &e) && e.Field != tt.field {
			t.Errorf("%s: field %q, want %q", tt.name, e.Field, tt.field)
		}
	}
	spec := ok
	spec.UserData = make([]byte, 49149)
	mustServer(t, w, spec)
	if _, err := w.ImportImage(ImportSpec{URL: "http://factory/x.raw", Name: "x", UserDataHandling: "pass-through"}); !IsKind(err, Quota) {
		t.Errorf("second image: %v, want quota", err)
	}
	if _, err := w.CreateNetwork("n", "", 0, true, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateNetwork("n", "", 0, true, nil); !IsKind(err, Quota) {
		t.Errorf("second network: %v, want quota", err)
	}
	if got := w.State().Count; got != 3 {
		t.Errorf("%d resources, want the image, the server and the network", got)
	}
}

func TestServerGroupHoldsFour(t *testing.T) {
	w, _, image := newWorld(t, nil)
	g, err := w.CreateGroup("g", "anti-affinity", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var first Server
	for n := range 4 {
		s := mustServer(t, w, ServerSpec{Name: fmt.Sprintf("n%d", n), Image: image, Groups: []string{g.UUID}})
		if n == 0 {
			first = s
		}
	}
	fifth := ServerSpec{Name: "n4", Flavor: "flex-8-4", Image: image, Groups: []string{g.UUID}}
	if _, err := w.CreateServer(fifth); !IsKind(err, Quota) {
		t.Fatalf("fifth server: %v, want quota", err)
	}
	eventually(t, "running", func() bool { return w.status(first.UUID) == Running })
	if err := w.DeleteServer(first.UUID); err != nil {
		t.Fatal(err)
	}
	mustServer(t, w, fifth) // a deleted server leaves its place at once
	wrong := fifth
	wrong.Zone = "rma1"
	if _, err := w.CreateServer(wrong); !IsKind(err, Invalid) {
		t.Errorf("group in another zone: %v, want invalid", err)
	}
}

// Names are not unique, and creation times tell the older of two twins.
func TestTwins(t *testing.T) {
	w, _, image := newWorld(t, nil)
	a := mustServer(t, w, ServerSpec{Name: "twin", Image: image})
	b := mustServer(t, w, ServerSpec{Name: "twin", Image: image})
	if a.UUID == b.UUID || !a.CreatedAt.Before(b.CreatedAt) || a.Loopback == b.Loopback {
		t.Errorf("twins %+v and %+v are not apart", a.Meta, b.Meta)
	}
}

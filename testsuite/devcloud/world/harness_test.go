package world

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// park is a booter that remembers what happened to its machines.
type park struct {
	mu     sync.Mutex
	events []string
	specs  map[string]guest.Server
}

type parked struct {
	park *park
	name string
}

func (p *park) note(name, event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, name+" "+event)
}

func (p *park) log(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		if n, what, _ := strings.Cut(e, " "); n == name {
			out = append(out, what)
		}
	}
	return strings.Join(out, " ")
}

func (p *park) spec(name string) guest.Server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.specs[name]
}

func (p *park) Boot(s guest.Server) guest.Guest {
	p.note(s.Name, "boot")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.specs[s.Name] = s
	return parked{p, s.Name}
}

func (g parked) PowerOn()      { g.park.note(g.name, "on") }
func (g parked) PowerOff()     { g.park.note(g.name, "off") }
func (g parked) Reboot()       { g.park.note(g.name, "reboot") }
func (g parked) Destroy()      { g.park.note(g.name, "destroy") }
func (g parked) Log() []string { return []string{g.name + " booted"} }

const talosURL = "/image/abc/v1.13.5/openstack-amd64.raw"

// newWorld returns a fast world with a Talos image, and the image's UUID.
func newWorld(t *testing.T, change func(*Options)) (*World, *park, string) {
	t.Helper()
	images := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, ".xz"):
			_, _ = rw.Write([]byte("\xfd7zXZ\x00")) // the client shows what is missing
		case strings.HasSuffix(r.URL.Path, ".qcow2"):
			_, _ = rw.Write([]byte("QFI\xfb…")) // likewise
		case strings.HasSuffix(r.URL.Path, ".raw"):
			_, _ = rw.Write([]byte("raw disk")) // likewise
		default:
			http.NotFound(rw, r)
		}
	}))
	p := &park{specs: map[string]guest.Server{}}
	o := Options{
		Speed: 5000, LoopbackPrefix: "127.202", Booter: p, ImageClient: images.Client(),
		ImageURL: func(u string) (string, error) { return images.URL + strings.TrimPrefix(u, "http://factory"), nil },
		Describe: func(u string) (guest.Image, bool) {
			return guest.Image{Schematic: "abc", TalosVersion: "v1.13.5", Platform: "openstack", Arch: "amd64"}, strings.HasSuffix(u, talosURL)
		},
	}
	if change != nil {
		change(&o)
	}
	w, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close(); images.CloseClientConnections(); images.Close() })
	imp, err := w.ImportImage(ImportSpec{
		URL: "http://factory" + talosURL, Name: "talos", Slug: "talos", UserDataHandling: "pass-through", Firmware: "uefi",
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the image", func() bool { _, err := w.Image(imp.UUID); return err == nil })
	return w, p, imp.UUID
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never happened", what)
		}
	}
}

func (w *World) status(id string) string {
	s, err := w.Server(id)
	if err != nil {
		return "gone"
	}
	return s.Status
}

func mustServer(t *testing.T, w *World, spec ServerSpec) Server {
	t.Helper()
	if spec.Flavor == "" {
		spec.Flavor = "flex-8-4"
	}
	s, err := w.CreateServer(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

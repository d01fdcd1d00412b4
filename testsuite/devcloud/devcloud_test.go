package devcloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cloudscale-ch/cloudscale-go-sdk/v8"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// site is a devcloud with the vendor's client.
type site struct {
	t *testing.T
	*devcloud.Devcloud
	sdk  *cloudscale.Client
	http *http.Client
}

func start(t *testing.T, o devcloud.Options) *site {
	t.Helper()
	if o.Speed == 0 {
		o.Speed = 5000
	}
	o.LoopbackPrefix = "127.203"
	d, err := devcloud.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, Devcloud: d, http: &http.Client{Transport: &http.Transport{}}}
	t.Setenv("CLOUDSCALE_API_URL", d.URL())
	s.sdk = cloudscale.NewClient(s.http)
	s.sdk.AuthToken = "any"
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// call sends a raw request and returns status and body.
func (s *site) call(method, path, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer any")
	res, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	data, err := io.ReadAll(res.Body)
	if err := errors.Join(err, res.Body.Close()); err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, strings.TrimSpace(string(data))
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never happened", what)
		}
	}
}

func request(name string) *cloudscale.ServerRequest {
	return &cloudscale.ServerRequest{Name: name, Zone: "rma1", Flavor: "flex-8-4", Image: "flatcar", SSHKeys: []string{}}
}

func (s *site) server(req *cloudscale.ServerRequest) *cloudscale.Server {
	s.t.Helper()
	v, err := s.sdk.Servers.Create(s.t.Context(), req)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// What the API refuses, word for word, so that providers can be tested against
// the same.
func TestRefusals(t *testing.T) {
	s := start(t, devcloud.Options{})
	const minimal = `"name": "a", "flavor": "flex-8-4", "image": "flatcar"`
	if _, err := s.Faults().Add(faults.Fault{Route: "POST /v1/servers", Effect: faults.StuckChanging}); err != nil {
		t.Fatal(err)
	}
	v := s.server(request("stuck"))
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "v1/servers", `{` + minimal + `, "ssh_keys": null}`, 400, `{"ssh_keys":["This field may not be null."]}`},
		{"POST", "v1/servers", `{` + minimal + `, "tags": null}`, 400, `{"tags":["This field may not be null."]}`},
		{"POST", "v1/servers", `{` + minimal + `, "tags": {"a": 1}}`, 400, `Not a valid value.`},
		{"POST", "v1/servers", `{"name": "a"}`, 400, `{"flavor":["This field is required."]}`},
		{"POST", "v1/servers", `{"name": "a", "flavor": "flex-8-4", "image": "custom:none"}`, 404, `{"detail":"Image not found."}`},
		{"POST", "v1/servers", `{`, 400, `{"detail":"JSON parse error`},
		{"PATCH", "v1/servers/" + v.UUID, `{"name": "a", "tags": {}}`, 400, `Only one attribute`},
		{"PATCH", "v1/servers/" + v.UUID, `{"flavor": "flex-4-1"}`, 400, world.ChangingText},
		{"DELETE", "v1/servers/" + v.UUID, ``, 400, world.ChangingText},
		{"GET", "v1/servers/nothing", ``, 404, `{"detail":"Not found."}`},
		{"GET", "v1/nothing", ``, 404, `{"detail":"Not found."}`},
		{"POST", "v1/subnets", `{"network": "x", "cidr": "10.0.0.0/24"}`, 400, `{"network":`},
		{"POST", "v1/custom-images/import", `{"name": "a", "url": "ftp://x"}`, 400, `{"url":`},
		{"POST", "v1/load-balancers", `{"name": "a", "flavor": "lb-huge"}`, 400, `{"flavor":`},
		{"POST", "v1/floating-ips", `{"ip_version": 5}`, 400, `{"ip_version":`},
	} {
		status, body := s.call(tt.method, tt.path, tt.body)
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s %s: %d %s, want %d with %s", tt.method, tt.path, tt.body, status, body, tt.status, tt.want)
		}
		if tt.path == "v1/servers" && tt.method == "POST" && len(s.World().Servers()) != 1 {
			t.Fatalf("%s made a server", tt.body)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"v1/servers", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %d %v", res.StatusCode, err)
	}
}

func TestTagFilters(t *testing.T) {
	s := start(t, devcloud.Options{})
	for name, tags := range map[string]cloudscale.TagMap{"a": {"x": "1", "y": "1"}, "b": {"x": "1"}, "c": {"y": "2"}} {
		r := request(name)
		r.Tags = &tags
		s.server(r)
	}
	for query, want := range map[string]int{
		"":                   3,
		"?tag:x=1":           2,
		"?tag:x=":            2,
		"?tag:x=2":           0,
		"?tag:z=":            0,
		"?tag%3Ay=2":         1,
		"?tag:x=1&tag:y=2":   1, // the last one wins, they are not combined
		"?tag:y=2&tag:x=1":   2,
		"?name=a&tag:x=1":    1,
		"?something=nothing": 3,
	} {
		_, body := s.call("GET", "v1/servers"+query, "")
		var got []map[string]any
		if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != want {
			t.Errorf("servers%s: %d results, want %d (%v)", query, len(got), want, err)
		}
	}
}

// hrefs lead back to this cloud.
func TestHrefs(t *testing.T) {
	s := start(t, devcloud.Options{})
	v := s.server(request("a"))
	path, ok := strings.CutPrefix(v.HREF, s.URL())
	if !ok {
		t.Fatalf("href %s is not below %s", v.HREF, s.URL())
	}
	if status, body := s.call("GET", path, ""); status != 200 || !strings.Contains(body, v.UUID) {
		t.Errorf("%s: %d %s", v.HREF, status, body)
	}
}

// The project log is a witness of a creation whose answer was lost.
func TestLostResponse(t *testing.T) {
	s := start(t, devcloud.Options{})
	if _, err := s.Faults().Add(faults.Fault{Route: "POST /v1/servers", Effect: faults.CommitThenDrop}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.sdk.Servers.Create(t.Context(), request("lost")); err == nil {
		t.Fatal("the answer came through")
	}
	servers, err := s.sdk.Servers.List(t.Context())
	if err != nil || len(servers) != 1 || servers[0].Name != "lost" {
		t.Fatalf("servers %v, %v; want the lost one", servers, err)
	}
	_, body := s.call("GET", "v1/project-logs?start=2020-01-01T00:00:00Z", "")
	if !strings.Contains(body, `"action":"server_create"`) || !strings.Contains(body, servers[0].UUID) || !strings.Contains(body, `"poll_more":"`+s.URL()) {
		t.Errorf("project log %s", body)
	}
}

func TestBentCreations(t *testing.T) {
	s := start(t, devcloud.Options{})
	add := func(f faults.Fault) {
		t.Helper()
		f.Route = "POST /v1/servers"
		if _, err := s.Faults().Add(f); err != nil {
			t.Fatal(err)
		}
	}
	status := func(v *cloudscale.Server) string {
		got, err := s.sdk.Servers.Get(t.Context(), v.UUID)
		if err != nil {
			t.Fatal(err)
		}
		return got.Status
	}
	add(faults.Fault{Effect: faults.WrongZone})
	if v := s.server(request("lost")); v.Zone.Slug != "lpg1" {
		t.Errorf("wrong-zone: zone %s", v.Zone.Slug)
	}
	add(faults.Fault{Effect: faults.ErrorState})
	failed := s.server(request("failed"))
	eventually(t, "error", func() bool { return status(failed) == "error" })
	add(faults.Fault{Effect: faults.StuckChanging})
	stuck := s.server(request("stuck"))
	fine := s.server(request("fine"))
	eventually(t, "running", func() bool { return status(fine) == "running" })
	if got := status(stuck); got != "changing" {
		t.Errorf("stuck server is %s", got)
	}
}

func TestStaleReads(t *testing.T) {
	s := start(t, devcloud.Options{})
	v := s.server(request("fresh"))
	for _, route := range []string{"GET /v1/servers", "GET /v1/servers/*"} {
		if _, err := s.Faults().Add(faults.Fault{Route: route, Effect: faults.StaleList, Duration: faults.Duration(5000 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if l, err := s.sdk.Servers.List(t.Context()); err != nil || len(l) != 0 {
		t.Errorf("stale list shows %d servers, %v", len(l), err)
	}
	var e *cloudscale.ErrorResponse
	if _, err := s.sdk.Servers.Get(t.Context(), v.UUID); !errors.As(err, &e) || e.StatusCode != http.StatusNotFound {
		t.Errorf("stale get: %v, want 404", err)
	}
	if l, err := s.sdk.Servers.List(t.Context()); err != nil || len(l) != 1 {
		t.Errorf("the list after the stale one shows %d servers, %v", len(l), err)
	}
}

func TestControl(t *testing.T) {
	s := start(t, devcloud.Options{})
	a, b := s.server(request("a")), s.server(request("b"))
	eventually(t, "running", func() bool { v, err := s.World().Server(b.UUID); return err == nil && v.Status == world.Running })
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "servers/" + a.UUID + "/vanish", "", 204},
		{"POST", "servers/" + a.UUID + "/vanish", "", 404},
		{"POST", "servers/" + b.UUID + "/stop", "", 204},
		{"GET", "servers/" + b.UUID + "/console", "", 200},
		{"GET", "servers/nothing/console", "", 404},
		{"PUT", "limits", `{"servers": 1, "out_of_stock": ["flex-4-1@rma1"]}`, 200},
		{"PUT", "limits", `{"sarvers": 1}`, 400},
		{"GET", "limits", ``, 200},
		{"GET", "state", ``, 200},
		{"GET", "info", ``, 200},
		{"GET", "timeline", ``, 200},
	} {
		if status, body := s.call(c.method, "_devcloud/"+c.path, c.body); status != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, status, body, c.status)
		}
	}
	if _, err := s.sdk.Servers.Get(t.Context(), a.UUID); err == nil {
		t.Error("a vanished server still answers")
	}
	if _, err := s.sdk.Servers.Create(t.Context(), request("c")); err == nil || !strings.Contains(err.Error(), world.QuotaText) {
		t.Errorf("server over quota: %v", err)
	}
	if status, _ := s.call("POST", "_devcloud/reset", ""); status != 204 || s.World().State().Count != 0 || len(s.Faults().Requests(0)) != 0 {
		t.Errorf("reset: %d, %d resources, %d requests", status, s.World().State().Count, len(s.Faults().Requests(0)))
	}
}

// An import from the Image Factory ends as a machine that knows its schematic.
func TestFactoryToGuest(t *testing.T) {
	specs := make(chan guest.Server, 1)
	s := start(t, devcloud.Options{NewGuests: func(e devcloud.Environment) (devcloud.Guests, error) {
		if e.Clock.Scale(5000*time.Second) != time.Second {
			t.Error("the guests' clock runs at another speed")
		}
		return devcloud.Guests{Booter: booter(specs)}, nil
	}})
	const empty = "376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba"
	imp, err := s.sdk.CustomImageImports.Create(t.Context(), &cloudscale.CustomImageImportRequest{
		URL: s.FactoryURL() + "image/" + empty + "/v1.13.5/openstack-amd64.qcow2", Name: "talos", SourceFormat: "qcow2",
		UserDataHandling: "pass-through", FirmwareType: "uefi", Zones: []string{"rma1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "import", func() bool {
		i, err := s.sdk.CustomImageImports.Get(t.Context(), imp.UUID)
		return err == nil && i.Status == "success"
	})
	r := request("node")
	r.Image, r.UserData = imp.CustomImage.UUID, "machine: {}"
	v := s.server(r)
	got := <-specs
	want := guest.Image{
		UUID: imp.UUID, Schematic: empty, TalosVersion: "v1.13.5", Platform: "openstack", Arch: "amd64",
		UserDataHandling: "pass-through", Firmware: "uefi",
	}
	if d := cmp.Diff(want, got.Image); d != "" {
		t.Error(d)
	}
	if got.UUID != v.UUID || string(got.UserData) != "machine: {}" {
		t.Errorf("guest %+v", got)
	}
	if addr := v.Interfaces[0].Addresses[0].Address; netip.MustParseAddr(addr) != got.Loopback {
		t.Errorf("the API says %s, the machine %s", addr, got.Loopback)
	}
}

type booter chan guest.Server

func (b booter) Boot(s guest.Server) guest.Guest {
	b <- s
	return still{}
}

type still struct{}

func (still) PowerOn()      {}
func (still) PowerOff()     {}
func (still) Reboot()       {}
func (still) Destroy()      {}
func (still) Log() []string { return nil }

// Nothing outside this host is ever fetched.
func TestNoImagesFromOutside(t *testing.T) {
	s := start(t, devcloud.Options{})
	imp, err := s.sdk.CustomImageImports.Create(context.WithoutCancel(t.Context()), &cloudscale.CustomImageImportRequest{
		URL: "https://factory.example/image/x.raw", Name: "x", UserDataHandling: "pass-through", Zones: []string{"rma1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "failure", func() bool {
		i, err := s.sdk.CustomImageImports.Get(t.Context(), imp.UUID)
		return err == nil && i.Status == "failed" && strings.Contains(i.ErrorMessage, "could not resolve host")
	})
}

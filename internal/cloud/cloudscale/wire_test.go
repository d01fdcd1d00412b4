package cloudscale

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

var demo = cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Group: "workers"}

// What goes over the wire when a machine is made: the parts that are easily
// lost are the zone, the empty lists and the tags.
func TestServerRequestOnTheWire(t *testing.T) {
	spec := cloud.MachineSpec{
		ID: "m1", Name: "demo-workers-m1", Owner: demo, Role: cluster.RoleWorker, Zone: "lpg1", Flavor: "flex-4-1", ImageID: someID,
		DiskGiB: 50, Subnets: []string{"s-1"}, Networks: []string{"n-2"}, PlacementGroup: "g-1", Tags: []cluster.Tag{{Key: "team", Value: "a"}},
	}
	body, err := json.MarshalIndent(serverRequest(spec, []byte("version: v1alpha1\n")), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{
  "tags": {
    "ichor/cluster": "u1",
    "ichor/cluster-name": "demo",
    "ichor/group": "workers",
    "ichor/image": "47cec963-fcd2-482f-bdb6-24461b2d47b1",
    "ichor/machine": "m1",
    "ichor/request": %q,
    "ichor/role": "worker",
    "team": "a"
  },
  "name": "demo-workers-m1",
  "flavor": "flex-4-1",
  "image": "47cec963-fcd2-482f-bdb6-24461b2d47b1",
  "zone": "lpg1",
  "volume_size_gb": 50,
  "interfaces": [
    {
      "network": "public"
    },
    {
      "addresses": [
        {
          "subnet": "s-1"
        }
      ]
    },
    {
      "network": "n-2"
    }
  ],
  "ssh_keys": [],
  "server_groups": [
    "g-1"
  ],
  "user_data": "version: v1alpha1\n"
}`, fingerprint(spec))
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestInfrastructureRequestsOnTheWire(t *testing.T) {
	p := openURL(t, "http://127.0.0.1:1", nil)
	steps, err := p.PlanInfrastructure(cloud.InfrastructureSpec{
		Owner: demo, Zone: "lpg1", CIDR: "10.100.0.0/24", LoadBalancer: &cluster.LoadBalancer{}, AllowedCIDRs: []string{"192.0.2.0/24", "2001:db8::/32"},
	})
	if err != nil {
		t.Fatal(err)
	}
	placement, err := p.PlacementStep(demo, "lpg1", 2)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	var have []cloud.Resource
	for _, s := range append(steps, placement) {
		var path, body string
		p := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			if r.Method == http.MethodGet {
				if q := r.URL.Query(); len(q) != 1 || q.Get("tag:ichor/cluster") != "u1" {
					t.Errorf("%s is asked for %s, want one tag", r.URL.Path, r.URL.RawQuery)
				}
				fmt.Fprint(w, `[]`)
				return
			}
			path, body = r.URL.Path, strings.TrimSpace(string(b))
			w.WriteHeader(http.StatusInternalServerError)
		}))
		_, err := p.EnsureResource(t.Context(), cloud.EnsureResourceRequest{Owner: demo, Step: s, Have: have, Create: true})
		if !fault.Is(err, fault.Ambiguous) {
			t.Errorf("%s: %v of kind %q", s.Title, err, fault.KindOf(err))
		}
		// The identity tags are the same everywhere but for two.
		body = strings.ReplaceAll(body, `"ichor/cluster":"u1","ichor/cluster-name":"demo","ichor/group":"workers",`, "…")
		got = append(got, s.Title+" "+path+" "+body)
		have = append(have, cloud.Resource{Kind: s.Kind, Key: s.Key, ID: "id-of-" + s.Key})
	}
	want := []string{
		`network demo /v1/networks {"zone":"lpg1","tags":{…"ichor/key":"network","ichor/kind":"network"},"name":"demo","auto_create_ipv4_subnet":false}`,
		`subnet 10.100.0.0/24 /v1/subnets {"tags":{…"ichor/key":"subnet","ichor/kind":"subnet"},"cidr":"10.100.0.0/24","network":"id-of-network"}`,
		`load balancer demo-api /v1/load-balancers {"zone":"lpg1","tags":{…"ichor/key":"lb","ichor/kind":"load-balancer"},"name":"demo-api","flavor":"lb-standard"}`,
		`pool demo-api /v1/load-balancers/pools {"tags":{…"ichor/key":"pool","ichor/kind":"pool"},"name":"demo-api","load_balancer":"id-of-lb","algorithm":"round_robin","protocol":"tcp"}`,
		`listener demo-api /v1/load-balancers/listeners {"tags":{…"ichor/key":"listener","ichor/kind":"listener"},"name":"demo-api","pool":"id-of-pool","protocol":"tcp","protocol_port":6443,"allowed_cidrs":["192.0.2.0/24","2001:db8::/32"],"timeout_client_data_ms":600000,"timeout_member_data_ms":600000}`,
		`health monitor demo-api /v1/load-balancers/health-monitors {"tags":{…"ichor/key":"monitor","ichor/kind":"health-monitor"},"pool":"id-of-pool","delay_s":2,"timeout_s":1,"up_threshold":1,"down_threshold":3,"type":"tcp"}`,
		`server group demo-workers-2 /v1/server-groups {"zone":"lpg1","tags":{…"ichor/key":"placement/workers/2","ichor/kind":"server-group"},"name":"demo-workers-2","type":"anti-affinity"}`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestImportRequestOnTheWire(t *testing.T) {
	req := cloud.EnsureImageRequest{
		Spec: cloud.ImageSpec{Name: "talos-v1.13.5-abc", URL: "https://factory.example/image/abc/v1.13.5/openstack-amd64.qcow2?x=.raw", Zone: "lpg1"},
		User: demo,
	}
	r, err := importRequest(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"tags":{"ichor/image":"talos-v1.13.5-abc","ichor/used-by-u1":"demo"},` +
		`"url":"https://factory.example/image/abc/v1.13.5/openstack-amd64.qcow2?x=.raw","name":"talos-v1.13.5-abc","slug":"` + slug(req.Spec.Name) + `",` +
		`"user_data_handling":"pass-through","firmware_type":"uefi","source_format":"qcow2","zones":["lpg1"]}`
	if diff := cmp.Diff(want, string(body)); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	for _, url := range []string{"", "/a.raw", "https://factory.example/a.raw.xz", "https://factory.example/a"} {
		req.Spec.URL = url
		if _, err := importRequest(req); !fault.Is(err, fault.Invalid) {
			t.Errorf("URL %q: %v", url, err)
		}
	}
}

func TestPlanInfrastructureRefuses(t *testing.T) {
	p := openURL(t, "http://127.0.0.1:1", nil)
	for _, spec := range []cloud.InfrastructureSpec{
		{},
		{CIDR: "10.0.0.1/24"},
		{CIDR: "2001:db8::/64"},
		{Existing: &cluster.ExistingNetwork{}},
		{Existing: &cluster.ExistingNetwork{Subnet: "../networks"}},
	} {
		spec.Owner = demo
		if steps, err := p.PlanInfrastructure(spec); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: %v, %v", spec, steps, err)
		}
	}
}

// The API has one price for a machine.
func TestNoSpotMachines(t *testing.T) {
	p := open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	if p.Capabilities().Spot {
		t.Error("the cloud says that it has spot machines")
	}
	_, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{
		Spec: cloud.MachineSpec{ID: "m1", Name: "demo-workers-m1", Owner: demo, Role: cluster.RoleWorker, Spot: true}, UserData: secrets.NewValue([]byte("x")), Create: true,
	})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("a spot machine: %v of kind %q", err, fault.KindOf(err))
	}
}

func TestTransport(t *testing.T) {
	type seen struct {
		Route, Method string
		Status        int
	}
	var got []seen
	var auth, key, agent string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		auth, key, agent = r.Header.Get("Authorization"), r.Header.Get("Idempotency-Key")+r.Header.Get("X-Idempotency-Key"), r.Header.Get("User-Agent")
		http.NotFound(w, r)
	})
	p := open(t, h)
	p.sdk = newSDK(p.sdk.BaseURL, secrets.NewValue([]byte("sekrit\n")), http.DefaultTransport, func(route, method string, status int, _ time.Duration) {
		got = append(got, seen{route, method, status})
	})
	for _, v := range []exchange.Verb{exchange.Read, exchange.Create, exchange.Change, exchange.Remove} {
		if err := calls[v](t.Context(), p); err == nil {
			t.Error("no error")
		}
	}
	want := []seen{
		{"/v1/servers/:id", "GET", 404}, {"/v1/servers", "POST", 404}, {"/v1/custom-images/:id", "PATCH", 404}, {"/v1/servers/:id", "DELETE", 404},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("observed (-want +got):\n%s", diff)
	}
	if auth != "Bearer sekrit" || key != "" || agent != "ichor" {
		t.Errorf("headers: %q %q %q", auth, key, agent)
	}
}

func TestNewRefuses(t *testing.T) {
	ok := secrets.NewValue([]byte("token"))
	for name, tc := range map[string]struct {
		o    Options
		want fault.Kind
	}{
		"no token":       {Options{}, fault.Unauthorized},
		"blank token":    {Options{Token: secrets.NewValue([]byte(" \n"))}, fault.Unauthorized},
		"two lines":      {Options{Token: secrets.NewValue([]byte("a\nb"))}, fault.Unauthorized},
		"no scheme":      {Options{Token: ok, BaseURL: "api.cloudscale.ch"}, fault.Invalid},
		"another scheme": {Options{Token: ok, BaseURL: "ftp://api.cloudscale.ch/"}, fault.Invalid},
	} {
		if _, err := New(tc.o); !fault.Is(err, tc.want) {
			t.Errorf("%s: %v of kind %q", name, err, fault.KindOf(err))
		}
	}
	p, err := New(Options{Token: ok})
	if err != nil || p.sdk.BaseURL.String() != DefaultBaseURL {
		t.Errorf("default: %v, %v", p.sdk.BaseURL, err)
	}
}

func TestStateOf(t *testing.T) {
	for in, want := range map[string]cloud.MachineState{
		"running": cloud.MachineRunning, "changing": cloud.MachineCreating, "stopped": cloud.MachineStopped, "paused": cloud.MachineStopped,
		"error": cloud.MachineFailed, "rescue_running": cloud.MachineUnknown, "rescue_stopped": cloud.MachineStopped, "": cloud.MachineUnknown, "new": cloud.MachineUnknown,
	} {
		if got := stateOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPlausibleID(t *testing.T) {
	for _, id := range []string{"", ".", "..", "a/b", "a?b", "a b", "a%2f", strings.Repeat("a", 65)} {
		if plausibleID(id) {
			t.Errorf("%q passes", id)
		}
	}
	for _, id := range []string{someID, "192.0.2.7", "2001:db8::1"} {
		if !plausibleID(id) {
			t.Errorf("%q fails", id)
		}
	}
}

func TestBetterImage(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	im := func(id string, s cloud.ImageState, created time.Time) imported {
		return imported{Image: cloud.Image{ID: id, State: s}, created: created}
	}
	in := []imported{
		im("f", cloud.ImageFailed, at(0)), im("e", cloud.ImageImporting, time.Time{}), im("d", cloud.ImageReady, at(2)),
		im("c", cloud.ImageReady, at(1)), im("b", cloud.ImageReady, at(2)),
	}
	slices.SortFunc(in, better)
	var got []string
	for _, i := range in {
		got = append(got, i.ID)
	}
	if diff := cmp.Diff([]string{"c", "b", "d", "e", "f"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestNodeLabels(t *testing.T) {
	p, err := New(Options{Token: secrets.NewValue([]byte("x"))})
	if err != nil {
		t.Fatal(err)
	}
	want := []cluster.Tag{{Key: "topology.kubernetes.io/region", Value: "rma"}}
	if diff := cmp.Diff(want, p.NodeLabels("rma1")); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// TestAdoptedIDs pins the derivation: another id would make another machine of
// one that was adopted before.
func TestAdoptedIDs(t *testing.T) {
	if got := adoptedID("47cec963-fcd2-482f-bdb6-24461b2d47b1"); got != "652dejvc" {
		t.Errorf("adoptedID = %q", got)
	}
}

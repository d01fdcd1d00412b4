package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// site is an API that counts what it did, behind an injector.
type site struct {
	t    *testing.T
	in   *faults.Injector
	url  string
	done atomic.Int32
	bend atomic.Value
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, in: faults.New(world.NewClock(1000), 0, nil)}
	mux := http.NewServeMux()
	api := s.in.Wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.done.Add(1)
		s.bend.Store(faults.FromContext(r.Context()))
		rw.WriteHeader(http.StatusCreated)
		if _, err := io.WriteString(rw, "made"); err != nil {
			t.Error(err)
		}
	}))
	mux.Handle("/v1/", api)
	mux.Handle("/aws/", api)
	s.in.Register(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		s.in.Clear()
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	})
	s.url = server.URL
	return s
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (s *site) call(method, path, body string) (reply, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	data, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(data)}, errors.Join(err, res.Body.Close())
}

func (s *site) add(f faults.Fault) faults.Fault {
	s.t.Helper()
	data, err := json.Marshal(f)
	if err != nil {
		s.t.Fatal(err)
	}
	// Counters are part of listings, not of requests.
	res, err := s.call("POST", "/_devcloud/faults", string(data))
	if err != nil || res.status != http.StatusCreated {
		s.t.Fatalf("adding fault: %d %s %v", res.status, res.body, err)
	}
	if err := json.Unmarshal([]byte(res.body), &f); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func TestEffects(t *testing.T) {
	const post, patch, del = "POST /v1/servers", "PATCH /v1/servers/*", "DELETE /v1/servers/*"
	for _, tt := range []struct {
		fault  faults.Fault
		method string
		path   string
		body   string
		status int // 0: the connection breaks
		text   string
		done   int32
	}{
		{fault: faults.Fault{Route: post, Effect: faults.CommitThenDrop}, done: 1},
		{fault: faults.Fault{Route: post, Effect: faults.CommitThenFail}, status: 500, done: 1},
		{fault: faults.Fault{Route: post, Effect: faults.DropBeforeCommit}},
		{fault: faults.Fault{Route: post, Effect: faults.DelayThenCommit, Delay: faults.Duration(time.Second)}, status: 201, text: "made", done: 1},
		{fault: faults.Fault{Route: post, Effect: faults.Status, Status: 418, Body: "teapot"}, status: 418, text: "teapot"},
		{fault: faults.Fault{Route: post, Effect: faults.HTML429, RetryAfter: "7"}, status: 429, text: "<html>"},
		{fault: faults.Fault{Route: post, Effect: faults.JSON429}, status: 429, text: `{"detail"`},
		{fault: faults.Fault{Route: post, Effect: faults.Window503, Duration: faults.Duration(time.Hour)}, status: 503, text: "<html>"},
		{fault: faults.Fault{Route: post, Effect: faults.Quota}, status: 400, text: world.QuotaText},
		{fault: faults.Fault{Route: post, Effect: faults.OutOfStock}, status: 400, text: world.NoStockText},
		{fault: faults.Fault{Route: post, Effect: faults.Image404}, status: 404, text: "Image not found."},
		{fault: faults.Fault{Route: del, Effect: faults.BadDelete}, method: "DELETE", path: "/v1/servers/x", status: 400, text: world.ChangingText},
		{fault: faults.Fault{Route: patch, Effect: faults.TagPatch500}, method: "PATCH", path: "/v1/servers/x", body: `{"tags": {}}`, status: 500},
		{fault: faults.Fault{Route: patch, Effect: faults.TagPatch500}, method: "PATCH", path: "/v1/servers/x", body: `{"name": "x"}`, status: 201, done: 1},
		{fault: faults.Fault{Route: post, Effect: faults.Quota, Contains: "web-1"}, body: `{"name": "web-2"}`, status: 201, done: 1},
		{fault: faults.Fault{Route: post, Effect: faults.Quota, Contains: "web-2"}, body: `{"name": "web-2"}`, status: 400},
	} {
		t.Run(fmt.Sprintf("%s %d", tt.fault.Effect, tt.status), func(t *testing.T) {
			s := newSite(t)
			s.add(tt.fault)
			if tt.method == "" {
				tt.method, tt.path = "POST", "/v1/servers"
			}
			res, err := s.call(tt.method, tt.path, tt.body)
			if (err != nil) != (tt.status == 0) {
				t.Fatalf("error %v, want a broken connection: %v", err, tt.status == 0)
			}
			if err == nil && (res.status != tt.status || !strings.Contains(res.body, tt.text)) {
				t.Errorf("%d %q, want %d with %q", res.status, res.body, tt.status, tt.text)
			}
			if res.header.Get("Retry-After") != tt.fault.RetryAfter {
				t.Errorf("Retry-After %q, want %q", res.header.Get("Retry-After"), tt.fault.RetryAfter)
			}
			if got := s.done.Load(); got != tt.done {
				t.Errorf("done %d times, want %d", got, tt.done)
			}
			log := s.in.Requests(0)
			if len(log) != 1 || log[0].Status != tt.status || !log[0].Done {
				t.Errorf("request log %+v, want one entry with status %d", log, tt.status)
			}
		})
	}
}

func TestBends(t *testing.T) {
	for _, tt := range []struct {
		fault faults.Fault
		want  faults.Bend
	}{
		{faults.Fault{Effect: faults.StuckChanging}, faults.Bend{Stuck: true}},
		{
			faults.Fault{Effect: faults.StuckChanging, Duration: faults.Duration(time.Minute)},
			faults.Bend{Stuck: true, StuckFor: time.Minute},
		},
		{faults.Fault{Effect: faults.ErrorState}, faults.Bend{State: "error"}},
		{faults.Fault{Effect: faults.ErrorState, State: "unknown"}, faults.Bend{State: "unknown"}},
		{faults.Fault{Effect: faults.WrongZone}, faults.Bend{WrongZone: true}},
		{faults.Fault{Effect: faults.StaleList, Duration: faults.Duration(20 * time.Second)}, faults.Bend{Stale: 20 * time.Millisecond}},
	} {
		s := newSite(t)
		tt.fault.Route = "* /v1/**"
		s.add(tt.fault)
		if _, err := s.call("POST", "/v1/servers", ""); err != nil {
			t.Fatal(err)
		}
		if got := s.bend.Load(); got != tt.want {
			t.Errorf("%s: bend %+v, want %+v", tt.fault.Effect, got, tt.want)
		}
	}
}

func TestNthAndCount(t *testing.T) {
	s := newSite(t)
	f := s.add(faults.Fault{Route: "POST /v1/servers", Nth: 2, Count: 2, Effect: faults.Status, Status: 500})
	var got []int
	for range 5 {
		res, err := s.call("POST", "/v1/servers", "")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, res.status)
		if _, err := s.call("GET", "/v1/servers", ""); err != nil { // another route counts for itself
			t.Fatal(err)
		}
	}
	if fmt.Sprint(got) != "[201 500 500 201 201]" {
		t.Errorf("statuses %v", got)
	}
	if l := s.in.Faults(); len(l) != 1 || l[0].ID != f.ID || l[0].Seen != 5 || l[0].Fired != 2 {
		t.Errorf("faults %+v", l)
	}
	if res, err := s.call("DELETE", "/_devcloud/faults/"+f.ID, ""); err != nil || res.status != 204 {
		t.Errorf("remove: %d %v", res.status, err)
	}
	if l := s.in.Faults(); len(l) != 0 {
		t.Errorf("faults %+v after removal", l)
	}
}

// events returns the holds announced after seq.
func (s *site) events(seq int) []faults.Event {
	s.t.Helper()
	res, err := s.call("GET", fmt.Sprintf("/_devcloud/events?since=%d&timeout=%s", seq, patience), "")
	if err != nil {
		s.t.Fatal(err)
	}
	var out []faults.Event
	if err := json.Unmarshal([]byte(res.body), &out); err != nil {
		s.t.Fatalf("%s: %v", res.body, err)
	}
	return out
}

func TestHolds(t *testing.T) {
	for _, tt := range []struct {
		effect, verdict string
		during, after   int32
		answered        bool
	}{
		{faults.HoldBefore, "release", 0, 1, true},
		{faults.HoldBefore, "drop", 0, 0, false},
		{faults.HoldAfter, "release", 1, 1, true},
		{faults.HoldAfter, "drop", 1, 1, false},
	} {
		t.Run(tt.effect+" "+tt.verdict, func(t *testing.T) {
			s := newSite(t)
			f := s.add(faults.Fault{Route: "POST /v1/servers", Effect: tt.effect})
			answer := make(chan error, 1)
			go func() {
				_, err := s.call("POST", "/v1/servers", "")
				answer <- err
			}()
			e := s.events(0)
			if len(e) != 1 || e[0].Fault != f.ID || e[0].Path != "/v1/servers" || e[0].Effect != tt.effect {
				t.Fatalf("events %+v", e)
			}
			if got := s.done.Load(); got != tt.during {
				t.Errorf("done %d times while held, want %d", got, tt.during)
			}
			if res, err := s.call("POST", "/_devcloud/holds/"+e[0].Hold+"/"+tt.verdict, ""); err != nil || res.status != 204 {
				t.Fatalf("%s: %d %v", tt.verdict, res.status, err)
			}
			if err := <-answer; (err == nil) != tt.answered {
				t.Errorf("answer %v, want one: %v", err, tt.answered)
			}
			if got := s.done.Load(); got != tt.after {
				t.Errorf("done %d times, want %d", got, tt.after)
			}
			if res, err := s.call("POST", "/_devcloud/holds/"+e[0].Hold+"/release", ""); err != nil || res.status != 404 {
				t.Errorf("second verdict: %d %v, want 404", res.status, err)
			}
		})
	}
}

func TestKill(t *testing.T) {
	for _, tt := range []struct {
		when string
		done int32
	}{{"before", 0}, {"after", 1}} {
		t.Run(tt.when, func(t *testing.T) {
			s := newSite(t)
			victim := exec.CommandContext(t.Context(), "sleep", "600")
			if err := victim.Start(); err != nil {
				t.Fatal(err)
			}
			s.add(faults.Fault{Route: "POST /v1/servers", Effect: faults.Kill, PID: victim.Process.Pid, When: tt.when})
			if _, err := s.call("POST", "/v1/servers", ""); err == nil {
				t.Error("the request of a killed client was answered")
			}
			var exit *exec.ExitError
			if err := victim.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("victim ended with %v, want SIGKILL", err)
			}
			if got := s.done.Load(); got != tt.done {
				t.Errorf("done %d times, want %d", got, tt.done)
			}
		})
	}
}

// A client that gives up changes nothing: the request is carried out.
func TestCommitsAfterClientLeft(t *testing.T) {
	s := newSite(t)
	s.add(faults.Fault{Route: "POST /v1/servers", Effect: faults.HoldBefore})
	client := &http.Client{Timeout: 50 * time.Millisecond}
	if res, err := client.Post(s.url+"/v1/servers", "application/json", bytes.NewReader(nil)); err == nil {
		t.Fatalf("answered %d, want a timeout", res.StatusCode)
	}
	client.CloseIdleConnections()
	e := s.events(0)
	if res, err := s.call("POST", "/_devcloud/holds/"+e[0].Hold+"/release", ""); err != nil || res.status != 204 {
		t.Fatalf("release: %d %v", res.status, err)
	}
	for end := time.Now().Add(patience); s.done.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never carried out")
		}
	}
}

func TestRefusedFaults(t *testing.T) {
	s := newSite(t)
	for _, body := range []string{
		`{}`, `{"route": "POST /v1/servers", "effect": "nonsense"}`, `{"route": "/v1/servers", "effect": "quota"}`,
		`{"route": "POST /x", "effect": "kill"}`, `{"route": "POST /x", "effect": "status"}`, `{"rute": "x"}`,
		`{"route": "POST /x", "effect": "kill", "pid": 1}`, `{"route": "POST /x", "effect": "quota", "delay": "soon"}`,
	} {
		if res, err := s.call("POST", "/_devcloud/faults", body); err != nil || res.status != 400 {
			t.Errorf("%s: %d %v, want 400", body, res.status, err)
		}
	}
	for _, body := range []string{
		`{"rates": {"kill": 0.1}}`, `{"rates": {"quota": 2}}`, `{"rates": {"quota": 0.6, "html-429": 0.6}}`,
	} {
		if res, err := s.call("PUT", "/_devcloud/chaos", body); err != nil || res.status != 400 {
			t.Errorf("%s: %d %v, want 400", body, res.status, err)
		}
	}
}

func TestRequestLog(t *testing.T) {
	s := newSite(t)
	id := "4f3a1c80-0000-4000-8000-00000000000a"
	for _, c := range [][2]string{{"GET", "/v1/servers?tag:a=b"}, {"GET", "/v1/servers/" + id}, {"DELETE", "/v1/servers/" + id}, {"GET", "/v1/servers/" + id}} {
		if _, err := s.call(c[0], c[1], "secret"); err != nil {
			t.Fatal(err)
		}
	}
	res, err := s.call("GET", "/_devcloud/requests?method=GET&path=/v1/servers/&since=3", "")
	if err != nil || strings.Count(res.body, `"seq"`) != 1 || strings.Contains(res.body, "secret") {
		t.Errorf("requests: %s %v", res.body, err)
	}
	res, err = s.call("GET", "/_devcloud/requests/counts", "")
	if want := `{"DELETE /v1/servers/*":{"201":1},"GET /v1/servers":{"201":1},"GET /v1/servers/*":{"201":2}}`; err != nil || strings.TrimSpace(res.body) != want {
		t.Errorf("counts %s %v, want %s", res.body, err, want)
	}
	if res, err := s.call("DELETE", "/_devcloud/requests", ""); err != nil || res.status != 204 || len(s.in.Requests(0)) != 0 {
		t.Errorf("clear: %d %v", res.status, err)
	}
}

// A quota is met by what makes something, whatever the verb of its request.
func TestChaosRefusesByQuotaWhatMakesSomething(t *testing.T) {
	s := newSite(t)
	if err := s.in.SetChaos(&faults.Chaos{Seed: 1, Rates: map[string]float64{faults.Quota: 1}, Reads: true}); err != nil {
		t.Fatal(err)
	}
	for request, refused := range map[string]bool{
		"POST /v1/servers": true, "DELETE /v1/networks/4f3a1c80-0000-4000-8000-00000000000a": false,
		"POST /aws/ec2/CreateVpc": true, "POST /aws/ec2/RunInstances": true, "POST /aws/ec2/AuthorizeSecurityGroupIngress": true,
		"POST /aws/elasticloadbalancing/RegisterTargets": true, "POST /aws/ec2/RegisterImage": true,
		"POST /aws/ec2/DeregisterImage": false, "POST /aws/ec2/DetachInternetGateway": false, "POST /aws/ec2/TerminateInstances": false,
		"POST /aws/ec2/DisassociateRouteTable": false, "POST /aws/elasticloadbalancing/DeregisterTargets": false,
		"POST /aws/ec2/CreateTags": false, "POST /aws/ec2/DescribeVpcs": false, "POST /aws/ec2/DeleteVpc": false,
	} {
		method, path, _ := strings.Cut(request, " ")
		before := len(s.in.Requests(0))
		if _, err := s.call(method, path, ""); err != nil {
			t.Fatal(err)
		}
		log := s.in.Requests(0)
		if len(log) != before+1 {
			t.Fatalf("%s: %d requests in the log, had %d", request, len(log), before)
		}
		if got := log[len(log)-1].Fault == faults.Quota; got != refused {
			t.Errorf("%s refused by quota: %t", request, got)
		}
	}
}

// Decisions of chaos depend on the seed and the route, not on other routes.
func TestChaosIsReproducible(t *testing.T) {
	run := func(seed uint64, noise bool) string {
		s := newSite(t)
		c := faults.Chaos{Seed: seed, Rates: map[string]float64{faults.Quota: 0.2, faults.JSON429: 0.2, faults.DropBeforeCommit: 0.1}}
		if err := s.in.SetChaos(&c); err != nil {
			t.Fatal(err)
		}
		var out []string
		for range 40 {
			if noise {
				if _, err := s.call("DELETE", "/v1/networks/4f3a1c80-0000-4000-8000-00000000000a", ""); err != nil {
					t.Log("noise:", err) // a drop is as good
				}
			}
			res, err := s.call("POST", "/v1/servers", "")
			out = append(out, fmt.Sprint(res.status, err == nil))
		}
		return strings.Join(out, " ")
	}
	first := run(1, false)
	if again := run(1, true); again != first {
		t.Errorf("seed 1 gave\n%s\nthen\n%s", first, again)
	}
	if other := run(2, false); other == first {
		t.Error("seeds 1 and 2 gave the same")
	}
	if !strings.Contains(first, "400") || !strings.Contains(first, "429") || !strings.Contains(first, "false") {
		t.Errorf("not every effect struck: %s", first)
	}
}

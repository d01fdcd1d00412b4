package aws

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// keys are credentials whose parts must never be repeated.
const keys = `{"accessKeyId":"AKIDCANARY","secretAccessKey":"secret-canary","sessionToken":"session-canary"}`

// wire is an API that answers by action.
type wire struct {
	t      *testing.T
	answer map[string]func(url.Values) (status int, body string)

	mu    sync.Mutex
	calls []string
	forms []url.Values
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		w.t.Error(err)
	}
	name := form.Get("Action")
	w.mu.Lock()
	w.calls = append(w.calls, name)
	w.forms = append(w.forms, form)
	w.mu.Unlock()
	f, ok := w.answer[name]
	if !ok {
		w.t.Errorf("unexpected call %s", name)
		rw.WriteHeader(http.StatusNotImplemented)
		return
	}
	status, text := f(form)
	if status == 0 { // no answer at all
		panic(http.ErrAbortHandler)
	}
	rw.Header().Set("Content-Type", "text/xml")
	rw.WriteHeader(status)
	if _, err := io.WriteString(rw, text); err != nil {
		w.t.Log(err)
	}
}

func (w *wire) called(name string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if c == name {
			n++
		}
	}
	return n
}

func (w *wire) form(name string) url.Values {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.calls, name)
	if i < 0 {
		return nil
	}
	return w.forms[i]
}

func refusal(status int, code, message string) func(url.Values) (int, string) {
	return func(url.Values) (int, string) {
		return status, fmt.Sprintf(`<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors><RequestID>r-1</RequestID></Response>`, code, message)
	}
}

func answer(body string) func(url.Values) (int, string) {
	return func(url.Values) (int, string) { return http.StatusOK, body }
}

func everything(url string) map[string]string {
	return map[string]string{"ec2": url, "elasticloadbalancing": url, "sts": url}
}

func open(t *testing.T, w *wire, change ...func(*Options)) *Provider {
	t.Helper()
	w.t = t
	s := httptest.NewServer(w)
	t.Cleanup(s.Close)
	o := Options{
		Region: "eu-central-1", Credentials: secrets.NewValue([]byte(keys)), Endpoints: everything(s.URL), Rate: 1000,
		HTTPClient: &http.Client{Transport: &http.Transport{}},
		Waits:      cloud.Waits{Settle: time.Second, AbsenceWindow: time.Hour, CreateTimeout: 10 * time.Second, PostWindow: time.Minute, Poll: time.Second},
	}
	for _, c := range change {
		c(&o)
	}
	p, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.HTTPClient.CloseIdleConnections)
	return p
}

func sample() cloud.MachineSpec {
	return cloud.MachineSpec{
		ID: "m1", Name: "demo-workers-m1", Owner: cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}, Group: "workers"},
		Role: cluster.RoleWorker, Zone: "eu-central-1a", Flavor: "m7g.large", ImageID: "ami-1", DiskGiB: 20,
		Subnets: []string{"subnet-1"}, PlacementGroup: "demo-workers-0",
		Params: []tag{{Key: paramControlPlaneProfile, Value: "arn:aws:iam::1:instance-profile/cp"}, {Key: paramProfile, Value: "nodes"}, {Key: paramSecurityGroup, Value: "sg-1"}},
		Tags:   []tag{{Key: "team", Value: "storage"}},
	}
}

func instanceXML(s cloud.MachineSpec, id, state string) string {
	var tags strings.Builder
	for _, x := range ec2Tags(machineTags(s)) {
		fmt.Fprintf(&tags, "<item><key>%s</key><value>%s</value></item>", *x.Key, *x.Value)
	}
	return fmt.Sprintf(`<item><instanceId>%s</instanceId><imageId>%s</imageId><instanceType>%s</instanceType><launchTime>2026-01-02T03:04:05.000Z</launchTime>
<clientToken>%s</clientToken><placement><availabilityZone>%s</availabilityZone></placement><instanceState><name>%s</name></instanceState><privateIpAddress>10.0.0.5</privateIpAddress><tagSet>%s</tagSet></item>`,
		id, s.ImageID, s.Flavor, clientToken(s), s.Zone, state, tags.String())
}

func launched(s cloud.MachineSpec, id, state string) func(url.Values) (int, string) {
	return answer(`<RunInstancesResponse><reservationId>r</reservationId><instancesSet>` + instanceXML(s, id, state) + `</instancesSet></RunInstancesResponse>`)
}

func described(items ...string) func(url.Values) (int, string) {
	return answer(`<DescribeInstancesResponse><reservationSet><item><instancesSet>` + strings.Join(items, "") + `</instancesSet></item></reservationSet></DescribeInstancesResponse>`)
}

var nothing = answer(`<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>`)

func ensure(t *testing.T, p *Provider, s cloud.MachineSpec) (cloud.MachineLook, error) {
	t.Helper()
	return p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{Spec: s, UserData: secrets.NewValue([]byte("config")), Create: true})
}

// Each failure reaches the caller after one exchange, and its time is bounded.
func TestNoRetriesAndTimeouts(t *testing.T) {
	w := &wire{answer: map[string]func(url.Values) (int, string){
		"DescribeInstances": refusal(503, "Unavailable", "try later"), "RunInstances": refusal(500, "InternalError", "oops"),
	}}
	p := open(t, w)
	if _, err := p.ListMachines(t.Context(), sample().Owner); !fault.Is(err, fault.Unavailable) {
		t.Errorf("list: %v", err)
	}
	if n := w.called("DescribeInstances"); n != 1 {
		t.Errorf("%d exchanges for one read", n)
	}
	w.answer["DescribeInstances"] = nothing
	if _, err := ensure(t, p, sample()); !fault.Is(err, fault.Ambiguous) {
		t.Errorf("create: %v", err)
	}
	if n := w.called("RunInstances"); n != 1 {
		t.Errorf("%d exchanges for one create", n)
	}

	hang := make(chan struct{})
	slow := &wire{answer: map[string]func(url.Values) (int, string){
		"DescribeInstances": nothing, "RunInstances": func(url.Values) (int, string) { <-hang; return 0, "" },
	}}
	q := open(t, slow, func(o *Options) { o.Waits.CreateTimeout = 200 * time.Millisecond })
	t.Cleanup(func() { close(hang) })
	if _, err := ensure(t, q, sample()); !fault.Is(err, fault.Ambiguous) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("hanging create: %v", err)
	}
}

func TestNothingListens(t *testing.T) {
	p := open(t, &wire{}, func(o *Options) { o.Endpoints = everything("http://127.0.0.1:1") })
	look, _, err := p.lookForMachine(t.Context(), cloud.EnsureMachineRequest{Spec: sample()})
	if !fault.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "not sent") {
		t.Errorf("%+v, %v", look, err)
	}
	err = p.calls.Call(t.Context(), exchange.Request{Op: "x", Action: "x", Verb: exchange.Create}, func(ctx context.Context) error {
		_, err := p.ec2.RunInstances(ctx, launchRequest(sample(), nil))
		return err
	})
	if !fault.Is(err, fault.Unavailable) { // surely not done, though it is a create
		t.Errorf("create: %v", err)
	}
}

package cloudscale

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

const someID = "47cec963-fcd2-482f-bdb6-24461b2d47b1"

// open returns a provider that talks to h.
func open(t *testing.T, h http.Handler) *Provider {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return openURL(t, s.URL, s.Client())
}

func openURL(t *testing.T, url string, c *http.Client) *Provider {
	t.Helper()
	return openFor(t, url, c, 0)
}

// openFor returns a provider whose creates may be sent for so long.
func openFor(t *testing.T, url string, c *http.Client, window time.Duration) *Provider {
	t.Helper()
	p, err := New(Options{Token: secrets.NewValue([]byte("sekrit\n")), BaseURL: url, HTTPClient: c, Rate: 1000, Waits: cloud.Waits{CreateTimeout: 200 * time.Millisecond, PostWindow: window}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// calls are one call of each verb.
var calls = map[exchange.Verb]func(context.Context, *Provider) error{
	exchange.Read: func(ctx context.Context, p *Provider) error {
		_, err := get(ctx, p, "server", p.sdk.Servers, someID)
		return err
	},
	exchange.Create: func(ctx context.Context, p *Provider) error {
		return p.calls.Call(ctx, exchange.Request{Op: "create server", Verb: exchange.Create}, func(ctx context.Context) error {
			_, err := p.sdk.Servers.Create(ctx, &sdk.ServerRequest{UserData: "canary"})
			return err
		})
	},
	exchange.Change: func(ctx context.Context, p *Provider) error {
		return p.calls.Call(ctx, exchange.Request{Op: "change image", Verb: exchange.Change}, func(ctx context.Context) error {
			return p.sdk.CustomImages.Update(ctx, someID, &sdk.CustomImageRequest{Name: "x"})
		})
	},
	exchange.Remove: func(ctx context.Context, p *Provider) error {
		return p.calls.Call(ctx, exchange.Request{Op: "delete server", Verb: exchange.Remove}, func(ctx context.Context) error {
			return p.sdk.Servers.Delete(ctx, someID)
		})
	},
}

const (
	page429 = "<html>\n<head><title>429 Too Many Requests</title></head>\n<body><center><h1>429 Too Many Requests</h1></center><hr><center>nginx</center></body>\n</html>\n"
	page502 = "<html><head><title>502 Bad Gateway</title></head><body></body></html>"
)

// The kinds for read, create, change and remove, in this order.
func TestClassifyAnswers(t *testing.T) {
	const (
		inv, una, cap, quo = fault.Invalid, fault.Unavailable, fault.Capacity, fault.Quota
		amb, not, rat, con = fault.Ambiguous, fault.NotYet, fault.RateLimited, fault.Conflict
		aut, nfo           = fault.Unauthorized, fault.NotFound
	)
	for _, tc := range []struct {
		name       string
		status     int
		body       string
		header     [2]string
		want       [4]fault.Kind
		message    string
		retryAfter time.Duration
	}{
		{name: "throttled, in words", status: 429, body: `{"detail": "Request was throttled. Expected available in 7 seconds."}`, want: [4]fault.Kind{rat, rat, rat, rat}, message: "throttled", retryAfter: 7 * time.Second},
		{name: "throttled, with header", status: 429, body: `{"detail": "Request was throttled. Expected available in 7 seconds."}`, header: [2]string{"Retry-After", "3"}, want: [4]fault.Kind{rat, rat, rat, rat}, retryAfter: 3 * time.Second},
		{name: "throttled by a proxy", status: 429, body: page429, want: [4]fault.Kind{rat, rat, rat, rat}, message: "Too Many Requests", retryAfter: defaultPause},
		{name: "maintenance", status: 503, body: `{"detail": "Maintenance."}`, header: [2]string{"Retry-After", "30"}, want: [4]fault.Kind{una, amb, not, not}, message: "Maintenance.", retryAfter: 30 * time.Second},
		{name: "maintenance page", status: 503, body: "<h1>503</h1>", want: [4]fault.Kind{una, amb, not, not}, message: "Service Unavailable"},
		{name: "gateway", status: 502, body: page502, want: [4]fault.Kind{una, amb, not, not}, message: "Bad Gateway"},
		{name: "server error", status: 500, want: [4]fault.Kind{una, amb, not, not}},
		{name: "gateway timeout", status: 504, body: page502, want: [4]fault.Kind{una, amb, not, not}},
		{name: "request timeout", status: 408, want: [4]fault.Kind{una, amb, not, not}},
		{name: "bad token", status: 401, body: `{"detail": "Invalid token."}`, want: [4]fault.Kind{aut, aut, aut, aut}, message: "Invalid token."},
		{name: "read-only token", status: 403, body: `{"detail": "You do not have permission to perform this action."}`, want: [4]fault.Kind{aut, aut, aut, aut}},
		{name: "absent, or what it refers to", status: 404, body: `{"detail": "Not found."}`, want: [4]fault.Kind{nfo, inv, nfo, nfo}, message: "Not found."},
		{name: "a proxy's 404 proves nothing", status: 404, body: "<h1>404</h1>", want: [4]fault.Kind{una, inv, una, una}},
		{name: "an empty 404 proves nothing", status: 404, want: [4]fault.Kind{una, inv, una, una}},
		{name: "field", status: 400, body: `{"name": ["Name must be a valid hostname or FQDN."]}`, want: [4]fault.Kind{inv, inv, inv, con}, message: "name: Name must be"},
		{name: "fields", status: 400, body: `{"zone": ["b"], "flavor": ["a1", "a2"]}`, want: [4]fault.Kind{inv, inv, inv, con}, message: "flavor: a1, a2; zone: b"},
		{name: "nested", status: 400, body: `{"interfaces": [{"addresses": ["bad"]}]}`, want: [4]fault.Kind{inv, inv, inv, con}, message: "interfaces: bad"},
		{name: "detail and code", status: 400, body: `{"detail": "x", "code": 5}`, want: [4]fault.Kind{inv, inv, inv, con}, message: "code: 5; x"},
		{name: "list", status: 400, body: `[{"detail": "first"}, {"detail": "second"}]`, want: [4]fault.Kind{inv, inv, inv, con}, message: "first, second"},
		{name: "one attribute", status: 400, body: `{"detail": "Only one attribute of the server can be updated per request."}`, want: [4]fault.Kind{inv, inv, inv, con}},
		{name: "changing", status: 400, body: `{"detail": "The resource is currently changing. Please try again later."}`, want: [4]fault.Kind{con, con, con, con}},
		{name: "in use", status: 400, body: `{"detail": "The network is still in use."}`, want: [4]fault.Kind{con, con, con, con}},
		{name: "quota", status: 400, body: `{"detail": "The request exceeds the quota of this project."}`, want: [4]fault.Kind{quo, quo, quo, con}},
		{name: "quota as 403", status: 403, body: `{"detail": "Quota exceeded: 10 servers."}`, want: [4]fault.Kind{quo, quo, quo, con}},
		{name: "server group full", status: 400, body: `{"server_groups": ["The server group has reached its maximum of members."]}`, want: [4]fault.Kind{quo, quo, quo, con}},
		{name: "out of stock", status: 400, body: `{"detail": "There are currently not enough resources available for this flavor in this zone."}`, want: [4]fault.Kind{cap, cap, cap, con}},
		{name: "conflict", status: 409, body: `{"detail": "no"}`, want: [4]fault.Kind{con, con, con, con}},
		{name: "no JSON in a 400", status: 400, body: "bad request", want: [4]fault.Kind{inv, inv, inv, con}},
		{name: "secrets are withheld", status: 400, body: `{"user_data": ["canary is not YAML"], "a": {"user_data": "canary"}}`, want: [4]fault.Kind{inv, inv, inv, con}, message: "user_data: refused"},
		{name: "moved", status: 301, header: [2]string{"Location", "https://elsewhere.example/"}, want: [4]fault.Kind{inv, inv, inv, inv}, message: "URL"},
		{name: "moved, keeping the method", status: 307, header: [2]string{"Location", "/v1/elsewhere"}, want: [4]fault.Kind{inv, inv, inv, inv}},
		{name: "see other", status: 303, header: [2]string{"Location", "/v1/done"}, want: [4]fault.Kind{una, amb, not, not}},
		{name: "success in another language", status: 200, body: "<html>", want: [4]fault.Kind{una, amb, "", ""}, message: "could not be read"},
		{name: "success of another shape", status: 201, body: `["x"]`, want: [4]fault.Kind{una, amb, "", ""}},
		{name: "success without a body", status: 200, want: [4]fault.Kind{una, amb, "", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for v, want := range tc.want {
				var hits atomic.Int32
				p := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					hits.Add(1)
					w.Header().Set("X-Request-Id", "req-1")
					if tc.header[0] != "" {
						w.Header().Set(tc.header[0], tc.header[1])
					}
					w.WriteHeader(tc.status)
					fmt.Fprint(w, tc.body)
				}))
				err := calls[exchange.Verb(v)](t.Context(), p)
				if got := fault.KindOf(err); got != want {
					t.Errorf("verb %d: kind %q, want %q (%v)", v, got, want, err)
				}
				if hits.Load() != 1 {
					t.Errorf("verb %d: %d requests", v, hits.Load())
				}
				if want == "" {
					continue
				}
				var f *fault.Error
				if !errors.As(err, &f) || f.HTTPStatus != tc.status || f.RequestID != "req-1" {
					t.Errorf("verb %d: status or request id lost: %#v", v, f)
				}
				if !strings.Contains(err.Error(), tc.message) {
					t.Errorf("verb %d: %q does not say %q", v, err, tc.message)
				}
				if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "sekrit") {
					t.Errorf("verb %d: %q repeats a secret", v, err)
				}
				if got := fault.RetryAfter(err); got != tc.retryAfter {
					t.Errorf("verb %d: retry after %s, want %s", v, got, tc.retryAfter)
				}
			}
		})
	}
}

func TestClassifyBrokenConnections(t *testing.T) {
	want := func(t *testing.T, p *Provider, kinds [4]fault.Kind) {
		t.Helper()
		for v, k := range kinds {
			err := calls[exchange.Verb(v)](t.Context(), p)
			if got := fault.KindOf(err); got != k {
				t.Errorf("verb %d: kind %q, want %q (%v)", v, got, k, err)
			}
		}
	}
	unknownOutcome := [4]fault.Kind{fault.Unavailable, fault.Ambiguous, fault.NotYet, fault.NotYet}
	notSent := [4]fault.Kind{fault.Unavailable, fault.Unavailable, fault.Unavailable, fault.Unavailable}

	t.Run("closed without an answer", func(t *testing.T) {
		want(t, open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })), unknownOutcome)
	})
	t.Run("half an answer", func(t *testing.T) {
		p := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(http.StatusOK)
			fmt.Fprint(w, `{"uuid": "`)
		}))
		want(t, p, [4]fault.Kind{fault.Unavailable, fault.Ambiguous, "", ""})
	})
	t.Run("half a refusal", func(t *testing.T) {
		p := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"detail": "`)
		}))
		want(t, p, [4]fault.Kind{fault.Unauthorized, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized})
	})
	t.Run("refused connection", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		url := "http://" + l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		want(t, openURL(t, url, &http.Client{Transport: &http.Transport{}}), notSent)
	})
	t.Run("no TLS", func(t *testing.T) {
		s := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		want(t, openURL(t, strings.Replace(s.URL, "http:", "https:", 1), &http.Client{Transport: &http.Transport{}}), notSent)
	})
	t.Run("deadline before a connection", func(t *testing.T) {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		p := openURL(t, "http://127.0.0.1:1", &http.Client{Transport: &http.Transport{DialContext: dial}})
		if err := calls[exchange.Create](t.Context(), p); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v of kind %q", err, fault.KindOf(err))
		}
	})
	t.Run("deadline before an answer", func(t *testing.T) {
		done := make(chan struct{})
		p := open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-done }))
		t.Cleanup(func() { close(done) })
		if err := calls[exchange.Create](t.Context(), p); !fault.Is(err, fault.Ambiguous) {
			t.Errorf("got %v of kind %q", err, fault.KindOf(err))
		}
	})
	t.Run("cancelled while waiting", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		p := open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel(); <-done }))
		t.Cleanup(func() { close(done) })
		if err := calls[exchange.Create](ctx, p); !fault.Is(err, fault.Ambiguous) {
			t.Errorf("got %v of kind %q", err, fault.KindOf(err))
		}
	})
	t.Run("cancelled before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p := open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
		if err := calls[exchange.Create](ctx, p); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v of kind %q", err, fault.KindOf(err))
		}
	})
}

// A create that comes too late is not sent: somebody else may have taken over.
func TestCreateIsNotSentLate(t *testing.T) {
	var posts atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
		}
		fmt.Fprint(w, `[]`)
	}))
	t.Cleanup(api.Close)
	p := openFor(t, api.URL, api.Client(), time.Nanosecond) // the look takes longer
	user := cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}}
	_, err := p.EnsureMachine(t.Context(), cloud.EnsureMachineRequest{
		Spec: cloud.MachineSpec{ID: "m1", Name: "demo-workers-m1", Owner: user}, UserData: secrets.NewValue([]byte("x")), Create: true,
	})
	if !fault.Is(err, fault.Unavailable) || posts.Load() != 0 {
		t.Errorf("got %v of kind %q, %d POSTs", err, fault.KindOf(err), posts.Load())
	}
	_, err = p.EnsureImage(t.Context(), cloud.EnsureImageRequest{
		Spec: cloud.ImageSpec{Name: "talos", URL: "https://factory.example/i.raw"}, User: user, Create: true,
	})
	if !fault.Is(err, fault.Unavailable) || posts.Load() != 0 {
		t.Errorf("image: got %v of kind %q, %d POSTs", err, fault.KindOf(err), posts.Load())
	}
}

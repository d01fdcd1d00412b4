package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
)

// api is a cloud's client as small as one can be: its errors say no more than
// that there was one.
type api struct {
	*Caller
	client *http.Client
	url    string
}

func open(t *testing.T, h http.HandlerFunc) *api {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return openURL(s.URL, s.Client(), nil)
}

func openURL(url string, c *http.Client, observe Observe) *api {
	a := &api{url: url, client: Client(&Transport{Base: BaseTransport(c), Observe: observe, Route: func(r *http.Request) string { return r.URL.Path }})}
	a.Caller = &Caller{
		Gate: NewGate(1000), Waits: cloud.Waits{CreateTimeout: 200 * time.Millisecond, PostWindow: time.Minute},
		ReadTimeout: 5 * time.Second, ChangeTimeout: 5 * time.Second, Classify: classify,
	}
	return a
}

func classify(r Request, err error, ex *Exchange) error {
	f := &fault.Error{Op: r.Op, HTTPStatus: ex.Status, RequestID: ex.RequestID, RetryAfter: ex.RetryAfter}
	switch reason, ok := Reason(err); {
	case ex.Status == 0 && ok:
		f.Kind, f.Message = ex.Unanswered(r.Verb, reason)
	case ex.Status == 0:
		f.Kind, f.Message = ex.Unanswered(r.Verb, "the exchange failed")
	case ex.Status == http.StatusTooManyRequests:
		f.Kind = fault.RateLimited
	default:
		f.Kind, f.Message = r.Verb.Unknown(), string(ex.Body)
	}
	return f
}

func (a *api) do(ctx context.Context, r Request) error {
	return a.Call(ctx, r, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url+"/machines", strings.NewReader("{}"))
		if err != nil {
			return err
		}
		resp, err := a.client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode >= 300 {
			err = fmt.Errorf("refused: %s", body)
		}
		return err
	})
}

var verbs = []Verb{Read, Create, Change, Remove}

func kinds(t *testing.T, a *api) (out []fault.Kind) {
	t.Helper()
	for _, v := range verbs {
		out = append(out, fault.KindOf(a.do(t.Context(), Request{Op: "x", Verb: v})))
	}
	return out
}

// What was sent and not answered is unknown; what was surely not sent is not.
func TestOutcomes(t *testing.T) {
	unknown := []fault.Kind{fault.Unavailable, fault.Ambiguous, fault.NotYet, fault.NotYet}
	notSent := []fault.Kind{fault.Unavailable, fault.Unavailable, fault.Unavailable, fault.Unavailable}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		api  *api
		want []fault.Kind
	}{
		{"done", open(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }), []fault.Kind{"", "", "", ""}},
		{"answer lost", open(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), unknown},
		{"refused for unknown reasons", open(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), unknown},
		{"nothing listens", openURL("http://"+l.Addr().String(), &http.Client{Transport: &http.Transport{}}, nil), notSent},
	} {
		if diff := cmp.Diff(tc.want, kinds(t, tc.api)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestTimeout(t *testing.T) {
	done := make(chan struct{})
	a := open(t, func(http.ResponseWriter, *http.Request) { <-done })
	t.Cleanup(func() { close(done) })
	if err := a.do(t.Context(), Request{Op: "create", Verb: Create}); !fault.Is(err, fault.Ambiguous) || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("got %v of kind %q", err, fault.KindOf(err))
	}
}

// Redirects are not followed, half a refusal keeps its status, and every
// exchange is told once.
func TestTransport(t *testing.T) {
	type seen struct {
		Route, Method string
		Status        int
	}
	var got []seen
	var status int
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "req-1")
		w.Header().Set("Location", "/elsewhere")
		if status == http.StatusUnauthorized {
			w.Header().Set("Content-Length", "1000")
		}
		w.WriteHeader(status)
		if status >= 400 {
			fmt.Fprint(w, "half")
		}
	}))
	t.Cleanup(s.Close)
	a := openURL(s.URL, s.Client(), func(route, method string, status int, took time.Duration) {
		got = append(got, seen{route, method, status})
		if took < 0 {
			t.Errorf("took %s", took)
		}
	})
	for status = range map[int]bool{http.StatusTemporaryRedirect: true, http.StatusUnauthorized: true, http.StatusNotFound: true} {
		got = nil
		err := a.do(t.Context(), Request{Op: "x"})
		var f *fault.Error
		if !errors.As(err, &f) || f.HTTPStatus != status || f.RequestID != "req-1" {
			t.Errorf("%d: %#v", status, f)
		}
		if want := map[int]string{http.StatusNotFound: "half"}[status]; f != nil && f.Message != want {
			t.Errorf("%d: body %q, want %q", status, f.Message, want)
		}
		if diff := cmp.Diff([]seen{{"/machines", "POST", status}}, got); diff != "" {
			t.Errorf("observed (-want +got):\n%s", diff)
		}
	}
}

// A pause that the API asked for holds for the action, costs no further request,
// and is bounded.
func TestGate(t *testing.T) {
	var hits atomic.Int32
	a := open(t, func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	now := time.Now()
	a.Gate.now = func() time.Time { return now }
	first, other := Request{Op: "x", Action: "Run"}, Request{Op: "x", Action: "Describe"}
	if err := a.do(t.Context(), first); fault.RetryAfter(err) != time.Hour {
		t.Errorf("the first answer: %v", err)
	}
	if err := a.do(t.Context(), first); !fault.Is(err, fault.RateLimited) || fault.RetryAfter(err) != maxPause || hits.Load() != 1 {
		t.Errorf("the second call: %v, %d requests", err, hits.Load())
	}
	if err := a.do(t.Context(), other); !fault.Is(err, fault.RateLimited) || hits.Load() != 2 {
		t.Errorf("another action: %v, %d requests", err, hits.Load())
	}
	now = now.Add(maxPause)
	if err := a.do(t.Context(), first); !fault.Is(err, fault.RateLimited) || hits.Load() != 3 {
		t.Errorf("after the pause: %v, %d requests", err, hits.Load())
	}

	slow := NewGate(1e-9)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := slow.wait(ctx, "x", ""); err != nil {
		t.Errorf("the first of a burst: %v", err)
	}
	if err := slow.wait(ctx, "x", ""); !fault.Is(err, fault.Unavailable) {
		t.Errorf("beyond the rate: %v", err)
	}
}

func TestNotSent(t *testing.T) {
	a := open(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	now := time.Now()
	a.now = func() time.Time { return now }
	late := Request{Op: "create", Verb: Create, SendBy: a.SendBy()}
	now = now.Add(a.Waits.PostWindow + time.Second)
	if err := a.do(t.Context(), late); !fault.Is(err, fault.Unavailable) {
		t.Errorf("too late: %v", err)
	}
	a.Ready = func(context.Context, string) error { return fault.New(fault.Unauthorized, "sign", "no key") }
	if err := a.do(t.Context(), Request{Op: "x"}); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("not ready: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, "-5": 0, "soon": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestClip(t *testing.T) {
	if got := Clip(strings.Repeat("ä", maxMessage+1)); got != strings.Repeat("ä", maxMessage)+"…" {
		t.Errorf("clipped to %q", got)
	}
	if got := Clip("short"); got != "short" {
		t.Errorf("clipped to %q", got)
	}
}

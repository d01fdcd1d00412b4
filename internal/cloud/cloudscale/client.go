package cloudscale

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Times that bound one call. The API publishes none; peers give reads a second
// and deletes two, and ten times that is still shorter than any heartbeat.
const (
	readTimeout   = 10 * time.Second
	changeTimeout = 30 * time.Second
)

// service is as much of an SDK service as this package uses.
type service[T, C any] interface {
	Create(ctx context.Context, req *C) (*T, error)
	Get(ctx context.Context, id string) (*T, error)
	List(ctx context.Context, modifiers ...sdk.ListRequestModifier) ([]T, error)
	Delete(ctx context.Context, id string) error
}

// lister and getter are the parts that read-only services have, too.
type (
	lister[T any] interface {
		List(ctx context.Context, modifiers ...sdk.ListRequestModifier) ([]T, error)
	}
	getter[T any] interface {
		Get(ctx context.Context, id string) (*T, error)
	}
)

func newSDK(base *url.URL, token secrets.Value, t http.RoundTripper, observe exchange.Observe) *sdk.Client {
	c := sdk.NewClient(exchange.Client(&exchange.Transport{Base: &authorized{base: t, token: token}, Observe: observe, Route: route}))
	c.BaseURL = base
	return c
}

// authorized adds the token. It sends no idempotency header: the API ignores
// them, and net/http would then repeat a POST by itself.
type authorized struct {
	base  http.RoundTripper
	token secrets.Value
}

// RoundTrip implements http.RoundTripper.
func (t *authorized) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Authorization", "Bearer "+t.token.RevealString())
	req.Header.Set("User-Agent", "ichor")
	return t.base.RoundTrip(req)
}

var idInPath = regexp.MustCompile(`/[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}`)

// route is the path with ids replaced by ":id".
func route(r *http.Request) string { return idInPath.ReplaceAllString(r.URL.Path, "/:id") }

// listTagged lists what carries one tag; an empty value means any. The API does
// not combine filters, so callers check all other tags themselves.
func listTagged[T any](ctx context.Context, p *Provider, what string, s lister[T], key, value string) ([]T, error) {
	var out []T
	err := p.calls.Call(ctx, exchange.Request{Op: "list " + what}, func(ctx context.Context) (err error) {
		out, err = s.List(ctx, sdk.WithTagFilter(sdk.TagMap{key: value}))
		return err
	})
	return out, err
}

func get[T any](ctx context.Context, p *Provider, what string, s getter[T], id string) (*T, error) {
	if !plausibleID(id) {
		return nil, fault.New(fault.Invalid, "read "+what, "%q is not an id of this cloud", id)
	}
	var out *T
	err := p.calls.Call(ctx, exchange.Request{Op: "read " + what}, func(ctx context.Context) (err error) {
		out, err = s.Get(ctx, id)
		return err
	})
	return out, err
}

// erase asks for deletion. Absent is success.
func erase(ctx context.Context, p *Provider, what, id string, del func(context.Context, string) error) error {
	if !plausibleID(id) {
		return fault.New(fault.Invalid, "delete "+what, "%q is not an id of this cloud", id)
	}
	err := p.calls.Call(ctx, exchange.Request{Op: "delete " + what, Verb: exchange.Remove}, func(ctx context.Context) error { return del(ctx, id) })
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// plausibleID keeps an id from reaching beyond its place in a path: an empty one
// would turn "read this" into "list all".
func plausibleID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, r := range id {
		if r != '-' && r != '.' && r != ':' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return id != "." && id != ".."
}

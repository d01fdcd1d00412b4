package cloudscale

import (
	"context"
	"net/http"
	"net/url"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/fault"
)

// Times that bound one call. The API publishes none; peers give reads a second
// and deletes two, and ten times that is still shorter than any heartbeat.
const (
	readTimeout   = 10 * time.Second
	removeTimeout = 30 * time.Second
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

func newSDK(base *url.URL, t http.RoundTripper) *sdk.Client {
	c := sdk.NewClient(&http.Client{
		Transport: t,
		// A redirected write would be sent twice, a redirected read would carry
		// the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	c.BaseURL = base
	return c
}

// request is one call: what it is in words, what it does, and until when it may
// be sent (zero: always).
type request struct {
	op     string
	verb   verb
	sendBy time.Time
}

// call runs f, which makes one HTTP exchange, and gives its error a kind.
func (p *Provider) call(ctx context.Context, r request, f func(context.Context) error) error {
	if err := p.gate.wait(ctx, r.op); err != nil {
		return err
	}
	if !r.sendBy.IsZero() && p.now().Round(0).After(r.sendBy) {
		return fault.New(fault.Unavailable, r.op, "not sent: this attempt is too old, somebody else may have taken over")
	}
	timeout := readTimeout
	switch r.verb {
	case create:
		timeout = p.settings.CreateTimeout
	case change, remove:
		timeout = removeTimeout
	case read:
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	ex := &exchange{}
	err := classify(r.op, r.verb, f(withExchange(ctx, ex)), ex)
	p.gate.note(err)
	return err
}

// listTagged lists what carries one tag; an empty value means any. The API does
// not combine filters, so callers check all other tags themselves.
func listTagged[T any](ctx context.Context, p *Provider, what string, s lister[T], key, value string) ([]T, error) {
	var out []T
	err := p.call(ctx, request{op: "list " + what}, func(ctx context.Context) (err error) {
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
	err := p.call(ctx, request{op: "read " + what}, func(ctx context.Context) (err error) {
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
	err := p.call(ctx, request{op: "delete " + what, verb: remove}, func(ctx context.Context) error { return del(ctx, id) })
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

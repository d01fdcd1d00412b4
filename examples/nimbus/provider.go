// Package nimbus is an example: a cloud of Ichor in as few lines as keep the
// contract, to copy from. docs/guides/add-a-cloud.md goes through it. Nimbus does
// not exist; its API is what the tests of this folder serve.
//
// What makes repeating a create safe here is that the API refuses a second thing of
// one name. The two clouds that Ichor ships show the other ways: client tokens
// (internal/cloud/aws) and neither (internal/cloud/cloudscale).
package nimbus

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Name is what specs call this cloud.
const Name = "nimbus"

// Facts about the cloud; a real one says where it has them from.
const (
	userDataMax      = 32 << 10
	providerIDPrefix = "nimbus://"
	defaultRate      = 10 // requests a second
)

// DefaultWaits suit the real cloud, where a request takes effect within half a minute
// or never, and lists show at once what was answered.
func DefaultWaits() cloud.Waits {
	return cloud.Waits{
		Settle: 30 * time.Second, AbsenceWindow: time.Minute,
		CreateTimeout: time.Minute, PostWindow: 20 * time.Second, Poll: 2 * time.Second,
	}
}

// Options configure a Provider. Token and BaseURL are required.
type Options struct {
	Token   secrets.Value
	BaseURL string // without version: https://api.nimbus.example
	// HTTPClient lends its Transport.
	HTTPClient *http.Client
	Rate       float64 // requests a second; zero means 10
	Waits      cloud.Waits
	Observe    exchange.Observe
}

// Provider is one account. It is safe for concurrent use; open an account once, so
// that its rate limit is shared.
type Provider struct {
	base  string
	token secrets.Value
	http  *http.Client
	calls *exchange.Caller
}

var (
	_ cloud.Provider       = (*Provider)(nil)
	_ cloud.Infrastructure = (*Provider)(nil)
	_ cloud.Images         = (*Provider)(nil)
)

// New returns a Provider. It makes no call. Errors are Unauthorized when there is no
// token, Invalid when there is no API.
func New(o Options) (*Provider, error) {
	const op = "open Nimbus account"
	token := o.Token.RevealString()
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fault.New(fault.Unauthorized, op, "there is no API token, or it has characters that no token has")
	}
	base, err := url.Parse(o.BaseURL)
	if err != nil || base.Host == "" {
		return nil, fault.New(fault.Invalid, op, "the API's URL must have the form https://host")
	}
	return &Provider{
		base: strings.TrimSuffix(o.BaseURL, "/"), token: o.Token,
		http: exchange.Client(&exchange.Transport{Base: exchange.BaseTransport(o.HTTPClient), Observe: o.Observe, Route: route}),
		calls: &exchange.Caller{
			Gate: exchange.NewGate(cmp.Or(o.Rate, defaultRate)), Waits: o.Waits.Or(DefaultWaits()),
			ReadTimeout: 10 * time.Second, ChangeTimeout: 30 * time.Second, Classify: classify,
		},
	}, nil
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities {
	return p.calls.Waits.In(cloud.Capabilities{
		Idempotency: cloud.UniqueName,
		UserDataMax: userDataMax, UserDataGzip: false,
		SpreadLimit: 0, ProviderIDPrefix: providerIDPrefix,
		Firewall: false, TalosPlatform: "nocloud", ImageFormat: "raw.xz",
	})
}

// Flavors implements cloud.Provider.
func (p *Provider) Flavors(ctx context.Context) ([]cloud.Flavor, error) {
	var sizes []struct {
		Name   string   `json:"name"`
		CPUs   int      `json:"cpus"`
		Memory int      `json:"memoryMiB"`
		Arch   string   `json:"arch"`
		Zones  []string `json:"zones"`
	}
	if err := p.do(ctx, exchange.Request{Op: "list sizes"}, http.MethodGet, "/v1/sizes", nil, &sizes); err != nil {
		return nil, err
	}
	out := []cloud.Flavor{}
	for _, s := range sizes {
		out = append(out, cloud.Flavor{Name: s.Name, VCPUs: s.CPUs, MemoryMiB: s.Memory, Arch: s.Arch, Zones: s.Zones})
	}
	slices.SortFunc(out, func(a, b cloud.Flavor) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

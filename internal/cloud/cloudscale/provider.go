package cloudscale

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Name is what specs call this cloud.
const Name = "cloudscale"

// DefaultBaseURL is the API's address.
const DefaultBaseURL = "https://api.cloudscale.ch/"

// defaultRate is in calls a second. With calls that take a second or two it keeps
// a score of connections busy.
const defaultRate = 10

// Facts about cloudscale.ch.
const (
	// spreadLimit is the size of an anti-affinity server group (the vendor's
	// Cluster API provider, documentation).
	spreadLimit = 4
	// userDataMax keeps clear of the 64 KiB base64 that OpenStack Nova takes;
	// the API's own limit is not published.
	userDataMax = 32 << 10
	// providerIDPrefix is the vendor's cloud controller manager's.
	providerIDPrefix = "cloudscale://"
)

// DefaultWaits suit the real cloud. Settle and CreateTimeout are those of the
// vendor's Cluster API provider; AbsenceWindow is twice Settle.
func DefaultWaits() cloud.Waits {
	return cloud.Waits{
		Settle: 30 * time.Second, AbsenceWindow: time.Minute,
		CreateTimeout: 2 * time.Minute, PostWindow: 20 * time.Second, Poll: 2 * time.Second,
	}
}

// Options configure a Provider. Only Token is required.
type Options struct {
	Token secrets.Value
	// BaseURL of the API without version; DefaultBaseURL when empty.
	BaseURL string
	// HTTPClient lends its Transport; its timeout is not used.
	HTTPClient *http.Client
	// Rate is how many calls a second the account makes at most, in bursts of
	// twice as many; zero means 10. The vendor publishes no limit.
	Rate float64
	// Waits that are zero are those of DefaultWaits.
	Waits   cloud.Waits
	Logger  *slog.Logger
	Observe exchange.Observe
}

// Provider is one account. It is safe for concurrent use; open an account once,
// so that its rate limit is shared.
type Provider struct {
	*inventory.Inventory[struct{}]
	sdk       *sdk.Client
	calls     *exchange.Caller
	listeners locks
	log       *slog.Logger
}

var (
	_ cloud.Provider       = (*Provider)(nil)
	_ cloud.Infrastructure = (*Provider)(nil)
	_ cloud.Images         = (*Provider)(nil)
)

// New returns a Provider. It makes no call. Errors are of kind Invalid, or
// Unauthorized when there is no token.
func New(o Options) (*Provider, error) {
	const op = "open cloudscale.ch account"
	if o.Token.RevealString() == "" {
		return nil, fault.New(fault.Unauthorized, op, "the API token is empty")
	}
	if strings.ContainsFunc(o.Token.RevealString(), func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fault.New(fault.Unauthorized, op, "the API token has characters that no token has")
	}
	base, err := url.Parse(cmp.Or(o.BaseURL, DefaultBaseURL))
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fault.New(fault.Invalid, op, "the API's URL must have the form https://host/")
	}
	if !strings.HasSuffix(base.Path, "/") {
		base.Path += "/"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rate <= 0 {
		o.Rate = defaultRate
	}
	p := &Provider{
		sdk: newSDK(base, o.Token, exchange.BaseTransport(o.HTTPClient), o.Observe),
		calls: &exchange.Caller{
			Gate: exchange.NewGate(o.Rate), Waits: o.Waits.Or(DefaultWaits()),
			ReadTimeout: readTimeout, ChangeTimeout: changeTimeout, Classify: classify,
		},
		log: o.Logger,
	}
	p.Inventory = &inventory.Inventory[struct{}]{
		Cloud: "cloudscale.ch", Kinds: kindsOf(p), Tags: resourceTags, SendBy: p.calls.SendBy, PlausibleID: plausibleID,
		Fits: func(want, has string) bool { return want == has }, Log: p.log,
	}
	return p, nil
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities {
	return p.calls.Waits.In(cloud.Capabilities{
		Idempotency: cloud.TagScan,
		UserDataMax: userDataMax, UserDataGzip: false, // a JSON string carries text only
		SpreadLimit: spreadLimit, ProviderIDPrefix: providerIDPrefix,
		Firewall: false, TalosPlatform: "openstack", ImageFormat: "qcow2",
	})
}

// Flavors implements cloud.Provider. All flavors are amd64.
func (p *Provider) Flavors(ctx context.Context) ([]cloud.Flavor, error) {
	var have []sdk.Flavor
	err := p.calls.Call(ctx, exchange.Request{Op: "list flavors"}, func(ctx context.Context) (err error) {
		have, err = p.sdk.Flavors.List(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]cloud.Flavor, 0, len(have))
	for _, f := range have {
		// memory_gb counts GiB: guests see about that much.
		v := cloud.Flavor{Name: f.Slug, VCPUs: f.VCPUCount, MemoryMiB: f.MemoryGB << 10, Arch: "amd64"}
		if f.GPU != nil {
			v.GPUs, v.GPUName = f.GPU.Count, f.GPU.Name
		}
		for _, z := range f.Zones {
			v.Zones = append(v.Zones, z.Slug)
		}
		slices.Sort(v.Zones)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b cloud.Flavor) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

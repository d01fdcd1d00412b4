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
	"golang.org/x/time/rate"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Name is what specs call this cloud.
const Name = "cloudscale"

// DefaultBaseURL is the API's address.
const DefaultBaseURL = "https://api.cloudscale.ch/"

// defaultRate is in calls a second; with calls that take a second or two it
// keeps up to idleConnections busy.
const (
	defaultRate     = 10
	idleConnections = 20
)

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

// Settings are the waits of cloud.Capabilities that operators may change, all
// of them together: they have to fit the cloud's latencies.
type Settings struct {
	Settle        time.Duration
	AbsenceWindow time.Duration
	CreateTimeout time.Duration
	PostWindow    time.Duration
	Poll          time.Duration
}

// DefaultSettings suit the real cloud. Settle and CreateTimeout are those of the
// vendor's Cluster API provider; AbsenceWindow is twice Settle.
func DefaultSettings() Settings {
	return Settings{
		Settle: 30 * time.Second, AbsenceWindow: time.Minute,
		CreateTimeout: 2 * time.Minute, PostWindow: 20 * time.Second, Poll: 2 * time.Second,
	}
}

func (s Settings) orDefault() Settings {
	d := DefaultSettings()
	return Settings{
		Settle: cmp.Or(s.Settle, d.Settle), AbsenceWindow: cmp.Or(s.AbsenceWindow, d.AbsenceWindow),
		CreateTimeout: cmp.Or(s.CreateTimeout, d.CreateTimeout), PostWindow: cmp.Or(s.PostWindow, d.PostWindow),
		Poll: cmp.Or(s.Poll, d.Poll),
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
	Rate     float64
	Settings Settings
	Logger   *slog.Logger
	Observe  Observe
}

// Provider is one account. It is safe for concurrent use; open an account once,
// so that its rate limit is shared.
type Provider struct {
	sdk       *sdk.Client
	settings  Settings
	gate      *gate
	kinds     []kind
	listeners locks
	log       *slog.Logger
	now       func() time.Time
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
	rt := ownTransport()
	if o.HTTPClient != nil && o.HTTPClient.Transport != nil {
		rt = o.HTTPClient.Transport
	}
	p := &Provider{
		sdk:      newSDK(base, &transport{base: rt, token: o.Token, agent: "ichor", observe: o.Observe, now: time.Now}),
		settings: o.Settings.orDefault(),
		gate:     &gate{limiter: rate.NewLimiter(rate.Limit(o.Rate), max(1, int(2*o.Rate))), now: time.Now},
		log:      o.Logger,
		now:      time.Now,
	}
	p.kinds = kindsOf(p)
	return p, nil
}

// ownTransport keeps as many connections as calls are usual at once, where the
// default keeps two.
func ownTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = idleConnections
	return t
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Idempotency: cloud.TagScan,
		Settle:      p.settings.Settle, AbsenceWindow: p.settings.AbsenceWindow,
		CreateTimeout: p.settings.CreateTimeout, PostWindow: p.settings.PostWindow, Poll: p.settings.Poll,
		UserDataMax: userDataMax, UserDataGzip: false, // a JSON string carries text only
		SpreadLimit: spreadLimit, ProviderIDPrefix: providerIDPrefix,
		Firewall: false, TalosPlatform: "openstack", ImageFormat: "qcow2",
	}
}

// Flavors implements cloud.Provider. All flavors are amd64.
func (p *Provider) Flavors(ctx context.Context) ([]cloud.Flavor, error) {
	var have []sdk.Flavor
	err := p.call(ctx, request{op: "list flavors"}, func(ctx context.Context) (err error) {
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

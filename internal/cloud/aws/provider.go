package aws

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cloud/inventory"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Name is what specs call this cloud.
const Name = "aws"

// defaultRate is in calls a second. The cloud refills the bucket of unfiltered
// reads by ten and that of creates by five a second (EC2 API, request throttling).
const defaultRate = 10

// blockRate is in blocks a second: a tenth of what an account may write (EBS
// direct APIs, quotas), and more than a download gives.
const blockRate = 100

// importIdle ends writing an image that nobody waits for any more: longer than
// the longest pause between two looks.
const importIdle = 2 * time.Minute

// Facts about the cloud.
const (
	// spreadLimit is how many machines of a spread placement group run in one
	// zone (EC2, placement strategies).
	spreadLimit = 7
	// userDataMax is before base64 (EC2, instance user data).
	userDataMax = 16 << 10
	// providerIDPrefix is followed by the zone, a slash and the instance's id (the
	// vendor's cloud controller manager).
	providerIDPrefix = "aws:///"
)

// DefaultWaits suit the real cloud. AbsenceWindow is how long the vendor says
// to keep asking before a thing that was made counts as missing (EC2 API,
// eventual consistency); machines need it only where no terminated machine is
// left to prove more.
func DefaultWaits() cloud.Waits {
	return cloud.Waits{
		Settle: 30 * time.Second, AbsenceWindow: 5 * time.Minute,
		CreateTimeout: time.Minute, PostWindow: 20 * time.Second, Poll: 5 * time.Second,
	}
}

// Options configure a Provider. Only Region is required.
type Options struct {
	// Region, for example eu-central-1; see RegionOf.
	Region string
	// Credentials are a JSON object with accessKeyId, secretAccessKey and, for
	// temporary ones, sessionToken. Empty means the SDK's own chain: environment,
	// shared files, web identity, container, instance.
	Credentials secrets.Value
	// Profile is the profile of the shared files that the chain uses.
	Profile string
	// Endpoints replaces the addresses of services ("ec2", "elasticloadbalancing",
	// "ebs", "sts"), for example by those of interface endpoints. What is missing has the
	// SDK's own, AWS_ENDPOINT_URL_EC2 and its kin included.
	Endpoints map[string]string
	// InstanceProfile is the name or ARN of what machines may do in the account,
	// and ControlPlaneInstanceProfile the same for control planes where that
	// differs. Empty means nothing.
	InstanceProfile             string
	ControlPlaneInstanceProfile string
	// HTTPClient lends its Transport; its timeout is not used.
	HTTPClient *http.Client
	// Rate is how many calls a second the account makes at most, in bursts of
	// twice as many; zero means 10.
	Rate float64
	// Waits that are zero are those of DefaultWaits.
	Waits  cloud.Waits
	Logger *slog.Logger
	// Observe is told the actions as policies name them: "ec2:RunInstances".
	Observe exchange.Observe
}

// Provider is one account in one region. It is safe for concurrent use; open an
// account once, so that its rate limit, and what it knows of absence, is shared.
type Provider struct {
	*inventory.Inventory[settings]
	region      string
	credentials sdk.CredentialsProvider
	profiles    map[string]string // instance profiles by parameter of machines
	ec2         *ec2.Client
	elb         *elb.Client
	ebs         *ebs.Client
	sts         *sts.Client
	plain       *http.Client // for images, without credentials
	calls       *exchange.Caller
	blocks      *exchange.Caller // of images, at a rate of their own
	seen        *sightings
	byID        *collector
	byMachine   *collector
	flavors     flavorCache
	uploads     *uploads
	log         *slog.Logger
}

var (
	_ cloud.Provider       = (*Provider)(nil)
	_ cloud.Infrastructure = (*Provider)(nil)
	_ cloud.NodeLabels     = (*Provider)(nil)
)

// New returns a Provider. It reads the SDK's configuration and makes no call.
// Errors are of kind Invalid, or Unauthorized when the credentials have not the
// right form.
func New(ctx context.Context, o Options) (*Provider, error) {
	const op = "open AWS account"
	if o.Region == "" || catalog.AWS().RegionOf(o.Region) != o.Region {
		return nil, fault.New(fault.Invalid, op, "%q is not a region", o.Region)
	}
	load := []func(*config.LoadOptions) error{config.WithRegion(o.Region)}
	if len(o.Credentials.Reveal()) > 0 {
		static, err := static(o.Credentials)
		if err != nil {
			return nil, err
		}
		load = append(load, config.WithCredentialsProvider(static))
	} else if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	for service, e := range o.Endpoints {
		if u, err := url.Parse(e); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fault.New(fault.Invalid, op, "the URL of the service %s must have the form https://host/", service)
		}
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		// The text may quote a line of the shared credentials file.
		return nil, fault.New(fault.Unauthorized, op, "the SDK's configuration cannot be read; check the shared files and the profile %q", o.Profile)
	}
	if cfg.Credentials == nil {
		return nil, fault.New(fault.Unauthorized, op, "no source of credentials is configured")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rate <= 0 {
		o.Rate = defaultRate
	}
	rt := exchange.BaseTransport(o.HTTPClient)
	client := exchange.Client(&exchange.Transport{Base: rt, Observe: o.Observe, Route: action})
	// endpoint replaces the SDK's own, if there is one to replace it by.
	endpoint := func(service string, own *string) *string {
		if e, ok := o.Endpoints[service]; ok {
			return sdk.String(e)
		}
		return own
	}
	p := &Provider{
		region: o.Region, credentials: cfg.Credentials, log: o.Logger,
		profiles: map[string]string{paramProfile: o.InstanceProfile, paramControlPlaneProfile: o.ControlPlaneInstanceProfile},
		plain:    &http.Client{Transport: rt},
		uploads:  newUploads(importIdle),
		// Only these clients use the transport: sources of credentials keep their
		// own, with the SDK's retries.
		ec2: ec2.NewFromConfig(cfg, func(c *ec2.Options) {
			c.HTTPClient, c.Retryer, c.BaseEndpoint = client, sdk.NopRetryer{}, endpoint("ec2", c.BaseEndpoint)
		}),
		elb: elb.NewFromConfig(cfg, func(c *elb.Options) {
			c.HTTPClient, c.Retryer, c.BaseEndpoint = client, sdk.NopRetryer{}, endpoint("elasticloadbalancing", c.BaseEndpoint)
		}),
		ebs: ebs.NewFromConfig(cfg, func(c *ebs.Options) {
			c.HTTPClient, c.Retryer, c.BaseEndpoint = client, sdk.NopRetryer{}, endpoint("ebs", c.BaseEndpoint)
		}),
		sts: sts.NewFromConfig(cfg, func(c *sts.Options) {
			c.HTTPClient, c.Retryer, c.BaseEndpoint = client, sdk.NopRetryer{}, endpoint("sts", c.BaseEndpoint)
		}),
	}
	caller := func(perSecond float64) *exchange.Caller {
		return &exchange.Caller{
			Gate: exchange.NewGate(perSecond), Waits: o.Waits.Or(DefaultWaits()),
			ReadTimeout: readTimeout, ChangeTimeout: changeTimeout, Classify: classify, Ready: p.signed,
		}
	}
	p.calls, p.blocks = caller(o.Rate), caller(blockRate)
	p.seen = newSightings(p.calls.Waits.AbsenceWindow, time.Now)
	p.byID = p.collect("instance-id", func(i *instance) string { return i.id })
	p.byMachine = p.collect("tag:"+tagMachine, func(i *instance) string { return i.tags[tagMachine] })
	p.Inventory = &inventory.Inventory[settings]{
		Cloud: "AWS", In: " in the region " + o.Region, Kinds: kindsOf(p), Tags: resourceTags, SendBy: p.calls.SendBy,
		PlausibleID: plausibleID, Fits: inventory.Covers, Absence: p.seen, Pause: p.calls.Waits.Poll, Log: p.log,
	}
	return p, nil
}

// static reads credentials that a reference resolved to. Nothing of them is ever
// repeated.
func static(v secrets.Value) (sdk.CredentialsProvider, error) {
	const op = "open AWS account"
	var c struct {
		ID      string `json:"accessKeyId"`
		Secret  string `json:"secretAccessKey"`
		Session string `json:"sessionToken"`
	}
	switch err := json.Unmarshal(v.Reveal(), &c); {
	case err != nil:
		return nil, fault.New(fault.Unauthorized, op, "the credentials are not a JSON object with accessKeyId and secretAccessKey")
	case c.ID == "" || c.Secret == "":
		return nil, fault.New(fault.Unauthorized, op, "the credentials have no accessKeyId or no secretAccessKey")
	case strings.ContainsFunc(c.ID+c.Secret+c.Session, func(r rune) bool { return r <= ' ' || r > '~' }):
		return nil, fault.New(fault.Unauthorized, op, "the credentials have characters that no key has")
	}
	return credentials.NewStaticCredentialsProvider(c.ID, c.Secret, c.Session), nil
}

// RegionOf returns the region of an availability zone. Errors are Invalid.
func RegionOf(zone string) (string, error) {
	k := catalog.AWS()
	if why := k.RefuseZone(zone); why != "" {
		return "", fault.New(fault.Invalid, "find region", "%s", why)
	}
	return k.RegionOf(zone), nil
}

// Capabilities implements cloud.Provider.
func (p *Provider) Capabilities() cloud.Capabilities {
	return p.calls.Waits.In(cloud.Capabilities{
		Idempotency: cloud.NativeToken, Resources: cloud.TagScan,
		UserDataMax: userDataMax, UserDataGzip: true,
		SpreadLimit: spreadLimit, SpreadAtOnce: true, ProviderIDPrefix: providerIDPrefix,
		// The vendor's controller looks for the name that the VPC gives to an instance.
		NodesByProviderID: true,
		Spot:              true,
		Firewall:          true, TalosPlatform: "aws", ImageFormat: "raw.gz",
	})
}

// Account returns the number of the account that the credentials belong to.
func (p *Provider) Account(ctx context.Context) (string, error) {
	var out *sts.GetCallerIdentityOutput
	err := p.calls.Call(ctx, exchange.Request{Op: "read account", Action: "GetCallerIdentity"}, func(ctx context.Context) (err error) {
		out, err = p.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		return err
	})
	if err != nil {
		return "", err
	}
	if sdk.ToString(out.Account) == "" {
		return "", fault.New(fault.Internal, "read account", "the cloud names no account")
	}
	return *out.Account, nil
}

// NodeLabels implements cloud.NodeLabels: the labels that the vendor's cloud
// controller manager gives by zone.
func (p *Provider) NodeLabels(zone string) []cluster.Tag {
	return catalog.AWS().NodeLabels(zone)
}

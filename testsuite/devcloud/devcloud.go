// Package devcloud is a cloud on loopback: the cloudscale.ch API and those of AWS
// with realistic latencies, states and limits, a fault API under /_devcloud/, load
// balancers that forward real TCP, and an Image Factory. What runs on its servers
// is given from outside as a guest.Booter.
package devcloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/cloudscale"
	"github.com/ichor-project/ichor/testsuite/devcloud/factory"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// Options configure a devcloud. The zero value serves on free ports of
// 127.0.0.1 in real time, with nothing running on servers.
type Options struct {
	// Listen and FactoryListen are host:port of the cloud's API and of the Image
	// Factory; empty means a free port of 127.0.0.1.
	Listen, FactoryListen string
	// Speed divides all simulated durations; zero means 1.
	Speed float64
	// LoopbackPrefix is the first two octets of the pool of public addresses;
	// empty means "127.77". Devclouds that run at once need different ones.
	LoopbackPrefix string
	// Latencies replaces world.DefaultLatencies.
	Latencies *world.Latencies
	Limits    world.Limits
	// AWSLatencies and AWSSettings replace account.DefaultLatencies and
	// account.DefaultSettings.
	AWSLatencies *account.Latencies
	AWSSettings  *account.Settings
	AWSPolicies  AWSPolicies
	// Chaos installs a profile of random faults at once.
	Chaos *faults.Chaos
	// ImageHosts maps hosts of image URLs to the base URL really fetched, for
	// images that live on the Internet.
	ImageHosts map[string]string
	// NewGuests makes what boots on servers; nil leaves custom images idle. The
	// returned close function runs after the last guest was destroyed.
	NewGuests func(Environment) (Guests, error)
	Log       *slog.Logger
}

// Environment is what guests get from the cloud.
type Environment struct {
	Clock    guest.Clock
	Network  guest.Network
	CloudURL string // of the cloud's API
	// Extensions is factory.Factory's.
	Extensions func(schematic, version string) ([]string, bool)
	// AWS is what a controller needs that acts on the account there.
	AWS AWSEnvironment
	Log *slog.Logger
}

// AWSEnvironment is how a controller in a cluster on AWS finds its account.
type AWSEnvironment struct {
	Variables map[string]string
	// Home tells where instances of a cluster are, as the metadata service of one
	// of them would.
	Home func(cluster string) (account.Home, bool)
}

// Guests boot on servers.
type Guests struct {
	Booter guest.Booter
	// Handler, if any, serves /_devcloud/guests/…
	Handler http.Handler
	Close   func() error
}

// Devcloud is a running cloud.
type Devcloud struct {
	world    *world.World
	aws      *aws.Cloud
	worker   *aws.Principal // nil without a policy
	nodes    *aws.Principal
	injector *faults.Injector
	guests   Guests
	servers  []*http.Server
	url      string
	images   *factory.Factory
	factory  string
	log      *slog.Logger
}

// Start serves a new, empty cloud until Close, which the end of ctx does not
// replace.
func Start(ctx context.Context, o Options) (*Devcloud, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Devcloud{log: o.Log}
	api, err := listen(ctx, o.Listen)
	if err != nil {
		return nil, err
	}
	d.url = "http://" + api.Addr().String() + "/"
	images, err := listen(ctx, o.FactoryListen)
	if err != nil {
		return nil, errors.Join(err, api.Close())
	}
	d.factory = "http://" + images.Addr().String() + "/"
	if err := d.assemble(o); err != nil {
		d.dismantle()
		return nil, errors.Join(err, api.Close(), images.Close())
	}
	d.serve(images, d.images)
	d.serve(api, d.handler())
	return d, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("devcloud: %w", err)
	}
	return l, nil
}

func (d *Devcloud) assemble(o Options) error {
	images, err := factory.New(o.Log)
	if err != nil {
		return fmt.Errorf("devcloud: %w", err)
	}
	d.images = images
	w, err := world.New(world.Options{
		Speed: o.Speed, Latencies: o.Latencies, Limits: o.Limits, LoopbackPrefix: o.LoopbackPrefix, Log: o.Log,
		Describe: images.Describe, ImageURL: func(u string) (string, error) { return imageURL(o.ImageHosts, u) },
	})
	if err != nil {
		return fmt.Errorf("devcloud: %w", err)
	}
	d.world = w
	d.aws = aws.New(account.New(account.Options{
		Clock: w.Clock(), Addresses: w, Latencies: o.AWSLatencies, Settings: o.AWSSettings,
		TalosVersions: factory.Versions(), StockSchematic: images.Stock(), Identify: images.Identify, Log: o.Log,
	}), o.Log)
	if err := d.admit(o.AWSPolicies); err != nil {
		return err
	}
	d.injector = faults.New(w.Clock(), w.Latencies().API, o.Log)
	if err := d.injector.SetChaos(o.Chaos); err != nil {
		return fmt.Errorf("devcloud: chaos: %w", err)
	}
	if o.NewGuests != nil {
		d.guests, err = o.NewGuests(Environment{Clock: w.Clock(), Network: networks{w, d.AWS()}, CloudURL: d.url, Extensions: images.Extensions, AWS: AWSEnvironment{d.awsEnvironment(d.nodes), d.AWS().Home}, Log: o.Log})
		if err != nil {
			return fmt.Errorf("devcloud: guests: %w", err)
		}
		w.SetBooter(d.guests.Booter)
		d.AWS().SetBooter(d.guests.Booter)
	}
	return nil
}

// imageURL says where an image is really fetched: nothing outside this host is
// ever asked.
func imageURL(hosts map[string]string, address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	if base, ok := hosts[u.Hostname()]; ok {
		return strings.TrimSuffix(base, "/") + u.EscapedPath(), nil
	}
	if a, err := netip.ParseAddr(u.Hostname()); u.Hostname() == "localhost" || err == nil && a.IsLoopback() {
		return address, nil
	}
	return "", fmt.Errorf("could not resolve host %s", u.Hostname())
}

func (d *Devcloud) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", d.injector.Wrap(cloudscale.New(d.world, d.log)))
	d.aws.Register(mux, d.injector)
	d.injector.Register(mux)
	d.control(mux)
	d.controlAWS(mux)
	return mux
}

func (d *Devcloud) serve(l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug)}
	d.servers = append(d.servers, s)
	go func() {
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("serve", "error", err)
		}
	}()
}

// URL returns the base URL of the cloud's API, ending in a slash, as
// CLOUDSCALE_API_URL takes it.
func (d *Devcloud) URL() string { return d.url }

// FactoryURL returns the base URL of the Image Factory.
func (d *Devcloud) FactoryURL() string { return d.factory }

// World gives tests access to the state.
func (d *Devcloud) World() *world.World { return d.world }

// AWS gives tests access to the state of the account at AWS.
func (d *Devcloud) AWS() *account.Account { return d.aws.Account() }

// Faults gives tests access to the faults and the request log.
func (d *Devcloud) Faults() *faults.Injector { return d.injector }

// Close ends everything that the cloud runs: its API, load balancers and guests.
func (d *Devcloud) Close() error {
	d.injector.Clear()
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.Close())
	}
	d.dismantle()
	if d.guests.Close != nil {
		errs = append(errs, d.guests.Close())
	}
	return errors.Join(errs...)
}

// dismantle ends what is there of both clouds.
func (d *Devcloud) dismantle() {
	if d.aws != nil {
		d.aws.Close()
	}
	if d.world != nil {
		d.world.Close()
	}
}

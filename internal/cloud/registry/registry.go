// Package registry opens cloud accounts by the names that specs use. To add a cloud
// is to add an entry to Clouds.
package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"strings"
	"sync"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Options are what all accounts have in common.
type Options struct {
	// Clouds by the names that specs use; nil means Clouds().
	Clouds  map[string]Cloud
	Secrets secrets.Resolver
	// Rate is in requests a second to one account.
	Rate float64
	// Waits that are zero are what suits the cloud.
	Waits cloud.Waits
	// CloudscaleURL is the API of cloudscale.ch; empty means the public one.
	CloudscaleURL string
	// InstanceProfile and ControlPlaneProfile name what machines on AWS may do in
	// the account; empty means nothing.
	InstanceProfile, ControlPlaneProfile string
	Logger                               *slog.Logger
	// Observe returns who is told of the requests to a cloud.
	Observe func(cloud string) exchange.Observe
}

// Registry opens each account once, so that its rate limit is shared. It is safe for
// concurrent use.
type Registry struct {
	o Options

	mu   sync.Mutex
	open map[[sha256.Size]byte]opened
}

type opened struct {
	provider cloud.Provider
	account  string
}

// New returns a Registry that has opened nothing yet.
func New(o Options) *Registry {
	if o.Clouds == nil {
		o.Clouds = Clouds()
	}
	return &Registry{o: o, open: map[[sha256.Size]byte]opened{}}
}

// chain is the scheme of references to no secret: what runs here gets its
// credentials from its surroundings. A profile of the shared files may follow.
const chain = "chain:"

// Open returns the account that a spec names, and a short name for it that is the
// same as long as its credentials are. Credentials are resolved anew each time, so
// that renewed ones are used without a restart. Errors: Unauthorized when there are
// no credentials, Invalid when the cloud is not known.
func (r *Registry) Open(ctx context.Context, spec cluster.Cloud) (cloud.Provider, string, error) {
	const op = "open cloud account"
	known, ok := r.o.Clouds[spec.Provider]
	if !ok {
		return nil, "", fault.New(fault.Invalid, op, "spec.cloud.provider: %q is not a cloud that this Ichor knows", spec.Provider)
	}
	a, err := r.account(ctx, known, spec)
	if err != nil {
		return nil, "", err
	}
	// Two references to one credential are one account, and share its images and
	// their locks; in clouds with regions each of them is an account of its own.
	id := spec.Provider + "\x00" + a.Region + a.Credentials.RevealString()
	if a.Credentials.Empty() {
		id += chain + a.Profile
	}
	key := sha256.Sum256([]byte(id))
	r.mu.Lock()
	defer r.mu.Unlock()
	if o, ok := r.open[key]; ok {
		return o.provider, o.account, nil
	}
	p, err := known.Open(ctx, a, r.o)
	if err != nil {
		return nil, "", fault.Wrap(cmp.Or(fault.KindOf(err), fault.Internal), op, err)
	}
	o := opened{provider: p, account: hex.EncodeToString(key[:4])}
	r.open[key] = o
	return o.provider, o.account, nil
}

// account resolves what tells the account of a spec from others.
func (r *Registry) account(ctx context.Context, known Cloud, spec cluster.Cloud) (Account, error) {
	const op = "open cloud account"
	var a Account
	if r.o.Observe != nil {
		a.Observe = r.o.Observe(spec.Provider)
	}
	if known.Regional {
		if why := known.RefuseZone(spec.Zone); why != "" {
			return a, fault.New(fault.Invalid, op, "spec.cloud.zone: %s", why)
		}
		a.Region = known.RegionOf(spec.Zone)
	}
	if profile, ok := strings.CutPrefix(spec.Credentials, chain); ok && known.Chain {
		a.Profile = profile
		return a, nil
	}
	var err error
	a.Credentials, err = r.o.Secrets.Resolve(ctx, secrets.Ref(spec.Credentials))
	if fault.Is(err, fault.NotFound) {
		err = fault.New(fault.Unauthorized, op, "spec.cloud.credentials: %s", err)
	}
	return a, err
}

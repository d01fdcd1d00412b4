package cloudscale

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// admissionTries is how often a change of a listener is repeated that somebody
// else has overwritten.
const admissionTries = 5

// locks serialises the changes of one cluster's listener within this process:
// the API replaces the whole list of ranges. Other processes are noticed by
// reading back.
type locks struct {
	mu sync.Mutex
	m  map[string]*sync.Mutex
}

func (l *locks) lock(uid string) (unlock func()) {
	l.mu.Lock()
	if l.m == nil {
		l.m = map[string]*sync.Mutex{}
	}
	one := l.m[uid]
	if one == nil {
		one = &sync.Mutex{}
		l.m[uid] = one
	}
	l.mu.Unlock()
	one.Lock()
	return one.Unlock
}

// admit lets machines reach the cluster's endpoint. Nodes come to the load
// balancer's public address from their own public ones, which no network of the
// spec contains. A machine inside an allowed range changes nothing, and one
// without a public address reaches no public endpoint.
func (p *Provider) admit(ctx context.Context, owner cloud.Owner, addresses ...string) error {
	var addrs []netip.Addr
	for _, a := range addresses {
		if addr, err := netip.ParseAddr(a); err == nil {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return nil
	}
	return p.changeAllowed(ctx, owner, "admit nodes to the endpoint", func(have []string) []string {
		out := slices.Clone(have)
		for _, addr := range addrs {
			if !slices.ContainsFunc(out, func(c string) bool { return contains(c, addr) }) {
				out = append(out, netip.PrefixFrom(addr, addr.BitLen()).String())
			}
		}
		return out
	})
}

// admitAll admits every machine of the cluster: those that are older than the
// listener, and those whose admission another process has overwritten.
func (p *Provider) admitAll(ctx context.Context, owner cloud.Owner) error {
	machines, err := p.ListMachines(ctx, cloud.Owner{Cluster: owner.Cluster})
	if err != nil {
		return err
	}
	var addresses []string
	for _, m := range machines {
		addresses = append(addresses, m.Public)
	}
	return p.admit(ctx, owner, addresses...)
}

// expel takes back what admit allowed.
func (p *Provider) expel(ctx context.Context, owner cloud.Owner, address string) error {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil //nolint:nilerr // nothing was admitted
	}
	own := netip.PrefixFrom(addr, addr.BitLen()).String()
	return p.changeAllowed(ctx, owner, "expel "+address+" from the endpoint", func(have []string) []string {
		rest := slices.DeleteFunc(slices.Clone(have), func(c string) bool { return c == own })
		if len(rest) == 0 {
			return have // an empty list would admit everybody
		}
		return rest
	})
}

func contains(cidr string, addr netip.Addr) bool {
	c, err := netip.ParsePrefix(cidr)
	if err != nil {
		return cidr == addr.String()
	}
	return c.Contains(addr)
}

// changeAllowed edits the ranges of the cluster's listener until they read back
// as wanted. A cluster without a listener, or with an open one, needs nothing.
func (p *Provider) changeAllowed(ctx context.Context, owner cloud.Owner, op string, edit func([]string) []string) error {
	defer p.listeners.lock(owner.Cluster.UID)()
	for range admissionTries {
		l, err := p.listener(ctx, owner)
		if err != nil || l == nil || len(l.AllowedCIDRs) == 0 {
			return err
		}
		want := edit(l.AllowedCIDRs)
		if slices.Equal(want, l.AllowedCIDRs) {
			return nil
		}
		err = p.calls.Call(ctx, exchange.Request{Op: op, Verb: exchange.Change}, func(ctx context.Context) error {
			return p.sdk.LoadBalancerListeners.Update(ctx, l.UUID, &sdk.LoadBalancerListenerRequest{AllowedCIDRs: &want})
		})
		if fault.Is(err, fault.NotFound) {
			return nil // the endpoint is being deleted
		}
		if err != nil {
			return err
		}
	}
	return fault.New(fault.Conflict, op, "the listener's ranges are changed by somebody else all the time")
}

func (p *Provider) listener(ctx context.Context, owner cloud.Owner) (*sdk.LoadBalancerListener, error) {
	found, err := listTagged(ctx, p, "listeners", p.sdk.LoadBalancerListeners, cluster.TagCluster, owner.Cluster.UID)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(found, func(l sdk.LoadBalancerListener) bool {
		return l.Tags[cluster.TagCluster] == owner.Cluster.UID && l.Tags[cluster.TagKind] == kindListener
	})
	if i < 0 {
		return nil, nil
	}
	return &found[i], nil
}

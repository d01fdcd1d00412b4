// Package elb is the load balancing of an AWS account: network load balancers
// with target groups and listeners, as ELBv2's query protocol tells of them. They
// really check and forward TCP, through devcloud's lb.
package elb

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// What the service is called in its own protocol.
const (
	Version   = "2015-12-01"
	Namespace = "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"
	// Signed is the service's name in signatures.
	Signed = "elasticloadbalancing"
)

// Latencies are simulated durations.
type Latencies struct {
	Provision time.Duration // CreateLoadBalancer until active
	Register  time.Duration // RegisterTargets until health checks begin
	Release   time.Duration // DeleteLoadBalancer until its interfaces are gone
}

// DefaultLatencies are those that users of AWS see.
func DefaultLatencies() Latencies {
	return Latencies{Provision: 2 * time.Minute, Register: 30 * time.Second, Release: 30 * time.Second}
}

// Limits are quotas; zero means unlimited.
type Limits struct {
	LoadBalancers, TargetGroups int // of the region
	Listeners                   int // of one load balancer
	Targets                     int // of one target group
}

// DefaultLimits are those of a new account.
func DefaultLimits() Limits {
	return Limits{LoadBalancers: 50, TargetGroups: 3000, Listeners: 50, Targets: 1000}
}

// Options configure a Service. Account is required.
type Options struct {
	Account *account.Account
	// Latencies and Limits replace the defaults.
	Latencies *Latencies
	Limits    *Limits
	Log       *slog.Logger
}

// Service is the load balancing of one account.
type Service struct {
	account *account.Account
	lat     Latencies
	log     *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	limits    Limits
	balancers []*balancer // in order of creation, as all of these
	groups    []*targetGroup
	listeners []*listener
}

// New returns a service without load balancers. Close ends everything it runs,
// and must come before the account's.
func New(o Options) *Service {
	s := &Service{account: o.Account, lat: DefaultLatencies(), limits: DefaultLimits(), log: o.Log}
	if o.Latencies != nil {
		s.lat = *o.Latencies
	}
	if o.Limits != nil {
		s.limits = *o.Limits
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.follow)
	return s
}

// minStep bounds how often the machines of the account are looked at, in real
// time.
const minStep = 50 * time.Millisecond

// follow keeps forwarding in step with machines that come, stop and go, and with
// targets whose time has come.
func (s *Service) follow() {
	for s.wait(s.ctx, max(s.account.Clock().Scale(time.Second), minStep)) {
		s.mu.Lock()
		s.settle()
		s.mu.Unlock()
	}
}

// wait sleeps in real time and reports whether it was not disturbed.
func (s *Service) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// later runs f after a simulated duration, unless the service ends before. The
// caller holds the lock; f is called with it.
func (s *Service) later(d time.Duration, f func()) {
	if s.ctx.Err() != nil {
		return
	}
	s.wg.Go(func() {
		if s.account.Clock().Sleep(s.ctx, d) != nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		f()
	})
}

// SetLimits replaces the quotas.
func (s *Service) SetLimits(l Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = l
}

// Reset removes everything at once. It must come before the account's Reset.
func (s *Service) Reset() {
	s.mu.Lock()
	old := s.balancers
	s.balancers, s.groups, s.listeners = nil, nil, nil
	s.mu.Unlock()
	for _, b := range old {
		b.forward.Close()
		s.release(b)
	}
}

// Close removes everything and waits until nothing of it runs any more.
func (s *Service) Close() {
	s.cancel()
	s.Reset()
	s.wg.Wait()
	s.Reset() // what was under way when the first one came
}

// Server answers the requests of the service.
func (s *Service) Server() *query.Server {
	out := &query.Server{Protocol: query.Query, Version: Version, Namespace: Namespace, Actions: map[string]query.Action{}, Log: s.log}
	on(s, out, "CreateLoadBalancer", s.createLoadBalancer)
	on(s, out, "DescribeLoadBalancers", s.describeLoadBalancers)
	on(s, out, "DeleteLoadBalancer", s.deleteLoadBalancer)
	on(s, out, "ModifyLoadBalancerAttributes", s.modifyLoadBalancerAttributes)
	on(s, out, "DescribeLoadBalancerAttributes", s.describeLoadBalancerAttributes)
	on(s, out, "SetSecurityGroups", s.setSecurityGroups)
	on(s, out, "CreateTargetGroup", s.createTargetGroup)
	on(s, out, "DescribeTargetGroups", s.describeTargetGroups)
	on(s, out, "ModifyTargetGroup", s.modifyTargetGroup)
	on(s, out, "ModifyTargetGroupAttributes", s.modifyTargetGroupAttributes)
	on(s, out, "DescribeTargetGroupAttributes", s.describeTargetGroupAttributes)
	on(s, out, "DeleteTargetGroup", s.deleteTargetGroup)
	on(s, out, "RegisterTargets", s.registerTargets)
	on(s, out, "DeregisterTargets", s.deregisterTargets)
	on(s, out, "DescribeTargetHealth", s.describeTargetHealth)
	on(s, out, "CreateListener", s.createListener)
	on(s, out, "DescribeListeners", s.describeListeners)
	on(s, out, "DeleteListener", s.deleteListener)
	on(s, out, "AddTags", s.addTags)
	on(s, out, "RemoveTags", s.removeTags)
	on(s, out, "DescribeTags", s.describeTags)
	return out
}

// on serves an action with a function that holds the lock. Afterwards what
// forwards follows what was changed.
func on[In, Out any](s *Service, to *query.Server, name string, do func(faults.Bend, In) (Out, error)) {
	to.Actions[name] = query.On(func(ctx context.Context, in In) (Out, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		out, err := do(faults.FromContext(ctx), in)
		s.settle()
		return out, err
	})
}

// none is the result of actions that tell nothing.
type none struct{}

// arn makes a name such as …:loadbalancer/net/demo/0123456789abcdef.
func (s *Service) arn(kind string, path ...string) string {
	b := make([]byte, 8)
	if _, err := rand.Read(b); err != nil {
		panic(err) // documented never to happen
	}
	out := "arn:aws:elasticloadbalancing:" + account.Region + ":" + s.account.ID() + ":" + kind
	for _, p := range path {
		out += "/" + p
	}
	return out + "/" + hex.EncodeToString(b)
}

// page cuts a list: size is that of the request, marker says where the page
// begins and next where the one after it does.
func page[T any](all []T, id func(T) string, size *int32, marker string) (out []T, next string, err error) {
	const most = 400
	n := most
	if size != nil {
		if n = int(*size); n < 1 || n > most {
			return nil, "", invalid("Value '%d' at 'pageSize' failed to satisfy constraint: Member must be between 1 and %d", n, most)
		}
	}
	if marker != "" {
		i := slices.IndexFunc(all, func(v T) bool { return id(v) == marker })
		if i < 0 {
			return nil, "", invalid("Invalid marker")
		}
		all = all[i:]
	}
	if len(all) > n {
		return all[:n], id(all[n]), nil
	}
	return all, "", nil
}

// encoded is page with what the part looks like in an answer.
func encoded[T, X any](all []T, id func(T) string, size *int32, marker string, show func(T) X) (out []X, next string, err error) {
	part, next, err := page(all, id, size, marker)
	for _, v := range part {
		out = append(out, show(v))
	}
	return out, next, err
}

// hidden says whether a fault lets young resources out of lists.
func hidden(bend faults.Bend, created time.Time) bool {
	return bend.Stale > 0 && time.Since(created) < bend.Stale
}

func invalid(format string, args ...any) error {
	return query.Refuse("ValidationError", format, args...)
}

// checkName says whether a load balancer or target group may be called so.
func checkName(kind, name string) error {
	ok := name != "" && len(name) <= 32 && name[0] != '-' && name[len(name)-1] != '-' &&
		(kind != "Load balancer" || !strings.HasPrefix(name, "internal-"))
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-')
	}
	if !ok {
		return invalid("%s name '%s' must have 1 to 32 characters of letters, digits and hyphens, no hyphen at either end, and not begin with internal-", kind, name)
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// or replaces a parameter that is missing.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// sorted copies a set of names, without repetitions.
func sorted[T cmp.Ordered](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

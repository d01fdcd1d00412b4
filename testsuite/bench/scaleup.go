package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

const (
	burstLimit = 20 * time.Minute
	// requestRate is the worker's default, in requests per second and account.
	requestRate = 10
)

// burst is one scale-up from zero.
type burst struct {
	answer time.Duration // of IncreaseSize
	// first and last are when the first and the last create of a server reached
	// the cloud, and ready when the provider showed all machines running; since
	// the request.
	first, last, ready time.Duration
	boot               time.Duration // the slowest server, from created to running
	creates            int
	calls              map[string]int
	untilLast          int // API calls up to the last create
	spent              usage
}

// scaleUp measures scale-ups of one group, with and without spreading machines
// over hosts.
func scaleUp(ctx context.Context, s settings) (string, error) {
	host := watchHost()
	all := map[bool][]burst{}
	for _, spread := range spreads {
		for i := range s.runs {
			fmt.Fprintf(os.Stderr, "scale-up of %d, spread %t, run %d of %d\n", s.burst, spread, i+1, s.runs)
			one, err := s.grow(ctx, spread, i+1)
			if err != nil {
				return "", fmt.Errorf("run %d: %w", i+1, err)
			}
			fmt.Fprintf(os.Stderr, "  last create after %s, ready after %s, %d events, %d actions %v\n",
				ms(one.last), ms(one.ready), one.spent.events, one.spent.total(), one.spent.actions)
			for _, k := range slices.Sorted(maps.Keys(one.calls)) {
				fmt.Fprintf(os.Stderr, "    %4d %s\n", one.calls[k], k)
			}
			all[spread] = append(all[spread], one)
		}
	}
	return scaleUpText(s, host(), all), nil
}

// spreads are both variants, the default first.
var spreads = []bool{true, false}

func (s settings) grow(ctx context.Context, spread bool, run int) (out burst, err error) {
	ctx, cancel := context.WithTimeout(ctx, burstLimit)
	defer cancel()
	// In real time, with the defaults of everything.
	sys, err := s.begin(ctx, fmt.Sprintf("scale-up-%t-%d", spread, run), 1, nil)
	if err != nil {
		return out, err
	}
	defer func() { err = joinEnd(sys.explain(err), sys) }()
	file := filepath.Join(sys.dir, "groups.yaml")
	if err := os.WriteFile(file, []byte(groupFile(s.burst, spread)), 0o600); err != nil {
		return out, err
	}
	if err := sys.serve(ctx, "--config", file); err != nil {
		return out, err
	}
	p := sys.provider
	// The entity has begun when it knows what its nodes will look like.
	err = until(ctx, 200*time.Millisecond, "a template", func(ctx context.Context) (bool, error) {
		if _, err := p.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
			return false, err
		}
		_, err := p.NodeGroupTemplateNodeInfo(ctx, &pb.NodeGroupTemplateNodeInfoRequest{Id: burstGroup})
		return err == nil, err
	})
	if err != nil {
		return out, err
	}
	before, err := sys.account(ctx)
	if err != nil {
		return out, err
	}
	began := time.Now()
	if _, err = p.NodeGroupIncreaseSize(ctx, &pb.NodeGroupIncreaseSizeRequest{Id: burstGroup, Delta: int32(s.burst)}); err != nil {
		return out, err
	}
	out.answer = time.Since(began)
	if err := sys.complete(ctx, s.burst); err != nil {
		return out, err
	}
	out.ready = time.Since(began)
	return out, sys.tell(ctx, &out, began, before, s.burst)
}

const burstGroup = "burst/worker"

// groupFile is a stand-alone group whose nodes cannot be seen: a machine that
// runs is ready.
func groupFile(n int, spread bool) string {
	return fmt.Sprintf(`cluster: burst
credentials: env:CLOUDSCALE_API_TOKEN
kubeconfig: none
zone: rma1
nodeGroups:
  - {name: worker, flavor: flex-8-2, min: 0, max: %d, image: flatcar, userData: "some text", tag: role=worker, antiAffinity: %t}
`, n, spread)
}

// complete waits, as the autoscaler does, until all machines run.
func (s *system) complete(ctx context.Context, n int) error {
	return until(ctx, 250*time.Millisecond, fmt.Sprintf("%d running machines", n), func(ctx context.Context) (bool, error) {
		if _, err := s.provider.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
			return false, err
		}
		nodes, err := s.provider.NodeGroupNodes(ctx, &pb.NodeGroupNodesRequest{Id: burstGroup})
		running := 0
		for _, i := range nodes.GetInstances() {
			if i.GetStatus().GetInstanceState() == pb.InstanceStatus_instanceRunning && !strings.HasPrefix(i.GetId(), "ichor:") {
				running++
			}
		}
		return running == n, err
	})
}

// account is what the namespace has spent so far.
func (s *system) account(ctx context.Context) (usage, error) {
	u, err := account(ctx, s.temporal)
	if err != nil {
		return u, err
	}
	u.actions["heartbeats"], err = s.worker.heartbeats(ctx)
	return u, err
}

// tell reads what a scale-up took from the cloud's log and from Temporal.
func (s *system) tell(ctx context.Context, b *burst, began time.Time, before usage, n int) error {
	log, err := s.requests(ctx, began)
	if err != nil {
		return err
	}
	b.read(log, began)
	if b.creates != n {
		return fmt.Errorf("%d create requests for %d machines", b.creates, n)
	}
	o := observed{on: onCloudscale}
	if err := s.Cloud(ctx, http.MethodGet, "/_devcloud/timeline", nil, &o.timeline); err != nil {
		return err
	}
	b.boot = longest(o.servers(), func(s server) time.Duration { return s.running.Sub(s.created) })
	after, err := s.account(ctx)
	b.spent = after.minus(before)
	return err
}

// read finds the creates among the requests, which are in the order of their
// arrival.
func (b *burst) read(log []request, began time.Time) {
	b.calls = map[string]int{}
	for i, r := range log {
		b.calls[route(r)]++
		if r.Method != http.MethodPost || r.Path != "/v1/servers" {
			continue
		}
		if b.creates++; b.creates == 1 {
			b.first = r.Time.Sub(began)
		}
		b.last, b.untilLast = r.Time.Sub(began), i+1
	}
}

// least is the time in which the default request rate lets through the calls up
// to the last create.
func (b burst) least() time.Duration { return time.Duration(b.untilLast) * time.Second / requestRate }

func scaleUpText(s settings, host string, all map[bool][]burst) string {
	var b strings.Builder
	b.WriteString(fmt.Sprintf("## Scale-up of %d\n\nOne `IncreaseSize` for an empty group, until all machines run.\n\n", s.burst))
	b.WriteString(made(fmt.Sprintf("-only scale-up -burst %d -runs %d", s.burst, s.runs), host))
	b.WriteString(fmt.Sprintf(`- In real time (devcloud's servers take some 25 s, its API 0.15 s per call) and with the defaults of worker and provider:
  %d requests per second to the account, 20 creates of one group at once.
- A stand-alone group without a kubeconfig: a machine that runs is ready. With a kubeconfig the watch of the nodes adds
  one activity for all, not one per node.
- Spread over hosts (the default), four machines share a placement group and are created one after the other, since the
  cloud's placement races; each placement group is a call of its own.
- Figures are of the run whose last create was the median of %s. "At the rate's limit" is how long that number
  of calls takes at %d per second; since the limiter begins with some calls saved up, the ratio may be a little below 1.

| | Spread | Not spread |
|---|---|---|
`, requestRate, times(s.runs), requestRate))
	row := func(name string, f func(burst) string) {
		line := "| " + name + " |"
		for _, spread := range spreads {
			line += " " + f(middle(all[spread])) + " |"
		}
		b.WriteString(line + "\n")
	}
	perNode := func(n int) string { return fmt.Sprintf("%d (%.1f)", n, float64(n)/float64(s.burst)) }
	row("`IncreaseSize` answered after", func(x burst) string { return short(x.answer) })
	row("First create call sent after", func(x burst) string { return secs(x.first) })
	row("**Last create call sent after**", func(x burst) string { return secs(x.last) })
	row("API calls up to the last create", func(x burst) string { return fmt.Sprint(x.untilLast) })
	row("– at the rate's limit", func(x burst) string { return secs(x.least()) })
	row("– ratio", func(x burst) string { return fmt.Sprintf("%.2f", x.last.Seconds()/x.least().Seconds()) })
	row("All machines shown as running after", func(x burst) string { return secs(x.ready) })
	row("– last create and slowest server after it", func(x burst) string { return secs(x.last + x.boot) })
	row("API calls, per machine in parentheses", func(x burst) string { return perNode(sum(x.calls, "")) })
	row("History events", func(x burst) string { return perNode(x.spent.events) })
	row("History, KiB", func(x burst) string { return perNode(int(x.spent.bytes >> 10)) })
	row("Billable actions of Temporal Cloud, estimated", func(x burst) string { return perNode(x.spent.total()) })
	var spent []usage
	for _, runs := range all {
		for _, x := range runs {
			spent = append(spent, x.spent)
		}
	}
	for _, kind := range kinds(spent...) {
		row("– "+kind, func(x burst) string { return perNode(x.spent.actions[kind]) })
	}
	b.WriteString("\nQueries of the provider (one per group that changed and Refresh) are actions, too, and depend on the autoscaler's scan interval;\nthey are left out.\n\n")
	return b.String()
}

// middle is the run whose last create was the median.
func middle(runs []burst) burst {
	m := of(runs, func(b burst) time.Duration { return b.last })
	for _, b := range runs {
		if b.last == m {
			return b
		}
	}
	return burst{}
}

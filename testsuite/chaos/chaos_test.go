package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// defaultSeeds is how many seeds run when ICHOR_CHAOS_SEEDS does not say.
const defaultSeeds = 4

// Random faults of the cloud and random kills of the worker while a cluster comes
// and goes: in the end nothing is left and nothing was doubled. Decisions follow
// from the seed and from what they are about (the n-th request of a route, the
// n-th attempt of an activity), not from their order among others, so a failing
// seed can be run again by its number.
func TestChaos(t *testing.T) {
	t.Log("all control planes of a cluster share one kube-apiserver process here")
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("run this seed again with: make chaos SEED=%d", seed)
				}
			})
			storm(t, seed)
		})
	}
}

func seeds(t *testing.T) []uint64 {
	t.Helper()
	if some := os.Getenv("ICHOR_CHAOS_SEED"); some != "" {
		from, to, several := strings.Cut(some, "-")
		if !several {
			to = from
		}
		first, err := strconv.ParseUint(from, 10, 64)
		last, err2 := strconv.ParseUint(to, 10, 64)
		if err := errors.Join(err, err2); err != nil || last < first {
			t.Fatalf("ICHOR_CHAOS_SEED: want a number, or two as in 41-60, got %q", some)
		}
		var out []uint64
		for n := first; n <= last; n++ {
			out = append(out, n)
		}
		return out
	}
	count := uint64(defaultSeeds)
	if many := os.Getenv("ICHOR_CHAOS_SEEDS"); many != "" {
		var err error
		if count, err = strconv.ParseUint(many, 10, 64); err != nil || count == 0 {
			t.Fatalf("ICHOR_CHAOS_SEEDS: want a number of seeds, got %q", many)
		}
	}
	var out []uint64
	for i := range count {
		out = append(out, i+1)
	}
	return out
}

// profile is what the cloud does to a seed. One seed in four also meets quotas,
// which no patience overcomes: provisioning may fail then, and must leave
// nothing.
func profile(seed uint64) (c faults.Chaos, mayFail bool) {
	c = here.weather(seed)
	if seed%4 == 0 {
		c.Rates[faults.Quota] = 0.1
		mayFail = true
	}
	return c, mayFail
}

// The delay of the chaos profile, 90 s of the cloud's time, must lie between the
// end of a create call and the end of settling, as in reality.
var chaosSettings = map[string]string{
	"ICHOR_CREATE_TIMEOUT": "2s", "ICHOR_POST_WINDOW": "1s", "ICHOR_SETTLE": "2s", "ICHOR_ABSENCE_WINDOW": "1s",
}

func storm(t *testing.T, seed uint64) {
	t.Helper()
	k := &kills{seed: seed}
	settings := maps.Clone(chaosSettings)
	maps.Copy(settings, here.settings)
	r := rig.Start(t, rig.Options{Hook: k.hook, SharedAPIServers: true, Settings: settings})
	if err := here.climate(t.Context(), r, seed); err != nil {
		t.Fatal(err)
	}
	weather, mayFail := profile(seed)
	if err := r.Chaos(t.Context(), &weather); err != nil {
		t.Fatal(err)
	}
	k.begin()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	outcome, took := arrive(ctx, t, r, mayFail)
	if r.Kills() == 0 && mayFail {
		// Refused before anything could be killed: without the quota it goes on.
		delete(weather.Rates, faults.Quota)
		if err := r.Chaos(t.Context(), &weather); err != nil {
			t.Fatal(err)
		}
		r.Republish(t)
		k.begin()
		again, tookAgain := arrive(ctx, t, r, false)
		outcome, took = outcome+", then "+again, took+tookAgain
	}
	doubled, err := r.Doubled(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Chaos(t.Context(), &weather); err != nil {
		t.Fatal(err)
	}
	k.begin()
	if n := uint64(len(here.losses)); n > 0 && r.Complete(t.Context()) == nil {
		outcome += loseWorker(ctx, t, r, here.losses[seed%n])
	}
	started := time.Now()
	if _, err := r.Delete(ctx); err != nil {
		t.Fatalf("delete: %v\n%s", err, r.Explain(t.Context()))
	}
	tookDelete := time.Since(started).Round(100 * time.Millisecond)
	calm(t, r)
	if err := errors.Join(r.Empty(t.Context()), r.Quiet(t.Context()), r.Twice(t.Context())); err != nil {
		t.Fatalf("after deletion: %v\n%s", err, r.Explain(t.Context()))
	}
	bent, total := bentRequests(t, r)
	t.Logf("seed %d: %s in %s, deleted in %s; %d of %d requests bent (%s), %d workers killed; created twice for a moment: %s",
		seed, outcome, took, tookDelete, sum(bent), total, counts(bent), r.Kills(), doubled)
	if sum(bent) == 0 || r.Kills() == 0 {
		t.Errorf("seed %d proves nothing: no request was bent or no worker was killed", seed)
	}
}

// arrive provisions and judges what there is then. The faults are over when it
// returns.
func arrive(ctx context.Context, t *testing.T, r *rig.Rig, mayFail bool) (outcome string, took time.Duration) {
	t.Helper()
	started := time.Now()
	_, failure := r.Provision(ctx)
	took = time.Since(started).Round(100 * time.Millisecond)
	calm(t, r)
	if failure == nil {
		if err := r.Complete(t.Context()); err != nil {
			t.Fatalf("after provisioning: %v\n%s", err, r.Explain(t.Context()))
		}
		return "provisioned", took
	}
	if !mayFail {
		t.Fatalf("provision: %v\n%s", failure, r.Explain(t.Context()))
	}
	if err := r.Empty(t.Context()); err != nil {
		t.Fatalf("after a failure (%v) that should have been undone: %v\n%s", failure, err, r.Explain(t.Context()))
	}
	return "refused and undone", took
}

// loseWorker takes a worker away in bad weather and waits until another one has its
// place and nothing of it is left.
func loseWorker(ctx context.Context, t *testing.T, r *rig.Rig, how string) string {
	t.Helper()
	s, err := r.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	workers := slices.DeleteFunc(s.Machines(), func(m stack.Resource) bool { return m.Tags[cluster.TagGroup] == cluster.ControlPlaneGroup })
	if err := r.Cloud(ctx, http.MethodPost, "_devcloud/aws/instances/"+workers[0].ID+"/"+how, nil, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually(ctx, t, r, "after the "+how+" of "+workers[0].Name, func() error {
		if s, err = r.State(ctx); err != nil {
			return err
		}
		if slices.ContainsFunc(s.Machines(), func(m stack.Resource) bool { return m.ID == workers[0].ID }) {
			return errors.New("it is still there")
		}
		return r.Complete(ctx)
	})
	return fmt.Sprintf(", lost a worker (%s) and replaced it in %s", how, time.Since(began).Round(100*time.Millisecond))
}

// calm ends the faults, so that the judge sees the account as it is.
func calm(t *testing.T, r *rig.Rig) {
	t.Helper()
	if err := r.Chaos(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

// kills decides which attempts lose their worker, at which moment.
type kills struct {
	seed uint64

	mu     sync.Mutex
	phase  int
	passed map[string]int
	left   int
}

// killsAtMost bounds the kills of one workflow and with them its time; killRate is
// how likely each moment of each attempt is one, until then.
const (
	killsAtMost = 8
	killRate    = 0.04
)

func (k *kills) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.phase++
	k.passed, k.left = map[string]int{}, killsAtMost
}

func (k *kills) hook(r *rig.Rig, task killer.Task, m killer.Moment) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left == 0 {
		return false
	}
	what := fmt.Sprintf("%d/%s/%s", k.phase, row(task), m)
	k.passed[what]++
	h := fnv.New64a()
	if _, err := fmt.Fprintf(h, "%s/%d", what, k.passed[what]); err != nil {
		return false
	}
	if rand.New(rand.NewPCG(k.seed, h.Sum64())).Float64() >= killRate { // reproducible by seed, not secret
		return false
	}
	k.left--
	r.Kill(task)
	return true
}

func bentRequests(t *testing.T, r *rig.Rig) (bent map[string]int, total int) {
	t.Helper()
	requests, err := r.Requests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bent = map[string]int{}
	for _, q := range requests {
		if q.Fault != "" {
			bent[q.Fault]++
		}
	}
	return bent, len(requests)
}

func sum(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}

func counts(m map[string]int) string {
	out := ""
	for i, k := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%d %s", m[k], k)
	}
	return out
}

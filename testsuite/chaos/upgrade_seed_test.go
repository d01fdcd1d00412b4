package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	rolls "github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/testsuite/chaos/rig"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/workflows"
)

const (
	// seedPatience bounds one seed, with all it waits for.
	seedPatience = 6 * time.Minute
	// mostParks and mostStarts bound how often a roll may ask for help. Each
	// trouble may park it once, some twice: for what they did and for what that
	// left.
	mostParks  = 10
	mostStarts = 5
)

// upgradeStorm is what happens to one upgrade.
type upgradeStorm struct {
	ctx      context.Context
	seed     uint64
	troubles []*trouble
	// want is what the upgrade is for.
	want upgradeWant

	mu     sync.Mutex
	left   int // kills
	passed map[string]int
	errs   []error
}

// upgradeWant is where an upgrade leads.
type upgradeWant struct {
	input      workflows.UpgradeInput
	schematic  string // empty if Talos stays
	kubernetes string
}

// upgradeKillRate is how likely each moment of each attempt is a kill, as long as
// there are kills left: an upgrade has some three hundred.
const upgradeKillRate = 0.012

// kill decides by what a moment is about, not by when it comes.
func (st *upgradeStorm) kill(r *rig.Rig, task killer.Task, m killer.Moment) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.left == 0 {
		return false
	}
	// Names of nodes differ from system to system.
	what := fmt.Sprintf("%s/%t/%s", task.Activity, nodeOf(task.Workflow) == "", m)
	st.passed[what]++
	h := fnv.New64a()
	if _, err := fmt.Fprintf(h, "%s/%d", what, st.passed[what]); err != nil {
		return false
	}
	if rand.New(rand.NewPCG(st.seed, h.Sum64())).Float64() >= upgradeKillRate { // reproducible by seed, not secret
		return false
	}
	st.left--
	r.Kill(task)
	return true
}

// strike lets the troubles happen whose moment has come.
func (st *upgradeStorm) strike(task killer.Task) {
	for _, x := range st.troubles {
		if !x.due(task) {
			continue
		}
		happened := true
		if x.strike != nil {
			var err error
			happened, err = x.strike(st.ctx)
			st.failed(err)
		}
		if happened {
			x.began()
		}
	}
}

func (st *upgradeStorm) failed(err error) {
	if err == nil || st.ctx.Err() != nil {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.errs = append(st.errs, err)
}

func (st *upgradeStorm) problem() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return errors.Join(st.errs...)
}

// String lists the troubles and how far each went.
func (st *upgradeStorm) String() string {
	var out []string
	for _, x := range st.troubles {
		out = append(out, x.String())
	}
	if len(out) == 0 {
		return "no trouble"
	}
	return strings.Join(out, "; ")
}

// tale is how a seed went.
type tale struct {
	parks, starts int
	middle        int // runs that ended when something had been changed
}

// survive upgrades the cluster once as the seed says.
func (s *upgrading) survive(t *testing.T, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), seedPatience)
	defer cancel()
	began, killedBefore := time.Now(), s.Kills()
	dice := rand.New(rand.NewPCG(seed, 0)) // reproducible by seed, not secret
	st := &upgradeStorm{ctx: ctx, seed: seed, passed: map[string]int{}, left: dice.IntN(4)}
	s.aim(ctx, t, st, dice)
	s.brew(ctx, t, st, dice)
	if err := quorum.Reset(ctx, s.CloudURL); err != nil {
		t.Fatal(err)
	}
	for _, x := range st.troubles {
		if x.arm != nil {
			if err := x.arm(ctx); err != nil {
				t.Fatalf("%s: %v", x, err)
			}
		}
		if x.at.activity == "" {
			x.began()
		}
	}
	s.mu.Lock()
	s.storm = st
	s.mu.Unlock()
	var tl tale
	err := s.upgrade(ctx, t, st, &tl)
	s.mu.Lock()
	s.storm = nil
	s.mu.Unlock()
	err = errors.Join(err, st.problem(), s.mend(ctx, st))
	if err == nil {
		err = s.judge(ctx, st)
	}
	kills := s.Kills() - killedBefore
	t.Logf("seed %d: %s in %s: %d starts, %d parks, %d workers killed; %s", seed, describe(st.want), time.Since(began).Round(100*time.Millisecond),
		tl.starts, tl.parks, kills, st)
	if tl.middle > 0 {
		t.Errorf("seed %d: %d runs ended in the middle instead of parking", seed, tl.middle)
	}
	if err != nil {
		t.Fatalf("seed %d: %v\n%s", seed, err, s.Explain(t.Context()))
	}
}

func describe(w upgradeWant) string {
	if w.schematic == "" {
		return "Kubernetes " + w.kubernetes
	}
	return fmt.Sprintf("%d extensions", len(w.input.Extensions))
}

// aim chooses what is upgraded.
func (s *upgrading) aim(ctx context.Context, t *testing.T, st *upgradeStorm, dice *rand.Rand) {
	t.Helper()
	in := workflows.UpgradeInput{
		Cluster:  rig.Cluster,
		Strategy: rolls.UpgradeStrategy{Stable: cluster.Duration(time.Millisecond), MaxUnavailable: fmt.Sprint(1 + dice.IntN(2))},
	}
	if st.seed%kubernetesEvery == 0 && s.kubernetes+1 < len(kubernetesSteps) {
		s.kubernetes++
		in.UpgradeChange = activities.UpgradeChange{KubernetesVersion: kubernetesSteps[s.kubernetes]}
	} else {
		in.Extensions = extensions(st.seed)
		var err error
		if st.want.schematic, err = s.schematic(ctx, in.Extensions); err != nil {
			t.Fatal(err)
		}
	}
	st.want.input, st.want.kubernetes = in, kubernetesSteps[s.kubernetes]
}

// upgrade runs RollingUpgrade to its end, and again if it was refused or gave up,
// mending what is broken whenever it asks for that.
func (s *upgrading) upgrade(ctx context.Context, t *testing.T, st *upgradeStorm, tl *tale) error {
	for {
		tl.starts++
		run, err := s.Temporal.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: cluster.LifecycleID(rig.Cluster), TaskQueue: workflows.TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		}, workflows.TypeRollingUpgrade, st.want.input)
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		if err := s.follow(ctx, t, st, tl, run.GetRunID()); err != nil {
			return err
		}
		var out workflows.UpgradeResult
		err = run.Get(ctx, &out)
		var app *temporal.ApplicationError
		switch {
		case err == nil:
			return s.truth(ctx, st, out)
		case !errors.As(err, &app):
			return fmt.Errorf("the upgrade ended: %w", err)
		}
		t.Logf("ended: %s", app.Message())
		if err := st.explains(app.Message()); err != nil {
			return fmt.Errorf("the upgrade ended: %w", err)
		}
		if strings.Contains(app.Message(), "start it again") {
			tl.middle++
		}
		if tl.starts == mostStarts {
			return fmt.Errorf("started %d times: %s", tl.starts, app.Message())
		}
		if err := s.mend(ctx, st); err != nil {
			return err
		}
	}
}

// follow watches a run until it ends. It mends in time, or when the run parks.
func (s *upgrading) follow(ctx context.Context, t *testing.T, st *upgradeStorm, tl *tale, run string) error {
	id := cluster.LifecycleID(rig.Cluster)
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; %s", rig.ErrStuck, st)
		case <-time.After(250 * time.Millisecond):
		}
		for _, x := range st.troubles {
			if x.ripe() {
				if err := x.mend(ctx); err != nil {
					return err
				}
			}
		}
		d, err := s.Temporal.DescribeWorkflowExecution(ctx, id, run)
		if err == nil && d.GetWorkflowExecutionInfo().GetCloseTime() != nil {
			return nil
		}
		status, err := s.status(ctx, run)
		if err != nil || status.Parked == "" {
			continue
		}
		tl.parks++
		t.Logf("parked: %s", status.Parked)
		if err := errors.Join(st.explains(status.Parked), s.done(ctx, st, status)); err != nil {
			return fmt.Errorf("parked: %w", err)
		}
		if tl.parks == mostParks {
			return fmt.Errorf("parked %d times: %s; %s", tl.parks, status.Parked, st)
		}
		if err := s.mend(ctx, st); err != nil {
			return err
		}
		if err := s.Temporal.SignalWorkflow(ctx, id, run, workflows.SignalResume, nil); err != nil {
			return fmt.Errorf("resume: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second): // until the resumed node has told the roll
		}
	}
}

// status asks the roll; it cannot answer while there is no worker.
func (s *upgrading) status(ctx context.Context, run string) (out workflows.UpgradeStatus, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	v, err := s.Temporal.QueryWorkflow(ctx, cluster.LifecycleID(rig.Cluster), run, workflows.QueryUpgrade)
	if err == nil {
		err = v.Get(&out)
	}
	return out, err
}

// mend ends all troubles that have begun.
func (s *upgrading) mend(ctx context.Context, st *upgradeStorm) error {
	var errs []error
	for _, x := range st.troubles {
		if x.started() {
			errs = append(errs, x.mend(ctx))
		}
	}
	return errors.Join(errs...)
}

// explains says that a report is true: it names what is broken, and how.
func (st *upgradeStorm) explains(text string) error {
	for _, x := range st.troubles {
		if x.started() && x.told(text) {
			return nil
		}
	}
	return fmt.Errorf("%q is explained by nothing that happened: %s", text, st)
}

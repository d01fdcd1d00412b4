package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// lifecycle is what ProvisionCluster and DeleteCluster share: the desk, the
// progress that people see, and what the groups report.
type lifecycle struct {
	desk
	progress Progress
	groups   map[string]*groupView
	spec     cluster.Spec
	// unknown says that a create may be under way that nobody answers for.
	unknown bool
}

// groupView is a group as its reports tell.
type groupView struct {
	target  int
	members []MemberStatus // sorted by name
	failure *Failure
	ended   bool
	removed int
	parked  string
	paused  string // why, empty while it is not
	// full says that the group has told all there is since it was asked to.
	full bool
	// foreign is the uid of another cluster that the running group belongs to.
	foreign string
}

func (l *lifecycle) begin(ctx workflow.Context, kind string, ref cluster.Ref, phase cluster.Phase, steps []string) error {
	l.groups = map[string]*groupView{}
	l.progress = Progress{Cluster: ref, Kind: kind, Phase: phase}
	for _, s := range steps {
		l.progress.Steps = append(l.progress.Steps, StepStatus{Name: s, State: StepPending})
	}
	l.show = l.details
	l.handleResume(ctx)
	l.handleReports(ctx)
	l.details(ctx)
	return workflow.SetQueryHandler(ctx, QueryProgress, func() (Progress, error) { return l.snapshot(), nil })
}

// handleReports merges what groups tell. Losing a late report at the end of the
// workflow is harmless: groups answer the next attach in full.
func (l *lifecycle) handleReports(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, SignalReport)
	workflow.GoNamed(ctx, "reports", func(ctx workflow.Context) {
		var r GroupReport
		for ch.Receive(ctx, &r) {
			l.merge(r)
			l.details(ctx)
			r = GroupReport{}
		}
	})
}

func (l *lifecycle) merge(r GroupReport) {
	v := l.group(r.Group)
	if r.Cluster.UID != "" && r.Cluster.UID != l.ref().UID {
		v.foreign = r.Cluster.UID
		v.failure = &Failure{Kind: fault.Conflict, Message: "the running " + cluster.GroupID(r.Cluster.Name, r.Group) +
			" belongs to an earlier cluster of this name, uid " + r.Cluster.UID + "; delete that one first"}
		return
	}
	v.parked, v.paused, v.foreign = r.Parked, r.Paused, ""
	v.target, v.failure, v.ended, v.removed = r.Target, r.Failure, r.Ended, r.Removed
	if r.Full {
		v.full, v.members = true, nil
	}
	for _, m := range r.Members {
		i := slices.IndexFunc(v.members, func(o MemberStatus) bool { return o.ID == m.ID })
		if i < 0 {
			v.members = append(v.members, m)
		} else {
			v.members[i] = m
		}
	}
	slices.SortFunc(v.members, func(a, b MemberStatus) int { return strings.Compare(a.Name, b.Name) })
}

func (l *lifecycle) group(name string) *groupView {
	if l.groups[name] == nil {
		l.groups[name] = &groupView{}
	}
	return l.groups[name]
}

// askGroups waits until the groups of these ids have told all their members.
// Nothing is tried again by the groups because of it.
func (l *lifecycle) askGroups(ctx workflow.Context, entities []string) error {
	var names []string
	for _, id := range entities {
		names = append(names, groupOf(id))
		*l.group(groupOf(id)) = groupView{}
	}
	for {
		for _, name := range names {
			if l.group(name).full {
				continue
			}
			if err := l.askGroup(ctx, name); err != nil {
				return err
			}
		}
		ok, err := workflow.AwaitWithTimeout(ctx, askAgain, func() bool {
			return !slices.ContainsFunc(names, func(n string) bool { return !l.group(n).full })
		})
		if ok || err != nil {
			return err
		}
	}
}

func (l *lifecycle) askGroup(ctx workflow.Context, name string) error {
	err := workflow.SignalExternalWorkflow(ctx, cluster.GroupID(l.ref().Name, name), "", SignalAsk, GroupMessage{Cluster: l.ref()}).Get(ctx, nil)
	if isNotRunning(err) {
		return fail(fault.NotFound, "group %s does not run; start it again with: ichor provision", name)
	}
	return err
}

// groupNames are all groups that reported, sorted.
func (l *lifecycle) groupNames() []string { return workflow.DeterministicKeys(l.groups) }

func (l *lifecycle) snapshot() Progress {
	p := l.progress
	p.Parked = l.parked
	for _, name := range l.groupNames() {
		if v := l.groups[name]; p.Parked == "" && v.parked != "" {
			p.Parked = "group " + name + ": " + v.parked
		}
	}
	p.Nodes = nil
	for _, name := range l.groupNames() {
		p.Nodes = append(p.Nodes, l.groups[name].members...)
	}
	return p
}

func (l *lifecycle) details(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, progressMarkdown(l.snapshot()))
}

// step runs one line of the runbook and keeps its state for people.
func (l *lifecycle) step(ctx workflow.Context, name string, f func(workflow.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := l.stepStatus(name)
	s.State, s.Started, s.Detail = StepDoing, workflow.Now(ctx), ""
	l.details(ctx)
	err := f(ctx)
	s.Ended = workflow.Now(ctx)
	switch {
	case err == nil:
		s.State = StepDone
	case temporal.IsCanceledError(err):
		s.State, s.Detail = StepFailed, "canceled"
	default:
		s.State, s.Detail = StepFailed, messageOf(err)
	}
	l.details(ctx)
	return failed(name, err)
}

// phase is one named part of a runbook.
type phase struct {
	name string
	do   func(workflow.Context) error
}

// together runs phases at the same time. The first failure cancels the others;
// all of them have ended when it returns, so that nothing is begun afterwards.
func (l *lifecycle) together(ctx workflow.Context, phases []phase) error {
	if len(phases) == 1 {
		return l.step(ctx, phases[0].name, phases[0].do)
	}
	ctx, stop := workflow.WithCancel(ctx)
	defer stop()
	var first error
	wg := workflow.NewWaitGroup(ctx)
	for _, ph := range phases {
		wg.Add(1)
		workflow.GoNamed(ctx, ph.name, func(ctx workflow.Context) {
			defer wg.Done()
			if err := l.step(ctx, ph.name, ph.do); err != nil && first == nil {
				first = err
				stop()
			}
		})
	}
	calm, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	wg.Wait(calm)
	return first
}

func (l *lifecycle) stepStatus(name string) *StepStatus {
	i := slices.IndexFunc(l.progress.Steps, func(s StepStatus) bool { return s.Name == name })
	if i < 0 {
		l.progress.Steps = append(l.progress.Steps, StepStatus{Name: name})
		i = len(l.progress.Steps) - 1
	}
	return &l.progress.Steps[i]
}

// at says what the step under way is doing.
func (l *lifecycle) at(ctx workflow.Context, step, format string, args ...any) {
	l.stepStatus(step).Detail = fmt.Sprintf(format, args...)
	l.details(ctx)
}

// phase makes the cluster's phase visible in lists of workflows.
func (l *lifecycle) phase(ctx workflow.Context, p cluster.Phase) {
	l.progress.Phase = p
	_ = workflow.UpsertTypedSearchAttributes(ctx,
		AttrCluster.ValueSet(l.progress.Cluster.Name), AttrPhase.ValueSet(string(p)),
		AttrCloud.ValueSet(l.spec.Cloud.Provider), AttrKind.ValueSet("lifecycle"))
	l.details(ctx)
}

func (l *lifecycle) note(ctx workflow.Context, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.progress.Notes = append(l.progress.Notes, text)
	workflow.GetLogger(ctx).Warn(text, "cluster", l.progress.Cluster.Name)
	l.details(ctx)
}

func (l *lifecycle) ref() cluster.Ref { return l.progress.Cluster }

func (l *lifecycle) owner() cloud.Owner { return cloud.Owner{Cluster: l.ref()} }

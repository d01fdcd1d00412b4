package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	rolls "github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/workflows"
)

// judge says what is wrong after an upgrade that has ended: with what happened to
// etcd, at once; with the nodes and the account, when they have not come to rest
// within a while.
func (s *upgrading) judge(ctx context.Context, st *upgradeStorm) error {
	r, err := quorum.Fetch(ctx, s.CloudURL)
	if err != nil {
		return err
	}
	if err := judgeQuorum(r, st.want.schematic != ""); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, restLimit)
	defer cancel()
	var last error
	for {
		err := errors.Join(s.nodesRun(ctx, st), s.groupsRest(ctx), s.nobodyWorks(ctx), s.Complete(ctx))
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("at the end: %w", last)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// restLimit is how long a machine that was deleted by hand may take to be replaced.
const restLimit = 100 * time.Second

// judgeQuorum says what an upgrade did to etcd that it must not do.
//
// A control plane is out from the moment that the machine API is told to reboot
// it, or that its power goes, until it is ready again. Never may the quorum be
// lost. The product may take one out only when no other one is out that it took
// out itself, and, if a trouble took one out, only when all voters are healthy.
//
// A new leader is forced when a trouble took the old one out. A roll over all
// control planes needs one more, that of the last node; each forced one may cost
// one more, because it can make a node lead whose turn is still to come. One more
// than that is allowed.
func judgeQuorum(r quorum.Report, reboots bool) error {
	var wrong []error
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	alive := 0
	for _, c := range r.Clusters {
		if c.Now.Members > 0 {
			alive++
		}
		for _, l := range c.Losses {
			say("the quorum was lost at %s: %s", l.Since.Format(time.StampMilli), l.Cause)
		}
		if c.LeastMargin < 0 && len(c.Losses) == 0 {
			say("the quorum was lost by %d", -c.LeastMargin)
		}
		for i, a := range c.Absences {
			for j, b := range c.Absences {
				if i == j || !a.Sent || b.Since.After(a.Since) || b.Since.Equal(a.Since) && j > i || !b.Until.IsZero() && !b.Until.After(a.Since) {
					continue
				}
				if b.Sent {
					say("%s was taken out while %s was out", a.Member, b.Member)
				} else if e := eventAt(c, a.Since); e.Healthy < e.Voters {
					say("%s was taken out while %s was out (%s) and %d of %d voters were healthy", a.Member, b.Member, b.Cause, e.Healthy, e.Voters)
				}
			}
		}
		forced, needed := forcedLeaders(c), 0
		if reboots {
			needed = 1
		}
		if most := needed + 2*forced + 1; c.LeaderChanges > most {
			say("%d leaders followed each other, %d of them forced: at most %d were expected", c.LeaderChanges, forced, most)
		}
	}
	if alive != 1 {
		say("there are %d etcd clusters", alive)
	}
	if len(wrong) > 0 {
		wrong = append(wrong, fmt.Errorf("what happened to etcd:%s", eventText(r)))
	}
	return errors.Join(wrong...)
}

// forcedLeaders counts the leaders that a trouble made: the one before was out
// without anybody having asked for it, or no member any more.
func forcedLeaders(c quorum.Cluster) int {
	forced, leader := 0, ""
	for _, e := range c.Events {
		if e.Leader == "" {
			continue
		}
		if leader != "" && leader != e.Leader {
			removed := strings.HasPrefix(e.What, leader+" removed")
			if removed || slices.ContainsFunc(c.Absences, func(a quorum.Absence) bool {
				return a.Member == leader && !a.Sent && !a.Since.After(e.At) && (a.Until.IsZero() || a.Until.After(e.At))
			}) {
				forced++
			}
		}
		leader = e.Leader
	}
	return forced
}

func eventAt(c quorum.Cluster, at time.Time) quorum.Event {
	i := slices.IndexFunc(c.Events, func(e quorum.Event) bool { return !e.At.Before(at) })
	if i < 0 {
		return quorum.Event{}
	}
	return c.Events[i]
}

func eventText(r quorum.Report) string {
	var b strings.Builder
	for _, c := range r.Clusters {
		for _, e := range c.Events {
			b.WriteString(fmt.Sprintf("\n  %s %s: %d of %d voters healthy, led by %q, out: %v", e.At.Format(time.StampMilli), e.What, e.Healthy, e.Voters, e.Leader, e.Away))
		}
	}
	return b.String()
}

// present is the etcd cluster that has members.
func present(r quorum.Report) quorum.Cluster {
	for _, c := range r.Clusters {
		if c.Now.Members > 0 {
			return c
		}
	}
	return quorum.Cluster{}
}

// truth compares the result of a roll that says it has done everything.
func (s *upgrading) truth(ctx context.Context, st *upgradeStorm, out workflows.UpgradeResult) error {
	if len(out.Skipped) > 0 {
		return fmt.Errorf("nodes were left out and nobody asked for it: %v", out.Skipped)
	}
	if out.To.Kubernetes != st.want.kubernetes || st.want.schematic != "" && out.To.Schematic != st.want.schematic {
		return fmt.Errorf("the result says %+v, want %s and schematic %s", out.To, st.want.kubernetes, st.want.schematic)
	}
	for _, n := range out.Nodes {
		_, there, err := s.server(ctx, n.Name)
		if err != nil {
			return err
		}
		if got, err := s.booted(ctx, n.Name); err != nil || there && n.Problem == "" && n.Schematic != "" && got != n.Schematic {
			return fmt.Errorf("the result says that %s runs schematic %s, it runs %s (%w)", n.Name, n.Schematic, got, err)
		}
	}
	return nil
}

// done proves of the nodes that a parked roll calls done that they are.
func (s *upgrading) done(ctx context.Context, st *upgradeStorm, status workflows.UpgradeStatus) error {
	if st.want.schematic == "" {
		return nil
	}
	for _, n := range status.Nodes {
		if n.State != rolls.RollDone {
			continue
		}
		_, there, err := s.server(ctx, n.Name)
		if err != nil {
			return err
		}
		if got, err := s.booted(ctx, n.Name); there && (err != nil || got != st.want.schematic) {
			return fmt.Errorf("%s is called done, and runs schematic %s instead of %s (%w)", n.Name, got, st.want.schematic, err)
		}
	}
	return nil
}

// booted is the schematic that a machine has booted last, by its console.
func (s *upgrading) booted(ctx context.Context, node string) (string, error) {
	lines, err := s.console(ctx, node)
	for _, line := range slices.Backward(lines) {
		if _, after, ok := strings.Cut(line, "booting Talos "); ok {
			_, after, _ = strings.Cut(after, "(schematic ")
			id, _, _ := strings.Cut(after, ")")
			return id, err
		}
	}
	return "", err
}

// nodesRun proves that every machine runs what it should and is in service.
func (s *upgrading) nodesRun(ctx context.Context, st *upgradeStorm) error {
	list, err := s.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var wrong []error
	for _, n := range list.Items {
		if st.want.schematic != "" {
			if got, err := s.booted(ctx, n.Name); err != nil || got != st.want.schematic {
				wrong = append(wrong, fmt.Errorf("%s runs schematic %s, want %s (%w)", n.Name, got, st.want.schematic, err))
			}
		}
		if got := n.Status.NodeInfo.KubeletVersion; got != st.want.kubernetes {
			wrong = append(wrong, fmt.Errorf("%s runs kubelet %s, want %s", n.Name, got, st.want.kubernetes))
		}
		if n.Spec.Unschedulable {
			wrong = append(wrong, fmt.Errorf("%s is cordoned", n.Name))
		}
		for key := range n.Annotations {
			if strings.Contains(key, "scale-down-disabled") || strings.Contains(key, "ichor.dev/held") {
				wrong = append(wrong, fmt.Errorf("%s still has %s", n.Name, key))
			}
		}
	}
	return errors.Join(wrong...)
}

// groupsRest proves that the groups have what they want, and that nobody holds
// any of it.
func (s *upgrading) groupsRest(ctx context.Context) error {
	var wrong []error
	names := []string{cluster.ControlPlaneGroup}
	for _, g := range s.Spec.Spec.NodeGroups {
		names = append(names, g.Name)
	}
	for _, name := range names {
		g, err := statusOf(ctx, s.Rig, name)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if len(g.Members) != g.Target {
			wrong = append(wrong, fmt.Errorf("group %s has %d members, target %d", name, len(g.Members), g.Target))
		}
		for _, m := range g.Members {
			if m.Phase != workflows.MemberReady {
				wrong = append(wrong, fmt.Errorf("%s is %s: %s", m.Name, m.Phase, m.Note))
			}
			if m.Lease != nil {
				wrong = append(wrong, fmt.Errorf("%s is still leased to %s (%s)", m.Name, m.Lease.Holder, m.Lease.Reason))
			}
		}
	}
	return errors.Join(wrong...)
}

// nobodyWorks proves that no workflow works on nodes any more.
func (s *upgrading) nobodyWorks(ctx context.Context) error {
	open, err := s.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: "default",
		Query:     fmt.Sprintf("ExecutionStatus = 'Running' AND WorkflowType IN ('%s', '%s')", workflows.TypeRollingUpgrade, workflows.TypeUpgradeNode),
	})
	if err != nil {
		return err
	}
	for _, e := range open.GetExecutions() {
		return fmt.Errorf("%s still runs", e.GetExecution().GetWorkflowId())
	}
	return nil
}

// schematic asks the Image Factory itself for the id of a list of extensions.
func (s *upgrading) schematic(ctx context.Context, names []string) (string, error) {
	body := "customization:\n    systemExtensions:\n        officialExtensions:\n"
	for _, n := range names {
		body += "            - " + n + "\n"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.FactoryURL+"/schematics", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	var out struct{ ID string }
	err = errors.Join(json.NewDecoder(res.Body).Decode(&out), res.Body.Close())
	if err == nil && out.ID == "" {
		err = fmt.Errorf("the factory answered %s", res.Status)
	}
	return out.ID, err
}

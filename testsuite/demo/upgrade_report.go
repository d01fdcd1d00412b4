package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/workflows"
)

// judge prints what was measured and returns everything that was not as it had to
// be.
func (d demo) judge(ctx context.Context, sys *system, w *watch, grew time.Time, took time.Duration, pair []*proc.Process) error {
	var st workflows.GroupStatus
	if err := d.status(ctx, sys, &st); err != nil {
		return err
	}
	etcd, err := quorum.Fetch(ctx, sys.value("CLOUDSCALE_API_URL"))
	if err != nil {
		return err
	}
	if err := errors.Join(w.printNodes(), ctx.Err()); err != nil {
		return err
	}
	fmt.Printf("\nWhat the autoscaler asked for while the cluster was upgraded:\n\n")
	asked := 0
	for _, r := range st.Requests {
		if r.At.Before(grew) || r.Op != workflows.SignalIncreaseSize {
			continue
		}
		asked++
		fmt.Printf("  %s  %-22s %s\n", r.At.UTC().Format(time.TimeOnly), r.Op, r.Message)
	}
	fmt.Println()
	problems := w.verdict()
	if asked == 0 {
		problems = append(problems, "the autoscaler asked for nothing")
	}
	for _, p := range pair {
		if !p.Running() {
			problems = append(problems, fmt.Sprintf("%s has ended: %v", p.Name(), p.Err()))
		}
	}
	problems = append(problems, heldMembers(st)...)
	w.print(took)
	problems = append(problems, printEtcd(etcd)...)
	fmt.Printf("\nEvery node against the cluster's record:\n\n")
	if err := d.ichor(ctx, sys, "status", "demo", "--drift"); err != nil {
		problems = append(problems, "nodes differ from the record")
	}
	if len(problems) > 0 {
		return fmt.Errorf("the upgrade was not as it has to be:\n  %s", strings.Join(problems, "\n  "))
	}
	fmt.Printf("\nTalos %s and Kubernetes %s on %d nodes in %s, the budget kept throughout (cloud speed factor %g).\n",
		toTalos, toKubernetes, len(w.after), took.Round(time.Second), d.speed)
	return nil
}

// value is a variable of the system's environment.
func (s *system) value(name string) string {
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// printNodes prints every node, before and after.
func (w *watch) printNodes() error {
	names := slices.Collect(maps.Keys(w.before))
	for name := range w.after {
		if _, old := w.before[name]; !old {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fmt.Printf("\nNodes before and after, as the cluster's API says:\n\n")
	out := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "NAME\tOS\t\tKUBELET\t\tREADY\tCORDONED") // to a buffer
	for _, name := range names {
		before, old := w.before[name]
		if !old {
			before = w.first[name]
		}
		after, stays := w.after[name]
		note := ""
		switch {
		case !old:
			note = " (born)"
		case !stays:
			note = " (gone)"
		}
		_, _ = fmt.Fprintf(out, "%s\t%s%s\t%s\t%s\t%s\t%v\t%v\n", name, before.Status.NodeInfo.OSImage, note, after.Status.NodeInfo.OSImage,
			before.Status.NodeInfo.KubeletVersion, after.Status.NodeInfo.KubeletVersion, stays && ready(after), after.Spec.Unschedulable)
	}
	return out.Flush()
}

// print prints what was measured.
func (w *watch) print(took time.Duration) {
	for _, born := range w.newcomers() {
		was, is := born.Status.NodeInfo, w.after[born.Name].Status.NodeInfo
		fmt.Printf("  new node       %s, born with %s, %s; kubelet %s, now %s\n",
			born.Name, was.OSImage, since(was, is), was.KubeletVersion, is.KubeletVersion)
	}
	fmt.Printf("  availability   %d pods at least, budget %d, by %d looks and %d changes of pods in %s; at most %d of %d workers away at once\n",
		w.lowest.ready, podsAtLeast, w.samples, w.changes, took.Round(time.Second), w.workersAway, w.workers())
	fmt.Printf("  API            %d of %d requests failed, the longest time without an answer was %s\n",
		w.failed, w.requests, w.silence.Round(10*time.Millisecond))
	for _, text := range slices.Sorted(maps.Keys(w.failures)) {
		fmt.Printf("                 %d: %s\n", w.failures[text], text)
	}
}

func since(was, is corev1.NodeSystemInfo) string {
	if was.BootID == is.BootID {
		return "not rebooted since"
	}
	return "rebooted since"
}

func (w *watch) workers() (n int) {
	for _, node := range w.before {
		if isWorker(node) {
			n++
		}
	}
	return n
}

// verdict is everything that is wrong with the workload and the nodes.
func (w *watch) verdict() []string {
	added := w.newcomers()
	problems := slices.Clone(w.broken)
	if w.lowest.ready < podsAtLeast {
		problems = append(problems, fmt.Sprintf("the budget was broken: %d pods were available at %s", w.lowest.ready, w.lowest.at.UTC().Format(time.TimeOnly)))
	}
	if w.workersAway > 1 {
		problems = append(problems, fmt.Sprintf("%d workers were away at once", w.workersAway))
	}
	for name := range w.before {
		if _, stays := w.after[name]; !stays {
			problems = append(problems, name+" is gone")
		}
	}
	for name, n := range w.after {
		problems = append(problems, wrong(name, n)...)
	}
	if len(added) == 0 {
		problems = append(problems, "no node was added")
	}
	for _, born := range added {
		now, stays := w.after[born.Name]
		switch {
		case !stays:
			problems = append(problems, born.Name+" was added and is gone")
		case !strings.Contains(born.Status.NodeInfo.OSImage, toTalos) || now.Status.NodeInfo.BootID != born.Status.NodeInfo.BootID:
			problems = append(problems, born.Name+" was not born with Talos "+toTalos)
		}
	}
	slices.Sort(problems)
	return problems
}

// wrong is what is wrong with a node in the end.
func wrong(name string, n corev1.Node) []string {
	var problems []string
	if info := n.Status.NodeInfo; !strings.Contains(info.OSImage, toTalos) || info.KubeletVersion != toKubernetes {
		problems = append(problems, fmt.Sprintf("%s runs %s, kubelet %s", name, info.OSImage, info.KubeletVersion))
	}
	if !ready(n) {
		problems = append(problems, name+" is not ready")
	}
	if n.Spec.Unschedulable {
		problems = append(problems, name+" is still cordoned")
	}
	for key := range n.Annotations {
		if strings.Contains(key, "scale-down-disabled") || strings.HasPrefix(key, "ichor.dev/held") {
			problems = append(problems, name+" still has "+key)
		}
	}
	return problems
}

// heldMembers are machines that the group believes somebody works on.
func heldMembers(st workflows.GroupStatus) []string {
	var problems []string
	for _, m := range st.Members {
		if m.Lease != nil {
			problems = append(problems, fmt.Sprintf("the group says that %s still works on %s", m.Lease.Holder, m.Name))
		}
	}
	return problems
}

// printEtcd prints the record that the emulated cloud keeps of etcd and returns
// what is wrong with it.
func printEtcd(r quorum.Report) []string {
	var problems []string
	for _, c := range r.Clusters {
		fmt.Printf("  etcd           quorum lost %d times, %d of %d voters healthy at least, at most %d control plane away at once; %d of %d changes of the leader were asked for\n",
			len(c.Losses), c.LeastMargin+c.Now.Voters/2+1, c.Now.Voters, c.MostAway, c.Forfeited, c.LeaderChanges)
		if !c.Intact() {
			problems = append(problems, fmt.Sprintf("etcd: %+v", c))
		}
	}
	return problems
}

package e2e

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/talos"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// The oldest line that is upgraded here: its nodes upgrade, drain and reboot
// by themselves, behind a single call.
const (
	ancientTalos      = "v1.12.8"
	ancientKubernetes = "v1.34.1"
)

// elder is the cluster of TestUpgradeOldPath.
const elder = "elder"

// TestUpgradeOldPath takes three control planes from Talos 1.12 to 1.13 while
// their etcd is broken in every way that an upgrade must not meet: before it
// starts, and in the middle.
func TestUpgradeOldPath(t *testing.T) {
	s := startWithoutWorker(t, upgradeSettings)
	first, err := s.StartWorker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec := s.upgradable(elder, 1)
	spec.Spec.Kubernetes.Version = ancientKubernetes
	spec.Spec.ControlPlane.Replicas = 3
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.age()
	// Bounded more tightly than a new cluster could be: how long an upgrade waits
	// for etcd before it parks.
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.StartWorker(t.Context(), "ICHOR_BOOTSTRAP_DEADLINE=15s"); err != nil {
		t.Fatal(err)
	}
	in := workflows.UpgradeInput{Strategy: plan.UpgradeStrategy{Stable: briefly, Approve: plan.ApproveNode}}
	t.Run("unhealthy peer before", func(t *testing.T) { s.on(t).unhealthyBefore(in) })
	t.Run("unhealthy peer in the middle", func(t *testing.T) { s.on(t).unhealthyMidway(in) })
	t.Run("two-member etcd", func(t *testing.T) { s.on(t).twoMembers() })
	s.ichor(codeOK, nil, "delete", elder)
	s.wantEmpty()
}

// age brings every node to the older Talos behind the cluster's back, by the
// upgrade of that time: clusters are not made of it any more.
func (s *system) age() {
	s.t.Helper()
	st := s.store()
	rec, _, err := st.Record(s.t.Context(), elder)
	if err != nil {
		s.t.Fatal(err)
	}
	bundle, err := st.GetObject(s.t.Context(), rec.Frozen.Bundle)
	if err != nil {
		s.t.Fatal(err)
	}
	image := strings.TrimSuffix(rec.Frozen.InstallerImage, oldTalos) + ancientTalos
	for node := range s.machinesOf(elder) {
		n, err := talos.Dial(s.t.Context(), talos.DialOptions{Bundle: bundle, Address: s.address(elder, node)})
		if err != nil {
			s.t.Fatal(err)
		}
		err = n.UpgradeWhole(s.t.Context(), image)
		if err = errors.Join(err, n.Close()); err != nil {
			s.t.Fatal(err)
		}
		s.until(node+" runs "+ancientTalos, func() bool {
			boots := s.allBoots(elder)[node]
			f, err := talos.ProbeFacts(s.t.Context(), talos.DialOptions{Bundle: bundle, Address: s.address(elder, node)})
			return boots[len(boots)-1] == ancientTalos && err == nil && f.Ready && f.Version == ancientTalos
		})
	}
	s.wantVersions(elder, ancientTalos, ancientKubernetes)
}

// unhealthyBefore has the pre-flight find an alarm and a control plane that is
// off; nothing is changed.
func (s *system) unhealthyBefore(in workflows.UpgradeInput) {
	planes, before := s.nodesOf(elder, cluster.ControlPlaneGroup), s.allBoots(elder)
	s.breakNode(elder, planes[1], map[string]any{"etcdAlarm": "NOSPACE"})
	s.until("the alarm is raised", func() bool { return strings.Contains(s.talosctl(elder, planes[0], "etcd", "alarm", "list"), "NOSPACE") })
	refused := func(texts ...string) {
		s.t.Helper()
		_, err := s.upgrade(elder, in)
		if err == nil {
			s.t.Fatal("the upgrade began")
		}
		for _, text := range append(texts, "Unsafe") {
			if !strings.Contains(err.Error(), text) {
				s.t.Errorf("the error lacks %q: %v", text, err)
			}
		}
	}
	refused("nothing was changed", "NOSPACE")
	s.talosctl(elder, planes[0], "etcd", "alarm", "disarm")
	s.power(planes[2], stack.PowerOff)
	refused(planes[2])
	s.power(planes[2], stack.PowerOn)
	s.untilWhole(planes)
	before[planes[2]] = append(before[planes[2]], ancientTalos) // by hand
	s.wantBoots(elder, before, 0)
}

// unhealthyMidway stops a control plane after another was upgraded: the roll parks
// until it is back, and never takes out a second one.
func (s *system) unhealthyMidway(in workflows.UpgradeInput) {
	planes, before := s.nodesOf(elder, cluster.ControlPlaneGroup), s.allBoots(elder)
	if err := quorum.Reset(s.t.Context(), s.CloudURL); err != nil {
		s.t.Fatal(err)
	}
	// The control plane that was off needs a moment until all of it is ready.
	s.until("the pre-flight finds nothing", func() bool {
		look := in
		look.PlanOnly = true
		out, err := s.upgrade(elder, look)
		return err == nil && len(out.Plan.Refusals) == 0
	})
	run := s.beginUpgrade(elder, in)
	s.untilAsked(elder, cluster.ControlPlaneGroup)
	var done []string
	asked := func() string {
		s.t.Helper()
		what := s.upgradeStatus(elder).Asks
		for _, n := range planes {
			if strings.Contains(what, n) {
				return n
			}
		}
		s.t.Fatalf("no control plane is asked for: %q", what)
		return ""
	}
	done = append(done, asked())
	s.ichor(codeOK, nil, "approve", elder, done[0])
	s.untilUpgrade(elder, "the second is asked for", func(st workflows.UpgradeStatus) bool { return st.Asks != "" && !strings.Contains(st.Asks, done[0]) })
	done = append(done, asked())
	third := slices.DeleteFunc(slices.Clone(planes), func(n string) bool { return slices.Contains(done, n) })[0]
	s.power(third, stack.PowerOff)
	s.ichor(codeOK, nil, "approve", elder)
	s.untilParked(elder, done[1], "etcd", third)
	s.wantBoots(elder, map[string][]string{
		done[0]: append(before[done[0]], oldTalos), done[1]: before[done[1]], third: before[third], s.nodesOf(elder, "general")[0]: before[s.nodesOf(elder, "general")[0]],
	}, 0)
	s.power(third, stack.PowerOn)
	s.untilWhole(planes)
	before[third] = append(before[third], ancientTalos) // by hand
	s.ichor(codeOK, nil, "resume", elder)
	s.approveAll(elder, run)
	if _, err := s.endUpgrade(run); err != nil {
		s.t.Fatal(err)
	}
	s.wantVersions(elder, oldTalos, ancientKubernetes)
	s.wantBoots(elder, before, 1)
	s.wantQuorum()
}

// approveAll approves whatever is asked until the run ends.
func (s *system) approveAll(name string, run client.WorkflowRun) {
	s.t.Helper()
	s.until("everything is approved", func() bool {
		d, err := s.temporal.DescribeWorkflowExecution(s.t.Context(), run.GetID(), run.GetRunID())
		if err != nil || d.GetWorkflowExecutionInfo().GetCloseTime() != nil {
			return err == nil
		}
		if s.upgradeStatus(name).Asks != "" {
			if _, err := s.Ichor(s.t.Context(), "approve", name); err != nil {
				s.t.Fatal(err)
			}
		}
		return false
	})
}

// twoMembers takes a member out of etcd: no upgrade begins on two.
func (s *system) twoMembers() {
	planes, before := s.nodesOf(elder, cluster.ControlPlaneGroup), s.allBoots(elder)
	s.talosctl(elder, planes[2], "etcd", "leave")
	_, err := s.upgrade(elder, workflows.UpgradeInput{UpgradeChange: activities.UpgradeChange{Extensions: []string{"siderolabs/zfs"}}})
	if err == nil {
		s.t.Fatal("the upgrade began")
	}
	for _, text := range []string{"Unsafe", "nothing was changed", planes[2] + " is no member", "etcd has two members"} {
		if !strings.Contains(err.Error(), text) {
			s.t.Errorf("the error lacks %q: %v", text, err)
		}
	}
	s.wantBoots(elder, before, 0)
}

// power turns a machine off or on in the cloud's panel.
func (s *system) power(node string, what stack.Action) {
	s.t.Helper()
	s.byHand(elder, node, what)
	want := map[stack.Action]string{stack.PowerOff: "stopped", stack.PowerOn: "running"}[what]
	s.until(node+" is "+want, func() bool { return s.machinesOf(elder)[node].State == want })
}

// untilWhole waits until every control plane's etcd answers for itself, with a
// leader.
func (s *system) untilWhole(planes []string) {
	s.t.Helper()
	s.until("etcd is whole", func() bool {
		for _, n := range planes {
			r, err := s.Tool(s.t.Context(), []string{"TALOSCONFIG=" + s.talosconfig(elder)}, "talosctl", "etcd", "status", "--nodes", s.address(elder, n), "--endpoints", s.address(elder, n))
			if err != nil || r.Code != 0 {
				return false
			}
		}
		return true
	})
}

// wantQuorum demands that no etcd cluster ever lost its quorum or a leader that
// nobody asked to go.
func (s *system) wantQuorum() {
	s.t.Helper()
	r, err := quorum.Fetch(s.t.Context(), s.CloudURL)
	if err != nil || len(r.Clusters) == 0 {
		s.t.Fatalf("the record of the quorum: %+v, %v", r, err)
	}
	for _, c := range r.Clusters {
		if len(c.Losses) > 0 || c.SentWhileAway > 0 {
			s.t.Errorf("etcd of %s: %+v", c.Name, c)
		}
	}
}

func (s *system) talosconfig(name string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name+".talosconfig")
	s.ichor(codeOK, nil, "talosconfig", name, "--write", file)
	return file
}

func (s *system) address(name, node string) string {
	s.t.Helper()
	for _, g := range s.status(name).Groups {
		for _, m := range g.Members {
			if m.Name == node {
				return m.Address
			}
		}
	}
	s.t.Fatalf("no group has %s", node)
	return ""
}

// talosctl asks one node by the real tool.
func (s *system) talosctl(name, node string, args ...string) string {
	s.t.Helper()
	address := s.address(name, node)
	r, err := s.Tool(s.t.Context(), []string{"TALOSCONFIG=" + s.talosconfig(name)}, "talosctl", append(args, "--nodes", address, "--endpoints", address)...)
	if err != nil || r.Code != 0 {
		s.t.Fatalf("talosctl %v of %s: %v %s", args, node, err, r)
	}
	return r.Stdout
}

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// codeUnanswered is a request that nobody has answered in time.
const codeUnanswered = 7

const (
	scaled = "scale"        // the cluster
	group  = "scale/worker" // its group
)

// TestScale does to one node group what people do, by Ichor's command line and by
// the tools of others, and what happens to machines by other hands.
func TestScale(t *testing.T) {
	s := startWithoutWorker(t, map[string]string{
		"ICHOR_RECONCILE_INTERVAL": "2s", "ICHOR_DRAIN_DEADLINE": "2s", "ICHOR_GROUP_BACKOFF": "3s",
		"ICHOR_GROUP_HISTORY": "60", // so that ids are remembered through many runs of the group
	})
	worker, err := s.StartWorker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec := s.spec(scaled)
	spec.Spec.NodeGroups[0].Name, spec.Spec.NodeGroups[0].Min, spec.Spec.NodeGroups[0].Max = "worker", 1, 5
	s.ichor(codeOK, nil, "provision", "-f", s.write(spec))
	s.wantGroup(1)

	t.Run("up", func(t *testing.T) {
		s := s.on(t)
		s.ichor(codeOK, []string{group + ": 4 of 4 ready."}, "scale", group, "--to", "4", "--wait")
		s.wantNodes(scaled, 5)
		s.wantGroup(4)
		s.ichor(codeOK, []string{group, "1–5", "ok"}, "groups")
	})
	t.Run("down, when budgets allow", func(t *testing.T) { s.on(t).downWithBudget() })
	t.Run("refused", func(t *testing.T) {
		s := s.on(t)
		before := s.account().String()
		s.ichor(codeInvalid, []string{group, "5"}, "scale", group, "--to", "6")
		s.ichor(codeInvalid, []string{group}, "scale", group, "--to", "0")
		s.ichor(codeInvalid, []string{group}, "scale", group, "--by", "4")
		s.ichor(codeInvalid, []string{"nobody"}, "scale", group, "--delete", s.members()[0].Name+",nobody")
		s.ichor(codeInvalid, []string{scaled + "/cp"}, "scale", scaled+"/cp", "--to", "2")
		s.ichor(codeOK, nil, "pause", group, "--reason", "ask Ada")
		s.ichor(codeConflict, []string{"ask Ada"}, "scale", group, "--to", "3")
		s.ichor(codeOK, []string{"paused since", "ask Ada"}, "groups", scaled)
		s.ichor(codeOK, nil, "resume", group)
		if after := s.account().String(); after != before {
			t.Errorf("refusals changed the account; before: %s\nafter: %s", before, after)
		}
		s.wantGroup(2)
	})
	t.Run("by other tools, each id once", func(t *testing.T) { s.on(t).byOtherTools() })
	t.Run("a person and the autoscaler at once", func(t *testing.T) { s.on(t).atOnce() })
	t.Run("while no worker runs", func(t *testing.T) {
		s := s.on(t)
		if err := worker.Kill(); err != nil {
			t.Fatal(err)
		}
		s.ichor(codeUnanswered, []string{"request late may still be applied"}, "scale", group, "--by", "1", "--request-id", "late", "--timeout", "1s")
		s.signal("temporal", workflows.SignalIncreaseSize, `{"requestID": "durable", "delta": 1}`)
		s.ichor(codeOK, []string{"stale"}, "groups", scaled)
		if _, err := s.StartWorker(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.ichor(codeOK, nil, "scale", group, "--by", "1", "--request-id", "late")
		s.ichor(codeOK, []string{"4 of 4 ready"}, "watch", group)
		s.wantGroup(4)
		s.ichor(codeOK, []string{"2 of 2 ready"}, "scale", group, "--to", "2", "--force", "--wait")
	})
	t.Run("deleted by hand", func(t *testing.T) {
		s := s.on(t)
		victim := s.members()[0]
		s.byHand(scaled, victim.Name, stack.Vanish)
		s.until("the machine is replaced", func() bool {
			ms := s.members()
			return len(ms) == 2 && ms[0].ID != victim.ID && ms[1].ID != victim.ID && ms[0].Phase == workflows.MemberReady && ms[1].Phase == workflows.MemberReady
		})
		s.wantGroup(2)
		s.wantNodes(scaled, 3)
	})
	t.Run("doubled, and unknown", func(t *testing.T) { s.on(t).foreignMachines() })
	t.Run("stopped by hand", func(t *testing.T) {
		s := s.on(t)
		victim := s.members()[0]
		s.byHand(scaled, victim.Name, stack.Halt)
		s.until("the group shows it", func() bool {
			for _, m := range s.members() {
				if m.ID == victim.ID && (m.CloudState == "stopped" || strings.Contains(m.Note, "stopped")) {
					return true
				}
			}
			return false
		})
		s.ichor(codeOK, []string{victim.Name + ": somebody stopped the machine"}, "groups", scaled)
		if got := s.machines(); len(got) != 2 {
			t.Errorf("a stopped machine changed the machines: %v", got)
		}
		s.ichor(codeOK, []string{"1 of 1 ready"}, "scale", group, "--delete", victim.Name, "--force", "--wait")
		s.wantGroup(1)
		s.wantNodes(scaled, 2)
	})
	d, err := s.temporal.DescribeWorkflowExecution(t.Context(), cluster.GroupID(scaled, "worker"), "")
	if err != nil {
		t.Fatal(err)
	}
	if info := d.GetWorkflowExecutionInfo(); info.GetFirstRunId() == info.GetExecution().GetRunId() {
		t.Error("the group is still in its first run: its memory was never carried along")
	}
	t.Run("delete", func(t *testing.T) {
		s := s.on(t)
		s.ichor(codeOK, nil, "delete", scaled)
		s.wantEmpty()
		s.until("the group has ended", func() bool {
			r, err := s.Ichor(t.Context(), "group", group)
			return err == nil && r.Code == codeNotFound && strings.Contains(r.Stderr, "no such group runs")
		})
	})
}

// groupStatus is what the group says of itself.
func (s *system) groupStatus() workflows.GroupStatus {
	s.t.Helper()
	r := s.ichor(codeOK, nil, "group", group, "-o", "json")
	var out workflows.GroupStatus
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		s.t.Fatalf("ichor group -o json: %v: %s", err, r)
	}
	return out
}

// members are those that are not gone.
func (s *system) members() []workflows.GroupMember {
	s.t.Helper()
	return slices.DeleteFunc(s.groupStatus().Members, func(m workflows.GroupMember) bool { return m.Phase == workflows.MemberGone })
}

// machines are the cloud's machines of the group, by provider ID.
func (s *system) machines() map[string]stack.Resource {
	s.t.Helper()
	out := map[string]stack.Resource{}
	for _, r := range s.account().Machines() {
		if r.Tags[cluster.TagGroup] == "worker" {
			out[chosen.ProviderID(r)] = r
		}
	}
	return out
}

// wantGroup demands that group and cloud agree: target machines, each one ready,
// each of another identity.
func (s *system) wantGroup(target int) {
	s.t.Helper()
	g, machines := s.groupStatus(), s.machines()
	ready := 0
	for _, m := range g.Members {
		if m.Phase == workflows.MemberReady {
			ready++
			if _, ok := machines[m.ProviderID]; !ok {
				s.t.Errorf("member %s: the cloud has no machine %s", m.Name, m.ProviderID)
			}
		}
	}
	if g.Target != target || ready != target || len(machines) != target {
		s.t.Errorf("target %d, ready %d, machines %d; want %d of each: %+v", g.Target, ready, len(machines), target, g.Members)
	}
}

// downWithBudget scales from four to two while a disruption budget holds the
// pods, then lifts the budget.
func (s *system) downWithBudget() {
	ctx, api, labels := s.t.Context(), s.kube(scaled), map[string]string{"app": "held"}
	four := int32(4)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "held", Namespace: "default"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &four, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Name: "pause", Image: "registry.k8s.io/pause:3.10"}},
					// One per worker, so that each of them is held.
					Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
						RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
							LabelSelector: &metav1.LabelSelector{MatchLabels: labels}, TopologyKey: corev1.LabelHostname,
						}},
					}},
				},
			},
		},
	}
	if _, err := api.AppsV1().Deployments("default").Create(ctx, deployment, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	all := intstr.FromInt32(4)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "held", Namespace: "default"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}
	if _, err := api.PolicyV1().PodDisruptionBudgets("default").Create(ctx, budget, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.until("the budget counts four pods", func() bool {
		b, err := api.PolicyV1().PodDisruptionBudgets("default").Get(ctx, "held", metav1.GetOptions{})
		return err == nil && b.Status.CurrentHealthy == 4 && b.Status.ObservedGeneration == b.Generation
	})

	s.ichor(codeOK, []string{group}, "scale", group, "--to", "2")
	leaving := map[string]bool{}
	s.until("two nodes wait for the budget", func() bool {
		clear(leaving)
		for _, m := range s.members() {
			if m.Phase == workflows.MemberDraining && strings.Contains(m.Note, "held") {
				leaving[m.Name] = true
			}
		}
		return len(leaving) == 2
	})
	if got := len(s.machines()); got != 4 {
		s.t.Errorf("%d machines while the budget holds all pods, want 4", got)
	}
	for name := range leaving {
		n, err := api.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil || !n.Spec.Unschedulable {
			s.t.Errorf("node %s drains and is not cordoned (%v)", name, err)
		}
	}
	if err := api.PolicyV1().PodDisruptionBudgets("default").Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.ichor(codeOK, []string{group + ": 2 of 2 ready."}, "watch", group)
	s.wantGroup(2)
	s.wantNodes(scaled, 3)
	for name := range leaving {
		if _, err := api.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{}); err == nil {
			s.t.Errorf("the Node object of %s is still there", name)
		}
	}
	if err := api.AppsV1().Deployments("default").Delete(ctx, "held", metav1.DeleteOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// signal sends plain JSON with one of Temporal's own tools.
func (s *system) signal(tool, name, input string) {
	s.t.Helper()
	id := cluster.GroupID(scaled, "worker")
	var r stack.Result
	if tool == "tctl" {
		r = s.tool("tctl", "--address", s.TemporalAddress, "workflow", "signal", "--workflow_id", id, "--name", name, "--input", input)
	} else {
		r = s.tool("temporal", "workflow", "signal", "--address", s.TemporalAddress, "--workflow-id", id, "--name", name, "--input", input)
	}
	if r.Code != 0 {
		s.t.Fatalf("%s signal %s: %s", tool, name, r)
	}
}

// byOtherTools goes from two to three and back without Ichor's command line,
// repeating every request.
func (s *system) byOtherTools() {
	for range 2 {
		s.signal("temporal", workflows.SignalIncreaseSize, `{"requestID": "tool-1", "delta": 1, "reason": "by temporal"}`)
		s.signal("tctl", workflows.SignalIncreaseSize, `{"requestID": "tool-1", "delta": 1}`)
	}
	s.ichor(codeOK, nil, "scale", group, "--by", "1", "--request-id", "tool-1")
	s.ichor(codeOK, []string{"3 of 3 ready"}, "watch", group)
	s.wantGroup(3)

	r := s.tool("temporal", "workflow", "update", "execute", "--address", s.TemporalAddress, "--workflow-id", cluster.GroupID(scaled, "worker"),
		"--name", workflows.SignalSetTarget, "--update-id", "tool-2", "--input", `{"requestID": "tool-2", "target": 9}`)
	if r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "5") {
		s.t.Errorf("an update beyond max was not refused: %s", r)
	}
	victim := s.members()[0].Name
	for range 2 {
		s.signal("tctl", workflows.SignalDeleteNodes, fmt.Sprintf(`{"requestID": "tool-3", "nodes": [%q]}`, victim))
	}
	s.ichor(codeOK, []string{"2 of 2 ready"}, "watch", group)
	for _, m := range s.members() {
		if m.Name == victim {
			s.t.Errorf("%s was to be deleted", victim)
		}
	}
	s.signal("tctl", workflows.SignalPause, `{"reason": "by tctl"}`)
	s.ichor(codeConflict, []string{"by tctl"}, "scale", group, "--to", "3")
	s.signal("temporal", workflows.SignalResume, `{}`)
	s.until("the pause is over", func() bool { return s.groupStatus().Paused == nil })
	s.signal("tctl", workflows.SignalSetTarget, `{"requestID": "tool-4", "target": 3}`)
	s.signal("temporal", workflows.SignalSetTarget, `{"requestID": "tool-5", "target": 2}`)
	s.ichor(codeOK, []string{"2 of 2 ready"}, "watch", group)
	s.wantGroup(2)
	s.wantNodes(scaled, 3)
}

// atOnce lets a person set 3 while the autoscaler adds 1. Whoever comes last
// decides, and the group's answers say who that was.
func (s *system) atOnce() {
	person := s.background("scale", group, "--to", "3", "--request-id", "person")
	s.signal("temporal", workflows.SignalIncreaseSize, `{"requestID": "autoscaler", "origin": "autoscaler", "delta": 1}`)
	s.judge(<-person, codeOK, nil, "ichor scale --to 3")
	want, order := 2, ""
	for _, r := range s.groupStatus().Requests {
		switch r.RequestID {
		case "person":
			want = 3
		case "autoscaler":
			want++
		default:
			continue
		}
		order += r.RequestID + " "
		if r.Target != want || !r.Accepted {
			s.t.Errorf("after %s: the answer %+v, want target %d", order, r, want)
		}
	}
	s.ichor(codeOK, []string{fmt.Sprintf("%d of %d ready", want, want)}, "watch", group)
	s.wantGroup(want)
	s.ichor(codeOK, []string{"2 of 2 ready"}, "scale", group, "--to", "2", "--wait")
}

// foreignMachines makes a second machine of a member's identity, which the group
// removes, and one of an identity that it never chose, which it leaves alone.
func (s *system) foreignMachines() {
	member := s.members()[0]
	original := s.machines()[member.ProviderID]
	create := func(name, id string) string {
		s.t.Helper()
		tags := maps.Clone(original.Tags)
		tags[cluster.TagMachine] = id
		made, err := s.Copy(s.t.Context(), original, name, tags)
		if err != nil {
			s.t.Fatal(err)
		}
		return made
	}
	has := func(id string) bool {
		s.t.Helper()
		return slices.ContainsFunc(s.account().Machines(), func(m stack.Resource) bool { return m.ID == id })
	}
	time.Sleep(time.Second) // the cloud's clock has seconds; the copy must be younger
	double, unknown := create(member.Name, member.ID), create(scaled+"-worker-zzzzz", "zzzzz")
	s.until("the copy is removed and the unknown one reported", func() bool {
		return !has(double) && slices.ContainsFunc(s.groupStatus().Unknown, func(text string) bool {
			return strings.Contains(text, "zzzzz") || strings.Contains(text, unknown)
		})
	})
	s.ichor(codeOK, []string{"Unknown machine"}, "group", group)
	if machines := s.machines(); !has(original.ID) || len(machines) != 3 {
		s.t.Errorf("machines %v; want the two members and the unknown one", machines)
	}
	s.byHand(scaled, scaled+"-worker-zzzzz", stack.Delete)
	s.until("the unknown one is forgotten", func() bool { return len(s.groupStatus().Unknown) == 0 && len(s.machines()) == 2 })
	s.wantGroup(2)
}

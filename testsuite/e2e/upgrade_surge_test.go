package e2e

import (
	"net/http"
	"slices"
	"time"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/testsuite/stack/grpcserver"
	"github.com/ichor-project/ichor/workflows"
)

// surgeNode replaces workers by new machines. The autoscaler's provider shows
// neither a machine more nor one less meanwhile, so the autoscaler has nothing to
// delete; and when it deletes the one that is being replaced, the new one is not
// kept in its place.
func (h *holes) surgeNode() {
	old, ca := h.workers, h.provider(holed)
	groupID := holed + "/general"
	in := workflows.UpgradeInput{UpgradeChange: change(5), Strategy: careful()}
	in.Strategy.Groups = []plan.GroupStrategy{{Group: "general", Surge: 1}}
	planes := h.allBoots(holed)[h.cp]
	h.slowBirth()
	run := h.beginUpgrade(holed, in)

	surge := h.untilSurge()
	h.refresh(ca)
	r, err := ca.NodeGroupNodes(h.t.Context(), &pb.NodeGroupNodesRequest{Id: groupID})
	if err != nil || len(r.GetInstances()) != 2 {
		h.t.Errorf("the provider shows %v, %v; want the two former machines", r.GetInstances(), err)
	}
	size, err := ca.NodeGroupTargetSize(h.t.Context(), &pb.NodeGroupTargetSizeRequest{Id: groupID})
	if err != nil || size.GetTargetSize() != 2 {
		h.t.Errorf("the provider's target is %d, %v", size.GetTargetSize(), err)
	}
	_, err = ca.NodeGroupDeleteNodes(h.t.Context(), &pb.NodeGroupDeleteNodesRequest{
		Id: groupID, Nodes: []*pb.ExternalGrpcNode{{Name: surge.Name, ProviderID: surge.ProviderID}},
	})
	if err == nil {
		h.t.Errorf("the autoscaler could delete %s, which it was never shown", surge.Name)
	}
	h.wantDone(run)
	h.wantFresh(old, 2)
	if now := h.allBoots(holed)[h.cp]; len(now) != len(planes)+1 {
		h.t.Errorf("%s booted %q, before %q", h.cp, now, planes)
	}

	old = h.nodesOf(holed, "general")
	in.UpgradeChange = change(6)
	h.until("the provider shows the new machines", func() bool {
		h.refresh(ca)
		r, err := ca.NodeGroupNodes(h.t.Context(), &pb.NodeGroupNodesRequest{Id: groupID})
		shown := map[string]bool{}
		for _, i := range r.GetInstances() {
			shown[i.GetId()] = true
		}
		for _, m := range h.general().Members {
			if !shown[m.ProviderID] {
				return false
			}
		}
		return err == nil
	})
	h.slowBirth()
	run = h.beginUpgrade(holed, in)
	surge = h.untilSurge()
	var victim workflows.GroupMember
	for _, m := range h.general().Members {
		if m.ID == surge.For {
			victim = m
		}
	}
	if _, err := ca.NodeGroupDeleteNodes(h.t.Context(), &pb.NodeGroupDeleteNodesRequest{
		Id: groupID, Nodes: []*pb.ExternalGrpcNode{{Name: victim.Name, ProviderID: victim.ProviderID}},
	}); err != nil {
		h.t.Errorf("the autoscaler could not delete %s: %v", victim.Name, err)
	}
	h.wantDone(run)
	h.ichor(codeOK, []string{"1 of 1 ready"}, "watch", groupID)
	h.wantFresh(old, 1)
	h.ichor(codeOK, []string{"2 of 2 ready"}, "scale", groupID, "--to", "2", "--wait")
}

// refresh is what the autoscaler does at the beginning of each round.
func (h *holes) refresh(ca pb.CloudProviderClient) {
	h.t.Helper()
	if _, err := ca.Refresh(h.t.Context(), &pb.RefreshRequest{}); err != nil {
		h.t.Fatal(err)
	}
}

// slowBirth leaves time to look while the next machine boots.
func (h *holes) slowBirth() {
	h.t.Helper()
	err := h.Cloud(h.t.Context(), http.MethodPost, "_devcloud/guests/defects", map[string]any{
		"name": holed + "-general-", "count": 1, "faults": map[string]any{"bootDelay": 5 * speed * time.Second},
	}, nil)
	if err != nil {
		h.t.Fatal(err)
	}
}

// general is what the group of the workers says of itself.
func (h *holes) general() workflows.GroupStatus {
	h.t.Helper()
	for _, g := range h.status(holed).Groups {
		if g.Group == "general" {
			return g
		}
	}
	h.t.Fatal("the group general does not answer")
	return workflows.GroupStatus{}
}

// untilSurge waits for a machine that is on its way to take another's place.
func (h *holes) untilSurge() (surge workflows.GroupMember) {
	h.t.Helper()
	h.until("a surge machine boots", func() bool {
		for _, m := range h.general().Members {
			if m.Surge && m.ProviderID != "" {
				surge = m
				return true
			}
		}
		return false
	})
	return surge
}

// wantFresh demands that the group has so many machines, all made by the roll.
func (h *holes) wantFresh(old []string, count int) {
	h.t.Helper()
	var names []string
	h.until("the former machines are gone", func() bool {
		names = h.nodesOf(holed, "general")
		return len(names) == count && !slices.ContainsFunc(names, func(n string) bool { return slices.Contains(old, n) })
	})
	g := h.general()
	if g.Target != count {
		h.t.Errorf("the target is %d, want %d", g.Target, count)
	}
	boots := h.allBoots(holed)
	for _, n := range names {
		if !slices.Equal(boots[n], []string{newTalos}) {
			h.t.Errorf("%s booted %q; it was to be born new", n, boots[n])
		}
	}
	h.wantReleased(holed)
}

// provider runs the autoscaler's server until the test ends.
func (s *system) provider(name string) pb.CloudProviderClient {
	s.t.Helper()
	p, err := grpcserver.Launch(s.Stack, "grpcprovider", "--cluster", name, "--request-rate", "50")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.until("the provider answers", func() bool {
		_, err := p.Refresh(s.t.Context(), &pb.RefreshRequest{}, grpc.WaitForReady(true))
		return err == nil
	})
	return p
}

// pruned changes the spec: one manifest goes, one comes, and machine configs
// change. Objects stay that the spec no longer has or never had, no node reboots,
// and every node has the config of its role in the end.
func (h *holes) pruned() {
	api, before := h.kube(holed).CoreV1().ConfigMaps("default"), h.allBoots(holed)
	foreign := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "foreign", Namespace: "default"}}
	if _, err := api.Create(h.t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		h.t.Fatal(err)
	}
	spec := h.spec0
	spec.Spec.Talos.Version, spec.Spec.Kubernetes.Version = newTalos, newKubernetes
	spec.Spec.Talos.Extensions = change(6).Extensions
	spec.Spec.Manifests = append(slices.Clone(spec.Spec.Manifests[:len(spec.Spec.Manifests)-1]), configMap("late"))
	spec.Spec.Talos.Patches = []cluster.Source{{Inline: "machine:\n  sysctls:\n    net.core.somaxconn: \"4096\"\n"}}
	h.ichor(codeOK, nil, "upgrade", holed, "-f", h.write(spec), "--single-control-plane")
	for _, name := range []string{"early", "late", "foreign"} {
		if _, err := api.Get(h.t.Context(), name, metav1.GetOptions{}); err != nil {
			h.t.Errorf("the object %s: %v", name, err)
		}
	}
	h.wantBoots(holed, before, 0)
	h.ichor(codeOK, nil, "status", holed, "--drift")
}

// configMap is a manifest of one object.
func configMap(name string) cluster.Manifest {
	return cluster.Manifest{Name: name, Source: cluster.Source{Inline: "{apiVersion: v1, kind: ConfigMap, metadata: {name: " + name + ", namespace: default}}"}}
}

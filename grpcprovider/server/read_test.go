package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/ichor-project/ichor/internal/fault"
)

func wantCode(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("%s: %s (%v), want %s", what, got, err, want)
	}
}

func TestNodeGroups(t *testing.T) {
	f := serve(t, newFake(), nil)
	out, err := f.call(t, "NodeGroups", nil)
	if err != nil {
		t.Fatal(err)
	}
	type group struct {
		ID       string
		Min, Max int64
		Debug    string
	}
	var got []group
	for _, g := range decode(t, out)[1] {
		d := decode(t, g.([]byte))
		got = append(got, group{d.text(1), d.num(2), d.num(3), d.text(4)})
	}
	want := []group{
		{"demo/tuned", 0, 3, "demo/tuned (0 to 3, wanted 0, flex-4-2 in lpg1) paused: maintenance"},
		{"demo/worker", 1, 5, "demo/worker (1 to 5, wanted 4, flex-8-4 in lpg1)"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func TestNodeGroupForNode(t *testing.T) {
	f := serve(t, newFake(), nil)
	for name, tc := range map[string]struct {
		node msg
		want string
	}{
		"by provider ID":       {msg{}.text(1, "cloudscale://1").text(2, "other"), "demo/worker"},
		"by name":              {msg{}.text(2, "demo-worker-1"), "demo/worker"},
		"with labels":          {msg{}.text(1, "cloudscale://1").sub(3, msg{}.text(1, "a").text(2, "b")).sub(4, msg{}.text(1, "c").text(2, "d")), "demo/worker"},
		"foreign":              {msg{}.text(1, "aws:///x/i-1").text(2, "elsewhere"), ""},
		"neither ID nor name":  {msg{}, ""},
		"of a group that went": {msg{}.text(1, "stale"), ""},
	} {
		out, err := f.call(t, "NodeGroupForNode", msg{}.sub(1, tc.node))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d := decode(t, out)
		g := decode(t, d.bytes(t, 1)) // also for unknown nodes there is a group, without id
		if g.text(1) != tc.want {
			t.Errorf("%s: group %q, want %q", name, g.text(1), tc.want)
		}
		if tc.want != "" && (g.num(2) != 1 || g.num(3) != 5) {
			t.Errorf("%s: bounds %d to %d", name, g.num(2), g.num(3))
		}
	}
	if out, err := f.call(t, "NodeGroupForNode", nil); err != nil || decode(t, decode(t, out).bytes(t, 1)).text(1) != "" {
		t.Errorf("without a node: %v", err)
	}
}

// A thousand nodes of others must cost a lookup each and nothing that grows with
// the cluster: no list, no refresh, no error.
func TestForeignNodesCostOneLookupEach(t *testing.T) {
	source := newFake()
	f := serve(t, source, nil)
	const nodes = 1000
	for i := range nodes {
		out, err := f.call(t, "NodeGroupForNode", msg{}.sub(1, msg{}.text(1, fmt.Sprintf("aws:///eu-central-1a/i-%d", i)).text(2, fmt.Sprintf("foreign-%d", i))))
		if err != nil {
			t.Fatal(err)
		}
		if id := decode(t, decode(t, out).bytes(t, 1)).text(1); id != "" {
			t.Fatalf("node %d is of %q", i, id)
		}
	}
	if diff := cmp.Diff(map[string]int{"GroupForNode": nodes}, source.calls); diff != "" {
		t.Errorf("what the source was asked (-want +got):\n%s", diff)
	}
	if text := f.log.String(); text != "" {
		t.Errorf("foreign nodes are logged: %.300s", text)
	}
}

func TestTargetSizeAndInstances(t *testing.T) {
	f := serve(t, newFake(), nil)
	out, err := f.call(t, "NodeGroupTargetSize", msg{}.text(1, "demo/worker"))
	if err != nil || decode(t, out).num(1) != 4 {
		t.Errorf("target size %x, %v", out, err)
	}
	if out, err := f.call(t, "NodeGroupTargetSize", msg{}.text(1, "demo/tuned")); err != nil || decode(t, out).num(1) != 0 {
		t.Errorf("target size %x, %v", out, err)
	}
	type inst struct {
		ID            string
		State         int64
		Code, Message string
		Class         int64
	}
	out, err = f.call(t, "NodeGroupNodes", msg{}.text(1, "demo/worker"))
	if err != nil {
		t.Fatal(err)
	}
	var got []inst
	for _, b := range decode(t, out)[1] {
		d := decode(t, b.([]byte))
		s := decode(t, d.bytes(t, 2))
		i := inst{ID: d.text(1), State: s.num(1)}
		if len(s[2]) > 0 {
			e := decode(t, s.bytes(t, 2))
			i.Code, i.Message, i.Class = e.text(1), e.text(2), e.num(3)
		}
		got = append(got, i)
	}
	want := []inst{
		{ID: "cloudscale://1", State: 1},
		{ID: "cloudscale://2", State: 3},
		{ID: "ichor://demo/worker/r-0", State: 2},
		{"ichor://demo/worker/r-1", 2, "Quota", "no servers left", 1},
		{"ichor://demo/worker/r-2", 2, "Invalid", "no such image", 99},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
}

func TestAnErrorIsNeverDropped(t *testing.T) {
	source := newFake()
	g := worker()
	g.Instances = g.Instances[3:4]
	g.Instances[0].Error.Code, g.Instances[0].State = "", "" // as a source must not say it
	source.groups[1] = g
	f := serve(t, source, nil)
	out, err := f.call(t, "NodeGroupNodes", msg{}.text(1, "demo/worker"))
	if err != nil {
		t.Fatal(err)
	}
	s := decode(t, decode(t, decode(t, out).bytes(t, 1)).bytes(t, 2))
	if s.num(1) != 2 || decode(t, s.bytes(t, 2)).text(1) == "" {
		t.Errorf("the autoscaler would drop this error: %v", s)
	}
}

func TestUnknownGroup(t *testing.T) {
	f := serve(t, newFake(), nil)
	for method, in := range map[string]msg{
		"NodeGroupTargetSize":         msg{}.text(1, "demo/x"),
		"NodeGroupNodes":              msg{}.text(1, "demo/x"),
		"NodeGroupTemplateNodeInfo":   msg{}.text(1, "demo/x"),
		"NodeGroupIncreaseSize":       msg{}.num(1, 1).text(2, "demo/x"),
		"NodeGroupDecreaseTargetSize": msg{}.num(1, -1).text(2, "demo/x"),
		"NodeGroupDeleteNodes":        msg{}.sub(1, msg{}.text(2, "demo-worker-1")).text(2, "demo/x"),
	} {
		_, err := f.call(t, method, in)
		wantCode(t, method, err, codes.NotFound)
	}
	// Any other code would make the autoscaler forget its request.
	_, err := f.call(t, "NodeGroupGetOptions", msg{}.text(1, "demo/x"))
	wantCode(t, "NodeGroupGetOptions", err, codes.Unimplemented)
}

func TestCallsThatAlwaysAnswer(t *testing.T) {
	source := newFake()
	f := serve(t, source, nil)
	out, err := f.call(t, "GPULabel", nil)
	if err != nil || decode(t, out).text(1) != "ichor.dev/gpu" {
		t.Errorf("GPULabel: %x, %v", out, err)
	}
	out, err = f.call(t, "GetAvailableGPUTypes", nil)
	if err != nil {
		t.Fatal(err)
	}
	entry := decode(t, decode(t, out).bytes(t, 1))
	if entry.text(1) != "l40s" || len(entry[2]) != 1 {
		t.Errorf("GPU types: %v", entry)
	}
	source.err = errors.New("Temporal is away")
	for _, method := range []string{"Cleanup", "GPULabel", "GetAvailableGPUTypes", "NodeGroups"} {
		if _, err := f.call(t, method, nil); err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if len(source.changes) > 0 || source.calls["Refresh"] > 0 {
		t.Errorf("calls without effect had one: %v", source.changes)
	}
}

func TestRefreshIsTheHealthGate(t *testing.T) {
	source := newFake()
	f := serve(t, source, nil)
	if _, err := f.call(t, "Refresh", nil); err != nil {
		t.Fatal(err)
	}
	for _, kind := range fault.Kinds() {
		source.err = fault.New(kind, "read", "the reason")
		_, err := f.call(t, "Refresh", nil)
		wantCode(t, string(kind), err, codes.Unavailable)
		if !strings.Contains(status.Convert(err).Message(), "the reason") {
			t.Errorf("%s: the answer hides the reason: %v", kind, err)
		}
	}
	// Everything else goes on answering.
	if _, err := f.call(t, "NodeGroupTargetSize", msg{}.text(1, "demo/worker")); err != nil {
		t.Error(err)
	}
}

func TestTemplate(t *testing.T) {
	f := serve(t, newFake(), nil)
	out, err := f.call(t, "NodeGroupTemplateNodeInfo", msg{}.text(1, "demo/worker"))
	if err != nil {
		t.Fatal(err)
	}
	d := decode(t, out)
	if diff := cmp.Diff([]protowire.Number{1, 2}, d.numbers()); diff != "" {
		t.Fatalf("fields (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(d.bytes(t, 1), d.bytes(t, 2)); diff != "" {
		t.Error("the two forms differ")
	}
	var node corev1.Node
	if err := node.Unmarshal(d.bytes(t, 2)); err != nil {
		t.Fatal(err)
	}
	wantLabels := map[string]string{
		"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "template-demo-worker",
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
		"node.kubernetes.io/instance-type": "flex-8-4", "topology.kubernetes.io/zone": "lpg1", "topology.kubernetes.io/region": "lpg",
		"example.com/pool": "w", "ichor.dev/gpu": "l40s",
	}
	if diff := cmp.Diff(wantLabels, node.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]corev1.Taint{{Key: "example.com/gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}, node.Spec.Taints); diff != "" {
		t.Errorf("taints (-want +got):\n%s", diff)
	}
	for name, tc := range map[string]struct {
		have corev1.ResourceList
		want map[string]string
	}{
		"capacity":    {node.Status.Capacity, map[string]string{"cpu": "4", "memory": "8Gi", "ephemeral-storage": "50Gi", "pods": "110", "nvidia.com/gpu": "1"}},
		"allocatable": {node.Status.Allocatable, map[string]string{"cpu": "3950m", "memory": "7Gi", "ephemeral-storage": "44Gi", "pods": "110", "nvidia.com/gpu": "1"}},
	} {
		if len(tc.have) != len(tc.want) {
			t.Errorf("%s: %v", name, tc.have)
		}
		for key, want := range tc.want {
			if got := tc.have[corev1.ResourceName(key)]; got.Cmp(resource.MustParse(want)) != 0 {
				t.Errorf("%s: %s is %s, want %s", name, key, got.String(), want)
			}
		}
	}
	ready := false
	for _, c := range node.Status.Conditions {
		ready = ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	if !ready {
		t.Error("the template is not ready")
	}

	// A group whose size is unknown must neither crash nor stop the autoscaler.
	_, err = f.call(t, "NodeGroupTemplateNodeInfo", msg{}.text(1, "demo/tuned"))
	wantCode(t, "without a template", err, codes.Unimplemented)
}

func TestTemplateOfARMOnAWS(t *testing.T) {
	source := newFake()
	g := worker()
	g.Facts.Cloud.Provider, g.Facts.Zone = "aws", "eu-central-1b"
	g.Facts.Template.Labels[2].Key, g.Facts.Template.Labels[2].Value = "kubernetes.io/arch", "arm64"
	g.Facts.Template.Capacity.GPUs, g.Facts.Template.Allocatable.GPUs = 0, 0
	source.groups[1] = g
	f := serve(t, source, nil)
	out, err := f.call(t, "NodeGroupTemplateNodeInfo", msg{}.text(1, "demo/worker"))
	if err != nil {
		t.Fatal(err)
	}
	var node corev1.Node
	if err := node.Unmarshal(decode(t, out).bytes(t, 1)); err != nil {
		t.Fatal(err)
	}
	l := node.Labels
	if l["kubernetes.io/arch"] != "arm64" || l["beta.kubernetes.io/arch"] != "arm64" || l["topology.kubernetes.io/region"] != "eu-central-1" || l["topology.kubernetes.io/zone"] != "eu-central-1b" {
		t.Errorf("labels: %v", l)
	}
	if _, ok := node.Status.Capacity["nvidia.com/gpu"]; ok {
		t.Error("a node without GPUs promises some")
	}
}

// A group that could not be read has bounds that leave the autoscaler nothing to
// ask for, and says why.
func TestAnUnreadGroupIsHeldWhereItIs(t *testing.T) {
	source := newFake()
	source.groups[1].Unread = "its history cannot be read"
	f := serve(t, source, nil)
	out, err := f.call(t, "NodeGroups", nil)
	if err != nil {
		t.Fatal(err)
	}
	groups := decode(t, out)[1]
	g := decode(t, groups[1].([]byte))
	if id, lowest, highest := g.text(1), g.num(2), g.num(3); id != "demo/worker" || lowest != 4 || highest != 4 {
		t.Errorf("%s has bounds of %d and %d, its target is 4", id, lowest, highest)
	}
	if debug := g.text(4); !strings.Contains(debug, "its history cannot be read") {
		t.Errorf("%q does not say why", debug)
	}
	if out, err = f.call(t, "NodeGroupTargetSize", msg{}.text(1, "demo/worker")); err != nil || decode(t, out).num(1) != 4 {
		t.Errorf("target %x: %v", out, err)
	}
	if other := decode(t, groups[0].([]byte)); other.num(2) != 0 || other.num(3) != 3 {
		t.Errorf("the bounds of another group are %d and %d", other.num(2), other.num(3))
	}
}

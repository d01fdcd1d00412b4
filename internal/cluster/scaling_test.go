package cluster

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const scalingGroup = `
  nodeGroups:
  - name: worker
    flavor: flex-4-2
    min: 0
    max: 3
`

func TestDecodeScalingOfAGroup(t *testing.T) {
	c, _, err := Decode([]byte(minimal + scalingGroup + `    alternatives: [{zone: rma1}, {flavor: flex-8-2}]
    autoscaling:
      scaleDownUtilizationThreshold: 0.5
      scaleDownGPUUtilizationThreshold: 1
      scaleDownUnneededTime: 90s
      scaleDownUnreadyTime: 20m
      maxNodeProvisionTime: 15m
      ignoreDaemonSetsUtilization: true
`))
	if err != nil {
		t.Fatal(err)
	}
	g := c.Spec.NodeGroups[0]
	want := &Autoscaling{
		ScaleDownUtilizationThreshold: 0.5, ScaleDownGPUUtilizationThreshold: 1, ScaleDownUnneededTime: Duration(90 * time.Second),
		ScaleDownUnreadyTime: Duration(20 * time.Minute), MaxNodeProvisionTime: Duration(15 * time.Minute), IgnoreDaemonSetsUtilization: true,
	}
	if diff := cmp.Diff(want, g.Autoscaling); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Alternative{{Zone: "rma1"}, {Flavor: "flex-8-2"}}, g.Alternatives); diff != "" {
		t.Error(diff)
	}
	if err := c.Validate().Err(); err != nil {
		t.Error(err)
	}
	n := c.Normalise()
	n.Spec.NodeGroups[0].Autoscaling.ScaleDownUtilizationThreshold = 0.9
	n.Spec.NodeGroups[0].Alternatives[0].Zone = "lpg1"
	if g.Autoscaling.ScaleDownUtilizationThreshold != 0.5 || g.Alternatives[0].Zone != "rma1" {
		t.Error("the normalised spec shares memory with the spec")
	}
}

func TestScalingProblems(t *testing.T) {
	for _, tc := range []struct {
		name, doc string
		want      []string // fields
	}{
		{"times are spans", "    autoscaling: {scaleDownUnneededTime: 10, scaleDownUnreadyTime: soon, maxNodeProvisionTime: [1m]}\n", []string{
			"spec.nodeGroups[0].autoscaling.scaleDownUnneededTime", "spec.nodeGroups[0].autoscaling.scaleDownUnreadyTime",
			"spec.nodeGroups[0].autoscaling.maxNodeProvisionTime",
		}},
		{"fractions are numbers", "    autoscaling: {scaleDownUtilizationThreshold: half, scaleDownGPUUtilizationThreshold: .inf}\n", []string{
			"spec.nodeGroups[0].autoscaling.scaleDownUtilizationThreshold", "spec.nodeGroups[0].autoscaling.scaleDownGPUUtilizationThreshold",
		}},
		{"all or none", "    autoscaling: {scaleDownUtilizationThreshold: 1.5, scaleDownUnneededTime: 10m}\n", []string{
			"spec.nodeGroups[0].autoscaling.scaleDownUtilizationThreshold", "spec.nodeGroups[0].autoscaling.scaleDownGPUUtilizationThreshold",
			"spec.nodeGroups[0].autoscaling.scaleDownUnreadyTime", "spec.nodeGroups[0].autoscaling.maxNodeProvisionTime",
		}},
		{"alternatives that are none", "    alternatives: [{}, {flavor: flex-4-2}, {zone: rma1}, {zone: rma1}, {zone: ' '}]\n", []string{
			"spec.nodeGroups[0].alternatives[0]", "spec.nodeGroups[0].alternatives[1]", "spec.nodeGroups[0].alternatives[3]",
			"spec.nodeGroups[0].alternatives[4]",
		}},
		{"too many", "    alternatives: [{zone: a}, {zone: b}, {zone: c}, {zone: d}, {zone: e}, {zone: f}, {zone: g}, {zone: h}, {zone: i}]\n", []string{
			"spec.nodeGroups[0].alternatives",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _, err := Decode([]byte(minimal + scalingGroup + tc.doc))
			var problems Problems
			if !errors.As(err, &problems) {
				problems = c.Validate()
			}
			var got []string
			for _, p := range problems {
				got = append(got, p.Field)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%v\n%s", problems, diff)
			}
		})
	}
}

func TestValidateExternalTakesForeignLabels(t *testing.T) {
	g := NodeGroup{
		Name: "worker", Flavor: "flex-4-2", Max: 3,
		Labels: map[string]string{"node-role.kubernetes.io/worker": "", "topology.kubernetes.io/region": "rma"},
	}
	if p := g.ValidateExternal("nodeGroups[0]"); len(p) > 0 {
		t.Error(p)
	}
	g.Name, g.Labels, g.Max, g.Taints = ControlPlaneGroup, map[string]string{"bad key": "bad value"}, 0, []Taint{{Key: "a", Effect: "Never"}}
	var fields []string
	for _, p := range g.ValidateExternal("nodeGroups[0]") {
		fields = append(fields, p.Field)
	}
	want := []string{
		"nodeGroups[0].name", "nodeGroups[0].max", "nodeGroups[0].labels.bad key", "nodeGroups[0].labels.bad key",
		"nodeGroups[0].taints[0].effect",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}

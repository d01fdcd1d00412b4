package kubelet_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	temporal "go.temporal.io/sdk/testsuite"
	corev1 "k8s.io/api/core/v1"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube/kubelet"
)

// offer is a cloud that has nothing but flavors.
type offer struct {
	cloud.Provider
	flavors []cloud.Flavor
}

func (o offer) Flavors(context.Context) ([]cloud.Flavor, error) { return o.flavors, nil }

func (o offer) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return o, "", nil
}

// What the autoscaler is promised of a machine with GPUs is what the machine's node
// has, under the same name.
func TestPromisedGPUs(t *testing.T) {
	type promise struct {
		name                  string
		capacity, allocatable int64
	}
	for _, it := range account.InstanceTypes() {
		f := cloud.Flavor{Name: it.Name, Arch: "amd64", VCPUs: it.VCPUs, MemoryMiB: it.MemoryMiB}
		node := kubelet.Resources{VCPUs: it.VCPUs, MemoryMiB: it.MemoryMiB, DiskGiB: 50}
		if it.GPU != nil {
			f.GPUs, f.GPUName, node.GPUs = it.GPU.Count, it.GPU.Manufacturer+" "+it.GPU.Name, it.GPU.Count
		}
		got := template(t, f)
		var promised, has []promise
		if got.Capacity.GPUs+got.Allocatable.GPUs > 0 {
			promised = []promise{{got.Allocatable.GPUResource, got.Capacity.GPUs, got.Allocatable.GPUs}}
		}
		capacity := node.Capacity()
		for name, n := range node.Allocatable() {
			if extended(name) {
				whole := capacity[name]
				has = append(has, promise{string(name), whole.Value(), n.Value()})
			}
		}
		if diff := cmp.Diff(has, promised, cmp.AllowUnexported(promise{})); diff != "" {
			t.Errorf("%s (-node +template):\n%s", it.Name, diff)
		}
		if (it.GPU != nil) != (len(has) > 0) {
			t.Errorf("%s: the node has %v", it.Name, has)
		}
	}
}

// extended says whether a resource is one of those that device plugins count: their
// names have a domain.
func extended(name corev1.ResourceName) bool { return strings.Contains(string(name), "/") }

func template(t *testing.T, f cloud.Flavor) cluster.NodeTemplate {
	t.Helper()
	var suite temporal.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	c := &activities.Cloud{Clouds: offer{flavors: []cloud.Flavor{f}}}
	env.RegisterActivity(c.GetNodeTemplate)
	value, err := env.ExecuteActivity(c.GetNodeTemplate, activities.GetNodeTemplateInput{
		Flavor: f.Name, Role: cluster.RoleWorker, DiskGiB: 50, Zone: "z", Standalone: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var out cluster.NodeTemplate
	if err := value.Get(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

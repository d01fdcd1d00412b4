package check_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/aws"
	"github.com/ichor-project/ichor/internal/cluster"
)

// Where the check takes spot machines, the provider has them.
func TestSpotIsThatOfTheProvider(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	p, err := aws.New(t.Context(), aws.Options{Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	spec := strings.NewReplacer("provider: cloudscale", "provider: aws", "zone: lpg1", "zone: eu-central-1a", "max: 4\n", "max: 4\n    spot: true\n").Replace(good)
	if problems := check.Spec(decode(t, spec), check.Options{}); p.Capabilities().Spot != (len(problems) == 0) {
		t.Errorf("the provider has spot machines: %t, and the check says %v", p.Capabilities().Spot, problems)
	}
	control := strings.Replace(spec, "replicas: 3", "replicas: 3\n    spot: true", 1)
	if _, _, err := cluster.Decode([]byte(control)); err == nil || !strings.Contains(err.Error(), "spec.controlPlane.spot") {
		t.Errorf("spot machines for etcd: %v", err)
	}
}

// What the check takes for a network's size is what the provider plans with.
func TestNetworksAreThoseOfTheProvider(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	p, err := aws.New(t.Context(), aws.Options{Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	spec := strings.NewReplacer("provider: cloudscale", "provider: aws", "zone: lpg1", "zone: eu-central-1a",
		"replicas: 3", "replicas: 1", "max: 5\n    count: 3", "max: 1\n    count: 1", "max: 4", "max: 1").Replace(good)
	planned, checked := map[int]bool{}, map[int]bool{}
	for bits := 12; bits <= 28; bits++ {
		cidr := fmt.Sprintf("172.16.0.0/%d", bits)
		_, err := p.PlanInfrastructure(cloud.InfrastructureSpec{
			Owner: cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}}, Zone: "eu-central-1a", CIDR: cidr,
		})
		planned[bits] = err == nil
		checked[bits] = len(check.Spec(decode(t, strings.Replace(spec, "10.200.0.0/24", cidr, 1)), check.Options{})) == 0
	}
	if diff := cmp.Diff(planned, checked); diff != "" {
		t.Errorf("prefixes that are taken (-provider +check):\n%s", diff)
	}
	if !planned[16] || !planned[25] || planned[15] || planned[26] {
		t.Errorf("the provider plans %v, and the guide says /16 to /25", planned)
	}
}

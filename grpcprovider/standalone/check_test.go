package standalone

import (
	"errors"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cluster"
)

// minimal is the shortest file without a problem.
const minimal = `cluster: shop
credentials: env:CLOUDSCALE_API_TOKEN
nodeGroups:
- name: worker
  flavor: flex-4-2
  max: 3
  zone: rma1
  image: custom:talos
  userData: "@talos"
  tag: k8s-autoscaler-group
`

// canary stands for secrets that people paste where they do not belong.
const canary = "canary-value-that-must-not-be-printed"

func problemsOf(t *testing.T, doc string) cluster.Problems {
	t.Helper()
	f, pos, err := Decode([]byte(doc))
	var p cluster.Problems
	if errors.As(err, &p) {
		return p
	}
	if err != nil {
		t.Fatal(err)
	}
	return pos.Locate(f.Check())
}

func TestCheckReportsEveryProblemWithPathAndLine(t *testing.T) {
	group := func(more string) string { return minimal + more }
	for _, tc := range []struct {
		name, doc string
		want      []string // "field (line): beginning of the reason"
	}{
		{"minimal", minimal, nil},
		{"empty", "", []string{"the document is empty"}},
		{"nothing", "{}", []string{"cluster: is required", "credentials: is required", "nodeGroups: needs at least one"}},
		{"unknown field", group("  userdata: " + canary + "\n"), []string{"nodeGroups[0].userdata (line 11): unknown field; did you mean userData?"}},
		{"wrong types", strings.Replace(minimal, "max: 3", "max: three", 1) + "  tags: [" + canary + "]\n", []string{
			"nodeGroups[0].max (line 6): must be a whole number", "nodeGroups[0].tags (line 11): must be a mapping",
		}},
		{"a group of nothing", "cluster: shop\ncredentials: env:A\nnodeGroups: [{}]\n", []string{
			"nodeGroups[0].name (line 3): is required", "nodeGroups[0].flavor (line 3): is required", "nodeGroups[0].max (line 3): must be at least 1",
			"nodeGroups[0].image (line 3): is required", "nodeGroups[0].zone (line 3): is required", "nodeGroups[0].userData (line 3): is required",
		}},
		{"both spellings", group("  maxSize: 4\n  minSize: 2\n  min: 2\n"), []string{
			"nodeGroups[0].minSize (line 12): means the same as min", "nodeGroups[0].maxSize (line 11): means the same as max",
		}},
		{"problems name the written spelling", strings.Replace(minimal, "max: 3", "maxSize: 501\n  minSize: -1\n  volumeSizeGB: 5", 1), []string{
			"nodeGroups[0].volumeSizeGB (line 8): must be at least 10", "nodeGroups[0].minSize (line 7): must not be negative",
			"nodeGroups[0].maxSize (line 6): must be at most 500",
		}},
		{"control planes do not scale", strings.Replace(minimal, "name: worker", "name: cp", 1), []string{"nodeGroups[0].name (line 4): cp is the name"}},
		{"unknown cloud", minimal + "cloud: elsewhere\n", []string{"cloud (line 11): is not a cloud"}},
		{"unknown zone", strings.Replace(minimal, "zone: rma1", "zone: rma9\n  alternatives: [{zone: xyz}]", 1), []string{
			"nodeGroups[0].zone (line 7): cloudscale has no such zone", "nodeGroups[0].alternatives[0].zone (line 8): cloudscale has no such zone",
		}},
		{"credentials of the surroundings", strings.NewReplacer("env:CLOUDSCALE_API_TOKEN", `"chain:"`, "rma1", "eu-central-1a", "  tag: k8s-autoscaler-group\n", "").Replace(minimal) + "cloud: aws\n", nil},
		{"no zone of AWS", strings.NewReplacer("rma1", "eu-central-1", "  tag: k8s-autoscaler-group\n", "").Replace(minimal) + "cloud: aws\n", []string{
			`nodeGroups[0].zone (line 7): "eu-central-1" is not a zone of aws, which are named like eu-central-1a`,
		}},
		{"zones of AWS are named as there", strings.NewReplacer("  zone: rma1\n", "", "  tag: k8s-autoscaler-group\n", "").Replace(minimal) + "cloud: aws\n", []string{
			"nodeGroups[0].zone (line 4): is required, for example eu-central-1a",
		}},
		{"machines of AWS that exist", strings.Replace(minimal, "rma1", "eu-central-1a", 1) + "cloud: aws\n", []string{"nodeGroups[0].tag (line 10): machines of aws that exist cannot be taken over"}},
		{"parameters of another cloud", group("  params: {securityGroup: sg-1}\n"), []string{"nodeGroups[0].params.securityGroup (line 11): is not a parameter of machines on cloudscale; it has none"}},
		{"no such surroundings", strings.Replace(minimal, "env:CLOUDSCALE_API_TOKEN", `"chain:"`, 1), []string{"credentials (line 2): "}},
		{"a token as credentials", strings.Replace(minimal, "env:CLOUDSCALE_API_TOKEN", canary, 1), []string{"credentials (line 2): is not a reference"}},
		{"a token in the other spelling", strings.Replace(minimal, "credentials: env:CLOUDSCALE_API_TOKEN", "cloudscaleAPIToken: "+canary, 1), []string{
			"cloudscaleAPIToken (line 2): is taken as ${NAME}",
		}},
		{"two credentials", minimal + "cloudscaleAPIToken: $TOKEN\n", []string{"cloudscaleAPIToken (line 11): cannot be combined"}},
		{"a kubeconfig as text", minimal + "kubeconfig: " + canary + "\n", []string{"kubeconfig (line 11): is not a reference"}},
		{"one name twice", minimal + strings.SplitN(minimal, "nodeGroups:\n", 2)[1], []string{
			"nodeGroups[1].name (line 11): is used twice", "nodeGroups[1].tag (line 17): is also the tag of nodeGroups[0]",
		}},
		{"reserved tag", strings.Replace(minimal, "tag: k8s-autoscaler-group", "tag: ichor/group", 1), []string{"nodeGroups[0].tag (line 10): begins with ichor/"}},
		{"no tag", strings.Replace(minimal, "tag: k8s-autoscaler-group", `tag: "=x"`, 1), []string{"nodeGroups[0].tag (line 10): must be the key"}},
		{"contradicting tags", group("  tags: {k8s-autoscaler-group: other}\n"), []string{"nodeGroups[0].tags (line 11): sets"}},
		{"private only", group("  usePrivateNetwork: true\n  networkUUID: a\n"), []string{"nodeGroups[0].usePublicNetwork (line 4): must be true"}},
		{"not public", group("  usePublicNetwork: false\n"), []string{"nodeGroups[0].usePublicNetwork (line 11): must be true"}},
		{"a private network without name", group("  usePrivateNetwork: true\n  usePublicNetwork: true\n"), []string{"nodeGroups[0].networkUUID (line 4): is required with"}},
		{"a subnet without network", group("  subnetUUID: a\n"), []string{"nodeGroups[0].subnetUUID (line 11): needs networkUUID"}},
		{"subnets", group("  subnets: [a, a, '']\n"), []string{
			"nodeGroups[0].subnets[1] (line 11): is listed twice", "nodeGroups[0].subnets[2] (line 11): must be",
		}},
		{"not supported", group("  sshKeys: [" + canary + "]\n  serverGroupUUID: a\n"), []string{
			"nodeGroups[0].serverGroupUUID (line 12): is not supported", "nodeGroups[0].sshKeys (line 11): is not supported",
		}},
		{"prices", minimal + "prices: {flex-4-1: 1, flex-4-2: 0}\n", []string{
			"prices.flex-4-1 (line 11): is of a flavor that no group uses", "prices.flex-4-2 (line 11): must be more than 0",
		}},
		{"a price is missing", group("  alternatives: [{flavor: flex-8-2}]\n") + "prices: {flex-4-2: 1}\n", []string{"prices (line 12): has no price of flex-8-2"}},
		{"a cluster tag that is no name", strings.Replace(minimal, "cluster: shop", "clusterTag: Shop", 1), []string{"clusterTag (line 1): must be a DNS label"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := problemsOf(t, tc.doc)
			for i, p := range got {
				if strings.Contains(p.String(), canary) {
					t.Errorf("repeats a value: %s", p)
				}
				if i >= len(tc.want) || !strings.HasPrefix(p.String(), tc.want[i]) {
					t.Errorf("problem %d: %s", i, p)
				}
			}
			if len(got) != len(tc.want) {
				t.Errorf("%d problems, want %d", len(got), len(tc.want))
			}
		})
	}
}

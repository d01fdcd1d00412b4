package check_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cluster"
)

const canary = "canary-7c1b-must-not-be-printed"

// good is a spec without a problem that uses most fields.
const good = `apiVersion: ichor.dev/v1alpha1
kind: Cluster
metadata:
  name: demo
spec:
  cloud:
    provider: cloudscale
    zone: lpg1
    credentials: env:CLOUDSCALE_API_TOKEN
  talos:
    version: v1.13.5
    extensions: [siderolabs/intel-ucode]
  kubernetes:
    version: v1.36.3
  network:
    cidr: 10.200.0.0/24
    adminCIDRs: [192.0.2.0/24]
  controlPlane:
    replicas: 3
    flavor: flex-4-2
  nodeGroups:
  - name: general
    flavor: flex-4-1
    min: 1
    max: 5
    count: 3
    labels: {example.com/tier: general}
    taints: [{key: example.com/only, value: batch, effect: NoSchedule}]
    tags: {team: infra}
  - name: large
    flavor: flex-16-4
    min: 0
    max: 4
  manifests:
  - name: ccm
    file: ccm.yaml
  secrets:
  - {namespace: kube-system, name: cloudscale, key: access-token, from: "env:CLOUDSCALE_API_TOKEN"}
`

func decode(t *testing.T, doc string) cluster.Cluster {
	t.Helper()
	c, _, err := cluster.Decode([]byte(doc))
	if err != nil {
		t.Fatalf("the document does not decode: %v", err)
	}
	return c
}

func TestGoodSpecHasNoProblem(t *testing.T) {
	if p := check.Spec(decode(t, good), check.Options{}); len(p) > 0 {
		t.Fatal(p)
	}
}

func TestScalingOptionsAreAccepted(t *testing.T) {
	doc := edit(t, []string{"max: 4", `max: 4
    alternatives: [{flavor: flex-16-8}, {zone: lpg1, flavor: flex-32-8}]
    autoscaling: {scaleDownUtilizationThreshold: 0.5, scaleDownGPUUtilizationThreshold: 1, scaleDownUnneededTime: 10m, scaleDownUnreadyTime: 20m, maxNodeProvisionTime: 15m, ignoreDaemonSetsUtilization: true}`})
	c := decode(t, doc)
	if p := check.Spec(c, check.Options{}); len(p) > 0 {
		t.Fatal(p)
	}
	if err := compile(t).Validate(asJSON(t, []byte(doc))); err != nil {
		t.Errorf("the schema refuses it: %v", err)
	}
	if c.Digest() == decode(t, good).Digest() {
		t.Error("scaling options do not count for the digest")
	}
}

// TestDigestOfOldSpecs: a record holds the digest of the spec that it was made
// from, so a newer Ichor must compute the same.
func TestDigestOfOldSpecs(t *testing.T) {
	const before = "cd43c4a033c54330fff581df9a9d4007e443bae0fe0ae2260435d0f5ab2263f6"
	if got := decode(t, good).Digest(); got != before {
		t.Errorf("the digest of a spec changed from %s to %s", before, got)
	}
}

func problem(field, reason string) cluster.Problem {
	return cluster.Problem{Field: field, Reason: reason}
}

// edit replaces text of the good spec; every replacement must hit.
func edit(t *testing.T, pairs []string) string {
	t.Helper()
	doc := good
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(doc, pairs[i]) {
			t.Fatalf("the good spec has no %q", pairs[i])
		}
		doc = strings.Replace(doc, pairs[i], pairs[i+1], 1)
	}
	return doc
}

const remedy = "start by `ichor provision -f FILE`, or give other tools what `ichor spec publish -f FILE` prints"

func TestBadSpecs(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	for _, tc := range []struct {
		name string
		edit []string
		opt  check.Options
		want cluster.Problems
	}{
		{name: "api version", edit: []string{"ichor.dev/v1alpha1", "ichor.dev/v2"}, want: cluster.Problems{problem("apiVersion", "must be ichor.dev/v1alpha1")}},
		{name: "kind", edit: []string{"kind: Cluster", "kind: Klaster"}, want: cluster.Problems{problem("kind", "must be Cluster")}},
		{name: "no name", edit: []string{"name: demo", "name:"}, want: cluster.Problems{problem("metadata.name", "is required")}},
		{name: "long name", edit: []string{"name: demo", "name: " + long(31)}, want: cluster.Problems{problem("metadata.name", "is too long: it has 31 characters, at most 30 are allowed")}},
		{name: "upper-case name", edit: []string{"name: demo", "name: Demo"}, want: cluster.Problems{problem("metadata.name", "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit")}},
		{name: "name with dots", edit: []string{"name: demo", "name: demo.example"}, want: cluster.Problems{problem("metadata.name", "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit")}},
		{name: "no provider", edit: []string{"provider: cloudscale", "provider:"}, want: cluster.Problems{problem("spec.cloud.provider", "is required, for example cloudscale")}},
		{name: "unknown provider", edit: []string{"provider: cloudscale", "provider: nimbus"}, want: cluster.Problems{problem("spec.cloud.provider", "is not a cloud that this Ichor knows; it knows aws, cloudscale")}},
		{name: "zone without a region", edit: []string{"provider: cloudscale", "provider: aws"}, want: cluster.Problems{problem("spec.cloud.zone", `"lpg1" is not a zone of aws, which are named like eu-central-1a`)}},
		{name: "zones of two regions", edit: []string{"provider: cloudscale", "provider: aws", "zone: lpg1", "zone: eu-central-1a", "    max: 4\n", "    max: 4\n    zones: [eu-central-1b, eu-west-1a]\n"}, want: cluster.Problems{problem("spec.nodeGroups[1].zones[1]", "is in the region eu-west-1, and the cluster in eu-central-1: one cluster lies in one region")}},
		{name: "what AWS does not take", edit: []string{"provider: cloudscale", "provider: aws", "zone: lpg1", "zone: eu-central-1a", "10.200.0.0/24", "10.0.0.0/12", "flavor: flex-16-4", "flavor: t2.large"}, want: cluster.Problems{problem("spec.network.cidr", "has a prefix of 12 bits, and aws makes networks of 16 to 25"), problem("spec.nodeGroups[1].flavor", "Talos does not boot on t2.*")}},
		{name: "part of a zone too small", edit: []string{"provider: cloudscale", "provider: aws", "zone: lpg1", "zone: eu-central-1a", "10.200.0.0/24", "10.200.0.0/25", "max: 4", "max: 8\n    zones: [eu-central-1a, eu-central-1b]"}, want: cluster.Problems{problem("spec.network.cidr",
			"is too small: it is split into 8 parts, one for each zone, with 10 addresses for machines; the spec needs up to 12 in eu-central-1a")}},
		{name: "spot machines where there are none", edit: []string{"    max: 4\n", "    max: 4\n    spot: true\n"}, want: cluster.Problems{problem("spec.nodeGroups[1].spot", "cloudscale rents no machines that it may take back")}},
		{name: "no zone", edit: []string{"zone: lpg1", "zone:"}, want: cluster.Problems{problem("spec.cloud.zone", "is required, for example lpg1")}},
		{name: "unknown zone", edit: []string{"zone: lpg1", "zone: lpg9"}, want: cluster.Problems{problem("spec.cloud.zone", "cloudscale has no such zone; it has lpg1, rma1")}},
		{name: "group in another zone", edit: []string{"max: 4", "max: 4\n    zone: rma1"}, want: cluster.Problems{problem("spec.nodeGroups[1].zone", "must be the zone of the cluster: private networks of cloudscale do not span zones")}},
		{name: "alternative in another zone", edit: []string{"max: 4", "max: 4\n    alternatives: [{flavor: flex-16-8}, {zone: rma1}]"}, want: cluster.Problems{problem("spec.nodeGroups[1].alternatives[1].zone", "must be the zone of the cluster: the group uses the cluster's private network, and private networks of cloudscale do not span zones; give another flavor instead")}},
		{name: "alternative in no zone", edit: []string{"max: 4", "max: 4\n    alternatives: [{zone: lpg9, flavor: flex-16-8}]"}, want: cluster.Problems{problem("spec.nodeGroups[1].alternatives[0].zone", "cloudscale has no such zone; it has lpg1, rma1")}},
		{name: "alternative that is none", edit: []string{"max: 4", "max: 4\n    alternatives: [{zone: lpg1}, {}, {flavor: flex-16-4}]"}, want: cluster.Problems{
			problem("spec.nodeGroups[1].alternatives[1]", "needs a zone, a flavor or both"),
			problem("spec.nodeGroups[1].alternatives[2]", "is what the group asks for anyway"),
			problem("spec.nodeGroups[1].alternatives[0]", "is what the group asks for anyway"),
		}},
		{name: "alternative twice", edit: []string{"max: 4", "max: 4\n    alternatives: [{flavor: flex-16-8}, {flavor: flex-16-8}]"}, want: cluster.Problems{problem("spec.nodeGroups[1].alternatives[1]", "is listed twice, first as spec.nodeGroups[1].alternatives[0]")}},
		{name: "autoscaling in parts", edit: []string{"max: 4", "max: 4\n    autoscaling: {scaleDownUtilizationThreshold: 0.5, scaleDownGPUUtilizationThreshold: 1, scaleDownUnneededTime: 10m}"}, want: cluster.Problems{
			problem("spec.nodeGroups[1].autoscaling.scaleDownUnreadyTime", "must be a time span, for example 20m; all options are needed, since the autoscaler takes what is missing as zero"),
			problem("spec.nodeGroups[1].autoscaling.maxNodeProvisionTime", "must be a time span, for example 15m; all options are needed, since the autoscaler takes what is missing as zero"),
		}},
		{name: "autoscaling out of bounds", edit: []string{"max: 4", "max: 4\n    autoscaling: {scaleDownUtilizationThreshold: 0, scaleDownGPUUtilizationThreshold: 1.01, scaleDownUnneededTime: -10m, scaleDownUnreadyTime: 20m, maxNodeProvisionTime: 1m}"}, want: cluster.Problems{
			problem("spec.nodeGroups[1].autoscaling.scaleDownUtilizationThreshold", "must be more than 0 and at most 1, for example 0.5; all options are needed, since the autoscaler takes what is missing as zero"),
			problem("spec.nodeGroups[1].autoscaling.scaleDownGPUUtilizationThreshold", "must be more than 0 and at most 1, for example 0.5; all options are needed, since the autoscaler takes what is missing as zero"),
			problem("spec.nodeGroups[1].autoscaling.scaleDownUnneededTime", "must be a time span, for example 10m; all options are needed, since the autoscaler takes what is missing as zero"),
			problem("spec.nodeGroups[1].autoscaling.maxNodeProvisionTime", "must be longer than 1m0s: no machine becomes a node faster than that"),
		}},
		{name: "no credentials", edit: []string{"credentials: env:CLOUDSCALE_API_TOKEN", "credentials:"}, want: cluster.Problems{problem("spec.cloud.credentials", "is required: a reference such as env:CLOUDSCALE_API_TOKEN, never the credential itself")}},
		{name: "a credential itself", edit: []string{"env:CLOUDSCALE_API_TOKEN", canary}, want: cluster.Problems{problem("spec.cloud.credentials", "is not a reference (its value is not repeated here); use env:NAME, file:/path, kube:namespace/name#key or store:key")}},
		{name: "surroundings of another cloud", edit: []string{"env:CLOUDSCALE_API_TOKEN", `"chain:"`}, want: cluster.Problems{problem("spec.cloud.credentials", "is not a reference (its value is not repeated here); use env:NAME, file:/path, kube:namespace/name#key or store:key")}},
		{name: "credential of a cluster", edit: []string{"env:CLOUDSCALE_API_TOKEN", "store:clusters/other/x/bundle"}, want: cluster.Problems{problem("spec.cloud.credentials", "names an object that belongs to a cluster; put your own secrets elsewhere in the store")}},
		{name: "no Talos version", edit: []string{"version: v1.13.5", "version:"}, want: cluster.Problems{problem("spec.talos.version", "is required, for example v1.13.5")}},
		{name: "Talos without v", edit: []string{"v1.13.5", "1.13.5"}, want: cluster.Problems{problem("spec.talos.version", "needs a leading v: v1.13.5")}},
		{name: "Talos without patch level", edit: []string{"v1.13.5", "v1.13"}, want: cluster.Problems{problem("spec.talos.version", "must be a complete version such as v1.13.5")}},
		{name: "unknown Talos", edit: []string{"v1.13.5", "v1.15.0"}, want: cluster.Problems{problem("spec.talos.version", "is newer than this Ichor, which knows Talos v1.13 to v1.14; whether it would work is unknown, so use a newer Ichor")}},
		{name: "old Talos", edit: []string{"v1.13.5", "v1.10.2"}, want: cluster.Problems{problem("spec.talos.version", "is too old: Ichor supports Talos v1.13 to v1.14")}},
		{name: "contract newer than Talos", edit: []string{"version: v1.13.5", "version: v1.13.5\n    contract: v1.14"}, want: cluster.Problems{problem("spec.talos.contract", "is newer than Talos v1.13, which could not read such a config")}},
		{name: "unknown contract", edit: []string{"version: v1.13.5", "version: v1.13.5\n    contract: v1.9"}, want: cluster.Problems{problem("spec.talos.contract", "is not a contract that this Ichor can write; it writes v1.13 to v1.14")}},
		{name: "malformed contract", edit: []string{"version: v1.13.5", "version: v1.13.5\n    contract: v1.13.5"}, want: cluster.Problems{problem("spec.talos.contract", "must have the form v1.13")}},
		{name: "short schematic", edit: []string{"extensions: [siderolabs/intel-ucode]", "schematic: abc"}, want: cluster.Problems{problem("spec.talos.schematic", "must be an Image Factory id: 64 lower-case hexadecimal digits")}},
		{name: "schematic and extensions", edit: []string{"version: v1.13.5", "version: v1.13.5\n    schematic: " + strings.Repeat("a", 64)}, want: cluster.Problems{problem("spec.talos.extensions", "cannot be combined with schematic, which already says what the image contains")}},
		{name: "extension syntax", edit: []string{"[siderolabs/intel-ucode]", "[intel-ucode]"}, want: cluster.Problems{problem("spec.talos.extensions[0]", "must have the form owner/name, for example siderolabs/intel-ucode")}},
		{name: "extension twice", edit: []string{"[siderolabs/intel-ucode]", "[siderolabs/intel-ucode, siderolabs/intel-ucode]"}, want: cluster.Problems{problem("spec.talos.extensions[1]", "is listed twice, first as spec.talos.extensions[0]")}},
		{name: "extensions of a group and schematic", edit: []string{"    max: 4\n", "    max: 4\n    schematic: " + strings.Repeat("a", 64) + "\n    extensions: [siderolabs/gvisor]\n"}, want: cluster.Problems{problem("spec.nodeGroups[1].extensions", "cannot be combined with schematic, which already says what the image contains")}},
		{name: "image and extensions of a group", edit: []string{"    max: 4\n", "    max: 4\n    image: custom:talos\n    extensions: [gvisor]\n"}, want: cluster.Problems{problem("spec.nodeGroups[1].image", "cannot be combined with schematic or extensions, of which an image is made"), problem("spec.nodeGroups[1].extensions[0]", "must have the form owner/name, for example siderolabs/intel-ucode")}},
		{name: "zones of a group", edit: []string{"    max: 4\n", "    max: 4\n    zones: [lpg1, lpg1]\n    zone: rma1\n"}, want: cluster.Problems{problem("spec.nodeGroups[1].zone", "is not among zones; give one or the other"), problem("spec.nodeGroups[1].zones[1]", "is listed twice, first as spec.nodeGroups[1].zones[0]"), problem("spec.nodeGroups[1].zone", "must be the zone of the cluster: private networks of cloudscale do not span zones")}},
		{name: "no Kubernetes version", edit: []string{"version: v1.36.3", "version:"}, want: cluster.Problems{problem("spec.kubernetes.version", "is required, for example v1.36.3")}},
		{name: "Kubernetes too old", edit: []string{"v1.36.3", "v1.30.1"}, want: cluster.Problems{problem("spec.kubernetes.version", "Talos v1.13 runs Kubernetes v1.31 to v1.36")}},
		{name: "Kubernetes too new", edit: []string{"v1.36.3", "v1.37.0"}, want: cluster.Problems{problem("spec.kubernetes.version", "Talos v1.13 runs Kubernetes v1.31 to v1.36; Kubernetes v1.37 runs on Talos v1.14")}},
		{name: "Kubernetes too old for new Talos", edit: []string{"v1.13.5", "v1.14.1", "v1.36.3", "v1.31.0"}, want: cluster.Problems{problem("spec.kubernetes.version", "Talos v1.14 runs Kubernetes v1.32 to v1.37; Kubernetes v1.31 runs on Talos v1.13")}},
		{name: "Kubernetes 2", edit: []string{"v1.36.3", "v2.0.0"}, want: cluster.Problems{problem("spec.kubernetes.version", "is not a version of Kubernetes: the major version is 1")}},
		{name: "no network", edit: []string{"cidr: 10.200.0.0/24", "cidr:"}, want: cluster.Problems{problem("spec.network.cidr", "is required, for example 10.200.0.0/24")}},
		{name: "CIDR syntax", edit: []string{"10.200.0.0/24", "10.200.0.0"}, want: cluster.Problems{problem("spec.network.cidr", "needs a prefix length; a single address is 10.200.0.0/32")}},
		{name: "host bits", edit: []string{"10.200.0.0/24", "10.200.0.7/24"}, want: cluster.Problems{problem("spec.network.cidr", "has host bits set; did you mean 10.200.0.0/24?")}},
		{name: "subnet too small", edit: []string{"10.200.0.0/24", "10.200.0.0/28"}, want: cluster.Problems{problem("spec.network.cidr", "is too small: it has 13 addresses, and the spec needs up to 16 for 12 machines")}},
		{name: "subnet in the service range", edit: []string{"10.200.0.0/24", "10.100.0.0/24"}, want: cluster.Problems{problem("spec.network.serviceCIDR", "10.96.0.0/12 overlaps with 10.100.0.0/24 of spec.network.cidr")}},
		{name: "subnet in the pod range", edit: []string{"10.200.0.0/24", "10.244.3.0/24"}, want: cluster.Problems{problem("spec.network.podCIDR", "10.244.0.0/16 overlaps with 10.244.3.0/24 of spec.network.cidr")}},
		{name: "pods and services overlap", edit: []string{"cidr: 10.200.0.0/24", "cidr: 10.200.0.0/24\n    podCIDR: 10.96.0.0/16"}, want: cluster.Problems{problem("spec.network.serviceCIDR", "10.96.0.0/12 overlaps with 10.96.0.0/16 of spec.network.podCIDR")}},
		{name: "too few pod ranges", edit: []string{"cidr: 10.200.0.0/24", "cidr: 10.200.0.0/24\n    podCIDR: 10.244.0.0/21"}, want: cluster.Problems{problem("spec.network.podCIDR", "is too small: every node takes a /24 of it, and the spec allows 12 machines")}},
		{name: "service range too large", edit: []string{"cidr: 10.200.0.0/24", "cidr: 10.200.0.0/24\n    serviceCIDR: 172.0.0.0/8"}, want: cluster.Problems{problem("spec.network.serviceCIDR", "is too large: Kubernetes takes at most a /12")}},
		{name: "network made and brought", edit: []string{"cidr: 10.200.0.0/24", "cidr: 10.200.0.0/24\n    existing: {network: n, subnet: s, cidr: 10.201.0.0/24}"}, want: cluster.Problems{problem("spec.network.cidr", "cannot be combined with existing; the range belongs into existing.cidr")}},
		{name: "network half brought", edit: []string{"cidr: 10.200.0.0/24", "existing: {network: n}"}, want: cluster.Problems{
			problem("spec.network.existing.subnet", "is required: the cloud's id of the subnet"),
			problem("spec.network.existing.cidr", "is required, for example 10.200.0.0/24"),
		}},
		{name: "no admins", edit: []string{"[192.0.2.0/24]", "[]"}, want: cluster.Problems{problem("spec.network.adminCIDRs", "is required: list the ranges that may reach the machine API and the Kubernetes API, the worker's own address among them")}},
		{name: "the world", edit: []string{"192.0.2.0/24", "0.0.0.0/0"}, want: cluster.Problems{problem("spec.network.adminCIDRs[0]", "opens the machine API and the Kubernetes API to the world; narrow it, or set spec.network.allowWorld: true if that is meant")}},
		{name: "the world in halves", edit: []string{"192.0.2.0/24", "192.0.2.0/24, 0.0.0.0/1, \"::/0\""}, want: cluster.Problems{
			problem("spec.network.adminCIDRs[1]", "opens the machine API and the Kubernetes API to the world; narrow it, or set spec.network.allowWorld: true if that is meant"),
			problem("spec.network.adminCIDRs[2]", "opens the machine API and the Kubernetes API to the world; narrow it, or set spec.network.allowWorld: true if that is meant"),
		}},
		{name: "admins among pods", edit: []string{"192.0.2.0/24", "10.244.0.0/24"}, want: cluster.Problems{problem("spec.network.adminCIDRs[0]", "10.244.0.0/24 overlaps with 10.244.0.0/16 of spec.network.podCIDR")}},
		{name: "admin twice", edit: []string{"192.0.2.0/24", "192.0.2.0/24, 192.0.2.0/24"}, want: cluster.Problems{problem("spec.network.adminCIDRs[1]", "is listed twice, first as spec.network.adminCIDRs[0]")}},
		{name: "endpoint twice", edit: []string{"  controlPlane:", "  endpoint: {loadBalancer: {}, address: api.example.com}\n  controlPlane:"}, want: cluster.Problems{problem("spec.endpoint", "takes either loadBalancer or address, not both")}},
		{name: "endpoint with a port", edit: []string{"  controlPlane:", "  endpoint: {address: \"api.example.com:6443\"}\n  controlPlane:"}, want: cluster.Problems{problem("spec.endpoint.address", "must be a host name or an IP address without a port; the port is 6443")}},
		{name: "endpoint as URL", edit: []string{"  controlPlane:", "  endpoint: {address: \"https://api.example.com\"}\n  controlPlane:"}, want: cluster.Problems{problem("spec.endpoint.address", "must be a host name or an IP address without scheme and path")}},
		{name: "kine", edit: []string{"  controlPlane:", "  datastore: kine\n  controlPlane:"}, want: cluster.Problems{problem("spec.datastore", "kine is not offered: Talos runs its control plane on etcd only; docs/decisions/0002-datastore-etcd.md has the reasons and the alternatives")}},
		{name: "another datastore", edit: []string{"  controlPlane:", "  datastore: sqlite\n  controlPlane:"}, want: cluster.Problems{problem("spec.datastore", "must be etcd; see docs/decisions/0002-datastore-etcd.md")}},
		{name: "two control planes", edit: []string{"replicas: 3", "replicas: 2"}, want: cluster.Problems{problem("spec.controlPlane.replicas", "must be 1, 3 or 5, not 2: etcd needs an odd number to keep its quorum")}},
		{name: "no flavor", edit: []string{"flavor: flex-4-2", "flavor:"}, want: cluster.Problems{problem("spec.controlPlane.flavor", "is required, for example flex-4-2")}},
		{name: "small disk", edit: []string{"flavor: flex-4-2", "flavor: flex-4-2\n    diskGiB: 8"}, want: cluster.Problems{problem("spec.controlPlane.diskGiB", "must be at least 10")}},
		{name: "group named cp", edit: []string{"name: large", "name: cp"}, want: cluster.Problems{problem("spec.nodeGroups[1].name", "cp is the name of the control plane's own group")}},
		{name: "group name twice", edit: []string{"name: large", "name: general"}, want: cluster.Problems{problem("spec.nodeGroups[1].name", "is used twice, first by spec.nodeGroups[0]")}},
		{name: "long group name", edit: []string{"name: large", "name: " + long(21)}, want: cluster.Problems{problem("spec.nodeGroups[1].name", "is too long: it has 21 characters, at most 20 are allowed")}},
		{name: "min above max", edit: []string{"min: 0", "min: 9"}, want: cluster.Problems{problem("spec.nodeGroups[1].min", "is 9, more than max, which is 4")}},
		{name: "negative min", edit: []string{"min: 0", "min: -1"}, want: cluster.Problems{problem("spec.nodeGroups[1].min", "must not be negative")}},
		{name: "no max", edit: []string{"max: 4", "max: 0"}, want: cluster.Problems{problem("spec.nodeGroups[1].max", "must be at least 1")}},
		{name: "count above max", edit: []string{"count: 3", "count: 6"}, want: cluster.Problems{problem("spec.nodeGroups[0].count", "is 6, which is not between min 1 and max 5")}},
		{name: "label syntax", edit: []string{"example.com/tier: general", "-tier: general"}, want: cluster.Problems{problem("spec.nodeGroups[0].labels.-tier", "must have a name of 1 to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit")}},
		{name: "label value", edit: []string{"example.com/tier: general", "example.com/tier: a b"}, want: cluster.Problems{problem(`spec.nodeGroups[0].labels["example.com/tier"]`, "has a value that is not a label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit")}},
		{name: "role label", edit: []string{"example.com/tier", "node-role.kubernetes.io/worker"}, want: cluster.Problems{problem(`spec.nodeGroups[0].labels["node-role.kubernetes.io/worker"]`, "is a label that Kubernetes forbids nodes to set on themselves (NodeRestriction); use a prefix of your own or node.kubernetes.io/")}},
		{name: "zone label", edit: []string{"example.com/tier", "topology.kubernetes.io/zone"}, want: cluster.Problems{problem(`spec.nodeGroups[0].labels["topology.kubernetes.io/zone"]`, "is set by the cloud controller manager")}},
		{name: "taint effect", edit: []string{"effect: NoSchedule", "effect: Never"}, want: cluster.Problems{problem("spec.nodeGroups[0].taints[0].effect", "must be NoSchedule, PreferNoSchedule or NoExecute")}},
		{name: "taint of Kubernetes", edit: []string{"key: example.com/only", "key: node.kubernetes.io/not-ready"}, want: cluster.Problems{problem("spec.nodeGroups[0].taints[0].key", "is set and removed by Kubernetes itself")}},
		{name: "reserved tag", edit: []string{"team: infra", "Ichor/cluster: x"}, want: cluster.Problems{problem("spec.nodeGroups[0].tags.Ichor/cluster", "begins with ichor/, which is reserved: Ichor finds its resources by those tags")}},
		{name: "no source", edit: []string{"file: ccm.yaml", "file:"}, want: cluster.Problems{problem("spec.manifests[0]", "needs one of file, url, inline or ref")}},
		{name: "two sources", edit: []string{"file: ccm.yaml", "file: ccm.yaml\n    inline: " + canary}, want: cluster.Problems{problem("spec.manifests[0]", "takes one of file, url, inline or ref, not file and inline")}},
		{name: "ref without digest", edit: []string{"file: ccm.yaml", "ref: clusters/demo/bodies/"}, want: cluster.Problems{problem("spec.manifests[0].sha256", "is required with ref")}},
		{name: "ref of another cluster", edit: []string{"file: ccm.yaml", "ref: clusters/other/bodies/" + strings.Repeat("a", 64) + "\n    sha256: " + strings.Repeat("a", 64)}, want: cluster.Problems{problem("spec.manifests[0].ref", "must be clusters/demo/bodies/ followed by sha256, as `ichor spec publish` prints it")}},
		{name: "URL with credentials", edit: []string{"file: ccm.yaml", "url: https://user:" + canary + "@example.com/x"}, want: cluster.Problems{problem("spec.manifests[0].url", "must not contain credentials")}},
		{name: "URL in clear", edit: []string{"file: ccm.yaml", "url: http://example.com/x"}, want: cluster.Problems{problem("spec.manifests[0].url", "must use https, or be pinned by sha256")}},
		{name: "manifest name", edit: []string{"name: ccm", "name: ccm.yaml"}, want: cluster.Problems{problem("spec.manifests[0].name", "must be a DNS label: lower-case letters, digits and '-', beginning and ending with a letter or digit")}},
		{name: "no cloud controller", edit: []string{"  manifests:\n  - name: ccm\n    file: ccm.yaml\n", ""}, want: cluster.Problems{problem("spec.manifests", "must bring a cloud controller manager: without it nodes on cloudscale keep the taint uninitialized and never become ready")}},
		{name: "secret value instead of reference", edit: []string{`from: "env:CLOUDSCALE_API_TOKEN"`, "from: " + canary}, want: cluster.Problems{problem("spec.secrets[0].from", "is not a reference (its value is not repeated here); use env:NAME, file:/path, kube:namespace/name#key or store:key")}},
		{name: "secret key", edit: []string{"key: access-token", "key: \"a b\""}, want: cluster.Problems{problem("spec.secrets[0].key", "must be letters, digits, '-', '_' and '.', for example access-token")}},
		{name: "failure policy", edit: []string{"  controlPlane:", "  onFailure: retry\n  controlPlane:"}, want: cluster.Problems{problem("spec.onFailure", "must be rollback or keep")}},
		{name: "file through Temporal", opt: check.Options{FromTemporal: true}, want: cluster.Problems{problem("spec.manifests[0].file", "the worker cannot read files of your machine; "+remedy)}},
		{name: "inline through Temporal", edit: []string{"file: ccm.yaml", "inline: " + canary}, opt: check.Options{FromTemporal: true}, want: cluster.Problems{problem("spec.manifests[0].inline", "documents do not travel through Temporal; "+remedy)}},
		{name: "URL through Temporal", edit: []string{"file: ccm.yaml", "url: https://example.com/" + canary}, opt: check.Options{FromTemporal: true}, want: cluster.Problems{problem("spec.manifests[0].url", "the worker fetches no documents, so that a retry never sees another one; "+remedy)}},
		{name: "inline patch through Temporal", edit: []string{"file: ccm.yaml", "ref: clusters/demo/bodies/" + strings.Repeat("a", 64) + "\n    sha256: " + strings.Repeat("a", 64), "max: 4", "max: 4\n    patches: [{inline: " + canary + "}]"}, opt: check.Options{FromTemporal: true}, want: cluster.Problems{problem("spec.nodeGroups[1].patches[0].inline", "documents do not travel through Temporal; "+remedy)}},
		{name: "user data too large", edit: []string{"max: 4", "max: 4\n    patches: [{file: big}]"}, opt: check.Options{Bodies: map[string][]byte{"spec.nodeGroups[1].patches[0]": []byte("a: " + long(40_000))}}, want: cluster.Problems{problem("spec.nodeGroups[1].patches", "make a machine config of about 46147 bytes, and cloudscale takes 32768")}},
		{name: "JSON patch", edit: []string{"max: 4", "max: 4\n    patches: [{file: p}]"}, opt: check.Options{Bodies: map[string][]byte{"spec.nodeGroups[1].patches[0]": []byte("- op: add\n  value: " + canary + "\n")}}, want: cluster.Problems{problem("spec.nodeGroups[1].patches[0]", "is a list: JSON patches cannot change configs of several documents, write a strategic merge patch")}},
		{name: "cloud-init", edit: []string{"max: 4", "max: 4\n    patches: [{file: p}]"}, opt: check.Options{Bodies: map[string][]byte{"spec.nodeGroups[1].patches[0]": []byte("#cloud-config\npassword: " + canary + "\n")}}, want: cluster.Problems{problem("spec.nodeGroups[1].patches[0]", "is cloud-init user data; Talos takes strategic merge patches")}},
		{name: "manifest is no object", opt: check.Options{Bodies: map[string][]byte{"spec.manifests[0]": []byte("kind: Secret\nmetadata: {name: a}\n---\npassword: " + canary + "\n")}}, want: cluster.Problems{
			problem("spec.manifests[0]", "the document at line 1 is no Kubernetes object: it lacks apiVersion"),
			problem("spec.manifests[0]", "the document at line 4 is no Kubernetes object: it lacks apiVersion, kind, metadata.name"),
		}},
		{name: "manifest is no YAML", opt: check.Options{Bodies: map[string][]byte{"spec.manifests[0]": []byte("a: b\nc: " + canary + ": d\n")}}, want: cluster.Problems{problem("spec.manifests[0]", "is not YAML at line 2")}},
		{name: "manifest changed", edit: []string{"file: ccm.yaml", "file: ccm.yaml\n    sha256: " + strings.Repeat("a", 64)}, opt: check.Options{Bodies: map[string][]byte{"spec.manifests[0]": []byte("{apiVersion: v1, kind: List}")}}, want: cluster.Problems{problem("spec.manifests[0].sha256", "is not the digest of the document, which is b999a4b09d9721cecb5a4633e36a60769879bc9f481711b7fcc9dcad395c11df")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := check.Spec(decode(t, edit(t, tc.edit)), tc.opt)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if err := check.Error(got); strings.Contains(err.Error(), canary) {
				t.Errorf("the error repeats a value: %v", err)
			}
		})
	}
}

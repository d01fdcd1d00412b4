package compare

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/talos"
)

var update = flag.Bool("update", false, "rewrite golden files")

// versions are the ends of what is supported: each config contract once.
var versions = []struct{ contract, talos, kubernetes string }{
	{"v1.13", "v1.13.5", "v1.36.3"},
	{"v1.14", "v1.14.1", "v1.37.0"},
}

// load reads one of examples/same with texts of it replaced.
func load(t *testing.T, name string, edits ...string) File {
	t.Helper()
	const dir = "../../examples/same"
	data, err := os.ReadFile(filepath.Join(dir, name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			t.Fatalf("%s.yaml has no %q", name, edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	c, _, err := cluster.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	f := File{Name: name, Cluster: c, Bodies: map[string][]byte{}}
	for _, s := range c.Sources() {
		body := []byte(s.Source.Inline)
		if s.Source.File != "" {
			if body, err = os.ReadFile(filepath.Join(dir, s.Source.File)); err != nil {
				t.Fatal(err)
			}
		}
		if s.Source.Ref == "" {
			f.Bodies[s.Field] = body
		}
	}
	if p := check.Spec(c, check.Options{Bodies: f.Bodies}); len(p) > 0 {
		t.Fatal(p)
	}
	return f
}

func mustCompare(t *testing.T, a, b File) Result {
	t.Helper()
	r, err := Compare(a, b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(s *string) string {
	if s == nil {
		return "(nothing)"
	}
	return *s
}

// The two files ask for the same, so this is all that the clouds force: whoever
// renders something else for one cloud changes these files, and has to say why in
// the cloud's marks.
func TestForcedByCloudscaleAndAWS(t *testing.T) {
	needed := map[string]bool{}
	for _, v := range versions {
		t.Run(v.contract, func(t *testing.T) {
			edits := []string{versions[0].talos, v.talos, versions[0].kubernetes, v.kubernetes}
			r := mustCompare(t, load(t, "cloudscale", edits...), load(t, "aws", edits...))
			var got strings.Builder
			for _, d := range r.Differences {
				if d.Class != Forced || len(d.Because) > 0 {
					t.Errorf("%s (%s) is of class %s, because of %v: %v", d.Field, strings.Join(d.Nodes, ", "), d.Class, d.Because, d.Why)
				}
				needed[d.Field] = true
				fmt.Fprintf(&got, "%s\n", d.Field)
				if len(d.Nodes) > 0 {
					fmt.Fprintf(&got, "  of %s\n", strings.Join(d.Nodes, ", "))
				}
				fmt.Fprintf(&got, "  - %s\n  + %s\n  %s\n", text(d.A), text(d.B), strings.Join(d.Why, "; "))
			}
			for _, c := range r.Compared {
				fmt.Fprintf(&got, "%s: %d of %d fields are the same\n", c.Nodes, c.Same, c.Fields)
			}
			golden(t, v.contract+".golden", got.String())
		})
	}
	for _, name := range []string{"cloudscale", "aws"} {
		k, _ := catalog.Named(name)
		for _, f := range k.Marks.Forced() {
			if !needed[f.Field] {
				t.Errorf("%s declares that it forces %s, where nothing differs", name, f.Field)
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s\n\ngo test ./internal/compare -update writes it anew", name, diff)
	}
}

// asked lists what a comparison says that the files ask for, "field because field".
func asked(r Result) []string {
	var out []string
	for _, d := range r.Of(Asked) {
		line := d.Field + ": " + text(d.A) + " -> " + text(d.B)
		if len(d.Nodes) > 0 {
			line = strings.Join(d.Nodes, ", ") + ": " + line + " because of " + strings.Join(d.Because, ", ")
		}
		out = append(out, line)
	}
	return out
}

func TestWhatOneFileAsks(t *testing.T) {
	const firstManifest = "    - name: ccm\n"
	for _, tc := range []struct {
		name  string
		edits []string // of aws.yaml
		want  []string
	}{
		{"nothing else", nil, nil},
		{"another name", []string{"name: same-aws", "name: elsewhere"}, nil},
		{"a label", []string{"example.com/workload: batch", "example.com/workload: night"}, []string{
			`spec.nodeGroups[batch].labels["example.com/workload"]: batch -> night`,
			`batch: machine.nodeLabels["example.com/workload"]: batch -> night because of spec.nodeGroups[batch].labels`,
		}},
		{"a taint", []string{"key: example.com/batch\n", "key: example.com/night\n"}, []string{
			`spec.nodeGroups[batch].taints: {"effect":"NoSchedule","key":"example.com/batch"} -> {"effect":"NoSchedule","key":"example.com/night"}`,
			`batch: machine.kubelet.extraConfig.registerWithTaints: {"effect":"NoSchedule","key":"example.com/batch"} -> {"effect":"NoSchedule","key":"example.com/night"} because of spec.nodeGroups[batch].taints`,
		}},
		{"a patch", []string{`somaxconn: "4096"`, "somaxconn: \"4096\"\n              vm.swappiness: \"1\""}, []string{
			"spec.talos.patches[0]: a document, 51 bytes -> a document, 74 bytes",
			`control plane, general, batch, gpu: machine.sysctls["vm.swappiness"]: (nothing) -> 1 because of spec.talos.patches`,
		}},
		{"a patch of a field that the clouds force", []string{"              net.core.somaxconn", "              net.core.somaxconn: \"4096\"\n            certSANs: [api.example.com]\n            features: {}\n            sysfs:\n              a"}, []string{
			"spec.talos.patches[0]: a document, 51 bytes -> a document, 119 bytes",
			"control plane, general, batch, gpu: machine.certSANs: LOAD-BALANCER-ADDRESS -> LOAD-BALANCER-NAME, api.example.com because of spec.talos.patches",
			"control plane, general, batch, gpu: machine.sysfs.a: (nothing) -> 4096 because of spec.talos.patches",
		}},
		{"a secret in a patch", []string{`              net.core.somaxconn: "4096"`, "              net.core.somaxconn: \"4096\"\n            env:\n              http_proxy: http://canary:canary@proxy"}, []string{
			"spec.talos.patches[0]: a document, 51 bytes -> a document, 101 bytes",
			"control plane, general, batch, gpu: machine.env.http_proxy: (nothing) -> (not shown, 26 bytes) because of spec.talos.patches",
		}},
		{"a driver", []string{"        - siderolabs/nvidia-container-toolkit-production\n", ""}, []string{
			"spec.nodeGroups[gpu].extensions: siderolabs/nvidia-container-toolkit-production -> (nothing)",
			"gpu: installer: GPU openstack -> OTHER aws because of spec.nodeGroups[gpu].extensions",
			"gpu: machine.install.image: GPU openstack -> OTHER aws because of spec.nodeGroups[gpu].extensions",
			"gpu: schematic: GPU -> OTHER because of spec.nodeGroups[gpu].extensions",
		}},
		{"the API's address", []string{"loadBalancer: {}", "address: api.example.com"}, []string{
			"spec.endpoint.address: (nothing) -> api.example.com",
			"spec.endpoint.loadBalancer: {} -> (nothing)",
			"control plane: NetworkRuleConfig[ichor-kubernetes-api].ingress: subnet: LOAD-BALANCER-ADDRESS/32 -> (nothing) because of spec.endpoint",
			"control plane: cluster.apiServer.certSANs: LOAD-BALANCER-ADDRESS -> api.example.com because of spec.endpoint",
			"control plane, general, batch, gpu: cluster.controlPlane.endpoint: https://LOAD-BALANCER-ADDRESS:6443 -> https://api.example.com:6443 because of spec.endpoint",
			"control plane, general, batch, gpu: machine.certSANs: LOAD-BALANCER-ADDRESS -> api.example.com because of spec.endpoint",
		}},
		{"who may reach it", []string{"- 192.0.2.0/24", "- 198.51.100.0/24"}, []string{
			"spec.network.adminCIDRs: 192.0.2.0/24 -> 198.51.100.0/24",
			"control plane: NetworkRuleConfig[ichor-kubernetes-api].ingress: subnet: LOAD-BALANCER-ADDRESS/32, subnet: 192.0.2.0/24 -> subnet: 198.51.100.0/24 because of spec.network.adminCIDRs",
			"control plane, general, batch, gpu: NetworkRuleConfig[ichor-machine-api].ingress: subnet: 192.0.2.0/24 -> subnet: 198.51.100.0/24 because of spec.network.adminCIDRs",
		}},
		{"another group", []string{"name: batch", "name: night"}, []string{
			"spec.nodeGroups[batch]: flex-4-2, 0 to 10 machines -> (nothing)",
			"spec.nodeGroups[night]: (nothing) -> m6i.large, 0 to 10 machines",
		}},
		{"sizes and counts", []string{"      min: 3\n      max: 20", "      min: 2\n      max: 20\n      diskGiB: 100", "replicas: 3", "replicas: 1"}, []string{
			"spec.controlPlane.replicas: 3 -> 1",
			"spec.nodeGroups[general].count: 3 -> 2",
			"spec.nodeGroups[general].diskGiB: 50 -> 100",
			"spec.nodeGroups[general].min: 3 -> 2",
		}},
		{"a manifest", []string{firstManifest, "    - name: more\n      inline: \"{apiVersion: v1, kind: Namespace, metadata: {name: more}}\"\n" + firstManifest}, []string{
			"spec.manifests[more]: (nothing) -> a document, 57 bytes",
		}},
		{"a secret", []string{"  onFailure", "  secrets: [{namespace: kube-system, name: other, key: token, from: \"env:TOKEN\"}]\n  onFailure"}, []string{
			"spec.secrets[kube-system/other token]: (nothing) -> env:TOKEN",
		}},
		{"a manifest that is no controller of the cloud", []string{"file: ../manifests/aws-ccm.yaml", "inline: \"{apiVersion: v1, kind: Namespace, metadata: {name: more}}\""}, []string{
			"spec.manifests[ccm]: ../manifests/cloudscale-ccm.yaml, 4283 bytes -> a document, 57 bytes",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := load(t, "cloudscale"), load(t, "aws", tc.edits...)
			r := mustCompare(t, a, b)
			got := asked(r)
			for i, line := range got { // ids of schematics
				line = strings.ReplaceAll(line, schematic(t, nvidia...), "GPU")
				line = strings.ReplaceAll(line, schematic(t, nvidia[1:]...), "OTHER")
				for _, name := range []string{"GPU", "OTHER"} {
					for _, platform := range []string{"openstack", "aws"} {
						line = strings.ReplaceAll(line, "factory.talos.dev/"+platform+"-installer/"+name+":v1.13.5", name+" "+platform)
					}
				}
				got[i] = line
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := r.Count(Unexplained); n > 0 {
				t.Errorf("unexplained: %+v", r.Of(Unexplained))
			}
			turned(t, r, mustCompare(t, b, a))
			out, err := json.Marshal(r)
			if err != nil || strings.Contains(string(out), "canary") {
				t.Errorf("a secret is shown (%v): %s", err, out)
			}
		})
	}
}

// nvidia are the extensions of the group gpu.
var nvidia = []string{"siderolabs/nvidia-container-toolkit-production", "siderolabs/nvidia-open-gpu-kernel-modules-production"}

func schematic(t *testing.T, extensions ...string) string {
	t.Helper()
	f, err := talos.Factory{}.Name(cluster.Talos{Version: "v1.13.5", Extensions: extensions}, "v1.36.3", talos.Target{})
	if err != nil {
		t.Fatal(err)
	}
	return f.Schematic
}

// turned asks that the order of the files decides of nothing but the sides.
func turned(t *testing.T, r, back Result) {
	t.Helper()
	seen := func(r Result, turn bool) []string {
		var out []string
		for _, d := range r.Differences {
			if turn {
				d.A, d.B = d.B, d.A
			}
			out = append(out, fmt.Sprintln(d.Class, d.Field, d.Nodes, text(d.A), text(d.B), d.Because))
		}
		slices.Sort(out)
		return out
	}
	if diff := cmp.Diff(seen(r, false), seen(back, true)); diff != "" {
		t.Errorf("the other way round (-this +that):\n%s", diff)
	}
}

func TestOneFileTwice(t *testing.T) {
	for _, name := range []string{"cloudscale", "aws"} {
		if r := mustCompare(t, load(t, name), load(t, name)); len(r.Differences) > 0 || r.Differences == nil {
			t.Errorf("%s and itself: %+v", name, r.Differences)
		}
	}
}

// Two clusters of one cloud differ in what the files ask for, words of the cloud
// included.
func TestOneCloud(t *testing.T) {
	r := mustCompare(t, load(t, "aws"), load(t, "aws", "zone: eu-central-1a", "zone: eu-central-1b", "flavor: m6i.xlarge", "flavor: m7i.xlarge"))
	want := []string{"spec.cloud.zone: eu-central-1a -> eu-central-1b", "spec.nodeGroups[general].flavor: m6i.xlarge -> m7i.xlarge"}
	if diff := cmp.Diff(want, asked(r)); diff != "" || len(r.Differences) != len(want) {
		t.Errorf("%d differences (-want +got):\n%s", len(r.Differences), diff)
	}
}

// Another version brings other documents; each of them has its cause.
func TestVersions(t *testing.T) {
	for _, edits := range [][]string{
		{"v1.13.5", "v1.13.6"},
		{"v1.36.3", "v1.36.1"},
		{"v1.13.5", "v1.14.1"},
		{"v1.13.5", "v1.14.1", "v1.36.3", "v1.37.0"},
	} {
		r := mustCompare(t, load(t, "cloudscale"), load(t, "aws", edits...))
		if r.Count(Unexplained) > 0 {
			t.Errorf("%v: unexplained: %+v", edits, r.Of(Unexplained))
		}
		moved := 0
		for _, d := range r.Of(Asked) {
			for _, field := range d.Because {
				if field != "spec.talos.version" && field != "spec.kubernetes" {
					t.Errorf("%v: %s is because of %s", edits, d.Field, field)
				}
			}
			moved += len(d.Nodes)
		}
		if moved == 0 {
			t.Errorf("%v: no machine config differs by it", edits)
		}
	}
}

// What no cloud declares, or what is more than the word that it declares, is not
// explained: this is what a field that is rendered for one cloud only becomes.
func TestUndeclared(t *testing.T) {
	worlds := func() (a, b world) {
		var err error
		if a, err = worldOf(load(t, "cloudscale")); err != nil {
			t.Fatal(err)
		}
		if b, err = worldOf(load(t, "aws")); err != nil {
			t.Fatal(err)
		}
		return a, b
	}
	const field, rule = "machine.install.image", "NetworkRuleConfig[ichor-kubernetes-api].ingress"
	a, b := worlds()
	a.cloud.Marks.Fields, b.cloud.Marks.Fields = nil, nil
	r, err := compareWorlds(a, b)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Of(Unexplained); len(got) != 1 || got[0].Field != rule {
		t.Errorf("without the declaration of %s these are unexplained: %+v", rule, got)
	}

	a, b = worlds()
	texts := func(text string) *value { return &value{text: text} }
	items := func(items ...string) *value { return &value{list: true, items: items} }
	for _, tc := range []struct {
		name, field string
		was, is     *value
		want        Class
	}{
		{"the platform", field, texts("x/openstack-installer/y"), texts("x/aws-installer/y"), Forced},
		{"more than the platform", field, texts("x/openstack-installer/y"), texts("x/aws-installer/z"), Unexplained},
		{"another field", "machine.install.disk", texts("openstack"), texts("aws"), Unexplained},
		{"a field that one side lacks", field, texts("x/openstack-installer/y"), nil, Unexplained},
		{"the balancer", rule, items("a", "subnet: "+endpointAddress+"/32", "b"), items("a", "b"), Forced},
		{"more than the balancer", rule, items("a", "subnet: "+endpointAddress+"/32"), items("a", "subnet: 0.0.0.0/0"), Unexplained},
		{"another order", rule, items("a", "b"), items("b", "a"), Unexplained},
	} {
		if got := forced(a, b, tc.field, tc.was, tc.is); got.class != tc.want || got.why == "" {
			t.Errorf("%s: %+v, want %s", tc.name, got, tc.want)
		}
	}
}

// A document that lies in the store counts by its digest.
func TestPublished(t *testing.T) {
	const ref = "      - inline: |\n          machine:\n            sysctls:\n              net.core.somaxconn: \"4096\"\n"
	published := func(name, cluster, sum string) File {
		sum = strings.Repeat(sum, 64)
		return load(t, name, ref, "      - {ref: clusters/"+cluster+"/bodies/"+sum+", sha256: "+sum+"}\n")
	}
	r := mustCompare(t, published("cloudscale", "same-cloudscale", "a"), published("aws", "same-aws", "a"))
	if len(asked(r)) > 0 || len(r.NotCompared) != 3 || !strings.HasPrefix(r.NotCompared[1], "cloudscale: spec.talos.patches[0]") {
		t.Errorf("the same document: %v, %v", asked(r), r.NotCompared)
	}
	r = mustCompare(t, published("cloudscale", "same-cloudscale", "a"), published("aws", "same-aws", "b"))
	if diff := cmp.Diff([]string{"spec.talos.patches[0]: in the store -> in the store"}, asked(r)); diff != "" {
		t.Errorf("another document (-want +got):\n%s", diff)
	}
}

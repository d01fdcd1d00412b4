package check_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/check"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

func TestAllProblemsComeAtOnceInTheOrderOfTheSpec(t *testing.T) {
	doc := edit(t, []string{
		"name: demo", "name: Demo", "zone: lpg1", "zone: mars", "v1.13.5", "v1.13", "v1.36.3", "v36",
		"[192.0.2.0/24]", "[]", "replicas: 3", "replicas: 4", "min: 0", "min: 9",
		"file: ccm.yaml", "inline: " + canary, "from: \"env:CLOUDSCALE_API_TOKEN\"", "from: " + canary,
	})
	c, pos, err := cluster.Decode([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	p := check.Spec(c, check.Options{FromTemporal: true})
	var fields []string
	for _, x := range pos.Locate(p) {
		fields = append(fields, x.Field)
		if x.Line == 0 {
			t.Errorf("%s has no line", x.Field)
		}
	}
	want := []string{
		"metadata.name", "spec.cloud.zone", "spec.talos.version", "spec.kubernetes.version", "spec.network.adminCIDRs",
		"spec.controlPlane.replicas", "spec.nodeGroups[1].min", "spec.manifests[0].inline", "spec.secrets[0].from",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if !slices.IsSorted(lines(pos.Locate(p))) {
		t.Errorf("the lines are out of order: %v", p)
	}
	failure := check.Error(p)
	if !fault.Is(failure, fault.Invalid) {
		t.Errorf("kind = %s, want Invalid", fault.KindOf(failure))
	}
	if strings.Contains(failure.Error(), canary) {
		t.Errorf("the error repeats a value: %v", failure)
	}
}

func lines(p cluster.Problems) (out []int) {
	for _, x := range p {
		out = append(out, x.Line)
	}
	return out
}

// publishedDoc is the good spec as `ichor spec publish` would leave it.
func publishedDoc(t *testing.T) string {
	sum := strings.Repeat("ab", 32)
	return edit(t, []string{"file: ccm.yaml", "ref: clusters/demo/bodies/" + sum + "\n    sha256: " + sum})
}

func TestCheckerAcceptsPublishedSpecs(t *testing.T) {
	c := decode(t, publishedDoc(t))
	n, digest, err := check.Checker{}.Check(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if n.Spec.OnFailure != cluster.OnFailureRollback {
		t.Error("the answer is not normalised")
	}
	if digest != c.Digest() || len(digest) != 64 {
		t.Errorf("digest = %q, want that of the spec", digest)
	}
	_, _, err = check.Checker{}.Check(context.Background(), decode(t, good))
	if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "spec.manifests[0].file") {
		t.Errorf("error = %v, want Invalid naming the field", err)
	}
}

func TestOtherCloudsHaveOtherLimits(t *testing.T) {
	c := decode(t, edit(t, []string{"provider: cloudscale", "provider: other", "max: 4", "max: 4\n    zone: far", "  manifests:\n  - name: ccm\n    file: ccm.yaml\n", ""}))
	if p := check.Spec(c, check.Options{Clouds: []catalog.Cloud{{Name: "other"}}}); len(p) > 0 {
		t.Errorf("a cloud without limits finds %v", p)
	}
	p := check.Spec(c, check.Options{Clouds: []catalog.Cloud{{Name: "other", MinDiskGiB: 40, Zones: []string{"lpg1"}}, {Name: "second"}}})
	want := cluster.Problems{problem("spec.nodeGroups[1].zone", "other has no such zone; it has lpg1")}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
}

func TestPatchesAreTriedOnlyWhenTheRestIsRight(t *testing.T) {
	bodies := map[string][]byte{"spec.manifests[0]": []byte("{apiVersion: v1, kind: Namespace, metadata: {name: a}}")}
	tried := 0
	opt := check.Options{Bodies: bodies, Patches: func(c cluster.Cluster, _ map[string][]byte) (cluster.Problems, error) {
		tried++
		if c.Spec.Talos.Contract == "" {
			t.Error("the spec is not normalised")
		}
		return cluster.Problems{{Field: "spec.talos.patches[0]", Reason: "does not fit"}}, fault.New(fault.Internal, "render", "out of luck")
	}}
	p := check.Spec(decode(t, good), opt)
	want := cluster.Problems{
		problem("spec.talos.patches[0]", "does not fit"),
		problem("spec", "the config patches cannot be tried: render: out of luck"),
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if p := check.Spec(decode(t, edit(t, []string{"replicas: 3", "replicas: 2"})), opt); len(p) != 1 {
		t.Errorf("problems = %v, want one", p)
	}
	if tried != 1 {
		t.Errorf("patches were tried %d times, want once", tried)
	}
}

func TestSpecsTooLargeForTemporal(t *testing.T) {
	c := decode(t, good)
	c.Spec.Manifests[0].Inline, c.Spec.Manifests[0].File = strings.Repeat("x", check.MaxSpec), ""
	if p := check.Spec(c, check.Options{}); len(p) > 0 {
		t.Errorf("a large body on the caller's side is a problem: %v", p)
	}
	c = decode(t, good)
	c.Spec.NodeGroups[0].Tags = map[string]string{}
	for i := range 700 {
		c.Spec.NodeGroups[0].Tags[strings.Repeat("k", i%60+1)+string(rune('a'+i/60))] = strings.Repeat("v", 120)
	}
	for i := range 20 {
		g := c.Spec.NodeGroups[0]
		g.Name, g.Max, g.Count = "g"+string(rune('a'+i)), 1, nil
		c.Spec.NodeGroups = append(c.Spec.NodeGroups, g)
	}
	p := check.Spec(c, check.Options{})
	if len(p) != 1 || p[0].Field != "spec" || !strings.Contains(p[0].Reason, "the limit is 131072") {
		t.Errorf("problems = %v, want one about the size", p)
	}
}

// TestOneChangeOneAnswer damages a good spec in a random place: there is always
// an answer, it never panics, and it never repeats what was put there.
func TestOneChangeOneAnswer(t *testing.T) {
	base := decode(t, good)
	rapid.Check(t, func(t *rapid.T) {
		c := base.Normalise()
		switch rapid.IntRange(0, 7).Draw(t, "field") {
		case 0:
			c.Spec.Cloud.Credentials = canary
		case 1:
			c.Spec.Secrets[0].From = canary
		case 2:
			c.Spec.Manifests[0].Source = cluster.Source{Inline: canary, File: canary}
		case 3:
			c.Spec.Manifests[0].Source = cluster.Source{URL: rapid.SampledFrom([]string{"", "https://", "http://", "ftp://a/", "https://" + canary + ":" + canary + "@h/"}).Draw(t, "url") + canary}
			if strings.HasPrefix(c.Spec.Manifests[0].URL, "https://canary") && !strings.Contains(c.Spec.Manifests[0].URL, "@") {
				return // a valid URL
			}
		case 4:
			c.Spec.Talos.Patches = []cluster.Source{{Inline: canary, Ref: canary}}
		case 5:
			c.Spec.Manifests[0].Source = cluster.Source{Ref: canary, SHA256: canary}
		case 6:
			c.Spec.Network.PodCIDR = rapid.StringMatching(`[0-9./]{1,12}`).Draw(t, "cidr")
			if check.Error(check.Spec(c, check.Options{})) == nil {
				return // drew a usable range
			}
		case 7:
			c.Spec.ControlPlane.Replicas = rapid.IntRange(-9, 99).Filter(func(n int) bool { return n != 1 && n != 3 && n != 5 }).Draw(t, "replicas")
		}
		err := check.Error(check.Spec(c, check.Options{FromTemporal: rapid.Bool().Draw(t, "temporal")}))
		if err == nil {
			t.Fatal("no problem found")
		}
		if strings.Contains(err.Error(), canary) {
			t.Fatalf("the error repeats the value: %v", err)
		}
	})
}

// TestDecisionIsWhereTheErrorSays keeps the link in the error for kine alive.
func TestDecisionIsWhereTheErrorSays(t *testing.T) {
	if _, err := os.Stat(filepath.Join("../..", cluster.DatastoreDecision)); err != nil {
		t.Error(err)
	}
}

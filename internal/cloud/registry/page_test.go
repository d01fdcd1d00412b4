package registry_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

//go:generate go test -run TestPageIsGenerated -update .

var update = flag.Bool("update", false, "write generated files")

const (
	root     = "../../.."
	pageFile = root + "/docs/reference/clouds.md"
)

// column is what one cloud says of itself.
type column struct {
	limits     catalog.Cloud
	caps       cloud.Capabilities
	provider   cloud.Provider
	zone       string // of the examples
	controller string // image of the examples' cloud controller manager
	requests   *counter
}

// spec is an example's, and where it lies.
type spec struct {
	cluster.Spec
	dir string
}

// examples are the specs among the examples by the cloud that they name.
func examples(t *testing.T) map[string]spec {
	t.Helper()
	out := map[string]spec{}
	err := filepath.WalkDir(root+"/examples", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() != "demo.yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c, _, err := cluster.Decode(data)
		if _, ok := out[c.Spec.Cloud.Provider]; err == nil && !ok {
			out[c.Spec.Cloud.Provider] = spec{c.Spec, filepath.Dir(path)}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var controllerImage = regexp.MustCompile(`image: (\S*cloud-controller-manager\S*)`)

// columns opens an account of every cloud that specs may name. No cloud is asked:
// something else counts what they would be.
func columns(t *testing.T) []column {
	t.Helper()
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	requests := newCounter(t)
	accounts := requests.accounts(t)
	var out []column
	specs := examples(t)
	for _, k := range catalog.Clouds() {
		s, ok := specs[k.Name]
		if !ok {
			t.Fatalf("no demo.yaml among the examples is for %s", k.Name)
		}
		c := column{limits: k, zone: s.Cloud.Zone, requests: requests}
		var err error
		if c.provider, _, err = accounts.Open(t.Context(), s.Cloud); err != nil {
			t.Fatal(err)
		}
		c.caps = c.provider.Capabilities()
		for _, m := range s.Manifests {
			text, err := os.ReadFile(filepath.Join(s.dir, m.File))
			if err != nil {
				t.Fatal(err)
			}
			if found := controllerImage.FindSubmatch(text); found != nil {
				c.controller = string(found[1])
			}
		}
		out = append(out, c)
	}
	return out
}

// anything resolves every reference.
type anything struct{}

func (anything) Resolve(context.Context, secrets.Ref) (secrets.Value, error) {
	return secrets.NewValue([]byte("a-token")), nil
}

// kinds are the sorts of resources that a cluster gets, in the order of creation;
// of which there is one for each zone says so.
func (c column) kinds(t *testing.T, change func(*cloud.InfrastructureSpec)) string {
	t.Helper()
	infra, ok := c.provider.(cloud.Infrastructure)
	if !ok {
		return "none"
	}
	count := func(zones ...string) (order []string, n map[string]int) {
		s := cloud.InfrastructureSpec{
			Owner: owner, Zone: c.zone, Zones: zones, CIDR: "10.0.0.0/20", LoadBalancer: &cluster.LoadBalancer{},
		}
		change(&s)
		steps, err := infra.PlanInfrastructure(s)
		if err != nil {
			return nil, nil
		}
		n = map[string]int{}
		for _, step := range steps {
			if n[step.Kind]++; n[step.Kind] == 1 {
				order = append(order, step.Kind)
			}
		}
		return order, n
	}
	order, one := count(c.zone)
	if order == nil {
		t.Fatalf("%s plans nothing", c.limits.Name)
	}
	// The next zone by name; clouds whose networks lie in one zone plan for that.
	_, two := count(c.zone, c.zone[:len(c.zone)-1]+string(c.zone[len(c.zone)-1]+1))
	for i, kind := range order {
		order[i] = "`" + kind + "`"
		if two[kind] > one[kind] {
			order[i] += " (one for each zone)"
		}
	}
	return strings.Join(order, ", ")
}

var owner = cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: "u1"}}

// ranges are the prefixes of networks that both the check and the provider take.
func (c column) ranges() string {
	infra, ok := c.provider.(cloud.Infrastructure)
	if !ok {
		return "none is made"
	}
	var bits []int
	const shortest, longest = 8, 30
	for n := shortest; n <= longest; n++ {
		if lim := c.limits.NetworkBits; lim != [2]int{} && (n < lim[0] || n > lim[1]) {
			continue
		}
		cidr := netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), n).String()
		if _, err := infra.PlanInfrastructure(cloud.InfrastructureSpec{Owner: owner, Zone: c.zone, CIDR: cidr}); err == nil {
			bits = append(bits, n)
		}
	}
	if len(bits) == longest-shortest+1 {
		return "any that has room for the machines"
	}
	return fmt.Sprintf("/%d to /%d", bits[0], bits[len(bits)-1])
}

func (c column) placement(t *testing.T) string {
	t.Helper()
	infra, ok := c.provider.(cloud.Infrastructure)
	if !ok || c.caps.SpreadLimit == 0 {
		return "none"
	}
	s, err := infra.PlacementStep(owner, c.zone, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("`%s` of at most %d machines", s.Kind, c.caps.SpreadLimit)
}

func TestPageIsGenerated(t *testing.T) {
	want := page(t, columns(t))
	if *update {
		if err := os.WriteFile(pageFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(pageFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(have)); diff != "" {
		t.Errorf("docs/reference/clouds.md is out of date; run: go generate ./internal/cloud/registry\n%s", diff)
	}
}

// TestPageLeavesNothingOut asks for a row about every field, so that a new one is
// explained before it is used.
func TestPageLeavesNothingOut(t *testing.T) {
	about := map[string]bool{"Name": true, "Marks": true, "Fields": true} // heads and the last table
	for _, s := range sections {
		for _, r := range s.rows {
			for _, field := range strings.Fields(r.about) {
				about[field] = true
			}
		}
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[cloud.Capabilities](), reflect.TypeFor[catalog.Cloud](), reflect.TypeFor[catalog.Marks]()} {
		for i := range typ.NumField() {
			if name := typ.Field(i).Name; !about[name] {
				t.Errorf("the page has no row about %s.%s", typ, name)
			}
		}
	}
}

func page(t *testing.T, clouds []column) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(intro)
	for _, s := range slices.Concat(sections, []section{{"What of a cloud machine configs hold", forced(catalog.Clouds())}}) {
		fmt.Fprintf(&b, "\n## %s\n\n|", s.title)
		for _, c := range clouds {
			fmt.Fprintf(&b, " | [%[1]s](../guides/%[1]s.md)", c.limits.Name)
		}
		fmt.Fprintf(&b, " | What it means |\n|%s\n", strings.Repeat("---|", len(clouds)+2))
		for _, r := range s.rows {
			fmt.Fprintf(&b, "| %s", r.title)
			for _, c := range clouds {
				fmt.Fprintf(&b, " | %s", r.say(t, c))
			}
			fmt.Fprintf(&b, " | %s |\n", r.means)
		}
	}
	return b.Bytes()
}

// forced are the rows of the fields that any of the clouds forces.
func forced(clouds []catalog.Cloud) []row {
	var out []row
	for _, k := range clouds {
		for _, f := range k.Marks.Forced() {
			title := "`" + f.Field + "`"
			if slices.ContainsFunc(out, func(r row) bool { return r.title == title }) {
				continue
			}
			out = append(out, row{title: title, means: f.Why, say: func(_ *testing.T, c column) string {
				i := slices.IndexFunc(c.limits.Marks.Forced(), func(x catalog.MarkedField) bool { return x.Field == f.Field })
				if i < 0 {
					return "nothing of it"
				}
				return "the " + string(c.limits.Marks.Forced()[i].Word)
			}})
		}
	}
	return out
}

func words(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return "`" + strings.Join(list, "`, `") + "`"
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func gib(n int) string { return fmt.Sprintf("%d GiB", n) }

func kib(n int) string { return fmt.Sprintf("%d KiB", n>>10) }

// span prints a time without the zeros of time.Duration.
func span(d time.Duration) string {
	s := strings.TrimSuffix(d.String(), "m0s")
	if s != d.String() {
		s += "m"
	}
	return "`" + s + "`"
}

var schemes = regexp.MustCompile(`([a-z]+):[\w/]`)

// references are the forms of references to secrets, in the words that refuse others.
func references(chain bool) string {
	var out []string
	for _, m := range schemes.FindAllStringSubmatch(secrets.Ref("").Validate().Error(), -1) {
		if !slices.Contains(out, m[1]+":") {
			out = append(out, m[1]+":")
		}
	}
	if chain {
		out = append(out, "chain:", "chain:PROFILE")
	}
	return words(out)
}

package stack

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChosen(t *testing.T) {
	for name, want := range map[string]string{"": "cloudscale", "cloudscale": "cloudscale", "aws": "aws"} {
		t.Setenv("ICHOR_TEST_CLOUD", name)
		if c, err := Chosen(); err != nil || c.Name != want {
			t.Errorf("%q chooses %q, %v; want %q", name, c.Name, err, want)
		}
	}
	t.Setenv("ICHOR_TEST_CLOUD", "asw")
	_, err := Chosen()
	for _, text := range []string{"ICHOR_TEST_CLOUD", `"asw"`, "cloudscale", "aws"} {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("the error lacks %q: %v", text, err)
		}
	}
}

// TestTable looks for a row that is not complete: its examples are clusters of the
// cloud, and the requests that tests ask for by purpose make something.
func TestTable(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Clouds {
		for _, example := range []string{c.Demo, c.Autoscale, c.Upgrade} {
			spec, err := Example(root, example, "table")
			if err != nil || spec.Spec.Cloud.Provider != c.Name {
				t.Errorf("%s: %s is of %q, %v", c.Name, filepath.Join("examples", example), spec.Spec.Cloud.Provider, err)
			}
		}
		for _, role := range []string{"-cp-", "-general-"} {
			c.Making(c.Routes.Machine, role)
		}
		c.Making(c.Routes.Import, "")
		c.Making(c.Routes.LoadBalancer, "")
		for _, r := range c.Creates {
			if f := c.Unauthorized(r.Route); f["route"] != r.Route || f["status"] == nil {
				t.Errorf("%s: refused credentials are %v", c.Name, f)
			}
		}
	}
}

// dump is what devcloud says of a cluster's beginnings on each cloud.
const dump = `{
  "count": 7,
  "servers": [{"uuid": "s-1", "name": "a-cp-1", "zone": "lpg1", "status": "running", "detail": "flex-4-2", "tags": {"ichor/group": "cp"}}],
  "custom_image_imports": [{"uuid": "i-1", "name": "done", "status": "success"}, {"uuid": "i-2", "name": "begun", "status": "in_progress"}],
  "custom_images": [{"uuid": "i-1", "name": "done"}],
  "aws": {
    "count": 4,
    "instances": [
      {"id": "i-0a", "name": "b-cp-1", "zone": "eu-central-1b", "state": "running", "detail": "m6i.large"},
      {"id": "i-0b", "name": "b-cp-2", "zone": "eu-central-1b", "state": "terminated"}],
    "snapshots": [{"id": "snap-1", "state": "pending"}],
    "securityGroups": [{"id": "sg-1", "detail": "default"}, {"id": "sg-2", "detail": "b-nodes"}],
    "routeTables": [{"id": "rtb-1"}],
    "loadBalancing": {"count": 1, "loadBalancers": [{"id": "arn:lb", "name": "ichor-b", "state": "active"}]}
  }
}`

// TestAccount reads a dump: what goes with something else, and what is gone, is no
// resource.
func TestAccount(t *testing.T) {
	var state map[string]json.RawMessage
	if err := json.Unmarshal([]byte(dump), &state); err != nil {
		t.Fatal(err)
	}
	a, err := readAccount(state)
	if err != nil {
		t.Fatal(err)
	}
	const want = `7 resources
images done i-1
imports  snap-1 pending
imports begun i-2 in_progress
load balancers ichor-b arn:lb active
machines a-cp-1 s-1 running
machines b-cp-1 i-0a running
security groups  sg-2`
	if diff := cmp.Diff(want, a.String()); diff != "" {
		t.Error(diff)
	}
	for id, name := range map[string]string{"cloudscale://s-1": "a-cp-1", "aws:///eu-central-1b/i-0a": "b-cp-1"} {
		if m, ok := a.ByProviderID(id); !ok || m.Name != name {
			t.Errorf("%s is %v, want %s", id, m, name)
		}
	}
	if _, ok := a.ByProviderID("aws:///eu-central-1b/i-0b"); ok {
		t.Error("a terminated instance is a machine")
	}
}

package chaos

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/testsuite/chaos/killer"
	"github.com/ichor-project/ichor/workflows"
)

// notHere are activities that neither ProvisionCluster nor DeleteCluster runs,
// with who does. That one of them is handed out in the matrix fails it.
var notHere = map[string]string{
	// Kills around these are in TestNeverLost.
	"CordonNode": "for node groups that shrink",
	"DrainNode":  "for node groups that shrink",
	"DeleteNode": "for node groups that shrink",

	"InspectGroup":  "for node groups that have existed for a while",
	"AdoptMachines": "for stand-alone groups, see testsuite/standalone",
	"FindOrphans":   "for sweeps, which a schedule starts",
	"FindHolder":    "for workflows that were started under a wrong id",
}

// variants are calls of one activity that differ in what they make, and therefore
// have rows of their own.
func variants() map[string][]string {
	return map[string][]string{"EnsureResource": here.kinds, "UpdateRecord": {"bootstrap machine", "entities", "endpoint"}}
}

// row names the row that an attempt belongs to.
func row(t killer.Task) string {
	if v := variant(t); v != "" {
		return t.Activity + " " + v
	}
	return t.Activity
}

func variant(t killer.Task) string {
	var in struct {
		Create           *bool `json:"create"`
		Step             struct{ Kind string }
		BootstrapMachine string   `json:"bootstrapMachine"`
		Entities         []string `json:"entities"`
		Endpoint         string   `json:"endpoint"`
		Holding          *struct{}
		Released         string
	}
	if json.Unmarshal(t.Input, &in) != nil {
		return "" // not an object: no variants
	}
	switch {
	case t.Activity == "UpdateRecord" && in.BootstrapMachine != "":
		return "bootstrap machine"
	case t.Activity == "UpdateRecord" && len(in.Entities) > 0:
		return "entities"
	case t.Activity == "UpdateRecord" && in.Endpoint != "":
		return "endpoint"
	case t.Activity == "UpdateRecord" && in.Holding != nil:
		return "holding"
	case t.Activity == "UpdateRecord" && in.Released != "":
		return "released"
	case in.Create == nil:
		return ""
	}
	v := in.Step.Kind
	if !*in.Create {
		v = strings.TrimSpace(v + " (look)") // only where a create had no answer
	}
	return v
}

// registry notes what the worker registers.
type registry struct {
	names []string
}

var _ workflows.Registry = (*registry)(nil)

func (r *registry) RegisterActivity(a any) {
	t := reflect.TypeOf(a)
	for i := range t.NumMethod() {
		r.names = append(r.names, t.Method(i).Name)
	}
}

func (r *registry) RegisterActivityWithOptions(a any, o activity.RegisterOptions) {
	if o.Name == "" {
		r.RegisterActivity(a)
		return
	}
	r.names = append(r.names, o.Name)
}

func (r *registry) RegisterDynamicActivity(any, activity.DynamicRegisterOptions) {}
func (r *registry) RegisterWorkflow(any)                                         {}
func (r *registry) RegisterWorkflowWithOptions(any, workflow.RegisterOptions)    {}
func (r *registry) RegisterDynamicWorkflow(any, workflow.DynamicRegisterOptions) {}

// notInUpgrade are activities of upgrades that the one of TestKillMatrixUpgrade
// does not need, with who does.
var notInUpgrade = map[string]string{
	"UpgradeTalosWhole": "for Talos before 1.13, see TestUpgradeOldPath of testsuite/e2e",
	"ReplaceMember":     "for groups that surge, see TestUpgradeHoles of testsuite/e2e",
	"WaitReplaced":      "for groups that surge",
	"RollbackNode":      "for repairs",
	"RemoveEtcdMember":  "for repairs",
	"RestoreEtcd":       "for repairs",
	"ProveEtcdLost":     "for repairs",
}

// upgrades are the activities of upgrades.
func upgrades() []string {
	var r registry
	r.RegisterActivity((*activities.Upgrades)(nil))
	return r.names
}

// upgradeRows are all that must fire in TestKillMatrixUpgrade.
func upgradeRows() []string {
	out := slices.DeleteFunc(upgrades(), func(name string) bool { return notInUpgrade[name] != "" })
	return append(out, "UpdateRecord holding", "UpdateRecord released")
}

// rows are all that must fire: one for each activity that the worker registers,
// more for those with variants. Those of upgrades have a matrix of their own.
func rows() []string {
	var r registry
	workflows.Register(&r, workflows.Activities{})
	var out []string
	for _, name := range r.names {
		if _, ok := notHere[name]; ok || slices.Contains(upgrades(), name) || slices.Contains(here.spared, name) {
			continue
		}
		kinds, ok := variants()[name]
		if !ok {
			out = append(out, name)
			continue
		}
		for _, k := range kinds {
			out = append(out, name+" "+k)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// The list of rows must not be able to fall behind the product.
func TestKillMatrixRowsAreTheRegistry(t *testing.T) {
	var r registry
	workflows.Register(&r, workflows.Activities{})
	if len(r.names) < 20 {
		t.Fatalf("the worker registers only %v", r.names)
	}
	for name := range notHere {
		if !slices.Contains(r.names, name) {
			t.Errorf("%s is said not to belong here, but the worker registers no such activity", name)
		}
	}
	for name := range notInUpgrade {
		if !slices.Contains(upgrades(), name) {
			t.Errorf("%s is said to be needed by other upgrades, but upgrades have no such activity", name)
		}
	}
	for _, name := range upgrades() {
		if !slices.Contains(r.names, name) {
			t.Errorf("the worker does not register %s", name)
		}
	}
	for _, name := range here.spared {
		if !slices.Contains(r.names, name) {
			t.Errorf("%s is said to be spared, but the worker registers no such activity", name)
		}
	}
	for name := range variants() {
		if !slices.Contains(r.names, name) {
			t.Errorf("%s has variants, but the worker registers no such activity", name)
		}
	}
	for _, s := range []struct {
		task killer.Task
		want string
	}{
		{killer.Task{Activity: "EnsureResource", Input: []byte(`{"step":{"kind":"pool"},"create":true}`)}, "EnsureResource pool"},
		{killer.Task{Activity: "EnsureMachine", Input: []byte(`{"create":false}`)}, "EnsureMachine (look)"},
		{killer.Task{Activity: "EnsureMachine", Input: []byte(`{"create":true}`)}, "EnsureMachine"},
		{killer.Task{Activity: "UpdateRecord", Input: []byte(`{"bootstrapMachine":"abcde"}`)}, "UpdateRecord bootstrap machine"},
		{killer.Task{Activity: "UpdateRecord", Input: []byte(`{"holding":{"image":"i"}}`)}, "UpdateRecord holding"},
		{killer.Task{Activity: "UpdateRecord", Input: []byte(`{"released":"i"}`)}, "UpdateRecord released"},
		{killer.Task{Activity: "GetEndpointHost", Input: []byte(`{"have":[]}`)}, "GetEndpointHost"},
	} {
		if got := row(s.task); got != s.want {
			t.Errorf("row of %s %s: %q, want %q", s.task.Activity, s.task.Input, got, s.want)
		}
	}
}

package stack

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
)

// Cloud is what a test has to know of one of the clouds, so that the same test
// runs on each of them. What differs between clouds is a field here.
type Cloud struct {
	// Name is what spec.cloud.provider says.
	Name string
	// Demo, Autoscale and Upgrade are the clusters of the demonstrations, by
	// their path in examples.
	Demo, Autoscale, Upgrade string
	// Programs are what a cluster here needs beside those of every stack.
	Programs []string
	// Zones are where the machines of a small cluster are, the first being that of
	// the spec.
	Zones []string
	// Region is what the cloud's controller says of the nodes in them.
	Region string
	// Creates are the requests that make something of a small cluster, in the
	// order of the runbook.
	Creates []Create
	// Routes are requests by what they are for, as faults name them.
	Routes Routes
	// Named are the kinds of resources that status names after a failure. Others
	// live and die with what they belong to.
	Named []string
	// Scarce is a flavor of Demo that its first zone can be made to lack, as
	// FLAVOR@ZONE, and Group the group that has it. Both are empty where all
	// machines of a cluster live in one zone.
	Scarce, ScarceGroup string
	// Arm are the groups of Demo whose machines are arm64.
	Arm []string

	providerID func(Resource) string
	// unauthorized is a fault that refuses the credentials on a route.
	unauthorized func(route string) map[string]any
	// machine is the folder of devcloud's own API for the machine of an id.
	machine string
	act     func(ctx context.Context, s *Stack, id string, what Action) error
	twin    func(ctx context.Context, s *Stack, of Resource, name string, tags map[string]string) (string, error)
	// scarce makes the cloud lack Scarce.
	scarce func(ctx context.Context, s *Stack, what string) error
	// credentials makes credentials of secrets, and accept has the account take them.
	credentials func(secret func(what string) string) (reference string, settings map[string]string)
	accept      func(ctx context.Context, s *Stack, settings map[string]string) error
	// ground is where stand-alone groups grow; prepare completes it.
	ground  Ground
	prepare func(ctx context.Context, s *Stack, g *Ground) error
	// born and gone are the timeline's words for the ends of a machine's life.
	born, gone string
	// kinds gives a resource its kind by what devcloud calls it, and says whether it
	// is one at all.
	kinds func(kind string, r *Resource) bool
}

// Create is a request that makes something.
type Create struct {
	Route string
	// Contains is a part of its body.
	Contains string
	// Code is what the cloud says when there are too many, where it has codes.
	Code string
}

// Routes name requests by what they are for.
type Routes struct {
	Machine, Import, LoadBalancer string
	// DeleteMachine asks for a machine's end.
	DeleteMachine string
	// All are all requests to the cloud.
	All string
}

// Fault is the fault by which the account is full when something is made.
func (c Create) Fault() map[string]any {
	f := map[string]any{"route": c.Route, "contains": c.Contains, "effect": "quota", "count": -1}
	if c.Code != "" {
		f["code"] = c.Code
	}
	return f
}

// Making returns the create whose route and body begin like that; it panics if
// the table has none.
func (c Cloud) Making(route, contains string) Create {
	i := slices.IndexFunc(c.Creates, func(r Create) bool { return r.Route == route && r.Contains == contains })
	if i < 0 {
		panic(fmt.Sprintf("no %s of %s is in the table of %s", route, contains, c.Name))
	}
	return c.Creates[i]
}

// Clouds are those that the suites run on.
var Clouds = []Cloud{cloudscale, aws}

// Default is the cloud of a run that names none.
func Default() Cloud { return Clouds[0] }

// Chosen is the cloud that ICHOR_TEST_CLOUD names, or the default.
func Chosen() (Cloud, error) {
	return Named(cmp.Or(os.Getenv("ICHOR_TEST_CLOUD"), Default().Name))
}

// Named is the cloud of a name.
func Named(name string) (Cloud, error) {
	var known []string
	for _, c := range Clouds {
		if c.Name == name {
			return c, nil
		}
		known = append(known, c.Name)
	}
	return Cloud{}, fmt.Errorf("ICHOR_TEST_CLOUD: no cloud is called %q; there are %s", name, strings.Join(known, ", "))
}

// Spec returns the cloud's demo under another name.
func (c Cloud) Spec(root, name string) (cluster.Cluster, error) { return Example(root, c.Demo, name) }

// Small is Small of a spec of this cloud: in the zones of the table, and with an
// image that has to be imported, since a published one leaves out half of it.
func (c Cloud) Small(spec cluster.Cluster) cluster.Cluster {
	spec = Small(spec)
	if len(c.Zones) > 1 {
		spec.Spec.ControlPlane.Zones = slices.Clone(c.Zones)
		spec.Spec.NodeGroups[0].Zones = slices.Clone(c.Zones)
	}
	if len(spec.Spec.Talos.Extensions) == 0 {
		spec.Spec.Talos.Extensions = []string{"siderolabs/intel-ucode"}
	}
	return spec
}

// ProviderID is what the Node of a machine has to say in spec.providerID.
func (c Cloud) ProviderID(machine Resource) string { return c.providerID(machine) }

// Unauthorized is a fault that refuses the credentials on a route.
func (c Cloud) Unauthorized(route string) map[string]any {
	f := c.unauthorized(route)
	f["route"], f["effect"], f["count"] = route, "status", -1
	return f
}

// MakeScarce makes the cloud lack Scarce.
func (c Cloud) MakeScarce(ctx context.Context, s *Stack) error { return c.scarce(ctx, s, c.Scarce) }

// Credentials makes credentials of secrets that it asks for: what a spec refers to
// them by, and the workers' settings that hold them.
func (c Cloud) Credentials(secret func(what string) string) (reference string, settings map[string]string) {
	return c.credentials(secret)
}

// Accept has the emulated account take the credentials in settings.
func (c Cloud) Accept(ctx context.Context, s *Stack, settings map[string]string) error {
	return c.accept(ctx, s, settings)
}

// Action is something that people do to a machine.
type Action string

// The actions. Vanish, Halt and Interrupt are devcloud's own, the others are done
// by the cloud's API.
const (
	Vanish Action = "vanish" // it is gone at once, without a trace
	Halt   Action = "stop"   // it is off at once
	// Interrupt is what AWS does to a spot instance when it needs the capacity.
	Interrupt Action = "interrupt"

	Delete   Action = "delete"
	PowerOff Action = "power-off"
	PowerOn  Action = "power-on"
)

// ByHand does something to a machine, as somebody with the cloud's panel would.
func (s *Stack) ByHand(ctx context.Context, m Resource, what Action) error {
	c, err := Named(m.Cloud)
	if err != nil {
		return err
	}
	if what == Vanish || what == Halt || what == Interrupt {
		return s.Cloud(ctx, http.MethodPost, c.machine+m.ID+"/"+string(what), nil, nil)
	}
	return c.act(ctx, s, m.ID, what)
}

// Console returns what a machine has printed.
func (s *Stack) Console(ctx context.Context, m Resource) (lines []string, err error) {
	c, err := Named(m.Cloud)
	if err != nil {
		return nil, err
	}
	return lines, s.Cloud(ctx, http.MethodGet, c.machine+m.ID+"/console", nil, &lines)
}

// Break replaces the faults of a machine; none heal it.
func (s *Stack) Break(ctx context.Context, m Resource, faults map[string]any) error {
	if faults == nil {
		faults = map[string]any{}
	}
	return s.Cloud(ctx, http.MethodPut, "_devcloud/guests/"+m.ID+"/faults", faults, nil)
}

// Copy makes a machine of the same image and size under another name and with
// other tags, without user data, and returns its id.
func (s *Stack) Copy(ctx context.Context, m Resource, name string, tags map[string]string) (string, error) {
	c, err := Named(m.Cloud)
	if err != nil {
		return "", err
	}
	return c.twin(ctx, s, m, name, tags)
}

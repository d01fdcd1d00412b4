package stack

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Kinds of resources that every cloud has. Others are called as the cloud does.
const (
	Machines      = "machines"
	Images        = "images"
	Imports       = "imports" // under way
	LoadBalancers = "load balancers"
	Networks      = "networks"
	Subnets       = "subnets"
)

// Resource is something in an account.
type Resource struct {
	Cloud string // as in spec.cloud.provider
	Kind  string
	ID    string
	Name  string
	State string
	Zone  string
	// Address is where the guest of a machine listens.
	Address string
	// Detail is the flavor of a machine.
	Detail string
	Tags   map[string]string
}

func (r Resource) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Kind, r.Name, r.ID, r.State))
}

// Account is what the clouds say exists, all of them.
type Account struct {
	// Count is what somebody pays for or must clean up; zero exactly when the
	// accounts are empty.
	Count     int
	Resources []Resource
}

// Kind returns the resources of one kind.
func (a Account) Kind(kind string) []Resource {
	return slices.DeleteFunc(slices.Clone(a.Resources), func(r Resource) bool { return r.Kind != kind })
}

// Machines returns those that are not terminated.
func (a Account) Machines() []Resource { return a.Kind(Machines) }

// ByProviderID finds a machine.
func (a Account) ByProviderID(id string) (Resource, bool) {
	for _, m := range a.Machines() {
		if c, err := Named(m.Cloud); err == nil && c.ProviderID(m) == id {
			return m, true
		}
	}
	return Resource{}, false
}

func (a Account) String() string {
	lines := make([]string, 0, len(a.Resources))
	for _, r := range a.Resources {
		lines = append(lines, r.String())
	}
	return fmt.Sprintf("%d resources\n%s", a.Count, strings.Join(lines, "\n"))
}

// Account asks devcloud for everything in its accounts.
func (s *Stack) Account(ctx context.Context) (Account, error) {
	var state map[string]json.RawMessage
	if err := s.Cloud(ctx, http.MethodGet, "_devcloud/state", nil, &state); err != nil {
		return Account{}, err
	}
	return readAccount(state)
}

// readAccount takes in a dump: the first cloud's account with its kinds, and
// within it that of the second.
func readAccount(state map[string]json.RawMessage) (a Account, err error) {
	if err := json.Unmarshal(state["count"], &a.Count); err != nil {
		return a, err
	}
	second := state["aws"]
	delete(state, "aws")
	if err := a.add(cloudscale, state); err != nil {
		return a, err
	}
	state = map[string]json.RawMessage{}
	if err := json.Unmarshal(second, &state); err != nil {
		return a, err
	}
	balancing := state["loadBalancing"]
	delete(state, "loadBalancing")
	if err := json.Unmarshal(balancing, &state); err != nil {
		return a, err
	}
	if err := a.add(aws, state); err != nil {
		return a, err
	}
	slices.SortFunc(a.Resources, func(x, y Resource) int { return strings.Compare(x.String(), y.String()) })
	return a, nil
}

// add takes in one account, kind by kind.
func (a *Account) add(c Cloud, state map[string]json.RawMessage) error {
	for kind, raw := range state {
		if kind == "count" {
			continue
		}
		var list []struct {
			UUID, ID, Name, Status, State, Zone, Address, Detail string
			Tags                                                 map[string]string
		}
		if err := json.Unmarshal(raw, &list); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		for _, i := range list {
			r := Resource{
				Cloud: c.Name, ID: cmp.Or(i.UUID, i.ID), Name: i.Name, State: cmp.Or(i.Status, i.State), Zone: i.Zone,
				Address: i.Address, Detail: i.Detail, Tags: i.Tags,
			}
			if c.kinds(kind, &r) {
				a.Resources = append(a.Resources, r)
			}
		}
	}
	return nil
}

// Requests counts the requests that the cloud's API has had, those of judges
// excepted: they ask under /_devcloud/.
func (s *Stack) Requests(ctx context.Context) (int, error) {
	var log []json.RawMessage
	err := s.Cloud(ctx, http.MethodGet, "_devcloud/requests", nil, &log)
	return len(log), err
}

// Fault bends requests to the cloud as devcloud's README says; it returns the
// fault's id.
func (s *Stack) Fault(ctx context.Context, fault map[string]any) (string, error) {
	var added struct{ ID string }
	err := s.Cloud(ctx, http.MethodPost, "_devcloud/faults", fault, &added)
	return added.ID, err
}

// ClearFaults makes the cloud behave again.
func (s *Stack) ClearFaults(ctx context.Context) error {
	return s.Cloud(ctx, http.MethodDelete, "_devcloud/faults", nil, nil)
}

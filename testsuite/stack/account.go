package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Resource is something in the cloud account.
type Resource struct {
	Kind   string
	UUID   string            `json:"uuid"`
	Name   string            `json:"name"`
	Status string            `json:"status"`
	Tags   map[string]string `json:"tags"`
}

func (r Resource) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Kind, r.Name, r.UUID, r.Status))
}

// Account is what the cloud says exists.
type Account struct {
	// Count is what somebody pays for or must clean up; zero exactly when the
	// account is empty.
	Count     int
	Resources []Resource
}

// Kind returns the resources of one kind, such as "servers" or "custom_images".
func (a Account) Kind(kind string) []Resource {
	return slices.DeleteFunc(slices.Clone(a.Resources), func(r Resource) bool { return r.Kind != kind })
}

func (a Account) String() string {
	lines := make([]string, 0, len(a.Resources))
	for _, r := range a.Resources {
		lines = append(lines, r.String())
	}
	return fmt.Sprintf("%d resources\n%s", a.Count, strings.Join(lines, "\n"))
}

// Account asks devcloud for everything in the account.
func (s *Stack) Account(ctx context.Context) (Account, error) {
	var state map[string]json.RawMessage
	if err := s.Cloud(ctx, http.MethodGet, "_devcloud/state", nil, &state); err != nil {
		return Account{}, err
	}
	var a Account
	for kind, raw := range state {
		if kind == "aws" {
			continue // an account of its own, in a shape of its own
		}
		if kind == "count" {
			if err := json.Unmarshal(raw, &a.Count); err != nil {
				return a, err
			}
			continue
		}
		var list []Resource
		if err := json.Unmarshal(raw, &list); err != nil {
			return a, fmt.Errorf("%s: %w", kind, err)
		}
		for _, r := range list {
			r.Kind = kind
			a.Resources = append(a.Resources, r)
		}
	}
	slices.SortFunc(a.Resources, func(x, y Resource) int { return strings.Compare(x.String(), y.String()) })
	return a, nil
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

package rig

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// journal is all that ever happened in the account.
func (r *Rig) journal(ctx context.Context) ([]world.Action, error) {
	var out []world.Action
	err := r.Cloud(ctx, http.MethodGet, "_devcloud/timeline", nil, &out)
	return out, err
}

// nameIn is the name of what an action was done to.
func nameIn(a world.Action) string { return a.Message[strings.LastIndex(a.Message, " ")+1:] }

// Created counts what was ever created, by kind.
func (r *Rig) Created(ctx context.Context) (map[string]int, error) {
	journal, err := r.journal(ctx)
	out := map[string]int{}
	for _, a := range journal {
		if kind := r.site.creates[a.Name]; kind != "" {
			out[kind]++
		}
	}
	return out, err
}

// Launches counts how often each machine was made, by name.
func (r *Rig) Launches(ctx context.Context) (map[string]int, error) {
	journal, err := r.journal(ctx)
	out := map[string]int{}
	for _, a := range journal {
		if a.Name == r.site.machineCreate {
			out[nameIn(a)]++
		}
	}
	return out, err
}

// Doubled says, for a report, what was created more often than wanted since the
// given count, although nothing of it remained.
func (r *Rig) Doubled(ctx context.Context, before map[string]int) (string, error) {
	created, err := r.Created(ctx)
	if err != nil {
		return "", err
	}
	want := r.site.wanted(r)
	var out []string
	for kind, n := range created {
		if extra := n - before[kind] - want[kind]; extra > 0 {
			out = append(out, fmt.Sprintf("%d %s", extra, kind))
		}
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none", nil
	}
	return strings.Join(out, ", "), nil
}

// Twice says which machine ever existed twice at one moment, in a cloud where a
// create that is repeated has no second effect.
func (r *Rig) Twice(ctx context.Context) error {
	if r.site.born == "" {
		return nil
	}
	journal, err := r.journal(ctx)
	if err != nil {
		return err
	}
	living := map[string]string{} // by name, which has the machine's id
	for _, a := range journal {
		name := nameIn(a)
		switch {
		case a.Name == r.site.born:
			if other := living[name]; other != "" {
				return fmt.Errorf("%s was made as %s at %s while %s was there", name, a.Subject, a.Time.Format("15:04:05.000"), other)
			}
			living[name] = a.Subject
		case slices.Contains(r.site.dead, a.Name) && living[name] == a.Subject:
			delete(living, name)
		}
	}
	return nil
}

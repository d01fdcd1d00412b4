package iam

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Principals are those whose keys a policy limits. Keys that are not among them
// may do everything. It is safe for concurrent use.
type Principals struct {
	mu  sync.Mutex
	all map[string]*principal // by access key
}

type principal struct {
	name    string
	policy  Policy
	calls   map[string]int
	uses    map[use]int
	refused map[string]int
}

// use is a part of a statement that has allowed something.
type use struct{ sid, part, value string }

// Limit lets the owner of a key do what a policy allows, and nothing else.
func (p *Principals) Limit(key, name string, policy Policy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[string]*principal{}
	}
	p.all[key] = &principal{name: name, policy: policy, calls: map[string]int{}, uses: map[use]int{}, refused: map[string]int{}}
}

// Limited says whether a policy limits a key, and how its owner is called.
func (p *Principals) Limited(key string) (name string, limited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who, ok := p.all[key]; ok {
		return who.name, true
	}
	return "", false
}

// Denial is a right that a caller does not have.
type Denial struct {
	Name string // of the caller
	Need
}

func (d *Denial) Error() string {
	return fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
		d.Name, d.Action, d.Resource, d.Action)
}

// Check returns a *Denial if a request needs what the owner of a key may not do.
// It counts what a request has used only if that has all rights.
func (p *Principals) Check(key string, needs []Need) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.all[key]
	if !ok {
		return nil
	}
	var used []use
	for _, n := range needs {
		by := who.policy.allows(n)
		if len(by) == 0 {
			d := &Denial{who.name, n}
			who.refused[n.Action+" on "+n.Resource]++
			return d
		}
		used = append(used, by...)
	}
	for _, n := range needs {
		who.calls[n.Action]++
	}
	for _, u := range used {
		who.uses[u]++
	}
	return nil
}

// allows returns the parts of all statements that allow what is needed; nothing
// means that it is not allowed.
func (p Policy) allows(n Need) []use {
	var out []use
	for _, s := range p.Statement {
		pattern, ok := s.fits(n)
		switch {
		case !ok:
			continue
		case s.Effect == deny:
			return nil
		}
		for _, a := range s.Action {
			if like(a, n.Action) {
				out = append(out, use{s.Sid, "action", a})
			}
		}
		out = append(out, use{s.Sid, "resource", pattern})
		for op, keys := range s.Condition {
			for key, want := range keys {
				for _, w := range want {
					if operators[op]([]string{w}, n.Context[key]) {
						out = append(out, use{s.Sid, op + " " + key, w})
					}
				}
			}
		}
	}
	return out
}

// Usage is what became of one principal's policy.
type Usage struct {
	Principal string `json:"principal"`
	// Calls counts the rights that were used, by action.
	Calls map[string]int `json:"calls"`
	// Refused counts rights that were missing.
	Refused map[string]int `json:"refused"`
	// Unused are the parts of the policy that have not allowed anything yet:
	// actions, resources and values of conditions, each with its statement.
	Unused []string `json:"unused"`
}

// Usage tells of all principals, sorted by name.
func (p *Principals) Usage() []Usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Usage{}
	for _, who := range p.all {
		u := Usage{Principal: who.name, Calls: maps.Clone(who.calls), Refused: maps.Clone(who.refused), Unused: []string{}}
		for _, s := range who.policy.Statement {
			for _, part := range s.parts() {
				if s.Effect == allow && who.uses[part] == 0 {
					u.Unused = append(u.Unused, fmt.Sprintf("%s: %s %s", part.sid, part.part, part.value))
				}
			}
		}
		slices.Sort(u.Unused)
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b Usage) int {
		if a.Principal < b.Principal {
			return -1
		}
		return 1
	})
	return out
}

// parts are all that can be used of a statement.
func (s *Statement) parts() []use {
	var out []use
	for _, a := range s.Action {
		out = append(out, use{s.Sid, "action", a})
	}
	for _, r := range s.Resource {
		out = append(out, use{s.Sid, "resource", r})
	}
	for op, keys := range s.Condition {
		for key, want := range keys {
			for _, w := range want {
				out = append(out, use{s.Sid, op + " " + key, w})
			}
		}
	}
	return out
}

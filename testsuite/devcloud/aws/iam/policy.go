// Package iam decides who may do what by the documents of AWS' policy language,
// as far as documents use it here: anything else in a document is refused when it
// is read, never ignored. It also counts what of a document is used.
package iam

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Policy is a document.
type Policy struct {
	Version   string
	ID        string `json:"Id"`
	Statement []Statement
}

// Statement is one of a document's.
type Statement struct {
	Sid, Effect string
	Action      Values
	Resource    Values
	// Condition maps operators to keys to values: all keys must fit, by any of
	// their values.
	Condition map[string]map[string]Values
}

// Values are one text or a list of them.
type Values []string

// UnmarshalJSON implements json.Unmarshaler.
func (v *Values) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*v = Values{one}
		return nil
	}
	var many []string
	err := json.Unmarshal(b, &many)
	*v = many
	return err
}

// Effects of statements.
const (
	allow = "Allow"
	deny  = "Deny"
)

// operators compare the values of a document with those of a request. A key that
// the request does not have fits nothing but Null.
var operators = map[string]func(want, have []string) bool{
	"Null": func(want, have []string) bool { return slices.Contains(want, fmt.Sprint(len(have) == 0)) },
	"StringEquals": func(want, have []string) bool {
		return slices.ContainsFunc(have, func(h string) bool { return slices.Contains(want, h) })
	},
	"StringLike": func(want, have []string) bool {
		return slices.ContainsFunc(have, func(h string) bool {
			return slices.ContainsFunc(want, func(w string) bool { return like(w, h) })
		})
	},
}

// Parse reads a document.
func Parse(body []byte) (Policy, error) {
	var p Policy
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return p, fmt.Errorf("policy: %w", err)
	}
	if p.Version != "2012-10-17" || len(p.Statement) == 0 {
		return p, errors.New("policy: want version 2012-10-17 and statements")
	}
	seen := map[string]bool{}
	for i := range p.Statement {
		s := &p.Statement[i]
		s.Sid = cmp.Or(s.Sid, fmt.Sprintf("statement %d", i+1))
		switch {
		case seen[s.Sid]:
			return p, fmt.Errorf("policy: two statements are called %s", s.Sid)
		case s.Effect != allow && s.Effect != deny:
			return p, fmt.Errorf("policy: statement %s: effect %q", s.Sid, s.Effect)
		case len(s.Action) == 0 || len(s.Resource) == 0:
			return p, fmt.Errorf("policy: statement %s needs actions and resources", s.Sid)
		}
		seen[s.Sid] = true
		for op := range s.Condition {
			if operators[op] == nil {
				return p, fmt.Errorf("policy: statement %s: the operator %s is not modelled", s.Sid, op)
			}
		}
	}
	return p, nil
}

// Need is one thing that a request needs the right to. A request has several:
// one for each resource that it touches or makes.
type Need struct {
	Action   string // such as "ec2:RunInstances"
	Resource string // an ARN, or "*" for actions that know no resources
	// Context has the values of condition keys.
	Context map[string][]string
	// Missing says that the resource does not exist. Its tags fit whatever is asked
	// of them, so that the answer is about the resource.
	Missing bool
}

// resourceTag begins the keys that ask for the tags of what is there.
const resourceTag = "aws:ResourceTag/"

// fits returns the pattern for the resource that lets a statement speak of a need.
func (s *Statement) fits(n Need) (pattern string, ok bool) {
	if !slices.ContainsFunc(s.Action, func(a string) bool { return like(strings.ToLower(a), strings.ToLower(n.Action)) }) {
		return "", false
	}
	i := slices.IndexFunc(s.Resource, func(r string) bool { return matchARN(r, n.Resource) })
	if i < 0 {
		return "", false
	}
	for op, keys := range s.Condition {
		for key, want := range keys {
			if n.Missing && strings.HasPrefix(key, resourceTag) {
				continue
			}
			if !operators[op](want, n.Context[key]) {
				return "", false
			}
		}
	}
	return s.Resource[i], true
}

// matchARN compares part by part: no wildcard reaches over a colon of the first
// five parts.
func matchARN(pattern, arn string) bool {
	if pattern == "*" || arn == "*" {
		return pattern == "*"
	}
	want, have := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	return slices.EqualFunc(want, have, like)
}

// like matches a text with a pattern of * and ?.
func like(pattern, text string) bool {
	for pattern != "" {
		switch {
		case pattern[0] == '*':
			for i := range len(text) + 1 {
				if like(pattern[1:], text[i:]) {
					return true
				}
			}
			return false
		case text == "" || pattern[0] != '?' && pattern[0] != text[0]:
			return false
		}
		pattern, text = pattern[1:], text[1:]
	}
	return text == ""
}

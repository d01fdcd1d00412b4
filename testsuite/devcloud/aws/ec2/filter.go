package ec2

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// filter is one Filter of a request: any of its values must match.
type filter struct {
	Name  string
	Value []string
}

// fields are what filters can ask of a resource, by name.
type fields map[string][]string

// one is the value of most fields.
func one(values ...string) []string { return values }

// pattern understands * and ?, and a backslash before them.
func pattern(value string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteString(".")
		case c == '\\' && i+1 < len(value):
			i++
			b.WriteString(regexp.QuoteMeta(value[i : i+1]))
		default:
			b.WriteString(regexp.QuoteMeta(value[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	return regexp.MustCompile(b.String())
}

// matches says whether a resource passes all filters. Every resource knows the
// same fields, besides its tags.
func matches(filters []filter, have fields, tags []account.Tag) (bool, error) {
	for _, want := range filters {
		values, known := have[want.Name]
		if key, isTag := strings.CutPrefix(want.Name, "tag:"); isTag {
			for _, t := range tags {
				if t.Key == key {
					values = append(values, t.Value)
				}
			}
		} else if want.Name == "tag-key" {
			for _, t := range tags {
				values = append(values, t.Key)
			}
		} else if !known {
			return false, query.Refuse("InvalidParameterValue", "The filter '%s' is invalid", want.Name)
		}
		if len(want.Value) == 0 {
			return false, query.Refuse("InvalidParameterValue", "The filter '%s' has no values", want.Name)
		}
		if !slices.ContainsFunc(want.Value, func(p string) bool {
			return slices.ContainsFunc(values, pattern(p).MatchString)
		}) {
			return false, nil
		}
	}
	return true, nil
}

// lookup is how resources of a kind are found.
type lookup[T any] struct {
	id      func(T) string
	fields  func(T) fields
	prefix  string // of ids; empty means that they are names
	code    string // for an id that does not exist
	missing string // its message, with %s for the id
	ids     string // the parameter that lists ids
	set     string // what the resources are called together
	least   int    // of the size of a page; zero means 5
}

// choose returns the resources with the given ids (all of them must exist) that
// pass the filters.
func choose[T any](f *face, all []T, by lookup[T], ids []string, filters []filter) ([]T, error) {
	for _, id := range ids {
		if by.prefix != "" && !strings.HasPrefix(id, by.prefix+"-") {
			return nil, query.Refuse(strings.TrimSuffix(by.code, ".NotFound")+".Malformed", "Invalid id: \"%s\"", id)
		}
		if !slices.ContainsFunc(all, func(t T) bool { return by.id(t) == id }) {
			return nil, query.Refuse(by.code, by.missing, id)
		}
	}
	// A filter that nothing knows is refused even if there is nothing to filter.
	var zero T
	if _, err := matches(filters, by.fields(zero), nil); err != nil {
		return nil, err
	}
	out := []T{}
	for _, t := range all {
		if len(ids) > 0 && !slices.Contains(ids, by.id(t)) {
			continue
		}
		var tags []account.Tag
		if len(filters) > 0 {
			tags = f.account.Tags(by.id(t))
		}
		pass, err := matches(filters, by.fields(t), tags)
		if err != nil {
			return nil, err
		}
		if pass {
			out = append(out, t)
		}
	}
	return out, nil
}

// paging is what requests for lists have in common.
type paging struct {
	MaxResults *int
	NextToken  string
}

// page cuts a list. Without MaxResults it is whole, as far as the account's page
// limit allows; its token names where the next page begins.
func page[T any](f *face, all []T, p paging, least int, id func(T) string) ([]T, string, error) {
	limit := f.account.Settings().PageLimit
	if p.MaxResults != nil {
		if *p.MaxResults < least || *p.MaxResults > 1000 {
			return nil, "", query.Refuse("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value between %d and 1000.", *p.MaxResults, least)
		}
		if limit == 0 || *p.MaxResults < limit {
			limit = *p.MaxResults
		}
	}
	from := 0
	if p.NextToken != "" {
		raw, err := base64.StdEncoding.DecodeString(p.NextToken)
		var n int
		var last string
		if err == nil {
			_, err = fmt.Sscanf(string(raw), "%d %s", &n, &last)
		}
		if err != nil || n < 1 {
			return nil, "", query.Refuse("InvalidNextToken", "The token '%s' is invalid.", p.NextToken)
		}
		// What was on the page before may be gone by now.
		from = slices.IndexFunc(all, func(t T) bool { return id(t) == last }) + 1
		if from == 0 {
			from = min(n, len(all))
		}
	}
	to := len(all)
	if limit > 0 {
		to = min(to, from+limit)
	}
	next := ""
	if to < len(all) {
		next = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", to, id(all[to-1])))
	}
	return all[from:to], next, nil
}

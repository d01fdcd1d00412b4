package ec2

import (
	"cmp"
	"context"
	"encoding/xml"
	"net/url"
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// found is the answer of an action that describes resources: a part of them, and
// where the next part begins.
type found[X any] struct {
	set   string // what they are called together
	items []X
	next  string
}

// MarshalXML implements xml.Marshaler.
func (f found[X]) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	set := struct {
		Items []X `xml:"item"`
	}{f.items}
	if err := e.EncodeElement(set, xml.StartElement{Name: xml.Name{Local: f.set}}); err != nil {
		return err
	}
	if f.next != "" {
		if err := e.EncodeElement(f.next, xml.StartElement{Name: xml.Name{Local: "nextToken"}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// asked are the parameters that all such actions have in common.
type asked struct {
	paging
	Filter []filter
}

// look answers with those of the resources that a request asks for and that pass
// further tests.
func look[T, X any](f *face, all []T, by lookup[T], ids []string, in asked, show func(T) X, passes ...func(T) bool) (found[X], error) {
	chosen, err := choose(f, all, by, ids, in.Filter)
	if err != nil {
		return found[X]{}, err
	}
	for _, ok := range passes {
		chosen = slices.DeleteFunc(chosen, func(t T) bool { return !ok(t) })
	}
	chosen, next, err := page(f, chosen, in.paging, cmp.Or(by.least, 5), by.id)
	return found[X]{by.set, each(chosen, show), next}, err
}

// describe serves an action that does nothing else.
func describe[T, X any](f *face, to map[string]query.Action, name string, by lookup[T], all func(account.View) []T, show func(T) X) {
	to[name] = f.dryRun(func(ctx context.Context, form url.Values) (any, error) {
		ids, err := query.Take(form, by.ids)
		if err != nil {
			return nil, err
		}
		var in asked
		if err := query.Decode(form, &in); err != nil {
			return nil, err
		}
		return look(f, all(f.view(ctx, name)), by, ids, in, show)
	})
}

// each encodes all of a list.
func each[A, B any](in []A, do func(A) B) []B {
	out := make([]B, 0, len(in))
	for _, a := range in {
		out = append(out, do(a))
	}
	return out
}

// Package ec2 serves EC2's query protocol from the state of an account.
package ec2

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Version is the only version of the API.
const Version = "2016-11-15"

// face serves one account.
type face struct{ account *account.Account }

// New returns a server for an account.
func New(a *account.Account, log *slog.Logger) *query.Server {
	f := &face{a}
	s := &query.Server{
		Protocol: query.EC2, Version: Version, Namespace: "http://ec2.amazonaws.com/doc/2016-11-15/", Log: log,
		Actions: map[string]query.Action{"RunInstances": f.dryRun(f.runInstances)},
	}
	f.instances(s.Actions)
	f.network(s.Actions)
	f.groups(s.Actions)
	f.images(s.Actions)
	f.catalog(s.Actions)
	f.tags(s.Actions)
	return s
}

// on serves an action with a function on the account as that action sees it.
func on[In, Out any](f *face, to map[string]query.Action, name string, do func(account.View, In) (Out, error)) {
	to[name] = f.dryRun(query.On(func(ctx context.Context, in In) (Out, error) { return do(f.view(ctx, name), in) }))
}

// dryRun answers what a request with DryRun is answered: all have the rights.
func (f *face) dryRun(act query.Action) query.Action {
	return func(ctx context.Context, form url.Values) (any, error) {
		if form.Get("DryRun") == "true" {
			return nil, &query.Error{
				Code: "DryRunOperation", Message: "Request would have succeeded, but DryRun flag is set.", Status: http.StatusPreconditionFailed,
			}
		}
		form.Del("DryRun")
		return act(ctx, form)
	}
}

// view is the account as a request sees it, bent by faults.
func (f *face) view(ctx context.Context, action string) account.View {
	v, bend := f.account.View(action), faults.FromContext(ctx)
	v.Stale, v.Stuck, v.StuckFor, v.Fails = bend.Stale, bend.Stuck, bend.StuckFor, bend.State != ""
	return v
}

// done is the answer of actions that tell nothing.
type done struct {
	Return bool `xml:"return"`
}

func ok(err error) (done, error) { return done{err == nil}, err }

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// tagSpec is a TagSpecification of a request.
type tagSpec struct {
	ResourceType string
	Tag          []account.Tag
}

// tagsFor returns the tags for the one kind of resource that an action makes.
func tagsFor(specs []tagSpec, kind string) ([]account.Tag, error) {
	var out []account.Tag
	for _, s := range specs {
		if s.ResourceType != kind {
			return nil, query.Refuse("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", s.ResourceType)
		}
		out = append(out, s.Tag...)
	}
	return out, account.CheckTags(out)
}

// tagsOf encodes the tags of a resource.
func (f *face) tagsOf(id string) []tag {
	var out []tag
	for _, t := range f.account.Tags(id) {
		out = append(out, tag(t))
	}
	return out
}

// stamp formats a time as EC2 does.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func word(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

package cloudscale

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// body is a decoded request: which fields it has, and the text of each.
type body map[string]json.RawMessage

func (b body) has(field string) bool { _, ok := b[field]; return ok }

func (b body) null(field string) bool { return string(bytes.TrimSpace(b[field])) == "null" }

// read decodes a request into v. Fields that are null are refused unless listed
// as nullable, as the API does for ssh_keys and tags.
func read(c call, v any, nullable ...string) (body, error) {
	fields := body{}
	d := json.NewDecoder(c.Body)
	if err := d.Decode(&fields); err != nil {
		return nil, &world.Error{Kind: world.Invalid, Message: "JSON parse error - " + err.Error()}
	}
	for f := range fields {
		if fields.null(f) && !slices.Contains(nullable, f) {
			return nil, fieldError(f, "This field may not be null.")
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, v); err != nil {
		var t *json.UnmarshalTypeError
		if errors.As(err, &t) {
			return nil, fieldError(t.Field, "Not a valid value.")
		}
		return nil, &world.Error{Kind: world.Invalid, Message: "JSON parse error - " + err.Error()}
	}
	return fields, nil
}

// single refuses a change of several attributes at once.
func single(fields body, what string) error {
	if len(fields) > 1 {
		return &world.Error{Kind: world.Invalid, Message: "Only one attribute of the " + what + " can be updated per request."}
	}
	return nil
}

// metaRequest holds what requests about tagged resources have in common.
type metaRequest struct {
	Name *string           `json:"name"`
	Tags map[string]string `json:"tags"`
}

func (m metaRequest) patch() world.MetaPatch { return world.MetaPatch{Name: m.Name, Tags: m.Tags} }

type described interface{ Info() world.Meta }

// filtered applies the tag filter of a list request and hides what a stale list
// would not show yet. Of several tag parameters only the last counts: that the
// real API does not combine them is reported by users of it.
func filtered[T described](c call, in []T) []T {
	key, value, filter := tagFilter(c.URL.RawQuery)
	name := c.URL.Query().Get("name")
	return slices.DeleteFunc(in, func(v T) bool {
		m := v.Info()
		if stale(c, m) || name != "" && m.Name != name {
			return true
		}
		have, ok := m.Tags[key]
		return filter && (!ok || value != "" && have != value)
	})
}

// stale says whether a resource is too young to be seen by this request.
func stale(c call, m world.Meta) bool {
	return c.bend.Stale > 0 && time.Since(m.CreatedAt) < c.bend.Stale
}

func tagFilter(query string) (key, value string, ok bool) {
	for part := range strings.SplitSeq(query, "&") {
		k, v, _ := strings.Cut(part, "=")
		k, errK := url.QueryUnescape(k)
		v, errV := url.QueryUnescape(v)
		if t, isTag := strings.CutPrefix(k, "tag:"); isTag && errK == nil && errV == nil {
			key, value, ok = t, v, true
		}
	}
	return key, value, ok
}

// list answers a list request with a view of every resource that passes the
// filter.
func list[T described](c call, in []T, view func(call, T) obj) (result, error) {
	out := []obj{}
	for _, v := range filtered(c, in) {
		out = append(out, view(c, v))
	}
	return ok(out)
}

// one answers a request for a single resource.
func one[T described](c call, v T, err error, view func(call, T) obj) (result, error) {
	if err == nil && stale(c, v.Info()) {
		err = errNotFound
	}
	if err != nil {
		return result{}, err
	}
	return ok(view(c, v))
}

// made answers a request that created something.
func made[T any](c call, v T, err error, view func(call, T) obj) (result, error) {
	if err != nil {
		return result{}, err
	}
	return created(view(c, v))
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func strs(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}

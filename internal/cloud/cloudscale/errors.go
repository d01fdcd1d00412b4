package cloudscale

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// defaultPause follows a 429 that names no time.
const defaultPause = 2 * time.Second

// classify is the exchange.Classifier of this API: the status decides, and the
// wording where that is not enough.
//
// A 5xx after a create is Ambiguous, 503 included: peers call it "maintenance"
// and retry, but a proxy answers 503 also when the connection to the server
// behind it broke half-way, and a needless proof of absence costs a minute while
// a doubled machine costs a cluster.
func classify(r exchange.Request, err error, ex *exchange.Exchange) error {
	v := r.Verb
	f := &fault.Error{Op: r.Op, HTTPStatus: ex.Status, RequestID: ex.RequestID, Err: err}
	text, structured := explain(ex)
	f.Message = text
	switch s := ex.Status; {
	case s == 0:
		f.Kind, f.Message = ex.Unanswered(v, readable(err))
	case s < 300:
		f.Message = "the answer could not be read: " + readable(err)
		f.Kind = v.Unknown()
	case s < 400:
		f.Message = "the API redirects elsewhere; check its URL"
		f.Kind = fault.Invalid
		if s == http.StatusSeeOther { // "done, see there"
			f.Kind = v.Unknown()
		}
	case s == http.StatusTooManyRequests:
		f.Kind, f.RetryAfter = fault.RateLimited, pause(ex, text)
	case s == http.StatusUnauthorized, s == http.StatusForbidden && !quota.MatchString(text):
		f.Kind = fault.Unauthorized
	case s == http.StatusNotFound:
		f.Kind = absent(v, structured)
	case s == http.StatusRequestTimeout, s >= 500:
		f.Kind, f.RetryAfter = v.Unknown(), ex.RetryAfter
	default:
		f.Kind = refused(v, s, text)
	}
	return f
}

// absent judges a 404. For a create it means that something the request refers
// to is missing (an image, most often). It is proof of absence only in the API's
// own words; a proxy's page proves nothing.
func absent(v exchange.Verb, structured bool) fault.Kind {
	switch {
	case v == exchange.Create:
		return fault.Invalid
	case structured:
		return fault.NotFound
	}
	return fault.Unavailable
}

// The API has no error codes, so its wording has to do. Nothing is published
// about quotas and stock; these words cover what an administrator would write.
var (
	quota    = regexp.MustCompile(`(?i)quota|limit (of|for) .*(reached|exceeded)|(exceeds?|exceeded|reached) .*(limit|maximum)|maximum number`)
	capacity = regexp.MustCompile(`(?i)not enough (resources|capacity)|out of (stock|capacity)|insufficient (capacity|resources)|no valid host|capacity .*(available|exhausted)`)
	busy     = regexp.MustCompile(`(?i)currently (changing|being)|is changing|in use|still (being|in)|try again later|locked|process of being`)
)

// refused judges the remaining 4xx: nothing was done.
func refused(v exchange.Verb, status int, text string) fault.Kind {
	if v == exchange.Remove { // "may still be in the process of being created"
		return fault.Conflict
	}
	switch {
	case capacity.MatchString(text):
		return fault.Capacity
	case quota.MatchString(text):
		return fault.Quota
	case status == http.StatusConflict, status == http.StatusLocked, busy.MatchString(text):
		return fault.Conflict
	}
	return fault.Invalid
}

// throttled is how the API's framework (Django REST) words a 429.
var throttled = regexp.MustCompile(`available in (\d{1,5}) second`)

func pause(ex *exchange.Exchange, text string) time.Duration {
	if ex.RetryAfter > 0 {
		return ex.RetryAfter
	}
	if m := throttled.FindStringSubmatch(text); m != nil {
		if s, err := strconv.Atoi(m[1]); err == nil {
			return time.Duration(s) * time.Second
		}
	}
	return defaultPause
}

// explain returns the reason in a refusal's body and whether the body has the
// API's own form. A refusal may repeat the field it refuses; what users send as
// user data holds secrets, so such text is withheld.
func explain(ex *exchange.Exchange) (text string, structured bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(ex.Body, &fields); err != nil {
		var list []json.RawMessage
		if json.Unmarshal(ex.Body, &list) != nil {
			if ex.Status == 0 {
				return "", false
			}
			return strings.TrimSpace(fmt.Sprintf("%s %s", http.StatusText(ex.Status), ex.ContentType)), false
		}
		return exchange.Clip(words(ex.Body)), true
	}
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	slices.Sort(names)
	var parts []string
	for _, n := range names {
		switch {
		case strings.Contains(n, "user_data"):
			parts = append(parts, n+": refused (its text is withheld)")
		case n == "detail":
			parts = append(parts, words(fields[n]))
		default:
			parts = append(parts, n+": "+words(fields[n]))
		}
	}
	return exchange.Clip(strings.Join(parts, "; ")), true
}

// words flattens a JSON value into text.
func words(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return ""
	}
	var parts []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			keys := make([]string, 0, len(v))
			for k := range v {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			for _, k := range keys {
				if !strings.Contains(k, "user_data") {
					walk(v[k])
				}
			}
		case nil:
		default:
			parts = append(parts, fmt.Sprint(v))
		}
	}
	walk(v)
	return strings.Join(parts, ", ")
}

// readable is an error without what the reader knows already.
func readable(err error) string {
	if reason, ok := exchange.Reason(err); ok {
		return reason
	}
	return exchange.Clip(err.Error())
}

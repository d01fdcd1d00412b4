package cloudscale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
)

// verb is what a call does; it decides what an unknown outcome means.
type verb int

const (
	read verb = iota
	// create makes something new: repeating it blindly doubles it.
	create
	// change and remove have the same effect however often they are done, so an
	// unknown outcome is only a reason to look and repeat.
	change
	remove
)

// defaultPause follows a 429 that names no time.
const defaultPause = 2 * time.Second

// classify gives the outcome of a call its kind. ex tells what the SDK's error
// cannot: the status, and whether anything may have been sent.
//
// A 5xx after a create is Ambiguous, 503 included: peers call it "maintenance"
// and retry, but a proxy answers 503 also when the connection to the server
// behind it broke half-way, and a needless proof of absence costs a minute while
// a doubled machine costs a cluster.
func classify(op string, v verb, err error, ex *exchange) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: op, HTTPStatus: ex.status, RequestID: ex.requestID, Err: err}
	text, structured := explain(ex)
	f.Message = text
	switch s := ex.status; {
	case s == 0:
		return noAnswer(f, v, err, ex)
	case s < 300:
		f.Message = "the answer could not be read: " + readable(err)
		f.Kind = unknown(v)
	case s < 400:
		f.Message = "the API redirects elsewhere; check its URL"
		f.Kind = fault.Invalid
		if s == http.StatusSeeOther { // "done, see there"
			f.Kind = unknown(v)
		}
	case s == http.StatusTooManyRequests:
		f.Kind, f.RetryAfter = fault.RateLimited, pause(ex, text)
	case s == http.StatusUnauthorized, s == http.StatusForbidden && !quota.MatchString(text):
		f.Kind = fault.Unauthorized
	case s == http.StatusNotFound:
		f.Kind = absent(v, structured)
	case s == http.StatusRequestTimeout, s >= 500:
		f.Kind, f.RetryAfter = unknown(v), ex.retryAfter
	default:
		f.Kind = refused(v, s, text)
	}
	return f
}

// noAnswer judges an exchange without a status.
func noAnswer(f *fault.Error, v verb, err error, ex *exchange) error {
	f.Message = readable(err)
	switch {
	case !ex.sent.Load():
		f.Kind, f.Message = fault.Unavailable, "not sent: "+f.Message
	default:
		f.Kind = unknown(v)
	}
	return f
}

// unknown is the kind of an outcome that nobody knows.
func unknown(v verb) fault.Kind {
	switch v {
	case create:
		return fault.Ambiguous
	case change, remove:
		return fault.NotYet // do it again
	case read:
	}
	return fault.Unavailable
}

// absent judges a 404. For a create it means that something the request refers
// to is missing (an image, most often). It is proof of absence only in the API's
// own words; a proxy's page proves nothing.
func absent(v verb, structured bool) fault.Kind {
	switch {
	case v == create:
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
func refused(v verb, status int, text string) fault.Kind {
	if v == remove { // "may still be in the process of being created"
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

func pause(ex *exchange, text string) time.Duration {
	if ex.retryAfter > 0 {
		return ex.retryAfter
	}
	if m := throttled.FindStringSubmatch(text); m != nil {
		if s, err := strconv.Atoi(m[1]); err == nil {
			return time.Duration(s) * time.Second
		}
	}
	return defaultPause
}

// maxMessage keeps messages readable in lists and histories.
const maxMessage = 300

// explain returns the reason in a refusal's body and whether the body has the
// API's own form. A refusal may repeat the field it refuses; what users send as
// user data holds secrets, so such text is withheld.
func explain(ex *exchange) (text string, structured bool) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(ex.body, &fields); err != nil {
		var list []json.RawMessage
		if json.Unmarshal(ex.body, &list) != nil {
			if ex.status == 0 {
				return "", false
			}
			return strings.TrimSpace(fmt.Sprintf("%s %s", http.StatusText(ex.status), ex.contentType)), false
		}
		return clip(words(ex.body)), true
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
	return clip(strings.Join(parts, "; ")), true
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

func clip(s string) string {
	if r := []rune(s); len(r) > maxMessage {
		return string(r[:maxMessage]) + "…"
	}
	return s
}

// readable is an error without what the reader knows already.
func readable(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return "not the JSON that was expected"
	}
	return clip(err.Error())
}

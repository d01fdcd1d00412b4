package nimbus

import (
	"cmp"
	"encoding/json"
	"net/http"
	"time"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// codes are all that the API's reference lists, and what each means for whoever asked.
var codes = map[string]fault.Kind{
	"invalid":         fault.Invalid,
	"image_not_found": fault.Invalid,
	"unauthorized":    fault.Unauthorized,
	"quota_exceeded":  fault.Quota,    // the account's limit: waiting does not help
	"no_capacity":     fault.Capacity, // this size in this zone: the next may have it
	"name_taken":      fault.Conflict, // surely not made by this request
	"busy":            fault.Conflict,
	"in_use":          fault.Conflict,
	"rate_limited":    fault.RateLimited,
	"not_found":       fault.NotFound,
}

// classify gives an error its kind: by the API's code where there is one, then by
// the status, and what nobody knows by what was asked for. It never says NotFound
// but in the API's own words, since a proxy's 404 proves nothing.
func classify(r exchange.Request, err error, ex *exchange.Exchange) error {
	var refusal struct{ Code, Message, Field string }
	if json.Unmarshal(ex.Body, &refusal) != nil {
		refusal.Code = ""
	}
	f := &fault.Error{Op: r.Op, Code: refusal.Code, Message: exchange.Clip(refusal.Message), HTTPStatus: ex.Status, RequestID: ex.RequestID}
	if refusal.Field == "userData" {
		f.Message = "its text is withheld: it may repeat the user data, which holds secrets"
	}
	kind, known := codes[refusal.Code]
	switch {
	case ex.Status == 0: // no answer: done or not, unless it was never sent
		reason, ok := exchange.Reason(err)
		if !ok {
			reason = "the exchange failed"
		}
		f.Kind, f.Message = ex.Unanswered(r.Verb, reason)
	case known && kind == fault.NotFound && r.Verb == exchange.Create:
		f.Kind = fault.Invalid // of something that the request refers to
	case known:
		f.Kind = kind
	case ex.Status == http.StatusTooManyRequests:
		f.Kind = fault.RateLimited
	case ex.Status == http.StatusUnauthorized, ex.Status == http.StatusForbidden:
		f.Kind = fault.Unauthorized
	default: // a proxy's page, half an answer, a code that is new
		f.Kind = r.Verb.Unknown()
	}
	if f.Kind == fault.RateLimited {
		f.RetryAfter = cmp.Or(ex.RetryAfter, 2*time.Second)
	}
	return f
}

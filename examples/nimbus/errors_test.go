package nimbus

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// TestKindsOfErrors holds answers, as they were recorded, to their kinds.
func TestKindsOfErrors(t *testing.T) {
	const page = "<h1>404 Not Found</h1>"
	for _, tc := range []struct {
		name   string
		verb   exchange.Verb
		status int
		body   string
		want   fault.Kind
	}{
		{"quota", exchange.Create, http.StatusForbidden, `{"code": "quota_exceeded", "message": "10 machines"}`, fault.Quota},
		{"stock", exchange.Create, http.StatusServiceUnavailable, `{"code": "no_capacity", "message": "small"}`, fault.Capacity},
		{"a name", exchange.Create, http.StatusConflict, `{"code": "name_taken", "message": "machines-1"}`, fault.Conflict},
		{"something to build on", exchange.Create, http.StatusNotFound, `{"code": "not_found", "message": "networks-1"}`, fault.Invalid},
		{"absence", exchange.Read, http.StatusNotFound, `{"code": "not_found", "message": "machines-1"}`, fault.NotFound},
		{"a proxy's 404", exchange.Read, http.StatusNotFound, page, fault.Unavailable},
		{"a proxy's 404 of a deletion", exchange.Remove, http.StatusNotFound, page, fault.NotYet},
		{"a proxy's 502 of a create", exchange.Create, http.StatusBadGateway, page, fault.Ambiguous},
		{"half an answer of a create", exchange.Create, http.StatusCreated, "", fault.Ambiguous},
		{"a new code of a create", exchange.Create, http.StatusBadRequest, `{"code": "newer_than_this"}`, fault.Ambiguous},
		{"a page that slows down", exchange.Read, http.StatusTooManyRequests, page, fault.RateLimited},
		{"a token", exchange.Read, http.StatusUnauthorized, page, fault.Unauthorized},
		{"never sent", exchange.Create, 0, "", fault.Unavailable},
	} {
		err := classify(exchange.Request{Op: "try", Verb: tc.verb}, context.DeadlineExceeded, &exchange.Exchange{Status: tc.status, Body: []byte(tc.body)})
		if !fault.Is(err, tc.want) {
			t.Errorf("%s: %v of kind %s, want %s", tc.name, err, fault.KindOf(err), tc.want)
		}
		if tc.want == fault.RateLimited && fault.RetryAfter(err) <= 0 {
			t.Errorf("%s: for how long?", tc.name)
		}
	}
	body := `{"code": "invalid", "field": "userData", "message": "not YAML: machine: token: s3cret"}`
	err := classify(exchange.Request{Op: "try", Verb: exchange.Create}, context.Canceled, &exchange.Exchange{Status: http.StatusBadRequest, Body: []byte(body)})
	if !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("refused user data: %v", err)
	}
}

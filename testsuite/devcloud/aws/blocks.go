package aws

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/ebs"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/sigv4"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// blocksPath is the path of the EBS direct APIs.
const blocksPath = Path + "ebs"

// registerBlocks serves the EBS direct APIs behind the injector: a fault on
// "PUT /aws/ebs/snapshots/*/blocks/*" bends writes.
func (c *Cloud) registerBlocks(mux *http.ServeMux, in *faults.Injector) {
	s := ebs.New(c.account, blocksPath, c.log)
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			s.Refuse(rw, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		scope := sigv4.Scope{Region: account.Region, Service: "ebs", Unsigned: true}
		key, err := sigv4.Verify(r, body, scope, c.secret, time.Now())
		switch {
		case err == nil && c.blocksRefuse(key, r, strings.TrimPrefix(r.URL.Path, blocksPath), body):
			s.Refuse(rw, query.Refuse("AccessDeniedException", "You do not have sufficient access to perform this action."))
		case err == nil:
			s.ServeHTTP(rw, r)
		case errors.Is(err, sigv4.ErrKey) || errors.Is(err, sigv4.ErrToken):
			s.Refuse(rw, query.Refuse("UnrecognizedClientException", "The security token included in the request is invalid."))
		case errors.Is(err, sigv4.ErrMissing):
			s.Refuse(rw, query.Refuse("AccessDeniedException", "Request is missing Authentication Token"))
		default:
			s.Refuse(rw, query.Refuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided."))
		}
	})
	mux.Handle(blocksPath+"/", in.WrapAs(handler, c.account.Latencies().API, cannedBlock))
}

// cannedBlock is what a fault answers instead of the EBS direct APIs.
func cannedBlock(f *faults.Fault) (int, string, []byte) {
	e := &query.Error{Code: f.Code, Message: f.Body, Status: f.Status}
	if e.Code == "" {
		switch f.Effect {
		case faults.HTML429, faults.JSON429:
			e.Code = "RequestThrottledException"
		case faults.Quota:
			e.Code = "ServiceQuotaExceededException"
		default:
			e.Code = "InternalServerException"
		}
	}
	status, body := ebs.Body(e)
	return status, "application/json", body
}

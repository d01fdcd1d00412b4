// Package aws is devcloud's second cloud: EC2 and what goes with it, as the
// vendor's SDK speaks to it, signatures included. It shares the clock, the
// loopback addresses, the machines and the faults of devcloud; its state is its
// own, since hardly a rule of one cloud holds in the other.
package aws

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/access"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/account"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/ec2"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/elb"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/iam"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/sigv4"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/sts"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// Path is the first part of the path of every service: its endpoint is
// Path + name + "/".
const Path = "/aws/"

// Service is one of the cloud's services.
type Service struct {
	// Name is part of the endpoint; Signed is what signatures call the service.
	Name, Signed string
	// EndpointVariable is the SDK's environment variable for the endpoint.
	EndpointVariable string
	Server           *query.Server
	// UnknownKey and WrongToken are the codes for credentials that are not known.
	UnknownKey, WrongToken string
	// Rights returns what a request needs the right to; nil if it needs none.
	Rights func(action string, form url.Values) []iam.Need
}

// Cloud serves the services of one account.
type Cloud struct {
	account   *account.Account
	balancing *elb.Service
	storage   *s3.Server
	services  []Service
	gate      gate
	log       *slog.Logger
}

// New returns a cloud with the services of this building.
func New(a *account.Account, log *slog.Logger) *Cloud {
	b := elb.New(elb.Options{Account: a, Log: log})
	c := &Cloud{account: a, balancing: b, log: log}
	c.gate.rights = access.Rights{Account: a, Balanced: b.Tags, Linked: c.gate.linked}
	c.storage = newStorage(c)
	c.services = []Service{
		{"ec2", "ec2", "AWS_ENDPOINT_URL_EC2", ec2.New(a, log), "AuthFailure", "AuthFailure", c.gate.rights.EC2},
		{elb.Signed, elb.Signed, "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", b.Server(), "InvalidClientTokenId", "ExpiredToken", c.gate.rights.Balancing},
		// Whoever has credentials may ask whose they are.
		{"sts", "sts", "AWS_ENDPOINT_URL_STS", sts.New(a, log), "InvalidClientTokenId", "ExpiredToken", nil},
	}
	return c
}

// Account gives access to the state.
func (c *Cloud) Account() *account.Account { return c.account }

// Balancing gives access to the load balancers.
func (c *Cloud) Balancing() *elb.Service { return c.balancing }

// Reset removes every resource at once. Object storage stays: it may hold the
// store of whoever uses the cloud.
func (c *Cloud) Reset() {
	c.balancing.Reset()
	c.account.Reset()
}

// Close removes everything and waits until nothing of it runs any more.
func (c *Cloud) Close() {
	c.balancing.Close()
	c.account.Close()
}

// State is a dump of everything but object storage.
type State struct {
	account.State
	Balancing elb.State `json:"loadBalancing"`
	// Count is zero exactly when both are empty.
	Count int `json:"count"`
}

// State returns a dump of the cloud.
func (c *Cloud) State() State {
	s := State{State: c.account.State(), Balancing: c.balancing.State()}
	s.Count = s.State.Count + s.Balancing.Count
	return s
}

// Endpoints maps the SDK's environment variables to URLs below a base, which
// ends in a slash.
func (c *Cloud) Endpoints(base string) map[string]string {
	out := map[string]string{}
	for _, s := range c.services {
		out[s.EndpointVariable] = strings.TrimSuffix(base, "/") + Path + s.Name + "/"
	}
	out["AWS_ENDPOINT_URL_EBS"] = strings.TrimSuffix(base, "/") + blocksPath
	out["AWS_ENDPOINT_URL_S3"] = strings.TrimSuffix(base, "/") + storagePath
	return out
}

// Register serves the cloud below Path. In front of each service stands the
// injector, to which a request looks as if its action were part of its path: a
// fault on "POST /aws/ec2/RunInstances" bends launches.
func (c *Cloud) Register(mux *http.ServeMux, in *faults.Injector) {
	c.registerStorage(mux, in)
	c.registerBlocks(mux, in)
	for _, s := range c.services {
		prefix := Path + s.Name
		inner := in.WrapAs(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { c.serve(rw, r, s) }),
			c.account.Latencies().API, func(f *faults.Fault) (int, string, []byte) { return canned(s.Server, f) })
		mux.HandleFunc(prefix+"/", func(rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxBody))
			if err != nil {
				s.Server.Refuse(rw, &query.Error{Code: "RequestEntityTooLarge", Message: err.Error(), Status: http.StatusRequestEntityTooLarge}, "")
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			r = r.WithContext(context.WithValue(r.Context(), originalKey{}, r.URL.Path))
			if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
				r.URL.Path, r.URL.RawPath = prefix+"/"+form.Get("Action"), ""
			}
			inner.ServeHTTP(rw, r)
		})
	}
}

// maxBody is more than any request needs.
const maxBody = 2 << 20

type originalKey struct{}

// serve checks who asks and hands the request to the service.
func (c *Cloud) serve(rw http.ResponseWriter, r *http.Request, s Service) {
	if p, ok := r.Context().Value(originalKey{}).(string); ok {
		r.URL.Path, r.URL.RawPath = p, ""
	}
	id := rw.Header().Get("X-Request-Id")
	rw.Header().Set("X-Amzn-Requestid", id)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.Server.Refuse(rw, &query.Error{Code: "InternalError", Message: err.Error(), Status: http.StatusInternalServerError}, id)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	key, err := sigv4.Verify(r, body, sigv4.Scope{Region: account.Region, Service: s.Signed}, c.secret, time.Now())
	if err != nil {
		s.Server.Refuse(rw, s.refusal(err), id)
		return
	}
	if form, err := url.ParseQuery(string(body)); err == nil {
		if refused := c.unauthorized(s, key, form); refused != nil {
			s.Server.Refuse(rw, refused, id)
			return
		}
	}
	s.Server.ServeHTTP(rw, r)
}

// refusal is what a service says of credentials that it does not accept.
func (s Service) refusal(err error) *query.Error {
	const invalid = "AWS was not able to validate the provided access credentials"
	switch {
	case errors.Is(err, sigv4.ErrKey):
		return &query.Error{Code: s.UnknownKey, Message: invalid, Status: word(s.UnknownKey == "AuthFailure", http.StatusUnauthorized, http.StatusForbidden)}
	case errors.Is(err, sigv4.ErrToken):
		return &query.Error{Code: s.WrongToken, Message: invalid, Status: word(s.WrongToken == "AuthFailure", http.StatusUnauthorized, http.StatusForbidden)}
	case errors.Is(err, sigv4.ErrMissing):
		return &query.Error{Code: "MissingAuthenticationToken", Message: "Request is missing Authentication Token", Status: http.StatusForbidden}
	case errors.Is(err, sigv4.ErrMalformed):
		return &query.Error{Code: "IncompleteSignature", Message: err.Error(), Status: http.StatusBadRequest}
	case errors.Is(err, sigv4.ErrExpired):
		return &query.Error{Code: "RequestExpired", Message: "Request has expired.", Status: http.StatusBadRequest}
	}
	return &query.Error{
		Code: "SignatureDoesNotMatch", Status: http.StatusForbidden,
		Message: "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
	}
}

func word(yes bool, a, b int) int {
	if yes {
		return a
	}
	return b
}

// canned is what a fault answers instead of the service.
func canned(s *query.Server, f *faults.Fault) (int, string, []byte) {
	e := &query.Error{Code: f.Code, Message: f.Body, Status: f.Status}
	def := func(status int, code, message string) {
		if e.Status == 0 {
			e.Status = status
		}
		if e.Code == "" {
			e.Code = code
		}
		if e.Message == "" {
			e.Message = message
		}
	}
	switch f.Effect {
	case faults.HTML429, faults.JSON429:
		if s.Protocol == query.EC2 {
			def(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
		} else {
			def(http.StatusBadRequest, "Throttling", "Rate exceeded")
		}
	case faults.Window503:
		def(http.StatusServiceUnavailable, "Unavailable", "The service is unavailable. Please try again shortly.")
	case faults.Quota:
		def(http.StatusBadRequest, "VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit allows.")
	case faults.OutOfStock:
		def(http.StatusBadRequest, "InsufficientInstanceCapacity", "We currently do not have sufficient capacity in the Availability Zone you requested.")
	case faults.Image404:
		def(http.StatusBadRequest, "InvalidAMIID.NotFound", "The image id does not exist")
	case faults.BadDelete:
		def(http.StatusBadRequest, "DependencyViolation", "The resource has dependencies and cannot be deleted.")
	default:
		def(http.StatusInternalServerError, "InternalError", "An internal error has occurred")
	}
	return e.Status, "text/xml;charset=UTF-8", s.Protocol.ErrorBody(s.Namespace, e, "")
}

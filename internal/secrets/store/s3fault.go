package store

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/ichor-project/ichor/internal/fault"
)

// s3Kinds are the error codes of S3 and of services that speak it, by what they
// mean here. What is not listed goes by its HTTP status.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; the codes
// of Ceph are those of https://docs.ceph.com/en/latest/radosgw/s3/.
var s3Kinds = map[string]fault.Kind{
	"NoSuchKey": fault.NotFound,

	"PreconditionFailed": fault.Conflict,

	"AccessDenied":            fault.Unauthorized,
	"AllAccessDisabled":       fault.Unauthorized,
	"AccountProblem":          fault.Unauthorized,
	"ExpiredToken":            fault.Unauthorized,
	"ExpiredTokenException":   fault.Unauthorized,
	"InvalidAccessKeyId":      fault.Unauthorized,
	"InvalidClientTokenId":    fault.Unauthorized,
	"InvalidSecurity":         fault.Unauthorized,
	"InvalidToken":            fault.Unauthorized,
	"NotSignedUp":             fault.Unauthorized,
	"RequestTimeTooSkewed":    fault.Unauthorized,
	"SignatureDoesNotMatch":   fault.Unauthorized,
	"TokenRefreshRequired":    fault.Unauthorized,
	"UnauthorizedAccess":      fault.Unauthorized,
	"UnrecognizedClientError": fault.Unauthorized,
	"UserSuspended":           fault.Unauthorized,

	"BandwidthLimitExceeded":   fault.RateLimited,
	"RequestLimitExceeded":     fault.RateLimited,
	"RequestThrottled":         fault.RateLimited,
	"SlowDown":                 fault.RateLimited,
	"SlowDownRead":             fault.RateLimited,
	"SlowDownWrite":            fault.RateLimited,
	"ThrottledException":       fault.RateLimited,
	"Throttling":               fault.RateLimited,
	"ThrottlingException":      fault.RateLimited,
	"TooManyRequests":          fault.RateLimited,
	"TooManyRequestsException": fault.RateLimited,

	"QuotaExceeded":     fault.Quota,
	"StorageFull":       fault.Quota,
	"XMinioStorageFull": fault.Quota,

	// The request or the store's URL is wrong. A bucket that is not there is no
	// proof that an object never was.
	"AuthorizationHeaderMalformed":       fault.Invalid,
	"EntityTooLarge":                     fault.Invalid,
	"IllegalLocationConstraintException": fault.Invalid,
	"InvalidArgument":                    fault.Invalid,
	"InvalidBucketName":                  fault.Invalid,
	"InvalidObjectState":                 fault.Invalid,
	"InvalidRequest":                     fault.Invalid,
	"KeyTooLongError":                    fault.Invalid,
	"MethodNotAllowed":                   fault.Invalid,
	"NoSuchBucket":                       fault.Invalid,
	"NotImplemented":                     fault.Invalid,
	"PermanentRedirect":                  fault.Invalid,
}

// s3Fault gives an error of S3 a kind. Of what it does not know it claims
// nothing: Unavailable, which becomes Ambiguous for the creation of an object.
func s3Fault(op string, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Kind: fault.Unavailable, Op: op, Err: err}
	var api smithy.APIError
	if errors.As(err, &api) {
		f.Code, f.Message = api.ErrorCode(), api.ErrorMessage()
	}
	var reply *awshttp.ResponseError
	if errors.As(err, &reply) {
		f.HTTPStatus, f.RequestID = reply.HTTPStatusCode(), reply.ServiceRequestID()
		if reply.Response != nil {
			f.RetryAfter = retryAfter(reply.Response.Header)
		}
	}
	kind, known := s3Kinds[f.Code]
	switch {
	case known:
		f.Kind = kind
	case f.HTTPStatus == http.StatusUnauthorized, f.HTTPStatus == http.StatusForbidden:
		f.Kind = fault.Unauthorized
	case f.HTTPStatus == http.StatusTooManyRequests:
		f.Kind = fault.RateLimited
	case f.HTTPStatus == http.StatusPreconditionFailed:
		f.Kind = fault.Conflict
	case f.HTTPStatus == http.StatusNotImplemented, f.HTTPStatus == http.StatusMovedPermanently:
		f.Kind = fault.Invalid
	}
	return f
}

// busy reports whether a conditional write met another one; S3 wants it
// repeated then.
func busy(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (api.ErrorCode() == "ConditionalRequestConflict" || api.ErrorCode() == "OperationAborted")
}

// retryAfter reads the header of this name; dates are not used by S3.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 || seconds > 3600 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

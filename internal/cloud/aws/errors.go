package aws

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/fault"
)

// defaultPause follows a refusal for speed, which names no time: the buckets of
// the API refill by a few calls a second.
const defaultPause = 2 * time.Second

// Codes that are handled one by one.
const (
	codeTerminated = "IdempotentInstanceTerminated"
	codeMismatch   = "IdempotentParameterMismatch"
	codeNoInstance = "InvalidInstanceID.NotFound"
	codeNoImage    = "InvalidAMIID.NotFound"
)

// kinds of codes (EC2 and Elastic Load Balancing API references, error codes).
// Codes that say "there is no such thing" are in absentCodes, since what they
// mean depends on the call. Suffix "Exception", which some services add, is cut.
var codes = map[string]fault.Kind{
	"InsufficientInstanceCapacity":         fault.Capacity,
	"InsufficientCapacity":                 fault.Capacity,
	"UnfulfillableCapacity":                fault.Capacity,
	"ReservationCapacityExceeded":          fault.Capacity,
	"InsufficientHostCapacity":             fault.Capacity,
	"InsufficientVolumeCapacity":           fault.Capacity,
	"InsufficientReservedInstanceCapacity": fault.Capacity,
	"SpotMaxPriceTooLow":                   fault.Capacity,
	"Unsupported":                          fault.Capacity, // the type is not offered in this zone
	"UnsupportedHostConfiguration":         fault.Capacity,

	"VcpuLimitExceeded":                        fault.Quota,
	"InstanceLimitExceeded":                    fault.Quota,
	"MaxSpotInstanceCountExceeded":             fault.Quota,
	"VolumeLimitExceeded":                      fault.Quota,
	"AddressLimitExceeded":                     fault.Quota,
	"TooManyLoadBalancers":                     fault.Quota,
	"InsufficientFreeAddressesInSubnet":        fault.Quota,
	"PendingVerification":                      fault.Quota,
	"MaxIOPSLimitExceeded":                     fault.Quota,
	"ResourceLimitExceeded":                    fault.Quota,
	"ResourceCountLimitExceeded":               fault.Quota,
	"ReservedInstancesLimitExceeded":           fault.Quota,
	"TooManyTargetGroups":                      fault.Quota,
	"TooManyTargets":                           fault.Quota,
	"TooManyListeners":                         fault.Quota,
	"TooManyTags":                              fault.Quota,
	"TooManyRegistrationsForTargetId":          fault.Quota,
	"TooManyUniqueTargetGroupsPerLoadBalancer": fault.Quota,

	"RequestLimitExceeded":                  fault.RateLimited,
	"EC2ThrottledException":                 fault.RateLimited,
	"EC2Throttled":                          fault.RateLimited,
	"Throttling":                            fault.RateLimited,
	"Throttled":                             fault.RateLimited,
	"ThrottledRequest":                      fault.RateLimited,
	"RequestThrottled":                      fault.RateLimited,
	"TooManyRequests":                       fault.RateLimited,
	"SlowDown":                              fault.RateLimited,
	"PriorRequestNotComplete":               fault.RateLimited,
	"ConcurrentTagAccess":                   fault.RateLimited,
	"SnapshotCreationPerVolumeRateExceeded": fault.RateLimited,

	"ConcurrentLimitExceeded": fault.RateLimited,
	"ServiceQuotaExceeded":    fault.Quota,
	"Conflict":                fault.Conflict,

	"AuthFailure":                fault.Unauthorized,
	"UnauthorizedOperation":      fault.Unauthorized,
	"AccessDenied":               fault.Unauthorized,
	"ExpiredToken":               fault.Unauthorized,
	"RequestExpired":             fault.Unauthorized,
	"InvalidClientTokenId":       fault.Unauthorized,
	"InvalidSecurityToken":       fault.Unauthorized,
	"UnrecognizedClient":         fault.Unauthorized,
	"SignatureDoesNotMatch":      fault.Unauthorized,
	"InvalidSignature":           fault.Unauthorized,
	"IncompleteSignature":        fault.Unauthorized,
	"MissingAuthenticationToken": fault.Unauthorized,
	"NotAuthorized":              fault.Unauthorized,
	"OptInRequired":              fault.Unauthorized,
	"Blocked":                    fault.Unauthorized,

	"DependencyViolation":             fault.Conflict,
	"ResourceInUse":                   fault.Conflict,
	"IncorrectState":                  fault.Conflict,
	"IncorrectInstanceState":          fault.Conflict,
	"VolumeInUse":                     fault.Conflict,
	"InvalidPlacementGroup.InUse":     fault.Conflict,
	"InvalidNetworkInterface.InUse":   fault.Conflict,
	"InvalidGroup.InUse":              fault.Conflict,
	"InvalidIPAddress.InUse":          fault.Conflict,
	"InvalidSnapshot.InUse":           fault.Conflict,
	"Resource.AlreadyAssociated":      fault.Conflict,
	"Resource.AlreadyAssigned":        fault.Conflict,
	"InvalidGroup.Duplicate":          fault.Conflict,
	"InvalidPermission.Duplicate":     fault.Conflict,
	"InvalidPlacementGroup.Duplicate": fault.Conflict,
	"InvalidSubnet.Conflict":          fault.Conflict,
	"InvalidAMIName.Duplicate":        fault.Conflict,
	"RouteAlreadyExists":              fault.Conflict,
	"DuplicateLoadBalancerName":       fault.Conflict,
	"DuplicateTargetGroupName":        fault.Conflict,
	"DuplicateListener":               fault.Conflict,
	"Gateway.NotAttached":             fault.Conflict,
	"InvalidAssociationID.NotFound":   fault.Conflict,
	"InvalidPermission.NotFound":      fault.Conflict,
	"InvalidRoute.NotFound":           fault.Conflict,

	"OperationNotPermitted": fault.Unsafe, // protected from termination

	codeMismatch:                         fault.Invalid,
	codeTerminated:                       fault.NotFound,
	"InvalidTarget":                      fault.Invalid,
	"InvalidSubnet":                      fault.Invalid,
	"InvalidSubnet.Range":                fault.Invalid,
	"InvalidVpc.Range":                   fault.Invalid,
	"InvalidScheme":                      fault.Invalid,
	"InvalidInput":                       fault.Invalid,
	"InvalidConfigurationRequest":        fault.Invalid,
	"InvalidBlockDeviceMapping":          fault.Invalid,
	"InvalidID":                          fault.Invalid,
	"InvalidKeyPair.NotFound":            fault.Invalid,
	"InvalidUserData.Malformed":          fault.Invalid,
	"InvalidVirtualMachineConfiguration": fault.Invalid,
	"MissingParameter":                   fault.Invalid,
	"UnknownParameter":                   fault.Invalid,
	"UnsupportedOperation":               fault.Invalid,
	"InvalidAction":                      fault.Invalid,
	"MalformedQueryString":               fault.Invalid,
	"Validation":                         fault.Invalid,
	"ValidationError":                    fault.Invalid,
	"TagLimitExceeded":                   fault.Invalid,
	"UserDataTooLarge":                   fault.Invalid,
}

// absentCodes say that something is not there. When a create or a change says
// it of infrastructure, it is of something that the request refers to and that
// Ichor has made or seen before: it may not be visible yet.
var absentCodes = map[string]bool{
	codeNoInstance:                       true,
	"InvalidVpcID.NotFound":              true,
	"InvalidInternetGatewayID.NotFound":  true,
	"InvalidRouteTableID.NotFound":       true,
	"InvalidSubnetID.NotFound":           true,
	"InvalidGroup.NotFound":              true,
	"InvalidGroupId.NotFound":            true,
	"InvalidSecurityGroupID.NotFound":    true,
	"InvalidPlacementGroup.Unknown":      true,
	"InvalidPlacementGroupId.Unknown":    true,
	"InvalidVolume.NotFound":             true,
	"InvalidNetworkInterfaceID.NotFound": true,
	"InvalidSnapshot.NotFound":           true,
	"SubnetNotFound":                     true,
	"LoadBalancerNotFound":               true,
	"TargetGroupNotFound":                true,
	"ListenerNotFound":                   true,
	"ResourceNotFound":                   true,
}

// classify is the exchange.Classifier of these APIs.
//
// The code decides, where it is known: shortage and throttling come with a
// status of 5xx. Then the status does, taken from the answer and never from the
// SDK's notion of whose fault an error is, which is "unknown" for all of EC2.
// What nobody knows is Ambiguous for a create, another try for a change, and
// Unavailable for a read; never absence.
//
// The SDK's error is not kept: a refused signature comes with the request that
// was to be signed, session token included.
func classify(r exchange.Request, err error, ex *exchange.Exchange) error {
	v := r.Verb
	f := &fault.Error{Op: r.Op, HTTPStatus: ex.Status}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		f.RequestID = answer.ServiceRequestID()
		if s := answer.HTTPStatusCode(); s != 0 {
			f.HTTPStatus = s
		}
	}
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() != unreadableCode {
		f.Code = strings.TrimSuffix(api.ErrorCode(), "Exception")
		f.Message = words(f.Code, api.ErrorMessage())
	}
	if k, ok := kindOfCode(f.Code, v, f.Message); ok {
		f.Kind = k
	} else {
		byStatus(f, v, err, ex)
	}
	if f.Kind == fault.RateLimited {
		if f.RetryAfter = ex.RetryAfter; f.RetryAfter <= 0 {
			f.RetryAfter = defaultPause
		}
	}
	return f
}

// unreadableCode is what the SDK invents for an answer without a code.
const unreadableCode = "UnknownError"

// kindOfCode judges a code, if it is known.
func kindOfCode(code string, v exchange.Verb, message string) (fault.Kind, bool) {
	switch {
	case code == "":
		return "", false
	case code == "InvalidParameterValue" && strings.Contains(message, "IAM Instance Profile"):
		return fault.NotYet, true // a fresh profile takes a while to be known
	case absentCodes[code]:
		if v == exchange.Read || v == exchange.Remove {
			return fault.NotFound, true
		}
		return fault.NotYet, true
	}
	if k, ok := codes[code]; ok {
		return k, true
	}
	switch {
	case strings.HasPrefix(code, "InvalidAMIID."):
		if v == exchange.Read && code == codeNoImage {
			return fault.NotFound, true
		}
		return fault.Invalid, true
	case strings.HasPrefix(code, "Throttl"):
		return fault.RateLimited, true
	case strings.HasPrefix(code, "InvalidParameter"), strings.HasSuffix(code, ".Malformed"):
		return fault.Invalid, true
	case strings.HasSuffix(code, "LimitExceeded"):
		return fault.Quota, true
	}
	return "", false
}

// byStatus judges what has no code that is known.
func byStatus(f *fault.Error, v exchange.Verb, err error, ex *exchange.Exchange) {
	switch s := f.HTTPStatus; {
	case s == 0:
		f.Kind, f.Message = ex.Unanswered(v, readable(err))
		return
	case s < 300:
		f.Kind, f.Message = v.Unknown(), "the answer could not be read"
	case s < 400:
		f.Kind, f.Message = fault.Invalid, "the API redirects elsewhere; check its URL"
	case s == http.StatusTooManyRequests:
		f.Kind = fault.RateLimited
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		f.Kind = fault.Unauthorized
	default:
		f.Kind = v.Unknown()
	}
	if f.Message == "" {
		f.Message = http.StatusText(f.HTTPStatus)
	}
	f.RetryAfter = ex.RetryAfter
}

// words are the reason that the API gives, without what must not be repeated:
// user data holds secrets, a signature's text holds the session token, and the
// encoded part of a denial holds the whole request.
func words(code, message string) string {
	switch code {
	case "SignatureDoesNotMatch", "InvalidSignature", "IncompleteSignature":
		return "the signature was refused; the secret access key does not belong to the access key, or the clock is wrong"
	}
	lower := strings.ToLower(message)
	if strings.Contains(lower, "user data") || strings.Contains(lower, "userdata") {
		return "user data: refused (its text is withheld)"
	}
	message, _, _ = strings.Cut(message, "Encoded authorization failure message")
	return exchange.Clip(strings.TrimSpace(message))
}

// readable is an error without what the reader knows already.
func readable(err error) string {
	if reason, ok := exchange.Reason(err); ok {
		return reason
	}
	if u := (*url.Error)(nil); errors.As(err, &u) {
		return exchange.Clip(u.Err.Error())
	}
	return "the exchange failed"
}

// codeOf is the cloud's own code of an error, "" if it has none.
func codeOf(err error) string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

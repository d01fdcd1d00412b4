package kube

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/fault"
)

// apiError maps an error of client-go to a fault. All calls of this package may
// be repeated, so an unknown outcome is Unavailable.
func apiError(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) {
		return err
	}
	if meta.IsNoMatchError(err) {
		return fault.New(fault.NotYet, op, "the API does not serve this kind (yet): %s", err)
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return transportError(op, err)
	}
	s := status.Status()
	out := &fault.Error{
		Kind: kindOf(err, s), Op: op, Message: withoutValues(s.Message),
		Code: string(s.Reason), HTTPStatus: int(s.Code),
	}
	if out.Message == "" {
		out.Message = http.StatusText(int(s.Code))
	}
	if seconds, wait := apierrors.SuggestsClientDelay(err); wait {
		out.RetryAfter = time.Duration(seconds) * time.Second
	}
	return out
}

func kindOf(err error, s metav1.Status) fault.Kind {
	switch {
	case apierrors.IsForbidden(err):
		return forbidden(err, s.Message)
	case apierrors.IsUnauthorized(err):
		return fault.Unauthorized
	case apierrors.IsNotFound(err):
		return fault.NotFound
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		return fault.Conflict
	case apierrors.IsTooManyRequests(err):
		return fault.RateLimited
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err),
		apierrors.IsMethodNotSupported(err), apierrors.IsNotAcceptable(err), apierrors.IsUnsupportedMediaType(err):
		return fault.Invalid
	case slices.ContainsFunc(untyped, func(words string) bool { return strings.Contains(s.Message, words) }):
		return fault.Invalid
	case s.Code >= http.StatusBadRequest && s.Code < http.StatusInternalServerError:
		return fault.Invalid
	default:
		// 5xx: overloaded, starting, or a webhook that does not answer.
		return fault.Unavailable
	}
}

// forbidden tells the meanings of 403 apart: permissions, admission, and a
// cluster that is still starting.
func forbidden(err error, message string) fault.Kind {
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fault.Conflict
	case strings.Contains(message, "error looking up service account"), strings.Contains(message, "not yet ready to handle request"):
		return fault.NotYet
	case strings.Contains(message, " cannot "):
		return fault.Unauthorized
	default:
		return fault.Invalid
	}
}

// transportError maps errors that came before any answer of the API.
func transportError(op string, err error) error {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		why := "a certificate that is refused"
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
			why = "another cluster's certificate"
		} else if _, ok := errors.AsType[x509.HostnameError](err); ok {
			why = "a certificate that does not name this address"
		}
		return fault.New(fault.Unauthorized, op, "the Kubernetes API presents %s", why)
	}
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return fault.New(fault.Unauthorized, op, "the Kubernetes API refuses our certificate")
	}
	message := err.Error()
	if e, ok := errors.AsType[*url.Error](err); ok {
		message = e.Err.Error()
	}
	return &fault.Error{Kind: fault.Unavailable, Op: op, Message: "the Kubernetes API does not answer: " + message}
}

var rejected = regexp.MustCompile(`(?s)((?:Invalid|Unsupported|Duplicate|Too long|Forbidden) value): (?:"(?:[^"\\]|\\.)*"|\{.*?\}|\S+?)(:|,|$)`)

// withoutValues removes what the API server quotes from a refused object: it may
// be a secret.
func withoutValues(message string) string {
	// What follows these words is the object's own text, in forms that differ
	// from version to version.
	for _, quote := range []string{", got ", "error decoding from json", "unable to convert unstructured object"} {
		if head, _, found := strings.Cut(message, quote); found {
			message = head + strings.TrimSuffix(quote, " ") + " …"
		}
	}
	return rejected.ReplaceAllString(message, "$1: …$2")
}

// untyped are the words of the API server for an object that does not fit its
// schema. It answers them with status 500, but repeating never helps.
var untyped = []string{"failed to create typed patch object", "unable to convert unstructured object"}

// describe names an object in messages.
func describe(kind, namespace, name string) string {
	if namespace == "" {
		return fmt.Sprintf("%s %s", kind, name)
	}
	return fmt.Sprintf("%s %s/%s", kind, namespace, name)
}

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

func TestEndpointOfTheEnvironment(t *testing.T) {
	o := serve(t, s3.Honoured)
	t.Setenv("AWS_ENDPOINT_URL_S3", o.url)
	s := mustOpen(t, store.Options{URL: "s3://" + bucket + "?region=eu-central-1", Key: key(1)})
	_, err := s.PutObject(t.Context(), "a/b", value(canary))
	wantKind(t, err, "")
	kept, err := o.Body(t.Context(), bucket, "a/b")
	if err != nil || len(kept) == 0 || bytes.Contains(kept, []byte(canary)) {
		t.Errorf("%d bytes are kept, %v, or they are in clear", len(kept), err)
	}
}

func TestPrefixIsAFolder(t *testing.T) {
	o := serve(t, s3.Honoured)
	for _, prefix := range []string{"one", "one/", "two%2Fdeep"} {
		s := mustOpen(t, store.Options{URL: o.at("&prefix=" + prefix), Key: key(1)})
		_, err := s.PutObject(t.Context(), "x", value(prefix))
		wantKind(t, err, "")
	}
	all := mustOpen(t, store.Options{URL: o.at(""), Key: key(1)})
	keys, err := all.List(t.Context(), "")
	if diff := cmp.Diff([]string{"one/store/key-check", "one/x", "store/key-check", "two/deep/store/key-check", "two/deep/x"}, keys); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

func TestS3RefusesBadURLs(t *testing.T) {
	o := serve(t, s3.Honoured)
	for name, u := range map[string]string{
		"no bucket":               "s3://?region=eu-central-1",
		"folder in the path":      "s3://" + bucket + "/ichor?region=eu-central-1",
		"credentials":             "s3://" + accessKey + ":" + canary + "@" + bucket + "?region=eu-central-1",
		"no region":               "s3://" + bucket,
		"unknown parameter":       o.at("&secret=" + canary),
		"endpoint no URL":         "s3://" + bucket + "?endpoint=" + canary,
		"endpoint with user":      "s3://" + bucket + "?endpoint=https://me:" + canary + "@example.org",
		"twice":                   o.at("&prefix=a&prefix=" + canary),
		"bad prefix":              o.at("&prefix=../" + canary),
		"path style neither":      o.at("&use_path_style=" + canary),
		"unknown encryption":      o.at("&ssetype=" + canary),
		"checksums at other time": o.at("&request_checksum_calculation=" + canary),
		"no bucket of this name":  "s3://nothing-here?endpoint=" + url.QueryEscape(o.url),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := store.Open(t.Context(), store.Options{URL: u, Key: key(1)})
			wantKind(t, err, fault.Invalid)
		})
	}
}

func TestS3Credentials(t *testing.T) {
	o := serve(t, s3.Honoured)
	for name, env := range map[string]string{"wrong secret": secretKey + "x", "none": ""} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_SECRET_ACCESS_KEY", env)
			if env == "" {
				t.Setenv("AWS_ACCESS_KEY_ID", "")
			}
			_, err := store.Open(t.Context(), store.Options{URL: o.at(""), Key: key(1)})
			wantKind(t, err, fault.Unauthorized)
		})
	}
}

// What the object store answers keeps its meaning; nothing but NoSuchKey is
// absence.
func TestS3ErrorsHaveKinds(t *testing.T) {
	for _, c := range []struct {
		status                    int
		code                      string
		read, write, create, list fault.Kind
	}{
		{403, "AccessDenied", fault.Unauthorized, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized},
		{403, "", fault.Unauthorized, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized},
		{403, "RequestTimeTooSkewed", fault.Unauthorized, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized},
		{403, "QuotaExceeded", fault.Quota, fault.Quota, fault.Quota, fault.Quota},
		{503, "SlowDown", fault.RateLimited, fault.RateLimited, fault.RateLimited, fault.RateLimited},
		{429, "", fault.RateLimited, fault.RateLimited, fault.RateLimited, fault.RateLimited},
		{503, "ServiceUnavailable", fault.Unavailable, fault.Unavailable, fault.Ambiguous, fault.Unavailable},
		{500, "InternalError", fault.Unavailable, fault.Unavailable, fault.Ambiguous, fault.Unavailable},
		{404, "NoSuchBucket", fault.Invalid, fault.Invalid, fault.Invalid, fault.Invalid},
		{404, "", fault.Unavailable, fault.Unavailable, fault.Ambiguous, fault.Unavailable},
		{404, "NoSuchKey", fault.NotFound, fault.Unavailable, fault.Ambiguous, fault.Unavailable},
		{501, "NotImplemented", fault.Invalid, fault.Invalid, fault.Invalid, fault.Invalid},
		{301, "PermanentRedirect", fault.Invalid, fault.Invalid, fault.Invalid, fault.Invalid},
		{418, "Teapot", fault.Unavailable, fault.Unavailable, fault.Ambiguous, fault.Unavailable},
	} {
		t.Run(fmt.Sprint(c.status, c.code), func(t *testing.T) {
			o := serve(t, s3.Honoured)
			s := o.open(t)
			ctx := t.Context()
			_, err := s.PutObject(ctx, "a/there", value(canary))
			wantKind(t, err, "")
			body := ""
			if c.code != "" {
				body = "<Error><Code>" + c.code + "</Code><Message>said so</Message></Error>"
			}
			o.add(t, faults.Fault{Route: "* /**", Count: -1, Effect: faults.Status, Status: c.status, Body: body})
			_, err = s.GetObject(ctx, "a/there")
			wantKind(t, err, c.read)
			_, err = s.PutObject(ctx, "a/there", value(canary))
			wantKind(t, err, c.write)
			wantKind(t, s.CreateObject(ctx, "a/new", value(canary)), c.create)
			_, err = s.List(ctx, "a")
			wantKind(t, err, c.list)
			// None of this was done.
			o.faults.Clear()
			_, err = s.GetObject(ctx, "a/new")
			wantKind(t, err, fault.NotFound)
			keys, err := s.List(ctx, "a")
			if err != nil || len(keys) != 1 {
				t.Errorf("%v, %v", keys, err)
			}
		})
	}
}

func TestSlowDownSaysHowLong(t *testing.T) {
	o := serve(t, s3.Honoured)
	s := o.open(t)
	o.add(t, faults.Fault{
		Route: "GET /**", Count: -1, Effect: faults.Status, Status: http.StatusServiceUnavailable, RetryAfter: "7",
		Body: "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>",
	})
	_, err := s.GetObject(t.Context(), "x")
	var f *fault.Error
	if !errors.As(err, &f) || f.Kind != fault.RateLimited || f.RetryAfter != 7*time.Second || f.Code != "SlowDown" || f.HTTPStatus != 503 {
		t.Errorf("%#v", f)
	}
}

// Of themselves requests carry no checksums, which this service refuses.
func TestChecksumsAreSentOnlyWhenAsked(t *testing.T) {
	o := serve(t, s3.Honoured)
	_, err := store.Open(t.Context(), store.Options{URL: o.at("&request_checksum_calculation=when_supported"), Key: key(1)})
	wantKind(t, err, fault.Invalid)
	o.open(t)
}

// Deleting what is not there is success only while the bucket is there.
func TestDeletionNeedsTheBucket(t *testing.T) {
	o := serve(t, s3.Honoured)
	s := o.open(t)
	wantKind(t, s.DeleteObject(t.Context(), "nothing"), "")
	o.add(t, faults.Fault{Route: "* /**", Count: -1, Effect: faults.Status, Status: http.StatusNotFound, Body: "<Error><Code>NoSuchBucket</Code></Error>"})
	wantKind(t, s.DeleteObject(t.Context(), "nothing"), fault.Invalid)
}

// No request is uploaded in parts or with a checksum in a trailer, both of which
// many services that speak S3 do not know.
func TestLargestObjectIsOneRequest(t *testing.T) {
	o := serve(t, s3.Honoured)
	h := httptest.NewServer(o.Server) // the fault layer takes no bodies of this size
	t.Cleanup(h.Close)
	o.url = h.URL
	s := o.open(t)
	largest := value(strings.Repeat("a", 16<<20-18<<10))
	wantKind(t, s.CreateObject(t.Context(), "big", largest), "")
	wantKind(t, s.CreateObject(t.Context(), "big", largest), fault.Conflict)
}

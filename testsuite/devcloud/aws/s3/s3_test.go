package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
)

const bucket = "box"

func client(t *testing.T, h *s3.Server, secret string) *sdk.Client {
	t.Helper()
	srv := httptest.NewServer(h.Damaged(h))
	t.Cleanup(srv.Close)
	return sdk.New(sdk.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(srv.URL), UsePathStyle: true, Retryer: aws.NopRetryer{},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: secret}, nil
		}),
	})
}

func server(t *testing.T, c s3.Conditions) *s3.Server {
	t.Helper()
	s, err := s3.New(s3.Options{Buckets: []string{bucket}, Secret: s3.OneKey("AKID", "right"), Conditions: c})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, c *sdk.Client, key, body string, absent bool) string {
	t.Helper()
	in := &sdk.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: strings.NewReader(body)}
	if absent {
		in.IfNoneMatch = aws.String("*")
	}
	_, err := c.PutObject(t.Context(), in)
	return code(t, err)
}

func code(t *testing.T, err error) string {
	t.Helper()
	var api smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		return api.ErrorCode()
	default:
		t.Fatal(err)
		return ""
	}
}

func get(t *testing.T, c *sdk.Client, key string) ([]byte, error) {
	t.Helper()
	out, err := c.GetObject(t.Context(), &sdk.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err := out.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	return io.ReadAll(out.Body)
}

func TestSignaturesMustFit(t *testing.T) {
	h := server(t, s3.Honoured)
	right, wrong := client(t, h, "right"), client(t, h, "wrong")
	for _, key := range []string{"plain", "a/b c", "ü/~*'()", "x+y=z&w"} {
		if got := put(t, right, key, "body", false); got != "" {
			t.Errorf("%q: %s", key, got)
		}
		if got := put(t, wrong, key, "other", false); got != "SignatureDoesNotMatch" {
			t.Errorf("%q with a wrong key: %q", key, got)
		}
		if body, err := get(t, right, key); err != nil || string(body) != "body" {
			t.Errorf("%q: %q, %v", key, body, err)
		}
	}
	_, err := right.ListObjectsV2(t.Context(), &sdk.ListObjectsV2Input{Bucket: aws.String(bucket), Prefix: aws.String("a/b c")})
	if got := code(t, err); got != "" {
		t.Error(got)
	}
}

func TestConditions(t *testing.T) {
	for c, want := range map[s3.Conditions][2]string{
		s3.Honoured:  {"", "PreconditionFailed"},
		s3.Ignored:   {"", ""},
		s3.Refused:   {"NotImplemented", "NotImplemented"},
		s3.Contended: {"ConditionalRequestConflict", ""},
	} {
		cl := client(t, server(t, c), "right")
		for i := range want {
			if got := put(t, cl, "x", "body", true); got != want[i] {
				t.Errorf("conditions %d, write %d: %q, want %q", c, i, got, want[i])
			}
		}
	}
}

func TestDamage(t *testing.T) {
	h := server(t, s3.Honoured)
	c := client(t, h, "right")
	put(t, c, "x", "0123456789", false)
	h.Garble("x", 1)
	if body, err := get(t, c, "x"); err != nil || len(body) != 10 || string(body) == "0123456789" {
		t.Errorf("garbled: %q, %v", body, err)
	}
	h.Cut("x", 1)
	if body, err := get(t, c, "x"); err == nil || string(body) != "01234" {
		t.Errorf("cut: %q, %v", body, err)
	}
	body, err := get(t, c, "x")
	if err != nil || !bytes.Equal(body, []byte("0123456789")) {
		t.Errorf("afterwards: %q, %v", body, err)
	}
}

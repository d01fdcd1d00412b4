package s3

import (
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// scheme starts the Authorization header of signature version 4.
const scheme = "AWS4-HMAC-SHA256 "

// signed returns the key that a request is signed with, or the code of the error
// when that is none of those known: it is signed again with the secret key, over the
// headers that it says are signed, and the two signatures must be equal.
func (s *Server) signed(r *http.Request) (key, code string) {
	have := r.Header.Get("Authorization")
	fields := map[string]string{}
	for part := range strings.SplitSeq(strings.TrimPrefix(have, scheme), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	// Credential is ID/day/region/service/aws4_request.
	scope := strings.Split(fields["Credential"], "/")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if !strings.HasPrefix(have, scheme) || len(scope) != 5 || scope[3] != "s3" || err != nil {
		return "", "AccessDenied"
	}
	secret, session, ok := s.secret(scope[0])
	if !ok {
		return "", "InvalidAccessKeyId"
	}
	if r.Header.Get("X-Amz-Security-Token") != session {
		return "", "InvalidToken"
	}
	again := r.Clone(r.Context())
	again.Header = http.Header{}
	for name := range strings.SplitSeq(fields["SignedHeaders"], ";") {
		if v := r.Header.Values(name); len(v) > 0 && name != "authorization" {
			again.Header[http.CanonicalHeaderKey(name)] = v
		}
	}
	if !strings.Contains(";"+fields["SignedHeaders"]+";", ";content-length;") {
		again.ContentLength = -1
	}
	again.URL.Host = r.Host
	creds := aws.Credentials{AccessKeyID: scope[0], SecretAccessKey: secret}
	err = v4.NewSigner().SignHTTP(r.Context(), creds, again, r.Header.Get("X-Amz-Content-Sha256"), "s3", scope[2], at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err != nil || subtle.ConstantTimeCompare([]byte(have), []byte(again.Header.Get("Authorization"))) != 1 {
		return "", "SignatureDoesNotMatch"
	}
	return scope[0], ""
}

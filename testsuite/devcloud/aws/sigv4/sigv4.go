// Package sigv4 checks AWS Signature Version 4 as a service does, from the words
// of its specification and without the client's signer.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Skew is how far a client's clock may be off.
const Skew = 5 * time.Minute

// Why a request is refused.
var (
	ErrMissing   = errors.New("the request is not signed")
	ErrMalformed = errors.New("the authorization header is malformed")
	ErrKey       = errors.New("the access key is unknown")
	ErrToken     = errors.New("the session token is missing or wrong")
	ErrExpired   = errors.New("the signature was made too long ago or in the future")
	ErrScope     = errors.New("the signature is for another region or service")
	ErrSignature = errors.New("the signature does not match")
)

const (
	algorithm = "AWS4-HMAC-SHA256"
	stamp     = "20060102T150405Z"
)

// Scope is what a signature must be for.
type Scope struct {
	Region, Service string
	// Unsigned lets bodies be left out of signatures, by requests that say so.
	Unsigned bool
}

// unsigned is what a request says in place of the hash of its body.
const unsigned = "UNSIGNED-PAYLOAD"

// Secrets returns the secret of an access key and, if it is a temporary one,
// its session token.
type Secrets func(key string) (secret, session string, ok bool)

// Verify checks the signature of a request whose body has been read, and returns
// the access key.
func Verify(r *http.Request, body []byte, scope Scope, secrets Secrets, now time.Time) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", ErrMissing
	}
	claim, err := parse(header)
	if err != nil {
		return "", err
	}
	secret, session, ok := secrets(claim.key)
	if !ok {
		return "", ErrKey
	}
	if r.Header.Get("X-Amz-Security-Token") != session {
		return "", ErrToken
	}
	at, err := time.Parse(stamp, r.Header.Get("X-Amz-Date"))
	if err != nil || at.Format("20060102") != claim.date {
		return "", fmt.Errorf("%w: X-Amz-Date", ErrMalformed)
	}
	if claim.region != scope.Region || claim.service != scope.Service {
		return "", fmt.Errorf("%w: %s/%s", ErrScope, claim.region, claim.service)
	}
	if !slices.Contains(claim.headers, "host") || !slices.Contains(claim.headers, "x-amz-date") {
		return "", fmt.Errorf("%w: host and x-amz-date must be signed", ErrMalformed)
	}
	sum := sha256.Sum256([]byte(canonical(r, body, claim.headers, scope.Unsigned)))
	text := strings.Join([]string{algorithm, at.Format(stamp), claim.scope(), hex.EncodeToString(sum[:])}, "\n")
	key := []byte("AWS4" + secret)
	for _, part := range []string{claim.date, claim.region, claim.service, "aws4_request", text} {
		key = mac(key, part)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(claim.signature)) {
		return "", ErrSignature
	}
	if d := now.Sub(at); d > Skew || d < -Skew {
		return "", ErrExpired
	}
	return claim.key, nil
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// claim is what an Authorization header says.
type claim struct {
	key, date, region, service string
	headers                    []string
	signature                  string
}

func (c claim) scope() string { return c.date + "/" + c.region + "/" + c.service + "/aws4_request" }

func parse(header string) (claim, error) {
	rest, ok := strings.CutPrefix(header, algorithm+" ")
	if !ok {
		return claim{}, fmt.Errorf("%w: want %s", ErrMalformed, algorithm)
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[k] = v
	}
	credential := strings.Split(fields["Credential"], "/")
	if len(credential) != 5 || credential[4] != "aws4_request" || fields["SignedHeaders"] == "" || fields["Signature"] == "" {
		return claim{}, ErrMalformed
	}
	return claim{
		key: credential[0], date: credential[1], region: credential[2], service: credential[3],
		headers: strings.Split(fields["SignedHeaders"], ";"), signature: fields["Signature"],
	}, nil
}

func canonical(r *http.Request, body []byte, headers []string, mayOmit bool) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path(r.URL) + "\n" + queryOf(r.URL) + "\n")
	for _, h := range headers {
		value := strings.Join(r.Header.Values(h), ",")
		switch h {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(len(body))
		}
		b.WriteString(h + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if mayOmit && r.Header.Get("X-Amz-Content-Sha256") == unsigned && slices.Contains(headers, "x-amz-content-sha256") {
		hash = unsigned
	}
	b.WriteString("\n" + strings.Join(headers, ";") + "\n" + hash)
	return b.String()
}

// path is the escaped path, escaped once more: all services but S3 do so.
func path(u *url.URL) string {
	p := u.EscapedPath()
	if p == "" {
		return "/"
	}
	return strings.ReplaceAll(escape(p), "%2F", "/")
}

func queryOf(u *url.URL) string {
	var pairs []string
	for k, values := range u.Query() {
		for _, v := range values {
			pairs = append(pairs, escape(k)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// escape leaves only unreserved characters.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

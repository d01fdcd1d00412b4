// Package s3 is the cloud's object storage: buckets in memory behind the REST
// protocol of S3, path style only. What it stores and answers is gofakes3's;
// this package adds what services that speak S3 are known for: signatures that
// must fit, refusal of checksums that nobody asked for, ways to treat conditional
// writes, and answers that arrive damaged.
package s3

import (
	"context"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Conditions say what becomes of writes with If-None-Match.
type Conditions int

const (
	// Honoured is what S3 and Ceph do: 412 for what exists.
	Honoured Conditions = iota
	// Ignored writes over what exists and says nothing.
	Ignored
	// Refused answers 501.
	Refused
	// Contended answers the first of them with 409, as S3 does to concurrent
	// conditional writes, and then honours them.
	Contended
)

// Options configure a Server.
type Options struct {
	// Buckets are made at once; there is no API call needed for them.
	Buckets []string
	// Secret returns the secret of an access key and, if it is a temporary one,
	// its session token. Without it, requests need no signature.
	Secret func(key string) (secret, session string, ok bool)
	// Refuses says that the owner of a key may not do what a request asks for, whose
	// path begins with the bucket.
	Refuses func(key string, r *http.Request, path string) bool
	// Prefix is what stands before the bucket in paths.
	Prefix     string
	Conditions Conditions
}

// OneKey is an Options.Secret that knows one key.
func OneKey(key, secret string) func(string) (string, string, bool) {
	return func(k string) (string, string, bool) { return secret, "", k == key }
}

// Server answers S3 requests. It is safe for concurrent use.
type Server struct {
	secret  func(key string) (secret, session string, ok bool)
	refuses func(key string, r *http.Request, path string) bool
	prefix  string
	fake    http.Handler

	mu         sync.Mutex
	conditions Conditions
	damage     []damage
}

// New returns an object storage that has nothing but empty buckets.
func New(o Options) (*Server, error) {
	back := s3mem.New(s3mem.WithTimeSource(seconds{}))
	for _, b := range o.Buckets {
		if err := back.CreateBucket(b); err != nil {
			return nil, fmt.Errorf("bucket %s: %w", b, err)
		}
	}
	fake := gofakes3.New(back, gofakes3.WithLogger(gofakes3.DiscardLog()))
	return &Server{secret: o.Secret, refuses: o.Refuses, prefix: o.Prefix, fake: fake.Server(), conditions: o.Conditions}, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.secret != nil {
		key, code := s.signed(r)
		if code == "" && s.refuses != nil && s.refuses(key, r, strings.TrimPrefix(r.URL.Path, s.prefix)) {
			code = "AccessDenied"
		}
		if code != "" {
			refuse(w, r, http.StatusForbidden, code)
			return
		}
	}
	if hasChecksum(r.Header) {
		refuse(w, r, http.StatusNotImplemented, "NotImplemented")
		return
	}
	if r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "" {
		switch s.condition() {
		case Ignored:
			r.Header.Del("If-None-Match")
		case Refused:
			refuse(w, r, http.StatusNotImplemented, "NotImplemented")
			return
		case Contended:
			refuse(w, r, http.StatusConflict, "ConditionalRequestConflict")
			return
		case Honoured:
		}
	}
	http.StripPrefix(s.prefix, s.fake).ServeHTTP(w, r)
}

// hasChecksum reports whether a request carries a checksum of the kind that newer
// SDKs add unasked, in a header or after a chunked body.
func hasChecksum(h http.Header) bool {
	for name := range h {
		if name == "X-Amz-Trailer" || name == "X-Amz-Sdk-Checksum-Algorithm" || strings.HasPrefix(name, "X-Amz-Checksum-") {
			return true
		}
	}
	return strings.Contains(h.Get("Content-Encoding"), "aws-chunked")
}

// seconds is the clock of objects: like S3 it tells no two of one second apart.
type seconds struct{}

func (seconds) Now() time.Time                  { return time.Now().Truncate(time.Second) }
func (seconds) Since(t time.Time) time.Duration { return time.Since(t) }

// condition says what becomes of this conditional write.
func (s *Server) condition() Conditions {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conditions
	if c == Contended {
		s.conditions = Honoured
	}
	return c
}

// SetConditions changes how conditional writes are treated from now on.
func (s *Server) SetConditions(c Conditions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conditions = c
}

// Body returns what is kept of an object, for tests that look past the API.
func (s *Server) Body(ctx context.Context, bucket, key string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/"+bucket+"/"+key, http.NoBody)
	if err != nil {
		return nil, err
	}
	a := newAnswer()
	s.fake.ServeHTTP(a, r)
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("object %s: HTTP %d", key, a.status)
	}
	return a.body.Bytes(), nil
}

func refuse(w http.ResponseWriter, r *http.Request, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(ErrorBody(code, "refused by the stand-in", r.URL.Path)) // fails when the client has gone
	}
}

// ErrorBody is the document that tells of a refusal.
func ErrorBody(code, message, resource string) []byte {
	body, err := xml.Marshal(struct {
		XMLName  xml.Name `xml:"Error"`
		Code     string   `xml:"Code"`
		Message  string   `xml:"Message"`
		Resource string   `xml:"Resource"`
	}{Code: code, Message: message, Resource: resource})
	if err != nil {
		panic(err) // three texts can be encoded
	}
	return body
}

package store_test

import (
	"context"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "secret-" + canary
	bucket    = "clusters"
)

// clock is real time without waiting.
type clock struct{}

func (clock) Sleep(ctx context.Context, _ time.Duration) error { return ctx.Err() }
func (clock) Scale(d time.Duration) time.Duration              { return d }

// objects is an object storage on a socket.
type objects struct {
	*s3.Server
	faults *faults.Injector
	url    string
}

// serve starts an object storage with one bucket and puts its credentials into
// the environment of the test.
func serve(t *testing.T, c s3.Conditions) objects {
	t.Helper()
	srv, err := s3.New(s3.Options{Buckets: []string{bucket}, Secret: s3.OneKey(accessKey, secretKey), Conditions: c})
	if err != nil {
		t.Fatal(err)
	}
	in := faults.New(clock{}, 0, nil)
	// Damage breaks connections, so it lies outside of what records answers.
	h := httptest.NewServer(srv.Damaged(in.Wrap(srv)))
	t.Cleanup(h.Close)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true",
		// The pauses between the client's attempts are seconds.
		"AWS_MAX_ATTEMPTS": "1",
		"AWS_CONFIG_FILE":  "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	return objects{Server: srv, faults: in, url: h.URL}
}

func (o objects) at(more string) string {
	return "s3://" + bucket + "?endpoint=" + url.QueryEscape(o.url) + more
}

func (o objects) open(t *testing.T) *store.Store {
	t.Helper()
	return mustOpen(t, store.Options{URL: o.at("&prefix=ichor"), Key: key(1)})
}

func (o objects) add(t *testing.T, f faults.Fault) {
	t.Helper()
	if _, err := o.faults.Add(f); err != nil {
		t.Fatal(err)
	}
}

// count is how many requests of a method were made so far for keys that contain
// a text.
func (o objects) count(method, contains string) int {
	n := 0
	for _, r := range o.faults.Requests(0) {
		if r.Method == method && strings.Contains(r.Path, contains) {
			n++
		}
	}
	return n
}

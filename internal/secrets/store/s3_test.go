package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
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

// The client repeats a request that is refused for now, so a short burst is not
// seen at all.
func TestShortBurstIsNotSeen(t *testing.T) {
	o := serve(t, s3.Honoured)
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	s := o.open(t)
	o.add(t, faults.Fault{Route: "PUT /**", Count: 1, Effect: faults.Status, Status: http.StatusServiceUnavailable, Body: "<Error><Code>SlowDown</Code></Error>"})
	_, err := s.PutObject(t.Context(), "x", value(canary))
	wantKind(t, err, "")
}

// A write whose answer is lost was done; a repetition of a creation by the client
// then meets its own object.
func TestLostReplies(t *testing.T) {
	for _, c := range []struct {
		effect, attempts string
		create, put      fault.Kind
	}{
		{faults.CommitThenDrop, "1", "", fault.Unavailable},
		{faults.CommitThenDrop, "2", "", ""},
		{faults.DropBeforeCommit, "1", fault.Ambiguous, fault.Unavailable},
		{faults.DropBeforeCommit, "2", "", ""},
	} {
		t.Run(c.effect+" "+c.attempts, func(t *testing.T) {
			o := serve(t, s3.Honoured)
			t.Setenv("AWS_MAX_ATTEMPTS", c.attempts)
			s := o.open(t)
			ctx := t.Context()
			wantKind(t, s.CreateObject(ctx, "warm", value("up")), "")
			o.add(t, faults.Fault{Route: "PUT /**", Effect: c.effect})
			wantKind(t, s.CreateObject(ctx, "a/new", value(canary)), c.create)
			if c.create != "" {
				wantKind(t, s.CreateObject(ctx, "a/new", value(canary)), "")
			}
			got, err := s.GetObject(ctx, "a/new")
			if err != nil || got.RevealString() != canary {
				t.Errorf("read back: %v", err)
			}
			wantKind(t, s.CreateObject(ctx, "a/new", value("other")), fault.Conflict)
			o.add(t, faults.Fault{Route: "PUT /**", Effect: c.effect})
			_, err = s.PutObject(ctx, "a/new", value("second"))
			wantKind(t, err, c.put)
			if c.put != "" {
				_, err = s.PutObject(ctx, "a/new", value("second"))
				wantKind(t, err, "")
			}
			if got, err := s.GetObject(ctx, "a/new"); err != nil || got.RevealString() != "second" {
				t.Errorf("read back: %v", err)
			}
		})
	}
}

// When nothing answers any more, the fate of a creation is open, and that of a
// write in place of an object does not matter: it is repeated.
func TestOutageDuringAWrite(t *testing.T) {
	o := serve(t, s3.Honoured)
	s := o.open(t)
	ctx := t.Context()
	wantKind(t, s.CreateObject(ctx, "warm", value("up")), "")
	o.add(t, faults.Fault{Route: "PUT /**", Count: -1, Effect: faults.CommitThenDrop})
	o.add(t, faults.Fault{Route: "GET /**", Count: -1, Effect: faults.DropBeforeCommit})
	wantKind(t, s.CreateObject(ctx, "a/new", value(canary)), fault.Ambiguous)
	_, err := s.PutObject(ctx, "a/other", value(canary))
	wantKind(t, err, fault.Unavailable)
	o.faults.Clear()
	got, err := s.GetObject(ctx, "a/new")
	if err != nil || got.RevealString() != canary {
		t.Errorf("it was written after all: %v", err)
	}
}

func TestDamagedTransfersAreRepeated(t *testing.T) {
	for name, damage := range map[string]func(o objects, times int){
		"garbled": func(o objects, n int) { o.Garble("a/x", n) },
		"cut":     func(o objects, n int) { o.Cut("a/x", n) },
	} {
		t.Run(name, func(t *testing.T) {
			o := serve(t, s3.Honoured)
			s := o.open(t)
			ctx := t.Context()
			_, err := s.PutObject(ctx, "a/x", value(canary))
			wantKind(t, err, "")
			before := o.count(http.MethodGet, "a/x")
			damage(o, 2)
			got, err := s.GetObject(ctx, "a/x")
			if err != nil || got.RevealString() != canary || o.count(http.MethodGet, "a/x") != before+3 {
				t.Errorf("%d reads, %v", o.count(http.MethodGet, "a/x")-before, err)
			}
			// What stays damaged is never taken for what was written.
			damage(o, 1000)
			_, err = s.GetObject(ctx, "a/x")
			if !fault.Is(err, fault.Invalid, fault.Unavailable) {
				t.Errorf("damaged for good: %v", err)
			}
			_, err = s.PutObject(ctx, "a/x", value(canary+"2"))
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("written, but not readable: %v", err)
			}
		})
	}
}

func TestWritesAreReadBack(t *testing.T) {
	o := serve(t, s3.Honoured)
	s := o.open(t)
	ctx := t.Context()
	wantKind(t, s.CreateObject(ctx, "warm", value("up")), "")
	// The object store says yes and keeps nothing.
	o.add(t, faults.Fault{Route: "PUT /**", Count: -1, Effect: faults.Status, Status: http.StatusOK})
	_, err := s.PutObject(ctx, "a/x", value(canary))
	wantKind(t, err, fault.Unavailable)
	wantKind(t, s.CreateObject(ctx, "a/y", value(canary)), fault.Ambiguous)
	o.faults.Clear()
	o.add(t, faults.Fault{Route: "PUT /**", Count: 1, Effect: faults.Status, Status: http.StatusOK})
	_, err = s.PutObject(ctx, "a/x", value(canary))
	wantKind(t, err, "")
	if got, err := s.GetObject(ctx, "a/x"); err != nil || got.RevealString() != canary {
		t.Errorf("the second attempt: %v", err)
	}
}

// Without a condition that the object store honours, two workers could both make
// the record of one cluster. Such a store is refused before it has overwritten
// anything.
func TestStoresWithoutConditionsAreRefused(t *testing.T) {
	for name, c := range map[string]s3.Conditions{"ignored": s3.Ignored, "refused": s3.Refused} {
		t.Run(name, func(t *testing.T) {
			o := serve(t, c)
			ctx := t.Context()
			_, err := store.Open(ctx, store.Options{URL: o.at("&prefix=ichor"), Key: key(1)})
			wantKind(t, err, fault.Invalid)
		})
		t.Run(name+" later", func(t *testing.T) {
			o := serve(t, s3.Honoured)
			ctx := t.Context()
			rec := cluster.Record{Schema: 1, Ref: cluster.Ref{Name: "demo", UID: "u1"}}
			_, err := o.open(t).PutRecord(ctx, rec, 0)
			wantKind(t, err, "")
			const first = "ichor/clusters/demo/record/000000000001"
			before, err := o.Body(ctx, bucket, first)
			if err != nil {
				t.Fatal(err)
			}
			o.SetConditions(c)
			s := o.open(t)
			wantKind(t, s.CreateObject(ctx, strings.TrimPrefix(first, "ichor/"), value("mine")), fault.Invalid)
			rec.Failure = "changed"
			_, err = s.PutRecord(ctx, rec, 1)
			wantKind(t, err, fault.Invalid)
			after, err := o.Body(ctx, bucket, first)
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the record was written over, or %v", err)
			}
			// Reading needs no condition.
			if _, rev, err := s.Record(ctx, "demo"); err != nil || rev != 1 {
				t.Errorf("revision %d, %v", rev, err)
			}
		})
	}
}

func TestContendedCreationIsRepeated(t *testing.T) {
	o := serve(t, s3.Honoured)
	s := o.open(t)
	wantKind(t, s.CreateObject(t.Context(), "warm", value("up")), "")
	o.SetConditions(s3.Contended)
	wantKind(t, s.CreateObject(t.Context(), "a/x", value(canary)), "")
	wantKind(t, s.CreateObject(t.Context(), "a/x", value(canary)), fault.Conflict)
}

// Of themselves requests carry no checksums, which this service refuses.
func TestChecksumsAreSentOnlyWhenAsked(t *testing.T) {
	o := serve(t, s3.Honoured)
	_, err := store.Open(t.Context(), store.Options{URL: o.at("&request_checksum_calculation=when_supported"), Key: key(1)})
	wantKind(t, err, fault.Invalid)
	o.open(t)
}

// Two processes create one key at once, again and again, while answers are lost:
// exactly one has made it, and everybody reads that one's object.
func TestOneCreatorWins(t *testing.T) {
	o := serve(t, s3.Honoured)
	stores := []*store.Store{o.open(t), o.open(t)}
	o.add(t, faults.Fault{Route: "PUT /**", Nth: 5, Count: 3, Effect: faults.CommitThenDrop})
	const callers = 4
	for round := range 10 {
		name := fmt.Sprint("race/", round)
		var all sync.WaitGroup
		errs := make([]error, callers)
		for i := range callers {
			all.Go(func() { errs[i] = stores[i%2].CreateObject(t.Context(), name, value(fmt.Sprint(i))) })
		}
		all.Wait()
		winner := ""
		for i, err := range errs {
			switch {
			case err == nil && winner == "":
				winner = fmt.Sprint(i)
			case err == nil:
				t.Errorf("round %d: %s and %d both made it", round, winner, i)
			default:
				wantKind(t, err, fault.Conflict)
			}
		}
		got, err := stores[0].GetObject(t.Context(), name)
		if err != nil || got.RevealString() != winner {
			t.Errorf("round %d: %q won, %q is kept, %v", round, winner, got.RevealString(), err)
		}
	}
}

// Two workers write one object at once; neither takes the other's for damage.
func TestWritersOfOneObject(t *testing.T) {
	o := serve(t, s3.Honoured)
	stores := []*store.Store{o.open(t), o.open(t)}
	var all sync.WaitGroup
	for _, s := range stores {
		all.Go(func() {
			for range 10 {
				if _, _, err := s.PutBody(t.Context(), "demo", value(canary)); err != nil && !fault.Is(err, fault.Unavailable) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	ref, sha, err := stores[0].PutBody(t.Context(), "demo", value(canary))
	wantKind(t, err, "")
	got, err := stores[1].GetBody(t.Context(), ref, sha)
	if err != nil || got.RevealString() != canary {
		t.Error(err)
	}
}

// A snapshot survives lost answers and damaged reads on the way there and back.
func TestSnapshotsOverABadLine(t *testing.T) {
	o := serve(t, s3.Honoured)
	t.Setenv("AWS_MAX_ATTEMPTS", "2")
	s := o.open(t)
	ctx := t.Context()
	body := pattern(9<<20 + 17)
	o.add(t, faults.Fault{Route: "PUT /**", Nth: 2, Count: 1, Effect: faults.CommitThenDrop})
	o.Garble(".parts/", 1)
	kept, err := s.EnsureStream(ctx, streamKey, func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	})
	if err != nil || kept.Bytes != int64(len(body)) {
		t.Fatalf("%+v, %v", kept, err)
	}
	o.Cut(".parts/", 1)
	o.Garble(".parts/", 1)
	var got bytes.Buffer
	if err := s.ReadStream(ctx, kept, &got); err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("read %d bytes, %v", got.Len(), err)
	}
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

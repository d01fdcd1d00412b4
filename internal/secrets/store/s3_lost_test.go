package store_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

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

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/ichor-project/ichor/internal/fault"
)

// bucket is the backend for object stores. What it writes it reads back, and
// what it reads it compares with the SHA-256 that was written beside it.
type bucket struct {
	b *blob.Bucket
	// fault gives the errors of this kind of object store their kinds.
	fault func(op string, err error) error

	mu sync.Mutex
	// decides is set once the store has refused to create what exists.
	decides bool
}

const (
	contentType = "application/octet-stream"
	// digestName is the metadata that holds the SHA-256 of an object, in
	// hexadecimal. It tells a transfer that went wrong from an object that is
	// damaged, and an object that somebody else wrote from one of ours that was
	// garbled; the object's own seal is what proves it genuine.
	digestName = "ichor-sha256"
	// attempts is how often a transfer is tried whose bytes arrive garbled or
	// not at all. Requests that are answered with an error are repeated by the
	// client of the object store, and by whoever called.
	attempts = 3
	// requestLimit bounds each operation with one object, which has at most 16
	// MiB: a server that accepts a connection and stays silent must not hold a
	// command for ever.
	requestLimit = 2 * time.Minute
	// busyPause is the first pause before a conditional write is repeated that
	// met another one (HTTP 409); it doubles.
	busyPause = 50 * time.Millisecond
)

var errTorn = errors.New("the object store's answer broke off")

func (s *bucket) get(ctx context.Context, key string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	op := "read " + key
	for try := 1; ; try++ {
		body, sum, err := s.read(ctx, key)
		switch {
		case errors.Is(err, errTorn) && try < attempts && ctx.Err() == nil:
		case err != nil:
			return nil, s.fault(op, err)
		case sum == "" || sum == digestOf(body):
			return body, nil
		case try == attempts:
			return nil, fault.New(fault.Invalid, op, "its bytes do not have the SHA-256 that was written with them, in %d reads", attempts)
		}
	}
}

// read returns an object and the digest that was written beside it, empty when
// there is none.
func (s *bucket) read(ctx context.Context, key string) (body []byte, sum string, err error) {
	r, err := s.b.NewReader(ctx, key, nil)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var out s3.GetObjectOutput
	if r.As(&out) {
		sum = out.Metadata[digestName]
	}
	body, err = io.ReadAll(io.LimitReader(r, maxSealed+1))
	if err != nil {
		err = errors.Join(errTorn, err)
	}
	return body, sum, err
}

// put repeats the whole write when something else is read back: either the
// store lost it, or another process wrote the same object at the same time, and
// then one of them is last.
func (s *bucket) put(ctx context.Context, key string, body []byte) error {
	op := "write " + key
	for range attempts {
		if err := s.write(ctx, key, body, false); err != nil {
			return s.fault(op, err)
		}
		have, err := s.get(ctx, key)
		switch {
		case err == nil && bytes.Equal(have, body):
			return nil
		case err != nil && !fault.Is(err, fault.NotFound, fault.Invalid):
			return err
		}
	}
	return fault.New(fault.Unavailable, op, "the object store acknowledges it, but does not give it back, in %d attempts", attempts)
}

// create relies on the store's own decision (If-None-Match: *), so it first
// proves that there is one.
func (s *bucket) create(ctx context.Context, key string, body []byte) error {
	if key == markerKey {
		if err := s.createOnce(ctx, key, body); err != nil {
			return err
		}
		return s.prove(ctx)
	}
	if err := s.prove(ctx); err != nil {
		return err
	}
	return s.createOnce(ctx, key, body)
}

func (s *bucket) createOnce(ctx context.Context, key string, body []byte) error {
	op := "write " + key
	err := s.write(ctx, key, body, true)
	for pause := busyPause; busy(err) && pause < busyPause<<6; pause *= 2 {
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, op, ctx.Err())
		case <-time.After(pause):
		}
		err = s.write(ctx, key, body, true)
	}
	if err != nil {
		return s.fault(op, err)
	}
	have, err := s.get(ctx, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, body) {
		return fault.New(fault.Unavailable, op, "the object store acknowledges it, but gives back another object")
	}
	return nil
}

// prove makes sure, once, that the store refuses to create what exists, by
// offering it an object that it has, byte for byte. A store that does not know
// the condition then writes what is there already.
func (s *bucket) prove(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.decides {
		return nil
	}
	const op = "prove that the object store creates an object only once"
	body, err := s.get(ctx, markerKey)
	if fault.Is(err, fault.NotFound) {
		return fault.New(fault.Unavailable, op, "the store has lost its object %s; open it again", markerKey)
	}
	if err != nil {
		return err
	}
	err = s.fault(op, s.write(ctx, markerKey, body, true))
	switch {
	case fault.Is(err, fault.Conflict):
		s.decides = true
		return nil
	case err != nil:
		return err
	default:
		return fault.New(fault.Invalid, op, "it ignores the condition If-None-Match: *, so two workers could both believe that they made a cluster's record; take an object store that honours it")
	}
}

func (s *bucket) write(ctx context.Context, key string, body []byte, absent bool) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	return s.b.WriteAll(ctx, key, body, &blob.WriterOptions{
		ContentType: contentType,
		IfNotExist:  absent,
		Metadata:    map[string]string{digestName: digestOf(body)},
	})
}

func (s *bucket) list(ctx context.Context, prefix string) ([]entry, error) {
	var out []entry
	it := s.b.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			// No list is the proof that something is absent.
			return nil, writeFault(s.fault("list "+prefix, err), fault.Unavailable)
		}
		out = append(out, entry{key: o.Key, modified: o.ModTime})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return out, nil
}

func (s *bucket) remove(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, requestLimit)
	defer cancel()
	op := "delete " + key
	err := s.b.Delete(ctx, key)
	if gcerrors.Code(err) != gcerrors.NotFound {
		return s.fault(op, err)
	}
	// A missing object and a missing bucket look the same here.
	there, err := s.b.IsAccessible(ctx)
	if err == nil && !there {
		return fault.New(fault.Invalid, op, "the bucket does not exist")
	}
	return s.fault(op, err)
}

func (s *bucket) close() error { return s.fault("close the store", s.b.Close()) }

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// cloudFault gives an error of an object store or of the key service a kind.
func cloudFault(op string, err error) error {
	if err == nil {
		return nil
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return fault.Wrap(fault.NotFound, op, err)
	case gcerrors.FailedPrecondition:
		return fault.Wrap(fault.Conflict, op, err)
	case gcerrors.PermissionDenied:
		return fault.Wrap(fault.Unauthorized, op, err)
	case gcerrors.ResourceExhausted:
		return fault.Wrap(fault.RateLimited, op, err)
	case gcerrors.InvalidArgument, gcerrors.Unimplemented:
		return fault.Wrap(fault.Invalid, op, err)
	default:
		return fault.Wrap(fault.Unavailable, op, err)
	}
}

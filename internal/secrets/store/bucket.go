package store

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/ichor-project/ichor/internal/fault"
)

// bucket is the backend for object stores.
type bucket struct{ b *blob.Bucket }

const contentType = "application/octet-stream"

func (s *bucket) get(ctx context.Context, key string) (body []byte, err error) {
	r, err := s.b.NewReader(ctx, key, nil)
	if err != nil {
		return nil, cloudFault("read "+key, err)
	}
	defer func() { err = errors.Join(err, cloudFault("read "+key, r.Close())) }()
	body, err = io.ReadAll(io.LimitReader(r, maxSealed+1))
	return body, cloudFault("read "+key, err)
}

func (s *bucket) put(ctx context.Context, key string, body []byte) error {
	return cloudFault("write "+key, s.b.WriteAll(ctx, key, body, &blob.WriterOptions{ContentType: contentType}))
}

func (s *bucket) create(ctx context.Context, key string, body []byte) error {
	err := s.b.WriteAll(ctx, key, body, &blob.WriterOptions{ContentType: contentType, IfNotExist: true})
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return fault.New(fault.Conflict, "write "+key, "exists already")
	}
	return cloudFault("write "+key, err)
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
			return nil, cloudFault("list "+prefix, err)
		}
		out = append(out, entry{key: o.Key, modified: o.ModTime})
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return out, nil
}

func (s *bucket) remove(ctx context.Context, key string) error {
	err := s.b.Delete(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return cloudFault("delete "+key, err)
}

func (s *bucket) close() error { return cloudFault("close the store", s.b.Close()) }

// cloudFault gives an error of the object store or of the key service a kind.
func cloudFault(op string, err error) error {
	if err == nil {
		return nil
	}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		return fault.Wrap(fault.NotFound, op, err)
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

package store

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"gocloud.dev/gcerrors"
	gosecrets "gocloud.dev/secrets"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// keyService stands for a KMS that is down, or refuses.
type keyService struct{ code gcerrors.ErrorCode }

var errService = errors.New("the service says no")

func (k *keyService) Decrypt(_ context.Context, b []byte) ([]byte, error) { return k.answer(b) }
func (k *keyService) Encrypt(_ context.Context, b []byte) ([]byte, error) { return k.answer(b) }
func (k *keyService) Close() error                                        { return nil }
func (k *keyService) ErrorAs(error, any) bool                             { return false }
func (k *keyService) ErrorCode(error) gcerrors.ErrorCode                  { return k.code }

func (k *keyService) answer(b []byte) ([]byte, error) {
	if k.code != gcerrors.OK {
		return nil, errService
	}
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0x55
	}
	return out, nil
}

// An outage of the key service must not look like a wrong key or like an absent
// object, and neither like an outage.
func TestKeyServiceErrors(t *testing.T) {
	s, err := Open(t.Context(), Options{URL: fileURL(filepath.Join(t.TempDir(), "store"))})
	if err != nil {
		t.Fatal(err)
	}
	service := &keyService{}
	s.key = &wrapper{keeper: gosecrets.NewKeeper(service), id: "test://one"}
	if _, err := s.PutObject(t.Context(), "a", secrets.NewValue([]byte("v"))); err != nil {
		t.Fatal(err)
	}
	if v, err := s.GetObject(t.Context(), "a"); err != nil || string(v.Reveal()) != "v" {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		code               gcerrors.ErrorCode
		read, other, write fault.Kind // other: when the object names another key
	}{
		{gcerrors.PermissionDenied, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized},
		{gcerrors.NotFound, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized},
		{gcerrors.InvalidArgument, fault.Invalid, fault.Unauthorized, fault.Invalid},
		{gcerrors.FailedPrecondition, fault.Unauthorized, fault.Unauthorized, fault.Unauthorized},
		{gcerrors.ResourceExhausted, fault.RateLimited, fault.RateLimited, fault.RateLimited},
		{gcerrors.DeadlineExceeded, fault.Unavailable, fault.Unavailable, fault.Unavailable},
		{gcerrors.Internal, fault.Unavailable, fault.Unavailable, fault.Unavailable},
		{gcerrors.Unknown, fault.Unavailable, fault.Unavailable, fault.Unavailable},
	} {
		service.code = tc.code
		s.key.id = "test://one"
		_, err := s.GetObject(t.Context(), "a")
		if got := fault.KindOf(err); got != tc.read {
			t.Errorf("%v: read: %s, want %s (%v)", tc.code, got, tc.read, err)
		}
		_, err = s.PutObject(t.Context(), "b", secrets.NewValue([]byte("v")))
		if got := fault.KindOf(err); got != tc.write {
			t.Errorf("%v: write: %s, want %s (%v)", tc.code, got, tc.write, err)
		}
		s.key.id = "test://two"
		_, err = s.GetObject(t.Context(), "a")
		if got := fault.KindOf(err); got != tc.other {
			t.Errorf("%v: read with another key: %s, want %s (%v)", tc.code, got, tc.other, err)
		}
	}
}

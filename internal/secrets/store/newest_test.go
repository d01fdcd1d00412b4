package store_test

import (
	"io"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

// The newest stream is the one completed last, whatever its name, and never a part
// of one.
func TestNewestStream(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		if _, _, err := s.NewestStream(ctx, "clusters/demo/u1/etcd"); !fault.Is(err, fault.NotFound) {
			t.Fatalf("of none: %v", err)
		}
		for _, name := range []string{"z-first", "a-second"} {
			_, err := s.EnsureStream(ctx, "clusters/demo/u1/etcd/"+name, func(w io.Writer) error {
				_, err := w.Write([]byte(name))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		got, at, err := s.NewestStream(ctx, "clusters/demo/u1/etcd/")
		if err != nil || got.Key != "clusters/demo/u1/etcd/a-second" || at.IsZero() {
			t.Errorf("%+v at %s, %v", got, at, err)
		}
	})
}

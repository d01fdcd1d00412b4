package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

// pattern is text that differs from part to part.
func pattern(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(i>>16 ^ i>>8 ^ i)
	}
	return out
}

const streamKey = "clusters/demo/instances/u1/etcd/first"

func TestStreams(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		if _, err := s.Stream(ctx, streamKey); !fault.Is(err, fault.NotFound) {
			t.Fatalf("a stream that is not there: %v", err)
		}
		body := pattern(9<<20 + 17)
		kept, err := s.EnsureStream(ctx, streamKey, func(w io.Writer) error {
			// Neither the writer's pieces nor the store's parts show.
			_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{bytes.NewReader(body)}, make([]byte, 100_003))
			return err
		})
		if err != nil || kept.Bytes != int64(len(body)) || kept.Key != streamKey {
			t.Fatalf("kept %+v, %v", kept, err)
		}
		again, err := s.EnsureStream(ctx, streamKey, func(io.Writer) error {
			t.Error("what is there was written again")
			return nil
		})
		if err != nil || again != kept {
			t.Errorf("again %+v, %v; want %+v", again, err, kept)
		}
		var got bytes.Buffer
		if err := s.ReadStream(ctx, kept, &got); err != nil || !bytes.Equal(got.Bytes(), body) {
			t.Errorf("read %d bytes, %v", got.Len(), err)
		}
		other := kept
		other.SHA256 = strings.Repeat("0", 64)
		wantKind(t, s.ReadStream(ctx, other, io.Discard), fault.Invalid)
	})
}

func TestFailedStreamsLeaveNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		broken := errors.New("the connection broke")
		_, err := s.EnsureStream(ctx, streamKey, func(w io.Writer) error {
			if _, err := w.Write(pattern(5 << 20)); err != nil {
				return err
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Fatalf("got %v", err)
		}
		if _, err := s.Stream(ctx, streamKey); !fault.Is(err, fault.NotFound) {
			t.Errorf("half a stream is seen: %v", err)
		}
		keys, err := s.List(ctx, "clusters/demo")
		if err != nil || len(keys) > 0 {
			t.Errorf("left behind: %v, %v", keys, err)
		}
	})
}

func TestStreamsHaveOneWinner(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		const writers = 6
		kept := make([]store.Stream, writers)
		errs := make([]error, writers)
		var all sync.WaitGroup
		for i := range writers {
			all.Go(func() {
				kept[i], errs[i] = s.EnsureStream(context.WithoutCancel(t.Context()), streamKey, func(w io.Writer) error {
					_, err := w.Write(bytes.Repeat([]byte{byte('a' + i)}, 100+i))
					return err
				})
			})
		}
		all.Wait()
		for i := range writers {
			if errs[i] != nil || kept[i] != kept[0] {
				t.Errorf("writer %d got %+v, %v; writer 0 %+v", i, kept[i], errs[i], kept[0])
			}
		}
		if err := s.ReadStream(t.Context(), kept[0], io.Discard); err != nil {
			t.Error(err)
		}
		keys, err := s.List(t.Context(), "clusters/demo")
		if err != nil || len(keys) != 2 {
			t.Errorf("the head and one part should be left, not %v (%v)", keys, err)
		}
	})
}

func TestDamagedStreamsAreRefused(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		kept, err := s.EnsureStream(ctx, streamKey, func(w io.Writer) error {
			_, err := w.Write(pattern(9 << 20))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := s.List(ctx, "clusters/demo")
		if err != nil {
			t.Fatal(err)
		}
		parts := slices.DeleteFunc(keys, func(k string) bool { return k == streamKey })
		if len(parts) != 3 {
			t.Fatalf("9 MiB are kept in %v", parts)
		}
		if err := s.DeleteObject(ctx, parts[1]); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.ReadStream(ctx, kept, io.Discard), fault.Invalid)
		if _, err := s.PutObject(ctx, parts[1], value("something else")); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.ReadStream(ctx, kept, io.Discard), fault.Invalid)
		if _, err := s.PutObject(ctx, streamKey, value("no head")); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.ReadStream(ctx, kept, io.Discard), fault.Invalid)
	})
}

func TestProbeLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		if err := s.Probe(t.Context(), "clusters/demo"); err != nil {
			t.Fatal(err)
		}
		keys, err := s.List(t.Context(), "clusters/demo")
		if err != nil || len(keys) > 0 {
			t.Errorf("left behind: %v, %v", keys, err)
		}
		wantKind(t, s.Probe(t.Context(), "../x"), fault.Invalid)
	})
}

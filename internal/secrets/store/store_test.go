package store_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "gocloud.dev/blob/memblob" // mem:// stores

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/devcloud/aws/s3"
)

const canary = "canary-9f1b-hunter2"

func value(s string) secrets.Value { return secrets.NewValue([]byte(s)) }

func key(fill byte) string {
	return "base64key://" + base64.URLEncoding.EncodeToString(bytes.Repeat([]byte{fill}, 32))
}

func mustOpen(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func dirURL(path string) string { return "file://" + path }

// each runs a test against every kind of backend.
func each(t *testing.T, run func(t *testing.T, s *store.Store)) {
	t.Run("directory", func(t *testing.T) {
		run(t, mustOpen(t, store.Options{URL: dirURL(filepath.Join(t.TempDir(), "store"))}))
	})
	t.Run("object store", func(t *testing.T) {
		run(t, mustOpen(t, store.Options{URL: "mem://", Key: key(1)}))
	})
	t.Run("s3", func(t *testing.T) { run(t, serve(t, s3.Honoured).open(t)) })
}

func wantKind(t *testing.T, err error, want fault.Kind) {
	t.Helper()
	if got := fault.KindOf(err); got != want {
		t.Fatalf("kind %q, want %q: %v", got, want, err)
	}
	if err != nil && strings.Contains(err.Error(), canary) {
		t.Fatalf("the error repeats the secret: %v", err)
	}
}

func TestObjects(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ctx := t.Context()
		_, err := s.GetObject(ctx, "clusters/demo/x")
		wantKind(t, err, fault.NotFound)

		for _, body := range []string{canary, "", strings.Repeat("a", 1<<20)} {
			sha, err := s.PutObject(ctx, "clusters/demo/x", value(body))
			wantKind(t, err, "")
			got, err := s.GetObject(ctx, "clusters/demo/x")
			wantKind(t, err, "")
			if string(got.Reveal()) != body || len(sha) != 64 {
				t.Fatalf("read %d bytes, want %d; digest %q", len(got.Reveal()), len(body), sha)
			}
		}

		wantKind(t, s.CreateObject(ctx, "clusters/demo/x", value("y")), fault.Conflict)
		wantKind(t, s.CreateObject(ctx, "clusters/demo/y", value("y")), "")
		wantKind(t, s.CreateObject(ctx, "clusters/demo2/y", value("y")), "")

		keys, err := s.List(ctx, "clusters/demo")
		wantKind(t, err, "")
		if diff := cmp.Diff([]string{"clusters/demo/x", "clusters/demo/y"}, keys); diff != "" {
			t.Error(diff)
		}
		wantKind(t, s.DeletePrefix(ctx, "clusters/demo/"), "")
		wantKind(t, s.DeletePrefix(ctx, "clusters/demo/"), "")
		keys, err = s.List(ctx, "clusters/")
		wantKind(t, err, "")
		if diff := cmp.Diff([]string{"clusters/demo2/y"}, keys); diff != "" {
			t.Error(diff)
		}
		wantKind(t, s.DeletePrefix(ctx, ""), fault.Invalid)
		wantKind(t, s.Ready(ctx), "")
	})
}

func TestBadNamesAreRefused(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		for _, name := range []string{"", "/", "/etc/passwd", "a/../b", "a//b", "a/", ".hidden", "a b", "a\x00b", "ä", strings.Repeat("a", 513)} {
			_, err := s.PutObject(t.Context(), name, value("x"))
			wantKind(t, err, fault.Invalid)
			_, err = s.GetObject(t.Context(), name)
			wantKind(t, err, fault.Invalid)
			wantKind(t, s.DeleteObject(t.Context(), name), fault.Invalid)
		}
	})
}

func TestTooLargeAnObjectIsRefused(t *testing.T) {
	s := mustOpen(t, store.Options{URL: "mem://", Key: key(1)})
	_, err := s.PutObject(t.Context(), "big", secrets.NewValue(make([]byte, 16<<20+1)))
	wantKind(t, err, fault.Invalid)
}

func TestBodies(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ref, sha, err := s.PutBody(t.Context(), "demo", value(canary))
		wantKind(t, err, "")
		again, sha2, err := s.PutBody(t.Context(), "demo", value(canary))
		wantKind(t, err, "")
		if ref != again || sha != sha2 {
			t.Errorf("a repetition gives %q %q, not %q %q", again, sha2, ref, sha)
		}
		if err := secrets.Ref("store:" + ref).Validate(); err != nil {
			t.Errorf("%q: %v", ref, err)
		}
		got, err := s.GetBody(t.Context(), ref, sha)
		wantKind(t, err, "")
		if string(got.Reveal()) != canary {
			t.Error("another body came back")
		}
		_, err = s.GetBody(t.Context(), ref, strings.Repeat("0", 64))
		wantKind(t, err, fault.Invalid)
	})
}

func TestEnsureBundleHasOneWinner(t *testing.T) {
	each(t, func(t *testing.T, s *store.Store) {
		ref := cluster.Ref{Name: "demo", UID: "u1"}
		const callers = 32
		var wg sync.WaitGroup
		created := make([]bool, callers)
		seen := make([]string, callers)
		for i := range callers {
			wg.Go(func() {
				k, c, err := s.EnsureBundle(t.Context(), ref, func() (secrets.Value, error) {
					return value(fmt.Sprint("bundle ", i)), nil
				})
				if err != nil {
					t.Error(err)
					return
				}
				v, err := s.GetObject(t.Context(), k)
				if err != nil {
					t.Error(err)
					return
				}
				created[i], seen[i] = c, string(v.Reveal())
			})
		}
		wg.Wait()
		winners := 0
		for i := range callers {
			if created[i] {
				winners++
				if seen[i] != fmt.Sprint("bundle ", i) {
					t.Errorf("caller %d won, yet the bundle is %q", i, seen[i])
				}
			}
			if seen[i] != seen[0] {
				t.Errorf("callers see %q and %q", seen[0], seen[i])
			}
		}
		if winners != 1 {
			t.Errorf("%d winners", winners)
		}
		other, created2, err := s.EnsureBundle(t.Context(), cluster.Ref{Name: "demo", UID: "u2"}, func() (secrets.Value, error) { return value("second"), nil })
		if err != nil || !created2 || other == store.BundleKey(ref) {
			t.Errorf("a later cluster of the same name shares the bundle: %q %v %v", other, created2, err)
		}
		boom := errors.New("no randomness")
		if _, _, err := s.EnsureBundle(t.Context(), cluster.Ref{Name: "demo", UID: "u3"}, func() (secrets.Value, error) { return secrets.Value{}, boom }); !errors.Is(err, boom) {
			t.Errorf("error = %v", err)
		}
	})
}

func TestNothingIsReadableWithoutTheKey(t *testing.T) {
	root := t.TempDir()
	s := mustOpen(t, store.Options{URL: dirURL(filepath.Join(root, "store"))})
	ctx := context.Background()
	if _, err := s.PutObject(ctx, "clusters/demo/x", value(canary)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.PutBody(ctx, "demo", value(canary)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutRecord(ctx, cluster.Record{Schema: 1, Ref: cluster.Ref{Name: "demo", UID: "u1"}, Failure: canary}, 0); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if name != root && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		files++
		body, err := os.ReadFile(name)
		if bytes.Contains(body, []byte(canary)) || bytes.Contains(body, []byte(base64.StdEncoding.EncodeToString([]byte(canary))[:20])) {
			t.Errorf("%s holds the secret in clear", name)
		}
		return err
	})
	if err != nil || files != 5 { // three objects, the marker, the key
		t.Errorf("%d files, %v", files, err)
	}
}

func TestTamperingIsDetected(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, store.Options{URL: dirURL(root)})
	ctx := t.Context()
	for _, k := range []string{"a", "b"} {
		if _, err := s.PutObject(ctx, k, value(canary+k)); err != nil {
			t.Fatal(err)
		}
	}
	a, err := os.ReadFile(filepath.Join(root, "a"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(body []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, "b"), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An object that is whole and genuine, under another's name.
	write(a)
	_, err = s.GetObject(ctx, "b")
	wantKind(t, err, fault.Invalid)

	original := bytes.Clone(a)
	for i := range original {
		bad := bytes.Clone(original)
		bad[i] ^= 1
		if err := os.WriteFile(filepath.Join(root, "a"), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GetObject(ctx, "a"); !fault.Is(err, fault.Invalid, fault.Unauthorized) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for n := range original {
		if err := os.WriteFile(filepath.Join(root, "a"), original[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GetObject(ctx, "a"); !fault.Is(err, fault.Invalid) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// childEnv makes this test binary a writer that the tests kill.
const childEnv = "ICHOR_STORE_TEST_DIR"

func TestMain(m *testing.M) {
	if root := os.Getenv(childEnv); root != "" {
		if err := writeForEver(root); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeForEver counts up in a record and says each count once it is stored.
func writeForEver(root string) error {
	ctx := context.Background()
	s, err := Open(ctx, Options{URL: fileURL(root)})
	if err != nil {
		return err
	}
	for {
		n, err := increment(ctx, s)
		if fault.Is(err, fault.Conflict) {
			continue
		}
		if err != nil {
			return err
		}
		if _, err := fmt.Println(n); err != nil {
			return err
		}
	}
}

func increment(ctx context.Context, s *Store) (int, error) {
	rec, rev, err := s.Record(ctx, "demo")
	if err != nil && !fault.Is(err, fault.NotFound) {
		return 0, err
	}
	n := 0
	if rev > 0 {
		if n, err = strconv.Atoi(rec.Endpoint); err != nil {
			return 0, err
		}
	}
	rec.Schema, rec.Ref, rec.Endpoint = recordSchema, cluster.Ref{Name: "demo", UID: "u"}, strconv.Itoa(n+1)
	rec.Failure = strings.Repeat("x", 64<<10) // large enough to be cut off half-way
	_, err = s.PutRecord(ctx, rec, rev)
	return n + 1, err
}

// Two processes write at once and are killed in mid-write, again and again: the
// record is always whole, and no acknowledged write is lost.
func TestKilledWriters(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	acknowledged := 0
	for round := range 6 {
		children := []*exec.Cmd{child(t, root), child(t, root)}
		outputs := make([]*bufio.Scanner, len(children))
		for i, c := range children {
			out, err := c.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			outputs[i] = bufio.NewScanner(out)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
		}
		for i := 0; i <= round && outputs[0].Scan(); i++ {
			acknowledged = max(acknowledged, number(t, outputs[0].Text()))
		}
		for i, c := range children {
			if err := c.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for outputs[i].Scan() {
				acknowledged = max(acknowledged, number(t, outputs[i].Text()))
			}
			var exit *exec.ExitError
			if err := c.Wait(); !errors.As(err, &exit) || exit.Exited() {
				t.Fatalf("the writer ended by itself: %v", err)
			}
		}
		s, err := Open(t.Context(), Options{URL: fileURL(root)})
		if err != nil {
			t.Fatal(err)
		}
		rec, rev, err := s.Record(t.Context(), "demo")
		if err != nil {
			t.Fatal(err)
		}
		if n := number(t, rec.Endpoint); n < acknowledged || Revision(n) != rev {
			t.Fatalf("count %d at revision %d; %d was acknowledged", n, rev, acknowledged)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acknowledged == 0 {
		t.Error("nothing was written")
	}
}

func child(t *testing.T, root string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+root)
	c.Stderr = t.Output()
	return c
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUnfinishedFilesAreNoObjects(t *testing.T) {
	root := filepath.Join(t.TempDir(), "store")
	s, err := Open(t.Context(), Options{URL: fileURL(root)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := increment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(root, "clusters", "demo", "record", tempPrefix+"123")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := increment(t.Context(), s); err != nil || n != 2 {
		t.Fatalf("%d %v", n, err)
	}
	keys, err := s.List(t.Context(), "clusters")
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v %v", keys, err)
	}
	// What an older crash has left behind goes with the next write nearby; a
	// fresh one may be somebody's work.
	if _, err := os.Stat(left); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * staleAfter)
	if err := os.Chtimes(left, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := increment(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); err == nil {
		t.Error("the left-over stays for ever")
	}
}

func TestPrune(t *testing.T) {
	s, err := Open(t.Context(), Options{URL: fileURL(filepath.Join(t.TempDir(), "store"))})
	if err != nil {
		t.Fatal(err)
	}
	count := func(writes int) int {
		t.Helper()
		for range writes {
			if _, err := increment(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		keys, err := s.List(t.Context(), recordPrefix("demo"))
		if err != nil {
			t.Fatal(err)
		}
		return len(keys)
	}
	if n := count(keepVersions + 5); n != keepVersions+5 {
		t.Errorf("%d versions; young ones must stay", n)
	}
	start := time.Now()
	s.now = func() time.Time { return start.Add(s.pruneAge + time.Hour) }
	if n := count(1); n != keepVersions {
		t.Errorf("%d versions, want %d", n, keepVersions)
	}
	if rec, rev, err := s.Record(t.Context(), "demo"); err != nil || rev != keepVersions+6 || rec.Endpoint != "26" {
		t.Errorf("revision %d, %v", rev, err)
	}
}

// lossy loses the replies of writes after they are done, or the writes
// themselves, as a network does.
type lossy struct {
	backend
	dropReply, dropWrite bool
}

func (l *lossy) create(ctx context.Context, key string, body []byte) error {
	if l.dropWrite {
		l.dropWrite = false
		return fault.New(fault.Unavailable, "write", "connection reset")
	}
	err := l.backend.create(ctx, key, body)
	if l.dropReply {
		l.dropReply = false
		return fault.New(fault.Unavailable, "write", "connection reset")
	}
	return err
}

func TestLostReplies(t *testing.T) {
	s, err := Open(t.Context(), Options{URL: fileURL(filepath.Join(t.TempDir(), "store"))})
	if err != nil {
		t.Fatal(err)
	}
	l := &lossy{backend: s.back}
	s.back = l
	v := secrets.NewValue([]byte("v"))

	l.dropReply = true
	if err := s.CreateObject(t.Context(), "a", v); err != nil {
		t.Errorf("a created object whose reply was lost: %v", err)
	}
	l.dropWrite = true
	if err := s.CreateObject(t.Context(), "b", v); !fault.Is(err, fault.Ambiguous) {
		t.Errorf("a lost write: %v", err)
	}
	l.dropReply = true
	if n, err := increment(t.Context(), s); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	l.dropWrite = true
	if _, err := increment(t.Context(), s); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a lost write of a record may be repeated: %v", err)
	}
	l.dropReply = true
	key, created, err := s.EnsureBundle(t.Context(), cluster.Ref{Name: "demo", UID: "u"}, func() (secrets.Value, error) { return v, nil })
	if err != nil || !created || key == "" {
		t.Errorf("%q %v %v", key, created, err)
	}
	l.dropWrite = true
	if _, _, err := s.EnsureBundle(t.Context(), cluster.Ref{Name: "demo", UID: "u2"}, func() (secrets.Value, error) { return v, nil }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a lost bundle may be made again: %v", err)
	}
}

package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
)

func TestDefaultKeyFile(t *testing.T) {
	url := filepath.Join(t.TempDir(), "deep", "store")
	// Many processes start at once on a new machine.
	var wg sync.WaitGroup
	stores := make([]*store.Store, 16)
	for i := range stores {
		wg.Go(func() {
			s, err := store.Open(t.Context(), store.Options{URL: dirURL(url)})
			if err != nil {
				t.Error(err)
				return
			}
			stores[i] = s
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if _, err := stores[0].PutObject(t.Context(), "x", value("v")); err != nil {
		t.Fatal(err)
	}
	for i, s := range stores {
		if _, err := s.GetObject(t.Context(), "x"); err != nil {
			t.Errorf("store %d has another key: %v", i, err)
		}
	}
	info, err := os.Stat(url + ".key")
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v %v", info, err)
	}

	if err := os.Chmod(url+".key", 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Options{URL: dirURL(url)})
	wantKind(t, err, fault.Unsafe)

	if err := os.Remove(url + ".key"); err != nil {
		t.Fatal(err)
	}
	_, err = store.Open(t.Context(), store.Options{URL: dirURL(url)})
	wantKind(t, err, fault.Unauthorized)
	if _, err := os.Stat(url + ".key"); err == nil {
		t.Error("a second key was made for a store that has objects")
	}
}

func TestWrongKey(t *testing.T) {
	root := dirURL(filepath.Join(t.TempDir(), "store"))
	mustOpen(t, store.Options{URL: root, Key: key(1)})
	_, err := store.Open(t.Context(), store.Options{URL: root, Key: key(2)})
	wantKind(t, err, fault.Unauthorized)
	// Nothing about the right key follows from the refusal.
	for _, k := range []string{key(1), key(2)} {
		if strings.Contains(err.Error(), strings.TrimPrefix(k, "base64key://")) {
			t.Errorf("the error shows a key: %v", err)
		}
	}
	mustOpen(t, store.Options{URL: root, Key: key(1)})
}

func TestOpenRefusesBadOptions(t *testing.T) {
	for name, o := range map[string]store.Options{
		"no URL":                 {URL: canary},
		"no key for a bucket":    {URL: "mem://"},
		"unknown place":          {URL: "carrier-pigeon://x?token=" + canary, Key: key(1)},
		"bad parameters":         {URL: "s3://b?nonsense=" + canary, Key: key(1)},
		"relative directory":     {URL: "file://store"},
		"directory with options": {URL: dirURL(t.TempDir()) + "?token=" + canary},
		"short key":              {URL: "mem://", Key: "base64key://" + canary},
		"empty key":              {URL: "mem://", Key: "base64key://"},
		"key without scheme":     {URL: "mem://", Key: canary},
		"unknown key service":    {URL: "mem://", Key: "sealing-wax://" + canary},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := store.Open(t.Context(), o)
			if err == nil {
				t.Fatal("opened", s)
			}
			wantKind(t, err, fault.Invalid)
		})
	}
}

func TestDefaultURL(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "/data")
	if got, err := store.DefaultURL(); err != nil || got != "file:///data/ichor/store" {
		t.Errorf("%q %v", got, err)
	}
	t.Setenv("XDG_DATA_HOME", "relative") // the specification says to ignore it
	t.Setenv("HOME", "/home/someone")
	if got, err := store.DefaultURL(); err != nil || !strings.HasPrefix(got, "file:///home/someone/") {
		t.Errorf("%q %v", got, err)
	}
}

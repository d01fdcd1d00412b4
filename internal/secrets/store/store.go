// Package store keeps what Ichor must not lose and nobody else may read: PKI
// bundles, rendered base configs, bodies of specs, and the record of each
// cluster. Every object is encrypted with a data key of its own, which the
// store's key seals; names of objects are not encrypted.
//
// Every method may be repeated and may run in several processes at once.
// Errors are faults: NotFound for proven absence, Unauthorized when the key or
// the credentials are wrong, Invalid for damaged objects and bad names,
// Conflict when somebody else was first, RateLimited and Quota as the object
// store says, and Unavailable when a repetition may help.
package store

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"gocloud.dev/blob"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Options say where a store is and what opens it.
type Options struct {
	// URL is file:///path for a directory, s3://bucket?region=…&prefix=ichor/
	// for S3 and what speaks it (endpoint=https://…), and whatever else
	// gocloud.dev/blob knows by a registered scheme. Default: DefaultURL. The
	// parameters of s3:// are described in docs/reference/store.md.
	URL string
	// Key is file:///path for a key file, base64key://… for 32 random bytes, or
	// awskms://alias/name?region=…. Default for directories: a key file beside
	// the directory, its name followed by ".key", which is made when the store
	// is new. Other stores have no default: a key beside the data protects
	// nothing.
	Key string
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	back backend
	key  *wrapper
	now  func() time.Time
	// pruneAge is how old a superseded record version must be to be deleted.
	pruneAge time.Duration
}

// DefaultURL is the store in the user's data folder: $XDG_DATA_HOME/ichor/store,
// ~/.local/share/ichor/store, or ~/Library/Application Support/ichor/store.
func DefaultURL() (string, error) {
	base := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fault.Wrap(fault.Invalid, "find the user's data folder", err)
		}
		base = filepath.Join(home, ".local", "share")
		if runtime.GOOS == "darwin" {
			base = filepath.Join(home, "Library", "Application Support")
		}
	}
	return fileURL(filepath.Join(base, "ichor", "store")), nil
}

func fileURL(path string) string {
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String()
}

// markerKey is an object that every store has. It shows at once that a key is
// the wrong one, before two keys are in use in one store.
const markerKey = "store/key-check"

// Open opens a store and proves that the key fits. A new directory is made, and
// with it its key file; the key file of a store that has objects is never made
// anew. Close the store after use.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.URL == "" {
		var err error
		if o.URL, err = DefaultURL(); err != nil {
			return nil, err
		}
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme == "" {
		return nil, fault.New(fault.Invalid, opOpen, "its location is not a URL such as file:///path or s3://bucket?region=…")
	}
	back, err := openBackend(ctx, u)
	if err != nil {
		return nil, err
	}
	s := &Store{back: back, now: time.Now, pruneAge: time.Hour}
	if o.Key == "" && u.Scheme == "file" {
		o.Key = fileURL(filepath.Clean(u.Path) + ".key")
	}
	if err := s.unlock(ctx, o.Key); err != nil {
		return nil, errors.Join(err, back.close())
	}
	return s, nil
}

func openBackend(ctx context.Context, u *url.URL) (backend, error) {
	if u.Scheme == "file" {
		if u.Host != "" || !filepath.IsAbs(u.Path) || u.RawQuery != "" {
			return nil, fault.New(fault.Invalid, opOpen, "a directory is written file:///absolute/path, without parameters")
		}
		return openDir(filepath.Clean(u.Path))
	}
	if u.Scheme == "s3" {
		return openS3(ctx, u)
	}
	b, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		// The URL may carry credentials in its parameters; the error repeats it.
		return nil, fault.New(fault.Invalid, opOpen, "no object store answers to %s:// URLs, or its parameters are wrong", u.Scheme)
	}
	return &bucket{b: b, fault: cloudFault}, nil
}

func (s *Store) unlock(ctx context.Context, key string) error {
	if key == "" {
		return fault.New(fault.Invalid, opKey, "an object store needs one; set file:///path, base64key://… or awskms://…")
	}
	w, err := openKey(ctx, key, func() error {
		have, err := s.back.list(ctx, "")
		if err == nil && len(have) > 0 {
			err = fault.New(fault.Unauthorized, opKey, "the key file is missing, but the store has %d objects that only this key opens; restore the file", len(have))
		}
		return err
	})
	if fault.Is(err, fault.NotFound) {
		err = fault.Wrap(fault.Unauthorized, opKey, err)
	}
	if err != nil {
		return err
	}
	s.key = w
	if err := s.checkKey(ctx); err != nil {
		return errors.Join(err, w.keeper.Close())
	}
	return nil
}

func (s *Store) checkKey(ctx context.Context) error {
	_, err := s.GetObject(ctx, markerKey)
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := s.CreateObject(ctx, markerKey, secrets.NewValue([]byte("ok"))); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	_, err = s.GetObject(ctx, markerKey)
	return err
}

// Ready reports whether the store can be read and the key opens it.
func (s *Store) Ready(ctx context.Context) error {
	_, err := s.GetObject(ctx, markerKey)
	return err
}

// Close releases the connections of the store.
func (s *Store) Close() error {
	return errors.Join(s.back.close(), s.key.keeper.Close())
}

// validKey refuses names that a backend might read differently from another
// one or that leave the store.
func validKey(key string) error {
	if len(key) == 0 || len(key) > 512 {
		return fault.New(fault.Invalid, "name an object", "the name must have 1 to 512 characters")
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment[0] == '.' || strings.IndexFunc(segment, forbidden) >= 0 {
			return fault.New(fault.Invalid, "name an object", "the name must be of segments of letters, digits, '.', '-' and '_' that do not start with a dot")
		}
	}
	return nil
}

func forbidden(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".-_", r)
}

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// GetObject reads an object. NotFound is proof of absence.
func (s *Store) GetObject(ctx context.Context, key string) (secrets.Value, error) {
	if err := validKey(key); err != nil {
		return secrets.Value{}, err
	}
	sealed, err := s.back.get(ctx, key)
	if err != nil {
		return secrets.Value{}, err
	}
	return open(ctx, s.key, key, sealed)
}

// PutObject writes an object, in place of an older one, and returns the SHA-256
// of its plain content in hexadecimal.
func (s *Store) PutObject(ctx context.Context, key string, v secrets.Value) (string, error) {
	sealed, err := s.seal(ctx, key, v)
	if err != nil {
		return "", err
	}
	if err := s.back.put(ctx, key, sealed); err != nil {
		return "", writeFault(err, fault.Unavailable)
	}
	return digest(v), nil
}

// CreateObject writes an object that must not exist: of concurrent calls with
// one key exactly one succeeds, the others get Conflict. Ambiguous means that
// the reply was lost and that the object still cannot be read.
func (s *Store) CreateObject(ctx context.Context, key string, v secrets.Value) error {
	sealed, err := s.seal(ctx, key, v)
	if err != nil {
		return err
	}
	err = s.back.create(ctx, key, sealed)
	if err == nil || fault.Is(err, fault.Unauthorized, fault.RateLimited, fault.Invalid) {
		return err
	}
	// The write may have been done although its reply was lost, and then a
	// retry inside the client of the object store conflicts with itself. Every
	// sealed object is unique, so a look decides.
	have, lookErr := s.back.get(ctx, key)
	switch {
	case lookErr == nil && bytes.Equal(have, sealed):
		return nil
	case lookErr == nil:
		return fault.New(fault.Conflict, "create "+key, "exists already")
	default:
		return writeFault(err, fault.Ambiguous)
	}
}

func (s *Store) seal(ctx context.Context, key string, v secrets.Value) ([]byte, error) {
	if err := validKey(key); err != nil {
		return nil, err
	}
	return seal(ctx, s.key, key, v.Reveal())
}

// writeFault corrects the kinds that make sense for reads only: a write that
// meets "not found" has lost its bucket or folder, and the outcome of one that
// is cut off is unknown.
func writeFault(err error, unknown fault.Kind) error {
	if fault.Is(err, fault.NotFound, fault.Unavailable, fault.Internal) {
		return fault.Wrap(unknown, "", err)
	}
	return err
}

// PutBody stores a body of a cluster's spec (a patch, a manifest) under its
// digest and returns the key and the SHA-256 in hexadecimal, the two parts of a
// cluster.Source that may travel.
func (s *Store) PutBody(ctx context.Context, clusterName string, body secrets.Value) (ref, sha string, err error) {
	sha = digest(body)
	ref = ClusterPrefix(clusterName) + "bodies/" + sha
	_, err = s.PutObject(ctx, ref, body)
	return ref, sha, err
}

// GetBody reads a body and proves that it is the one that was referred to.
func (s *Store) GetBody(ctx context.Context, ref, sha string) (secrets.Value, error) {
	v, err := s.GetObject(ctx, ref)
	if err != nil {
		return secrets.Value{}, err
	}
	if got := digest(v); got != sha {
		return secrets.Value{}, fault.New(fault.Invalid, "read "+ref, "its SHA-256 is %s, but the spec says %s", got, sha)
	}
	return v, nil
}

// List returns the keys below a prefix, sorted. The prefix counts as a folder:
// "clusters/demo" does not match "clusters/demo2/…". Empty means all.
func (s *Store) List(ctx context.Context, prefix string) ([]string, error) {
	folder, err := asFolder(prefix)
	if err != nil {
		return nil, err
	}
	entries, err := s.back.list(ctx, folder)
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(entries))
	for _, e := range entries {
		keys = append(keys, e.key)
	}
	return keys, nil
}

// DeleteObject deletes one object; absent is success.
func (s *Store) DeleteObject(ctx context.Context, key string) error {
	if err := validKey(key); err != nil {
		return err
	}
	return writeFault(s.back.remove(ctx, key), fault.Unavailable)
}

// DeletePrefix deletes every object below a prefix, which counts as a folder
// and must not be empty. Nothing there is success.
func (s *Store) DeletePrefix(ctx context.Context, prefix string) error {
	if prefix == "" {
		return fault.New(fault.Invalid, "delete objects", "no prefix given; the whole store is never deleted")
	}
	keys, err := s.List(ctx, prefix)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := s.DeleteObject(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func asFolder(prefix string) (string, error) {
	trimmed := strings.TrimSuffix(prefix, "/")
	if trimmed == "" {
		return "", nil
	}
	if err := validKey(trimmed); err != nil {
		return "", err
	}
	return trimmed + "/", nil
}

// ClusterPrefix is the folder of everything that is kept of a cluster's name.
func ClusterPrefix(name string) string { return "clusters/" + name + "/" }

// InstancePrefix is the folder of what belongs to one cluster and not to an
// earlier or later one of the same name: its PKI bundle, its base configs.
func InstancePrefix(ref cluster.Ref) string {
	return ClusterPrefix(ref.Name) + "instances/" + ref.UID + "/"
}

// BundleKey is where the PKI bundle of a cluster is kept.
func BundleKey(ref cluster.Ref) string { return InstancePrefix(ref) + "bundle" }

// EnsureBundle returns the key of the cluster's PKI bundle. When there is none
// it makes and keeps one; of several callers at once one wins, and its bundle
// is everybody's. generate may run without its result being used.
func (s *Store) EnsureBundle(ctx context.Context, ref cluster.Ref, generate func() (secrets.Value, error)) (key string, created bool, err error) {
	key = BundleKey(ref)
	_, err = s.GetObject(ctx, key)
	if !fault.Is(err, fault.NotFound) {
		return key, false, err
	}
	v, err := generate()
	if err != nil {
		return key, false, err
	}
	if v.Empty() {
		return key, false, fault.New(fault.Internal, "make a PKI bundle", "it is empty")
	}
	err = s.CreateObject(ctx, key, v)
	switch {
	case err == nil:
		created = true
	case fault.Is(err, fault.Conflict): // somebody else won
	case fault.Is(err, fault.Ambiguous):
		// A repetition reads whatever has won, so it is safe.
		return key, false, fault.Wrap(fault.Unavailable, "keep the PKI bundle", err)
	default:
		return key, false, err
	}
	// What cannot be read back must not become the identity of a cluster.
	_, err = s.GetObject(ctx, key)
	return key, created && err == nil, err
}

func digest(v secrets.Value) string {
	sum := sha256.Sum256(v.Reveal())
	return hex.EncodeToString(sum[:])
}

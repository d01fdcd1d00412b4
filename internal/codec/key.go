package codec

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// keyBytes is the key size of AES-256.
const keyBytes = 32

// Key encrypts payloads. Its id follows from it, so the same key has the same
// id in every process.
type Key struct{ secret secrets.Value }

// ParseKey reads a key in the form that "openssl rand -base64 32" prints.
// Anything else is Invalid; the error does not repeat it.
func ParseKey(v secrets.Value) (Key, error) {
	raw, err := base64.StdEncoding.DecodeString(v.RevealString())
	if err != nil || len(raw) != keyBytes {
		return Key{}, fault.New(fault.Invalid, "read a codec key", "it must be %d random bytes in base64, as printed by: openssl rand -base64 %d", keyBytes, keyBytes)
	}
	return Key{secret: secrets.NewValue(raw)}, nil
}

// ID names the key in every payload. It does not reveal the key.
func (k Key) ID() string {
	sum := sha256.Sum256(append([]byte("ichor codec key id\x00"), k.secret.Reveal()...))
	return hex.EncodeToString(sum[:8])
}

// LoadKeys resolves references to keys. The first key encrypts, all decrypt:
// to rotate, give every process the new key behind the old one, then exchange
// the two, and drop the old one when the retention of the namespace has passed.
func LoadKeys(ctx context.Context, r secrets.Resolver, refs []secrets.Ref) ([]Key, error) {
	keys := make([]Key, 0, len(refs))
	for _, ref := range refs {
		v, err := r.Resolve(ctx, ref)
		if err != nil {
			return nil, err
		}
		k, err := ParseKey(v)
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), "resolve "+string(ref), err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

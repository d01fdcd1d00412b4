package store

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// A sealed object is
//
//	magic | length of header (uint32, big endian) | header (JSON) | nonce | AES-256-GCM
//
// The header holds the object's own data key, sealed with the store's key.
// Everything before the nonce and the object's name are authenticated with the
// body, so an object that was moved to another name, or given another header,
// does not open.
const (
	magic     = "ichor-sealed-1\n"
	nonceSize = 12
	maxHeader = 16 << 10
	// maxSealed bounds what is kept in memory. It is below 16 MiB, from which on
	// the client of S3 uploads in parts: that completes in another request, and
	// few of the services that speak S3 honour a condition there.
	maxSealed = 16<<20 - 1
	// maxObject leaves room for what sealing adds. Machine configs and manifests
	// are far below (a Kubernetes object is at most about 1.5 MiB).
	maxObject = maxSealed - maxHeader - 1<<10
)

type header struct {
	KeyID   string `json:"keyID"`
	DataKey []byte `json:"dataKey"`
}

func seal(ctx context.Context, w *wrapper, name string, plain []byte) ([]byte, error) {
	if len(plain) > maxObject {
		return nil, fault.New(fault.Invalid, "seal "+name, "is larger than %d KiB", maxObject>>10)
	}
	dataKey := make([]byte, 32)
	nonce := make([]byte, nonceSize)
	for _, b := range [][]byte{dataKey, nonce} {
		if _, err := rand.Read(b); err != nil {
			return nil, fault.Wrap(fault.Internal, "seal "+name, err)
		}
	}
	wrapped, err := w.wrap(ctx, dataKey)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(header{KeyID: w.id, DataKey: wrapped})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "seal "+name, err)
	}
	if len(head) > maxHeader {
		return nil, fault.New(fault.Internal, "seal "+name, "the key service returned a data key of %d bytes", len(wrapped))
	}
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "seal "+name, err)
	}
	out := append([]byte(magic), binary.BigEndian.AppendUint32(nil, uint32(len(head)))...)
	out = append(out, head...)
	aad := bindName(out, name)
	out = append(out, nonce...)
	return aead.Seal(out, nonce, plain, aad), nil
}

func open(ctx context.Context, w *wrapper, name string, sealed []byte) (secrets.Value, error) {
	damaged := fault.New(fault.Invalid, "open "+name, "it is damaged, or was not written under this name")
	prefix := len(magic) + 4
	if len(sealed) > maxSealed || len(sealed) < prefix || !bytes.HasPrefix(sealed, []byte(magic)) {
		return secrets.Value{}, damaged
	}
	size := uint64(binary.BigEndian.Uint32(sealed[len(magic):]))
	if size > maxHeader || uint64(len(sealed)) < uint64(prefix)+size+nonceSize {
		return secrets.Value{}, damaged
	}
	end := prefix + int(size)
	var head header
	if err := json.Unmarshal(sealed[prefix:end], &head); err != nil {
		return secrets.Value{}, damaged
	}
	dataKey, err := w.unwrap(ctx, head.KeyID, head.DataKey)
	if err != nil {
		return secrets.Value{}, fault.Wrap(fault.KindOf(err), "open "+name, err)
	}
	aead, err := newAEAD(dataKey)
	if err != nil {
		return secrets.Value{}, damaged
	}
	plain, err := aead.Open(nil, sealed[end:end+nonceSize], sealed[end+nonceSize:], bindName(sealed[:end], name))
	if err != nil {
		return secrets.Value{}, damaged
	}
	return secrets.NewValue(plain), nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bindName is what is authenticated beside the body.
func bindName(prefix []byte, name string) []byte {
	out := make([]byte, 0, len(prefix)+len(name))
	return append(append(out, prefix...), name...)
}

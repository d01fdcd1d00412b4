// Package codec encrypts what Ichor gives to Temporal: inputs, results, memos,
// details and the messages of errors. It is optional; all processes of one
// installation use it with the same keys, or none does.
//
// Temporal still reads, and shows, workflow ids, type names, task queues,
// search attributes, identities, and the types of errors.
package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

const (
	// encoding marks encrypted payloads; it is the name that Temporal's own
	// examples use.
	encoding = "binary/encrypted"
	// metadataKeyID names the key.
	metadataKeyID = "encryption-key-id"
	nonceSize     = 12
)

// UnreadableError says that a payload cannot be decrypted: by no fault of the
// workflow, and curable by giving this process the right key.
type UnreadableError struct {
	// KeyID names the key that the payload was encrypted with.
	KeyID string
	// Damaged says that the key is known, so the payload itself is at fault.
	Damaged bool
}

func (e *UnreadableError) Error() string {
	if e.Damaged {
		return fmt.Sprintf("the payload is damaged (encrypted with key %s)", e.KeyID)
	}
	return fmt.Sprintf("the payload is encrypted with key %s, which this process does not have; configure the codec keys of the installation", e.KeyID)
}

// aesCodec is AES-256-GCM with a random nonce per payload. Random nonces of 96
// bits allow 2^32 payloads per key (NIST SP 800-38D, 8.3), far beyond what an
// installation writes between two rotations.
type aesCodec struct {
	first Key
	byID  map[string]cipher.AEAD
}

var _ converter.PayloadCodec = (*aesCodec)(nil)

// Codecs returns what encrypts and compresses, for tools that meet payloads
// outside of a client. They are in the order in which the SDK decodes; encoding
// in reverse order compresses first, for ciphertext does not shrink.
func Codecs(keys []Key) ([]converter.PayloadCodec, error) {
	c := &aesCodec{byID: make(map[string]cipher.AEAD, len(keys))}
	for i, k := range keys {
		block, err := aes.NewCipher(k.secret.Reveal())
		if err != nil {
			return nil, fmt.Errorf("codec key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("codec key %d: %w", i+1, err)
		}
		c.byID[k.ID()] = aead
	}
	if len(keys) > 0 {
		c.first = keys[0]
	}
	return []converter.PayloadCodec{c, converter.NewZlibCodec(converter.ZlibCodecOptions{})}, nil
}

// Encode encrypts with the first key. Without keys it changes nothing.
func (c *aesCodec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if len(c.byID) == 0 {
		return payloads, nil
	}
	id := c.first.ID()
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, err
		}
		sealed := make([]byte, nonceSize, nonceSize+len(plain)+c.byID[id].Overhead())
		if _, err := rand.Read(sealed); err != nil {
			return nil, err
		}
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{
				converter.MetadataEncoding: []byte(encoding),
				metadataKeyID:              []byte(id),
			},
			Data: c.byID[id].Seal(sealed, sealed, plain, additional(id)),
		}
	}
	return out, nil
}

// Decode decrypts what is encrypted and passes on the rest, so that runs which
// began before the codec was switched on go on.
func (c *aesCodec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != encoding {
			out[i] = p
			continue
		}
		id := string(p.GetMetadata()[metadataKeyID])
		aead, ok := c.byID[id]
		if !ok {
			return nil, &UnreadableError{KeyID: id}
		}
		if len(p.GetData()) < nonceSize {
			return nil, &UnreadableError{KeyID: id, Damaged: true}
		}
		plain, err := aead.Open(nil, p.GetData()[:nonceSize], p.GetData()[nonceSize:], additional(id))
		if err != nil {
			return nil, &UnreadableError{KeyID: id, Damaged: true}
		}
		out[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, &UnreadableError{KeyID: id, Damaged: true}
		}
	}
	return out, nil
}

// additional is authenticated with every payload. It must not depend on where
// a payload is used: since SDK 1.49 local activities are serialised in another
// context than before, and old histories have to stay readable.
func additional(keyID string) []byte { return []byte(encoding + "\x00" + keyID) }

package etcdsim

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// snapshot is what a member's database says about itself here: which datastore
// holds the keys, and how far it was.
type snapshot struct {
	Datastore string `json:"datastore"`
	Index     uint64 `json:"index"`
	// keys are the datastore's content, if it has any.
	keys []byte
}

// bucketMeta is the bucket that etcd's tools look for in a database.
var (
	bucketMeta = []byte("meta")
	keyContent = []byte("devcloud")
	keyKeys    = []byte("devcloud-keys")
)

// encode writes a database in etcd's snapshot format, a bbolt file followed by
// its SHA-256, so that etcd's own tools can check it.
func (s snapshot) encode() (data []byte, err error) {
	content, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}

	err = withFile(nil, func(path string) error {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			return err
		}

		err = db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(bucketMeta)
			if err != nil {
				return err
			}

			if len(s.keys) > 0 {
				if err := b.Put(keyKeys, s.keys); err != nil {
					return err
				}
			}

			return b.Put(keyContent, content)
		})

		// As etcd does it: exactly the pages in use, where the file has spare
		// ones that tools cut off.
		if err == nil {
			err = db.View(func(tx *bbolt.Tx) error {
				var pages bytes.Buffer

				_, err := tx.WriteTo(&pages)
				data = pages.Bytes()

				return err
			})
		}

		return errors.Join(err, db.Close())
	})
	if err != nil {
		return nil, err
	}

	sum := sha256.Sum256(data)

	return append(data, sum[:]...), nil
}

// decodeSnapshot checks and reads what encode wrote.
func decodeSnapshot(data []byte, skipHash bool) (s snapshot, err error) {
	// A database is made of whole 512-byte blocks; the hash is the rest.
	body := data[:len(data)-len(data)%512]
	sum := sha256.Sum256(body)

	if !skipHash && string(sum[:]) != string(data[len(body):]) {
		return s, ErrBadSnapshot
	}

	err = withFile(body, func(path string) error {
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
		if err != nil {
			return err
		}

		err = db.View(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucketMeta)
			if b == nil {
				return errors.New("no meta bucket")
			}

			// What a transaction returns is valid only inside it.
			s.keys = bytes.Clone(b.Get(keyKeys))

			return json.Unmarshal(b.Get(keyContent), &s)
		})

		return errors.Join(err, db.Close())
	})
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}

	return s, nil
}

// withFile lends a temporary file, because bbolt works on files only.
func withFile(content []byte, use func(path string) error) error {
	dir, err := os.MkdirTemp("", "devcloud-etcd-")
	if err != nil {
		return err
	}

	path := filepath.Join(dir, "db")
	if content != nil {
		err = os.WriteFile(path, content, 0o600)
	}

	if err == nil {
		err = use(path)
	}

	return errors.Join(err, os.RemoveAll(dir))
}

package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Stream is an object of any size, kept in parts.
type Stream struct {
	// Key is where it is kept.
	Key string
	// SHA256 is the digest of the whole, in hexadecimal, Bytes its length.
	SHA256 string
	Bytes  int64
}

// partSize bounds what a stream needs in memory: one part, and one sealed.
const partSize = 4 << 20

// streamHead is the object under a stream's key; it is written last, so a stream
// is complete or absent.
type streamHead struct {
	// Folder holds the parts, numbered from 0.
	Folder string `json:"folder"`
	Parts  int    `json:"parts"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// At is when the stream was completed, by the clock of whoever wrote it. It
	// tells streams apart that the store completed in one second.
	At time.Time `json:"at,omitzero"`
}

// Stream returns what is kept under a key. NotFound is proof of absence.
func (s *Store) Stream(ctx context.Context, key string) (Stream, error) {
	head, err := s.streamHead(ctx, key)
	return Stream{Key: key, SHA256: head.SHA256, Bytes: head.Bytes}, err
}

func (s *Store) streamHead(ctx context.Context, key string) (streamHead, error) {
	var head streamHead
	v, err := s.GetObject(ctx, key)
	if err != nil {
		return head, err
	}
	if err := json.Unmarshal(v.Reveal(), &head); err != nil || !strings.HasPrefix(head.Folder, partsOf(key)) {
		return head, fault.New(fault.Invalid, "read "+key, "is not a stream")
	}
	return head, nil
}

func partsOf(key string) string { return key + ".parts/" }

// EnsureStream keeps what write writes under a key, unless there is a stream
// already, and returns what is kept then: of several callers at once one wins. A
// write that fails leaves nothing that is seen, and its error is returned.
func (s *Store) EnsureStream(ctx context.Context, key string, write func(io.Writer) error) (Stream, error) {
	have, err := s.Stream(ctx, key)
	if !fault.Is(err, fault.NotFound) {
		return have, err
	}
	var id [8]byte
	// Reading random bytes never fails (crypto/rand).
	_, _ = rand.Read(id[:])
	w := &streamWriter{ctx: ctx, store: s, folder: partsOf(key) + hex.EncodeToString(id[:]) + "/", whole: sha256.New()}
	if err := w.fill(write); err != nil {
		s.abandon(ctx, w.folder)
		return Stream{}, err
	}
	head := streamHead{Folder: w.folder, Parts: w.parts, SHA256: hex.EncodeToString(w.whole.Sum(nil)), Bytes: w.bytes, At: s.now().UTC()}
	body, err := json.Marshal(head)
	if err != nil {
		return Stream{}, fault.Wrap(fault.Internal, "keep "+key, err)
	}
	err = s.CreateObject(ctx, key, secrets.NewValue(body))
	switch {
	case fault.Is(err, fault.Conflict): // somebody else won
		s.abandon(ctx, w.folder)
	case fault.Is(err, fault.Ambiguous): // repeating reads whatever has won
		return Stream{}, fault.Wrap(fault.Unavailable, "keep "+key, err)
	case err != nil:
		return Stream{}, err
	}
	return s.Stream(ctx, key)
}

// abandon removes parts that no head names. What it cannot remove costs space
// until the cluster is forgotten, and nothing else.
func (s *Store) abandon(ctx context.Context, folder string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = s.DeletePrefix(ctx, folder)
}

// ReadStream writes a stream to w. Errors: NotFound; Invalid when it is damaged or
// not the one that is meant, after what was read of it has been written.
func (s *Store) ReadStream(ctx context.Context, st Stream, w io.Writer) error {
	op := "read " + st.Key
	head, err := s.streamHead(ctx, st.Key)
	if err != nil {
		return err
	}
	if st.SHA256 != "" && head.SHA256 != st.SHA256 {
		return fault.New(fault.Invalid, op, "its SHA-256 is %s, not %s", head.SHA256, st.SHA256)
	}
	whole := sha256.New()
	for i := range head.Parts {
		part, err := s.GetObject(ctx, partKey(head.Folder, i))
		if fault.Is(err, fault.NotFound) {
			return fault.New(fault.Invalid, op, "part %d of %d is missing", i+1, head.Parts)
		}
		if err != nil {
			return err
		}
		// A hash never fails to write.
		_, _ = whole.Write(part.Reveal())
		if _, err := w.Write(part.Reveal()); err != nil {
			return fault.Wrap(fault.Unavailable, op, err)
		}
	}
	if got := hex.EncodeToString(whole.Sum(nil)); got != head.SHA256 {
		return fault.New(fault.Invalid, op, "its SHA-256 is %s, not %s", got, head.SHA256)
	}
	return nil
}

func partKey(folder string, i int) string { return fmt.Sprintf("%s%06d", folder, i) }

// streamWriter keeps what is written to it in parts.
type streamWriter struct {
	ctx    context.Context // of the one call that it lives in
	store  *Store
	folder string
	buf    []byte
	parts  int
	bytes  int64
	whole  hash.Hash
}

func (w *streamWriter) fill(write func(io.Writer) error) error {
	if err := write(w); err != nil {
		return err
	}
	return w.flush()
}

func (w *streamWriter) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		take := min(len(p), partSize-len(w.buf))
		w.buf, p, n = append(w.buf, p[:take]...), p[take:], n+take
		if len(w.buf) == partSize {
			if err := w.flush(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// flush keeps the bytes that are in memory as a part.
func (w *streamWriter) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if _, err := w.store.PutObject(w.ctx, partKey(w.folder, w.parts), secrets.NewValue(w.buf)); err != nil {
		return err
	}
	// A hash never fails to write.
	_, _ = w.whole.Write(w.buf)
	w.parts, w.bytes = w.parts+1, w.bytes+int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// Probe proves that objects below a prefix can be written, read and removed.
func (s *Store) Probe(ctx context.Context, prefix string) error {
	folder, err := asFolder(prefix)
	if err != nil {
		return err
	}
	var id [8]byte
	// Reading random bytes never fails (crypto/rand).
	_, _ = rand.Read(id[:])
	key, text := folder+"probe-"+hex.EncodeToString(id[:]), hex.EncodeToString(id[:])
	if _, err := s.PutObject(ctx, key, secrets.NewValue([]byte(text))); err != nil {
		return err
	}
	got, err := s.GetObject(ctx, key)
	if err != nil {
		return err
	}
	if got.RevealString() != text {
		return fault.New(fault.Invalid, "probe the store", "what was written is not what is read")
	}
	return s.DeleteObject(ctx, key)
}

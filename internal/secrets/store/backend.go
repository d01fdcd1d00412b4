package store

import (
	"context"
	"time"
)

// entry is one stored object as listed.
type entry struct {
	key      string
	modified time.Time
}

// backend keeps opaque bytes under names. Writes are atomic: a reader sees all
// of an object or none of it. Errors carry fault kinds: NotFound for proven
// absence, Conflict from create when the object exists, Unauthorized, and
// Unavailable for everything else.
type backend interface {
	get(ctx context.Context, key string) ([]byte, error)
	put(ctx context.Context, key string, body []byte) error
	// create is put for absent objects only, decided atomically among all
	// processes that use the same place.
	create(ctx context.Context, key string, body []byte) error
	// list returns every object whose key starts with prefix, sorted by key.
	// prefix is empty or ends with a slash.
	list(ctx context.Context, prefix string) ([]entry, error)
	// remove deletes an object; absent is success.
	remove(ctx context.Context, key string) error
	close() error
}

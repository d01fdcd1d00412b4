package world

import (
	"slices"
	"time"
)

// Meta is what all resources have in common. Tags are replaced as a whole and
// never changed in place, so copies of a resource may share them.
type Meta struct {
	UUID      string
	Name      string
	Tags      map[string]string
	Zone      string
	CreatedAt time.Time
}

func (m *Meta) meta() *Meta { return m }

// Info returns the common part of a resource.
func (m Meta) Info() Meta { return m }

type entity interface{ meta() *Meta }

// table keeps resources in order of creation.
type table[T entity] struct {
	rows  map[string]T
	order []string
}

func (t *table[T]) add(v T) {
	if t.rows == nil {
		t.rows = map[string]T{}
	}
	id := v.meta().UUID
	t.rows[id] = v
	t.order = append(t.order, id)
}

func (t *table[T]) get(id string) (T, error) {
	if v, ok := t.rows[id]; ok {
		return v, nil
	}
	var zero T
	return zero, errNotFound
}

func (t *table[T]) remove(id string) {
	if _, ok := t.rows[id]; !ok {
		return
	}
	delete(t.rows, id)
	t.order = slices.DeleteFunc(t.order, func(s string) bool { return s == id })
}

func (t *table[T]) all() []T {
	out := make([]T, 0, len(t.order))
	for _, id := range t.order {
		out = append(out, t.rows[id])
	}
	return out
}

func (t *table[T]) len() int { return len(t.order) }

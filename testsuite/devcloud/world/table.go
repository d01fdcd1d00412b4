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

// row is a pointer to a resource of type E.
type row[E any] interface {
	*E
	entity
}

// all returns copies of all resources of a table.
func all[E any, P row[E]](w *World, t *table[P]) []E {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]E, 0, t.len())
	for _, v := range t.all() {
		out = append(out, *v)
	}
	return out
}

// find returns a copy of one resource.
func find[E any, P row[E]](w *World, t *table[P], id string) (E, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := t.get(id)
	if err != nil {
		var zero E
		return zero, err
	}
	return *v, nil
}

// change runs f on one resource and records the action if it succeeded.
func change[E any, P row[E]](w *World, t *table[P], id, action string, f func(P) error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := t.get(id)
	if err != nil {
		return err
	}
	if err := f(v); err != nil {
		return err
	}
	w.record(action, *v.meta())
	return nil
}

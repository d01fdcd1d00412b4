package account

import (
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// View is the account as one request sees it: resources younger than the lag of
// its action do not exist for it. Faults may add to the lag.
type View struct {
	a      *Account
	all    bool // no lag
	Action string
	// Stale hides resources that are younger, in real time.
	Stale time.Duration
	// Bend of a launch: it stays pending, or ends terminated.
	Stuck, Fails bool
	StuckFor     time.Duration // simulated; zero means for ever
}

// View returns the account as an action sees it.
func (a *Account) View(action string) View { return View{a: a, Action: action} }

// sees says whether a resource is visible. The caller holds the lock.
func (v View) sees(r *Record) bool {
	return v.all || time.Since(r.Created) >= max(v.Stale, v.a.clock.Scale(v.lag()))
}

func (v View) lag() time.Duration {
	s := v.a.settings.Visibility
	if d, ok := s[v.Action]; ok {
		return time.Duration(d)
	}
	if d, ok := s["Describe*"]; ok && strings.HasPrefix(v.Action, "Describe") {
		return time.Duration(d)
	}
	return time.Duration(s["*"])
}

// find returns a resource that the view sees.
func find[T entity](v View, t *table[T], code, kind, id string) (T, error) {
	if e, ok := t.rows[id]; ok && v.sees(e.record()) {
		return e, nil
	}
	var zero T
	if id == "" {
		return zero, query.Refuse("MissingParameter", "The request must contain the id of a %s", kind)
	}
	return zero, query.Refuse(code, "%s", describe(kind, id))
}

// row is a pointer to a resource of type E.
type row[E any] interface {
	*E
	entity
}

// list returns copies of all resources that the view sees.
func list[E any, P row[E]](v View, t func(*Account) *table[P]) []E {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	out := []E{}
	for _, e := range t(v.a).all() {
		if v.sees(e.record()) {
			out = append(out, *e)
		}
	}
	return out
}

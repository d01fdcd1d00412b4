package nimbus_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
)

// lag is how long things take to start and to go, in this API.
const lag = 30 * time.Millisecond

// pageSize is small, so that every client meets the next page.
const pageSize = 2

// thing is a machine, a network, a load balancer or an image, and the JSON of all.
type thing struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Zone     string            `json:"zone"`
	State    string            `json:"state"`
	Labels   map[string]string `json:"labels"`
	Created  time.Time         `json:"createdAt"`
	Network  string            `json:"network,omitempty"`
	Size     string            `json:"size,omitempty"`
	Image    string            `json:"image,omitempty"`
	UserData string            `json:"userData,omitempty"`
	Public   string            `json:"publicAddress,omitempty"`
	Private  string            `json:"privateAddress,omitempty"`
	CIDR     string            `json:"cidr,omitempty"`
	Address  string            `json:"address,omitempty"`
	Targets  []map[string]any  `json:"targets,omitempty"`
	URL      string            `json:"url,omitempty"`
	Reason   string            `json:"reason,omitempty"`

	kind string
	gone time.Time // when a deletion ends; zero without one
}

// api is Nimbus: names are unique within a kind, deletion takes a moment, lists come
// in pages.
type api struct {
	mu     sync.Mutex
	seq    int
	things []*thing
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/sizes", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, http.StatusOK, []map[string]any{{"name": "small", "cpus": 2, "memoryMiB": 4096, "arch": "amd64", "zones": []string{"north"}}})
	})
	// Whatever is asked is asked under the lock, after what was to go by then has gone.
	for route, f := range map[string]func(*http.Request) (int, any){
		"POST /v1/{kind}": a.create, "GET /v1/{kind}": a.list, "GET /v1/{kind}/{id}": a.get,
		"DELETE /v1/{kind}/{id}": a.remove, "PUT /v1/{kind}/{id}/{part}": a.change,
	} {
		mux.HandleFunc(route, func(rw http.ResponseWriter, r *http.Request) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.things = slices.DeleteFunc(a.things, func(t *thing) bool { return !t.gone.IsZero() && time.Now().After(t.gone) })
			status, body := f(r)
			answer(rw, status, body)
		})
	}
	return mux
}

func answer(rw http.ResponseWriter, status int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func refuse(status int, code, format string, args ...any) (int, any) {
	return status, map[string]string{"code": code, "message": fmt.Sprintf(format, args...)}
}

func (a *api) create(r *http.Request) (int, any) {
	t := &thing{kind: r.PathValue("kind")}
	if err := json.NewDecoder(r.Body).Decode(t); err != nil || t.Name == "" {
		return refuse(http.StatusBadRequest, "invalid", "not a thing with a name: %v", err)
	}
	if i := slices.IndexFunc(a.things, func(o *thing) bool { return o.kind == t.kind && o.Name == t.Name }); i >= 0 {
		return refuse(http.StatusConflict, "name_taken", "%s has this name", a.things[i].ID)
	}
	if t.Network != "" && a.find("networks", t.Network) == nil {
		return refuse(http.StatusNotFound, "not_found", "there is no network %s", t.Network)
	}
	a.seq++
	t.ID, t.Created, t.UserData = fmt.Sprintf("%s-%d", t.kind, a.seq), time.Now(), ""
	switch t.kind {
	case "machines":
		t.Public = fmt.Sprintf("192.0.2.%d", a.seq)
		if t.Network != "" {
			t.Private = fmt.Sprintf("10.100.0.%d", a.seq)
		}
	case "balancers":
		t.Address = fmt.Sprintf("198.51.100.%d", a.seq)
	}
	if faults.FromContext(r.Context()).WrongZone {
		t.Zone = "south"
	}
	a.things = append(a.things, t)
	return http.StatusCreated, t.view()
}

// view is what the API says of a thing now.
func (t *thing) view() thing {
	v := *t
	words := [2]string{"pending", "ready"}
	if t.kind == "machines" {
		words = [2]string{"starting", "running"}
	}
	v.State = words[0]
	if time.Since(t.Created) > lag {
		v.State = words[1]
	}
	if !t.gone.IsZero() {
		v.State = "deleting"
	}
	if strings.HasSuffix(t.URL, "nothing-here") && v.State == "ready" {
		v.State, v.Reason = "failed", "there is nothing at this address"
	}
	v.Labels, v.URL = maps.Clone(t.Labels), ""
	return v
}

func (a *api) find(kind, id string) *thing {
	i := slices.IndexFunc(a.things, func(t *thing) bool { return t.kind == kind && t.ID == id })
	if i < 0 {
		return nil
	}
	return a.things[i]
}

func (a *api) list(r *http.Request) (int, any) {
	q, stale := r.URL.Query(), faults.FromContext(r.Context()).Stale
	key, value, _ := strings.Cut(q.Get("label"), "=")
	items, next := []thing{}, ""
	for _, t := range a.things {
		young := stale > 0 && time.Since(t.Created) < stale
		if t.kind != r.PathValue("kind") || young || t.ID <= q.Get("cursor") && q.Get("cursor") != "" {
			continue
		}
		if name := q.Get("name"); name != "" && t.Name != name || key != "" && t.Labels[key] != value {
			continue
		}
		items = append(items, t.view())
	}
	slices.SortFunc(items, func(x, y thing) int { return cmp.Compare(x.ID, y.ID) })
	if len(items) > pageSize {
		items, next = items[:pageSize], items[pageSize-1].ID
	}
	return http.StatusOK, map[string]any{"items": items, "next": next}
}

func (a *api) get(r *http.Request) (int, any) {
	if t := a.find(r.PathValue("kind"), r.PathValue("id")); t != nil {
		return http.StatusOK, t.view()
	}
	return refuse(http.StatusNotFound, "not_found", "there is no such thing")
}

func (a *api) remove(r *http.Request) (int, any) {
	t := a.find(r.PathValue("kind"), r.PathValue("id"))
	switch {
	case t == nil:
		return refuse(http.StatusNotFound, "not_found", "there is no such thing")
	case slices.ContainsFunc(a.things, func(o *thing) bool { return o.Network == t.ID }):
		return refuse(http.StatusConflict, "in_use", "something stands on %s", t.ID)
	case t.kind == "images": // these go at once
		t.gone = time.Now()
	case t.gone.IsZero():
		t.gone = time.Now().Add(lag)
	}
	return http.StatusAccepted, t.view()
}

// change replaces the targets of a load balancer, or the labels of an image.
func (a *api) change(r *http.Request) (int, any) {
	t := a.find(r.PathValue("kind"), r.PathValue("id"))
	if t == nil {
		return refuse(http.StatusNotFound, "not_found", "there is no such thing")
	}
	fresh := &thing{}
	into := map[string]any{"targets": &fresh.Targets, "labels": &fresh.Labels}[r.PathValue("part")]
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "invalid", "not %s: %v", r.PathValue("part"), err)
	}
	for _, target := range fresh.Targets {
		target["healthy"] = true
	}
	if r.PathValue("part") == "labels" {
		t.Labels = fresh.Labels
	} else {
		t.Targets = fresh.Targets
	}
	return http.StatusOK, t.view()
}

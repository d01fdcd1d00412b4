// Package cloudscale serves the world as the cloudscale.ch REST API, version 1,
// so that the vendor's SDK and everything built on it works unchanged. What is
// not documented by the vendor follows the SDK's own integration suite; what
// that does not show either is marked in the code as a guess.
package cloudscale

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/ichor-project/ichor/testsuite/devcloud/faults"
	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// API is an http.Handler for everything below /v1/.
type API struct {
	world *world.World
	mux   *http.ServeMux
	log   *slog.Logger
}

// New returns the API of a world.
func New(w *world.World, log *slog.Logger) *API {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &API{world: w, mux: http.NewServeMux(), log: log}
	a.handle("GET /v1/regions", a.regions)
	a.handle("GET /v1/flavors", a.flavors)
	a.handle("GET /v1/images", a.stockImages)
	a.handle("GET /v1/project-logs", a.projectLogs)
	a.serverRoutes()
	a.networkRoutes()
	a.volumeRoutes()
	a.imageRoutes()
	a.balancerRoutes()
	a.floatingRoutes()
	a.userRoutes()
	a.mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { a.fail(rw, errNotFound) })
	return a
}

// ServeHTTP implements http.Handler. Any bearer token opens the one account.
func (a *API) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		a.send(rw, http.StatusUnauthorized, obj{"detail": "Authentication credentials were not provided."})
		return
	}
	if p := strings.TrimSuffix(r.URL.Path, "/"); p != "" {
		r.URL.Path = p
	}
	a.mux.ServeHTTP(rw, r)
}

// obj is a JSON object.
type obj = map[string]any

// call is one request.
type call struct {
	*http.Request
	bend faults.Bend
}

// id returns the id in the path.
func (c call) id() string { return c.PathValue("id") }

// href returns the absolute address of a resource on the server that was asked.
func (c call) href(format string, args ...any) string {
	return "http://" + c.Host + "/v1/" + fmt.Sprintf(format, args...)
}

// result is what a handler answers: the status of success and its body, nil for
// none.
type result struct {
	status int
	body   any
}

var noContent = result{status: http.StatusNoContent}

func ok(body any) (result, error)      { return result{http.StatusOK, body}, nil }
func created(body any) (result, error) { return result{http.StatusCreated, body}, nil }

// done turns the error of an action without an answer into a result.
func done(err error) (result, error) { return noContent, err }

// deref makes an optional value of a required one.
func deref[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

func (a *API) handle(pattern string, h func(call) (result, error)) {
	a.mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
		res, err := h(call{r, faults.FromContext(r.Context())})
		if err != nil {
			a.fail(rw, err)
			return
		}
		if res.body == nil {
			rw.WriteHeader(res.status)
			return
		}
		a.send(rw, res.status, res.body)
	})
}

func (a *API) send(rw http.ResponseWriter, status int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		a.log.Debug("answer not delivered", "error", err)
	}
}

var errNotFound = &world.Error{Kind: world.NotFound, Message: "Not found."}

func fieldError(field, message string) error {
	return &world.Error{Kind: world.Invalid, Field: field, Message: message}
}

// fail sends a refusal: errors about a field as {"field": ["…"]}, which is what
// the SDK cannot decode, all others as {"detail": "…"}.
func (a *API) fail(rw http.ResponseWriter, err error) {
	var e *world.Error
	if !errors.As(err, &e) {
		a.log.Error("internal error", "error", err)
		a.send(rw, http.StatusInternalServerError, obj{"detail": "A server error occurred."})
		return
	}
	status := http.StatusBadRequest
	if e.Kind == world.NotFound {
		status = http.StatusNotFound
	}
	if e.Field != "" {
		a.send(rw, status, obj{e.Field: []string{e.Message}})
		return
	}
	a.send(rw, status, obj{"detail": e.Message})
}

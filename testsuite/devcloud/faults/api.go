package faults

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxPoll bounds how long one poll for events waits, in real time.
const maxPoll = 60 * time.Second

// Register adds the fault API to a mux, below /_devcloud/.
func (in *Injector) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /_devcloud/faults", in.addFault)
	mux.HandleFunc("GET /_devcloud/faults", func(rw http.ResponseWriter, _ *http.Request) { in.reply(rw, http.StatusOK, in.Faults()) })
	mux.HandleFunc("DELETE /_devcloud/faults", func(rw http.ResponseWriter, _ *http.Request) {
		in.Clear()
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /_devcloud/faults/{id}", func(rw http.ResponseWriter, r *http.Request) {
		in.found(rw, in.Remove(r.PathValue("id")))
	})
	mux.HandleFunc("PUT /_devcloud/chaos", in.putChaos)
	mux.HandleFunc("DELETE /_devcloud/chaos", func(rw http.ResponseWriter, _ *http.Request) {
		in.found(rw, in.SetChaos(nil) == nil)
	})
	mux.HandleFunc("GET /_devcloud/requests", in.listRequests)
	mux.HandleFunc("GET /_devcloud/requests/counts", in.countRequests)
	mux.HandleFunc("DELETE /_devcloud/requests", func(rw http.ResponseWriter, _ *http.Request) {
		in.ClearRequests()
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_devcloud/events", in.pollEvents)
	mux.HandleFunc("GET /_devcloud/holds", func(rw http.ResponseWriter, _ *http.Request) { in.reply(rw, http.StatusOK, in.hub.list()) })
	mux.HandleFunc("POST /_devcloud/holds/{id}/release", func(rw http.ResponseWriter, r *http.Request) {
		in.found(rw, in.hub.decide(r.PathValue("id"), release))
	})
	mux.HandleFunc("POST /_devcloud/holds/{id}/drop", func(rw http.ResponseWriter, r *http.Request) {
		in.found(rw, in.hub.decide(r.PathValue("id"), drop))
	})
}

func (in *Injector) addFault(rw http.ResponseWriter, r *http.Request) {
	var f Fault
	if !in.decode(rw, r, &f) {
		return
	}
	f, err := in.Add(f)
	if err != nil {
		in.refuse(rw, err)
		return
	}
	in.reply(rw, http.StatusCreated, f)
}

func (in *Injector) putChaos(rw http.ResponseWriter, r *http.Request) {
	var c Chaos
	if !in.decode(rw, r, &c) {
		return
	}
	if len(c.Rates) == 0 {
		c = DefaultChaos(c.Seed)
	}
	if err := in.SetChaos(&c); err != nil {
		in.refuse(rw, err)
		return
	}
	in.reply(rw, http.StatusOK, c)
}

// listRequests answers GET /_devcloud/requests?since=SEQ&method=M&path=PREFIX.
func (in *Injector) listRequests(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := number(q.Get("since"))
	if err != nil {
		in.refuse(rw, err)
		return
	}
	out := slices.DeleteFunc(in.Requests(since), func(e Request) bool {
		return q.Get("method") != "" && e.Method != q.Get("method") || !strings.HasPrefix(e.Path, q.Get("path"))
	})
	in.reply(rw, http.StatusOK, out)
}

// countRequests answers with the number of requests by route and status.
func (in *Injector) countRequests(rw http.ResponseWriter, _ *http.Request) {
	counts := map[string]map[string]int{}
	for _, e := range in.Requests(0) {
		route := RouteOf(e.Method, e.Path)
		if counts[route] == nil {
			counts[route] = map[string]int{}
		}
		counts[route][strconv.Itoa(e.Status)]++
	}
	in.reply(rw, http.StatusOK, counts)
}

// pollEvents answers GET /_devcloud/events?since=SEQ&timeout=DURATION: events
// after SEQ as soon as there are any, an empty list after the (real) timeout.
func (in *Injector) pollEvents(rw http.ResponseWriter, r *http.Request) {
	since, err := number(r.URL.Query().Get("since"))
	if err != nil {
		in.refuse(rw, err)
		return
	}
	timeout := maxPoll
	if t := r.URL.Query().Get("timeout"); t != "" {
		if timeout, err = time.ParseDuration(t); err != nil {
			in.refuse(rw, err)
			return
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), min(timeout, maxPoll))
	defer cancel()
	in.reply(rw, http.StatusOK, in.hub.since(ctx, since))
}

func number(s string) (int, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.Atoi(s)
}

func (in *Injector) decode(rw http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		in.refuse(rw, err)
		return false
	}
	return true
}

func (in *Injector) refuse(rw http.ResponseWriter, err error) {
	in.reply(rw, http.StatusBadRequest, map[string]string{"detail": err.Error()})
}

func (in *Injector) found(rw http.ResponseWriter, ok bool) {
	if !ok {
		in.reply(rw, http.StatusNotFound, map[string]string{"detail": "Not found."})
		return
	}
	rw.WriteHeader(http.StatusNoContent)
}

func (in *Injector) reply(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if err := json.NewEncoder(rw).Encode(v); err != nil {
		in.log.Debug("answer not delivered", "error", err)
	}
}

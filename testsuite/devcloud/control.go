package devcloud

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

// Info is what GET /_devcloud/info answers. Latencies are simulated nanoseconds;
// divided by the speed they are what a client waits at least.
type Info struct {
	Speed     float64         `json:"speed"`
	Latencies world.Latencies `json:"latencies"`
	URL       string          `json:"url"`
	Factory   string          `json:"factory"`
	AWS       AWSInfo         `json:"aws"`
}

// control adds what only the owner of the building can do.
func (d *Devcloud) control(mux *http.ServeMux) {
	mux.HandleFunc("GET /_devcloud/state", func(rw http.ResponseWriter, _ *http.Request) {
		d.reply(rw, http.StatusOK, d.State())
	})
	mux.HandleFunc("POST /_devcloud/reset", func(rw http.ResponseWriter, _ *http.Request) {
		d.injector.Clear()
		d.injector.ClearRequests()
		d.world.Reset()
		d.aws.Reset()
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_devcloud/timeline", func(rw http.ResponseWriter, _ *http.Request) {
		d.reply(rw, http.StatusOK, d.timeline())
	})
	mux.HandleFunc("GET /_devcloud/info", func(rw http.ResponseWriter, _ *http.Request) {
		d.reply(rw, http.StatusOK, Info{Speed: d.world.Clock().Speed(), Latencies: d.world.Latencies(), URL: d.url, Factory: d.factory, AWS: d.awsInfo()})
	})
	mux.HandleFunc("GET /_devcloud/limits", func(rw http.ResponseWriter, _ *http.Request) {
		d.reply(rw, http.StatusOK, d.world.Limits())
	})
	mux.HandleFunc("PUT /_devcloud/limits", d.putLimits)
	mux.HandleFunc("POST /_devcloud/servers/{uuid}/vanish", d.serverAction((*world.World).Vanish))
	mux.HandleFunc("POST /_devcloud/servers/{uuid}/stop", d.serverAction((*world.World).StopServer))
	mux.HandleFunc("GET /_devcloud/servers/{uuid}/console", d.console)
	if d.guests.Handler != nil {
		mux.Handle("/_devcloud/guests/", d.guests.Handler)
	}
}

func (d *Devcloud) putLimits(rw http.ResponseWriter, r *http.Request) {
	var l world.Limits
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		d.reply(rw, http.StatusBadRequest, map[string]string{"detail": err.Error()})
		return
	}
	d.world.SetLimits(l)
	d.reply(rw, http.StatusOK, l)
}

func (d *Devcloud) serverAction(do func(*world.World, string) error) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		if err := do(d.world, r.PathValue("uuid")); err != nil {
			d.refuse(rw, err)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
	}
}

func (d *Devcloud) console(rw http.ResponseWriter, r *http.Request) {
	lines, err := d.world.Console(r.PathValue("uuid"))
	if err != nil {
		d.refuse(rw, err)
		return
	}
	d.reply(rw, http.StatusOK, lines)
}

func (d *Devcloud) refuse(rw http.ResponseWriter, err error) {
	status := http.StatusBadRequest
	var e *world.Error
	if errors.As(err, &e) && e.Kind == world.NotFound {
		status = http.StatusNotFound
	}
	d.reply(rw, status, map[string]string{"detail": err.Error()})
}

func (d *Devcloud) reply(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if err := json.NewEncoder(rw).Encode(v); err != nil {
		d.log.Debug("answer not delivered", "error", err)
	}
}

// Package machines puts Talos nodes with a real Kubernetes on devcloud's
// servers.
package machines

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/ichor-project/ichor/testsuite/devcloud"
	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/kube"
	"github.com/ichor-project/ichor/testsuite/devcloud/quorum"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode"
)

// Options configure the machines.
type Options struct {
	// ToolsDir holds the Kubernetes programs and kine.
	ToolsDir string
	// DataDir keeps their databases, keys and logs.
	DataDir string
	// SharedAPIServers runs one kube-apiserver per cluster instead of one per
	// control plane node: cheaper, and less true.
	SharedAPIServers bool
	// Timings of the machines; zero fields mean the defaults.
	Timings talosnode.Timings
}

// Defect is a fault that servers are born with.
type Defect struct {
	// Name restricts the defect to servers whose name (or what their owner calls
	// them) contains it.
	Name string `json:"name"`
	// Count is how many servers get it; zero means 1, negative all.
	Count  int              `json:"count"`
	Faults talosnode.Faults `json:"faults"`
}

// park holds the machines of one cloud and what will be wrong with new ones.
type park struct {
	fleet *talosnode.Fleet

	mu      sync.Mutex
	defects []*Defect
}

// New returns what devcloud.Options.NewGuests takes.
func New(o Options) func(devcloud.Environment) (devcloud.Guests, error) {
	return func(e devcloud.Environment) (devcloud.Guests, error) {
		if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
			return devcloud.Guests{}, fmt.Errorf("machines: %w", err)
		}
		runner := kube.New(kube.Options{
			ToolsDir: o.ToolsDir, DataDir: o.DataDir, Clock: e.Clock, CloudURL: e.CloudURL, Log: e.Log,
			AWS: kube.AWS{Variables: e.AWS.Variables, Home: e.AWS.Home},
		})
		p := &park{}
		p.fleet = talosnode.New(talosnode.Options{
			Clock: e.Clock, Network: e.Network, Kubernetes: runner, Timings: o.Timings,
			ExclusiveAPIServers: !o.SharedAPIServers, Defects: p.born, Extensions: e.Extensions,
		})
		return devcloud.Guests{Booter: p.fleet, Handler: p.handler(), Close: runner.Close}, nil
	}
}

// born returns the faults of a new server and uses up a defect.
func (p *park) born(s guest.Server) talosnode.Faults {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, d := range p.defects {
		if !strings.Contains(s.Name, d.Name) && !strings.Contains(s.Label, d.Name) {
			continue
		}
		if d.Count > 0 {
			if d.Count--; d.Count == 0 {
				p.defects = slices.Delete(p.defects, i, i+1)
			}
		}
		return d.Faults
	}
	return talosnode.Faults{}
}

// handler serves the faults of machines:
//
//	GET, PUT    /_devcloud/guests/{uuid}/faults  of one machine
//	POST        /_devcloud/guests/defects        of machines yet to be born
//	DELETE      /_devcloud/guests/defects
//	GET, DELETE /_devcloud/guests/quorum         the record of etcd clusters
func (p *park) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+quorum.Path, func(rw http.ResponseWriter, _ *http.Request) {
		reply(rw, http.StatusOK, p.fleet.Quorum().Report())
	})
	mux.HandleFunc("DELETE "+quorum.Path, func(rw http.ResponseWriter, _ *http.Request) {
		p.fleet.Quorum().Reset()
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_devcloud/guests/{uuid}/faults", func(rw http.ResponseWriter, r *http.Request) {
		n := p.fleet.Node(r.PathValue("uuid"))
		if n == nil {
			reply(rw, http.StatusNotFound, detail("no machine runs on this server"))
			return
		}
		reply(rw, http.StatusOK, n.Faults())
	})
	mux.HandleFunc("PUT /_devcloud/guests/{uuid}/faults", func(rw http.ResponseWriter, r *http.Request) {
		n := p.fleet.Node(r.PathValue("uuid"))
		if n == nil {
			reply(rw, http.StatusNotFound, detail("no machine runs on this server"))
			return
		}
		var f talosnode.Faults
		if err := decode(r, &f); err != nil {
			reply(rw, http.StatusBadRequest, detail(err.Error()))
			return
		}
		n.Inject(f)
		reply(rw, http.StatusOK, f)
	})
	mux.HandleFunc("POST /_devcloud/guests/defects", func(rw http.ResponseWriter, r *http.Request) {
		var d Defect
		if err := decode(r, &d); err != nil {
			reply(rw, http.StatusBadRequest, detail(err.Error()))
			return
		}
		if d.Count == 0 {
			d.Count = 1
		}
		p.mu.Lock()
		p.defects = append(p.defects, &d)
		p.mu.Unlock()
		reply(rw, http.StatusCreated, d)
	})
	mux.HandleFunc("DELETE /_devcloud/guests/defects", func(rw http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		p.defects = nil
		p.mu.Unlock()
		rw.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func detail(s string) map[string]string { return map[string]string{"detail": s} }

func reply(rw http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		http.Error(rw, errors.Join(errors.New("machines: encode"), err).Error(), http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	if _, err := rw.Write(data); err != nil {
		return // the client has gone
	}
}

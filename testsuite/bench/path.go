package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// action is one line of devcloud's timeline.
type action struct {
	Time    time.Time `json:"time"`
	Name    string    `json:"name"`
	Subject string    `json:"subject"`
	Message string    `json:"message"` // "action uuid name"
}

// request is one request of the cloud's API as devcloud saw it.
type request struct {
	Time      time.Time `json:"time"`
	Method    string    `json:"method"`
	Path      string    `json:"path"`
	Status    int       `json:"status"`
	Millis    float64   `json:"millis"`
	UserAgent string    `json:"userAgent"`
}

func (r request) took() time.Duration { return time.Duration(r.Millis * float64(time.Millisecond)) }

// observed is what happened in one provisioning, as the cloud and the cluster's
// own API tell it.
type observed struct {
	started, closed time.Time // of the workflow
	timeline        []action
	requests        []request
	// machineAPI is when a control plane's console said that its machine API is
	// up, by server uuid.
	machineAPI map[string]time.Time
	etcd       time.Time // etcd was bootstrapped
	// local is when the API answered at a control plane itself, kubernetes when it
	// did through the endpoint.
	local, kubernetes time.Time
	// ready is when the API first showed the node Ready, with its provider ID
	// and initialised, by node name.
	ready map[string]time.Time
	// names are machines' by id, where the timeline has none.
	names map[string]string
	// controller is how many requests the cluster's cloud controller sent.
	controller int
	on         manner
}

// segment is a part of the critical path: what the cloud needed, and how long
// the product then took to begin the next part.
type segment struct {
	name  string
	cloud time.Duration
	// gap is the time from the end of the segment before to the begin of this
	// one; lag what the segment took longer than the cloud needed.
	gap, lag time.Duration
}

// path is the critical path of a provisioning.
type path struct {
	segments []segment
	tail     time.Duration // from the last node ready to the end of the workflow
	wall     time.Duration
	// simulated is the critical path without what real processes computed: the
	// start of the API server, nodes joining.
	simulated time.Duration
}

func (p path) critical() time.Duration {
	var sum time.Duration
	for _, s := range p.segments {
		sum += s.cloud
	}
	return sum
}

func (p path) ratio() float64 { return p.wall.Seconds() / p.critical().Seconds() }

// added is the time that the product added.
func (p path) added() time.Duration { return p.wall - p.critical() }

// strict is the ratio if the real processes behind the cloud took no time: the
// same addition to a shorter path.
func (p path) strict() float64 { return 1 + p.added().Seconds()/p.simulated.Seconds() }

// server is the life of one machine.
type server struct {
	uuid, name       string
	created, running time.Time
	deleted, gone    time.Time
}

// criticalPath adds up what no orchestrator could avoid, each part as long as it
// took in this run:
//
//  1. what the cloud needs before it has machines: the import of the image, or the
//     network with its load balancer, whichever took longer;
//  2. control plane machines: the placement group, the creates that the cloud wants
//     in a row, and the longest time from created to running;
//  3. the longest boot of a control plane, from running to its machine API;
//  4. from etcd's bootstrap to the Kubernetes API answering: through the endpoint,
//     or where the load balancer is made meanwhile, by itself, and then as much of
//     the load balancer's time as 2 to 4 have not covered;
//  5. workers: placement group and creates as in 2, then the longest time from
//     created to a node that is Ready, has its provider ID and is initialised.
func criticalPath(o observed) (path, error) {
	control, workers, err := o.machines()
	if err != nil {
		return path{}, err
	}
	base, err := o.on.base(o)
	if err != nil {
		return path{}, err
	}
	cp := span{name: "control planes running", from: o.firstCreate(o.started), cloud: longest(control, runs) + o.serial(len(control))}
	boot := span{name: "control planes boot"}
	for _, s := range control {
		cp.to = later(cp.to, s.running)
		up, ok := o.machineAPI[s.uuid]
		if !ok {
			return path{}, fmt.Errorf("the machine API of %s was not seen", s.name)
		}
		boot.to = later(boot.to, up)
		boot.cloud = max(boot.cloud, up.Sub(s.running))
	}
	boot.from = cp.to
	if o.etcd.IsZero() || o.kubernetes.IsZero() {
		return path{}, errors.New("the bootstrap of etcd or the Kubernetes API was not seen")
	}
	middle, balancer, err := o.opened(cp.cloud + boot.cloud)
	if err != nil {
		return path{}, err
	}
	nodes := span{name: "workers ready", from: o.firstCreate(cp.to), cloud: o.serial(len(workers))}
	var slowest time.Duration
	for _, s := range append(slices.Clone(control), workers...) {
		at, ok := o.ready[s.name]
		if !ok {
			return path{}, fmt.Errorf("node %s was not seen ready", s.name)
		}
		nodes.to = later(nodes.to, at)
		if slices.Contains(workers, s) {
			slowest = max(slowest, at.Sub(s.created))
		}
	}
	nodes.cloud += slowest
	p := chain(o.started, o.closed, append(append([]span{base, cp, boot}, middle...), nodes)...)
	p.simulated = base.cloud + max(cp.cloud+boot.cloud, balancer) + o.serial(len(workers)) + longest(workers, runs) + boot.cloud
	return p, nil
}

// opened is from the bootstrap of etcd until the API answers through the endpoint,
// and how long a load balancer took that is made beside the machines, which have
// taken some time already.
func (o observed) opened(machines time.Duration) ([]span, time.Duration, error) {
	const name = "etcd and Kubernetes API"
	if !o.on.beside {
		return []span{{name, o.etcd, o.kubernetes, o.kubernetes.Sub(o.etcd)}}, 0, nil
	}
	born, runs := o.when(o.on.balancer.born), o.when(o.on.balancer.runs)
	if runs.IsZero() {
		return nil, 0, errors.New("the load balancer never ran")
	}
	if o.local.IsZero() {
		return nil, 0, errors.New("the Kubernetes API was not seen at a control plane")
	}
	api := span{name, o.etcd, o.local, o.local.Sub(o.etcd)}
	takes := runs.Sub(born)
	return []span{api, {"load balancer", o.local, later(o.local, o.kubernetes), max(0, takes-machines-api.cloud)}}, takes, nil
}

// span is where a segment began and ended, and what of it the cloud needed.
type span struct {
	name     string
	from, to time.Time
	cloud    time.Duration
}

// chain puts spans one after another.
func chain(started, closed time.Time, spans ...span) path {
	p := path{wall: closed.Sub(started)}
	at := started
	for _, s := range spans {
		p.segments = append(p.segments, segment{name: s.name, cloud: s.cloud, gap: s.from.Sub(at), lag: s.to.Sub(s.from) - s.cloud})
		at = s.to
	}
	p.tail = closed.Sub(at)
	return p
}

// machines are the servers of control planes and of workers, by creation.
func (o observed) machines() (control, workers []server, err error) {
	for _, s := range o.servers() {
		switch {
		case s.running.IsZero():
			return nil, nil, fmt.Errorf("server %s never ran", s.name)
		case isControlPlane(s.name):
			control = append(control, s)
		default:
			workers = append(workers, s)
		}
	}
	if len(control) == 0 || len(workers) == 0 {
		return nil, nil, fmt.Errorf("saw %d control planes and %d workers being created", len(control), len(workers))
	}
	return control, workers, nil
}

func (o observed) servers() []server {
	var out []server
	for _, a := range o.timeline {
		i := slices.IndexFunc(out, func(s server) bool { return s.uuid == a.Subject })
		switch {
		case a.Name == o.on.machine.born:
			fields := strings.Fields(a.Message)
			out = append(out, server{uuid: a.Subject, name: cmp.Or(o.names[a.Subject], fields[len(fields)-1]), created: a.Time})
		case i < 0:
		case a.Name == o.on.machine.runs:
			out[i].running = a.Time
		case a.Name == o.on.machine.ends && out[i].deleted.IsZero():
			out[i].deleted = a.Time
		case a.Name == o.on.machine.gone:
			out[i].gone = a.Time
		}
	}
	return out
}

func runs(s server) time.Duration { return s.running.Sub(s.created) }

func longest(servers []server, of func(server) time.Duration) time.Duration {
	var out time.Duration
	for _, s := range servers {
		out = max(out, of(s))
	}
	return out
}

// serial is how long the create calls take that have to come in a row: the
// placement group, then as many machines as the cloud wants one after the other.
func (o observed) serial(machines int) time.Duration {
	return o.median(http.MethodPost, o.on.placement) + time.Duration(min(machines, o.on.row))*o.median(http.MethodPost, o.on.make)
}

// firstCreate is when the first request for a machine or a placement group after
// a time began.
func (o observed) firstCreate(after time.Time) time.Time {
	for _, r := range o.requests {
		if r.Method == http.MethodPost && (r.Path == o.on.make || r.Path == o.on.placement) && r.Time.After(after) {
			return r.Time
		}
	}
	return after
}

func (o observed) image() (span, error) {
	from, to := o.when("custom_image_import_create"), o.when("custom_image_create")
	if from.IsZero() || to.IsZero() {
		return span{}, errors.New("no image was imported")
	}
	call := o.median(http.MethodPost, "/v1/custom-images/import")
	return span{"image", from.Add(-call), to, to.Sub(from) + call}, nil
}

// infrastructure is the chain of creates of network, subnet, load balancer and
// what belongs to it, and the time until the load balancer runs.
func (o observed) infrastructure() (span, error) {
	s := span{name: "network and load balancer"}
	for _, r := range o.requests {
		if r.Method != http.MethodPost || !slices.Contains(infraPaths, r.Path) || r.Status >= 300 {
			continue
		}
		if s.from.IsZero() {
			s.from = r.Time
		}
		s.to = later(s.to, r.Time.Add(r.took()))
		s.cloud += r.took()
	}
	if s.from.IsZero() {
		return s, errors.New("no network was created")
	}
	if lb := o.when(o.on.balancer.born); !lb.IsZero() {
		running := o.when(o.on.balancer.runs)
		if running.IsZero() {
			return s, errors.New("the load balancer never ran")
		}
		s.cloud += running.Sub(lb)
		s.to = later(s.to, running)
	}
	return s, nil
}

var infraPaths = []string{
	"/v1/networks", "/v1/subnets", "/v1/load-balancers", "/v1/load-balancers/pools",
	"/v1/load-balancers/listeners", "/v1/load-balancers/health-monitors",
}

func (o observed) when(name string) time.Time {
	for _, a := range o.timeline {
		if a.Name == name {
			return a.Time
		}
	}
	return time.Time{}
}

// median is how long requests of a route took; zero if there were none.
func (o observed) median(method, path string) time.Duration {
	var took []time.Duration
	for _, r := range o.requests {
		if r.Method == method && strings.TrimSuffix(r.Path, "/") == path && r.Status < 300 {
			took = append(took, r.took())
		}
	}
	return median(took)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// median is the middle value, the lower one of two.
func median[T interface{ ~int | ~int64 | ~float64 }](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[(len(sorted)-1)/2]
}

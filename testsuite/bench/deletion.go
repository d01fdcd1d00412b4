package main

import (
	"net/http"
	"strings"
	"time"
)

// deletionPath adds up what no orchestrator could avoid when a cluster is
// deleted: the longest time from the request to delete a machine until it is
// gone (all machines at once), the same for the load balancer, and the calls for
// network, subnet and image in a row.
func deletionPath(o observed) time.Duration {
	total := o.deletes("/v1/servers/") + longest(o.servers(), func(s server) time.Duration {
		if s.gone.IsZero() {
			return 0
		}
		return s.gone.Sub(s.deleted)
	})
	if from, to := o.when("load_balancer_delete"), o.when("load_balancer_is_gone"); !from.IsZero() && to.After(from) {
		total += o.deletes("/v1/load-balancers/") + to.Sub(from)
	}
	return total + o.deletes("/v1/networks/") + o.deletes("/v1/custom-images/")
}

// deletes is how long one DELETE under a path takes.
func (o observed) deletes(prefix string) time.Duration {
	var took []time.Duration
	for _, r := range o.requests {
		if r.Method == http.MethodDelete && r.Status < 300 && strings.HasPrefix(r.Path, prefix) && !strings.Contains(r.Path[len(prefix):], "/") {
			took = append(took, r.took())
		}
	}
	return median(took)
}

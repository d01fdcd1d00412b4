package main

import (
	"net/http"
	"strings"
	"time"
)

// ending is the longest time from the request to delete a machine until it was
// gone; no orchestrator has to wait for one after the other.
func (o observed) ending() time.Duration {
	return longest(o.servers(), func(s server) time.Duration {
		if s.gone.IsZero() {
			return 0
		}
		return s.gone.Sub(s.deleted)
	})
}

// leaving is how long the load balancer took to be gone; zero if none was.
func (o observed) leaving() time.Duration {
	from, to := o.when(o.on.balancer.ends), o.when(o.on.balancer.gone)
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from)
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

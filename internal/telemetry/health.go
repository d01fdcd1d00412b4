package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// checkTimeout bounds one readiness check; probes of Kubernetes give up after
// one second by default, so a check should take far less.
const checkTimeout = 5 * time.Second

type check struct {
	name string
	run  func(context.Context) error
}

// Readiness adds a check to /readyz, which answers 200 when all pass. run is
// called for every request, several at once, and must return soon.
func (t *Telemetry) Readiness(name string, run func(context.Context) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.checks = append(t.checks, check{name, run})
}

// healthz says that the process is alive. It checks nothing outside: a restart
// does not bring back a store or a Temporal server.
func (t *Telemetry) healthz(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "ok")
}

func (t *Telemetry) readyz(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	checks := t.checks
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	errs := make([]error, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { errs[i] = c.run(ctx) })
	}
	wg.Wait()
	var report strings.Builder
	status := http.StatusOK
	for i, c := range checks {
		if errs[i] == nil {
			report.WriteString(c.name + ": ok\n")
			continue
		}
		status = http.StatusServiceUnavailable
		report.WriteString(c.name + ": " + t.Redact.Text(errs[i].Error()) + "\n")
	}
	if len(checks) == 0 {
		report.WriteString("ok\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprint(w, report.String())
}

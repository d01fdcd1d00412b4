package registry_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cloud/registry"
)

// counter answers for every API that there is nothing, and counts.
type counter struct {
	*httptest.Server
	n atomic.Int64
}

func newCounter(t *testing.T) *counter {
	t.Helper()
	c := &counter{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body := "[]"
		if r.Method == http.MethodPost { // a query protocol, in XML
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			body = fmt.Sprintf("<%[1]sResponse></%[1]sResponse>", r.Form.Get("Action"))
		}
		if _, err := io.WriteString(rw, body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// accounts opens accounts at the counter.
func (c *counter) accounts(t *testing.T) *registry.Registry {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL", c.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return registry.New(registry.Options{
		Secrets: anything{}, CloudscaleURL: c.URL, Rate: 1000,
		Observe: func(string) exchange.Observe { return func(string, string, int, time.Duration) { c.n.Add(1) } },
	})
}

// listing is how many requests a list of no machines takes.
func (c column) listing(t *testing.T) string {
	t.Helper()
	before := c.requests.n.Load()
	if ms, err := c.provider.ListMachines(t.Context(), owner); err != nil || len(ms) > 0 {
		t.Fatalf("%s lists %v, %v", c.limits.Name, ms, err)
	}
	return fmt.Sprint(c.requests.n.Load() - before)
}

// together says whether machines that are looked for at the same time share requests.
func (c column) together(t *testing.T) string {
	t.Helper()
	const many = 20
	before := c.requests.n.Load()
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			_, err := c.provider.GetMachine(t.Context(), cloud.MachineRef{Owner: owner, ID: fmt.Sprint("m", i)})
			if err == nil {
				t.Errorf("%s has a machine", c.limits.Name)
			}
		})
	}
	wg.Wait()
	switch n := c.requests.n.Load() - before; {
	case n == 0:
		t.Errorf("%s asked nobody", c.limits.Name)
	case n < many:
		return "one for all"
	}
	return "one each"
}

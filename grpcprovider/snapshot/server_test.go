package snapshot_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/grpcprovider/snapshot"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/codec"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/workflows"
)

const group = "demo/worker"

var (
	ref   = cluster.Ref{Name: "demo", UID: "u1"}
	quiet = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
)

// server is a real Temporal server.
type server struct {
	t       *testing.T
	address string
	options client.Options
	c       client.Client
}

func start(t *testing.T, keys ...codec.Key) *server {
	t.Helper()
	path, err := filepath.Abs("../../bin/tools/temporal")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", t.TempDir()) // the server writes into its user's folders
	dev, err := testsuite.StartDevServer(t.Context(), testsuite.DevServerOptions{
		ExistingPath: path, ClientOptions: &client.Options{Logger: quiet}, LogLevel: "error", Stdout: io.Discard, Stderr: io.Discard,
		SearchAttributes: temporal.NewSearchAttributes(workflows.AttrCluster.ValueSet(""), workflows.AttrKind.ValueSet("")),
		ExtraArgs: []string{
			"--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000",
			"--dynamic-config-value", "matching.numTaskqueueReadPartitions=1", "--dynamic-config-value", "matching.numTaskqueueWritePartitions=1",
		},
	})
	if err != nil {
		t.Fatalf("%v (make bin/tools/temporal builds the server)", err)
	}
	t.Cleanup(func() {
		dev.Client().Close()
		if err := dev.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := &server{t: t, address: dev.FrontendHostPort()}
	s.options = options(t, s.address, keys...)
	s.c = s.dial(s.options)
	return s
}

func options(t *testing.T, address string, keys ...codec.Key) client.Options {
	t.Helper()
	o := client.Options{HostPort: address, Logger: quiet}
	if err := codec.ClientOptions(&o, keys); err != nil {
		t.Fatal(err)
	}
	return o
}

func (s *server) dial(o client.Options) client.Client {
	s.t.Helper()
	c, err := client.DialContext(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

func (s *server) worker() (stop func()) {
	s.t.Helper()
	w := worker.New(s.c, workflows.TaskQueue, worker.Options{StickyScheduleToStartTimeout: time.Second})
	w.RegisterWorkflowWithOptions(entity, workflow.RegisterOptions{Name: workflows.TypeScaleNodeGroup})
	if err := w.Start(); err != nil {
		s.t.Fatal(err)
	}
	var once sync.Once
	stop = func() { once.Do(w.Stop) }
	s.t.Cleanup(stop)
	return stop
}

func (s *server) begin(maximum int) {
	s.t.Helper()
	in := carried{GroupInput: workflows.GroupInput{Cluster: ref, Group: "worker", Role: cluster.RoleWorker, Max: maximum}}
	if _, err := s.c.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: cluster.GroupID("demo", "worker"), TaskQueue: workflows.TaskQueue}, workflows.TypeScaleNodeGroup, in); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) open(o client.Options) *snapshot.Source {
	s.t.Helper()
	src := s.fresh(s.dial(o), o)
	src.Know("demo", "worker")
	s.until("the group", func() bool {
		// A workflow task under way holds a reading back for a moment.
		if err := src.Refresh(s.t.Context()); err != nil && !fault.Is(err, fault.Unavailable) {
			s.t.Fatal(err)
		}
		_, ok := src.Group(group)
		return ok
	})
	return src
}

// fresh begins when nothing that it has to know is held back by the server.
func (s *server) fresh(c client.Client, o client.Options) *snapshot.Source {
	s.t.Helper()
	var src *snapshot.Source
	s.until("a provider", func() bool {
		var err error
		src, err = snapshot.Open(s.t.Context(), snapshot.Config{Temporal: c, Converter: o.DataConverter, Identity: "test"})
		if err != nil && !fault.Is(err, fault.Unavailable) {
			s.t.Fatal(err)
		}
		return err == nil
	})
	s.t.Cleanup(src.Close)
	return src
}

// until waits; nothing is measured by how long it takes.
func (s *server) until(what string, good func() bool) {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !good(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("%s: not yet", what)
		}
	}
}

// places asks the entity itself.
func (s *server) places() []string {
	s.t.Helper()
	var status workflows.GroupStatus
	s.until("the entity's answer", func() bool {
		ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Second)
		defer cancel()
		v, err := s.c.QueryWorkflow(ctx, cluster.GroupID("demo", "worker"), "", workflows.QueryGroup)
		return err == nil && v.Get(&status) == nil
	})
	out := make([]string, 0, len(status.Members))
	for _, m := range status.Members {
		out = append(out, m.Instance)
	}
	slices.Sort(out)
	return out
}

func shown(t *testing.T, s *snapshot.Source) (counted []string) {
	t.Helper()
	g, ok := s.Group(group)
	if !ok {
		t.Fatal("the group is not shown")
	}
	for _, i := range g.Instances {
		if i.State != provider.Deleting {
			counted = append(counted, i.ID)
		}
	}
	if g.Target != len(counted) {
		t.Errorf("target %d, %d instances", g.Target, len(counted))
	}
	return counted
}

// Two providers ask from four sides while the worker comes and goes and the
// entity continues as new: every request that was accepted counts once, and every
// provider shows so, also one that begins while no worker runs.
func TestRequestsCountOnceOnARealServer(t *testing.T) {
	s := start(t)
	stop := s.worker()
	s.begin(500)
	sources := []*snapshot.Source{s.open(s.options), s.open(s.options)}
	done := make(chan struct{})
	var background, sides sync.WaitGroup
	for _, src := range sources {
		background.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(30 * time.Millisecond):
					if err := src.Refresh(t.Context()); err != nil && !fault.Is(err, fault.Unavailable) {
						t.Errorf("refresh: %v", err)
					}
					shown(t, src)
				}
			}
		})
	}
	background.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(300 * time.Millisecond):
				stop()
				time.Sleep(300 * time.Millisecond) // without a worker
				stop = s.worker()
			}
		}
	})
	var mu sync.Mutex
	var want []string
	var accepted atomic.Int64
	for side := range 4 {
		src, dice := sources[side%2], rand.New(rand.NewPCG(uint64(side), 1))
		sides.Go(func() {
			var mine []string
			for n := range 40 {
				id := fmt.Sprintf("s%d-%d", side, n)
				ctx := provider.WithRequestID(t.Context(), id)
				if len(mine) == 0 || dice.IntN(3) > 0 {
					delta := 1 + dice.IntN(3)
					// A server that renews an entity without a worker takes nothing: an
					// error is an answer, too, and must hold as well.
					if src.IncreaseSize(ctx, group, delta) != nil {
						continue
					}
					accepted.Add(1)
					for k := range delta {
						mine = append(mine, workflows.PlaceholderInstance("demo", "worker", id, k))
					}
					continue
				}
				victim := dice.IntN(len(mine))
				if src.DeleteNodes(ctx, group, []provider.NodeRef{{ProviderID: mine[victim]}}) != nil {
					continue
				}
				accepted.Add(1)
				mine = slices.Delete(mine, victim, victim+1)
			}
			mu.Lock()
			defer mu.Unlock()
			want = append(want, mine...)
		})
	}
	sides.Wait()
	close(done)
	background.Wait()
	slices.Sort(want)
	if accepted.Load() < 80 {
		t.Errorf("%d of 160 requests were accepted", accepted.Load())
	}
	// What was answered with an error is cancelled by then.
	for _, src := range sources {
		s.until("a refresh", func() bool { return src.Refresh(t.Context()) == nil })
	}
	if got := s.places(); !slices.Equal(got, want) {
		t.Errorf("the entity has %d places, %d were accepted", len(got), len(want))
	}
	for n, src := range sources {
		s.until("all is confirmed", func() bool {
			return src.Refresh(t.Context()) == nil && src.Numbers().Unconfirmed == 0
		})
		if got := shown(t, src); !slices.Equal(got, want) {
			t.Errorf("provider %d shows %d instances, %d were accepted", n, len(got), len(want))
		}
	}
	stop()
	if err := sources[0].IncreaseSize(provider.WithRequestID(t.Context(), "last"), group, 1); err != nil {
		t.Fatal(err)
	}
	want = append(want, workflows.PlaceholderInstance("demo", "worker", "last", 0))
	slices.Sort(want)
	if got := shown(t, s.open(s.options)); !slices.Equal(got, want) {
		t.Errorf("a provider that begins without a worker shows %d instances, %d were accepted", len(got), len(want))
	}
	var in carried
	history := s.c.GetWorkflowHistory(t.Context(), cluster.GroupID("demo", "worker"), "", false, 0)
	first, err := history.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.options.DataConverter.FromPayload(first.GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()[0], &in); err != nil || in.Runs < 1 {
		t.Errorf("the entity continued as new %d times only (%v)", in.Runs, err)
	}
}

func key(t *testing.T, fill byte) codec.Key {
	t.Helper()
	k, err := codec.ParseKey(secrets.NewValue([]byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(fill)), 32))))))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What is encrypted is read with the right key, without a worker; with another
// one a provider does not begin rather than show nothing.
func TestEncryptedState(t *testing.T) {
	s := start(t, key(t, 'a'))
	stop := s.worker()
	s.begin(5)
	first := s.open(s.options)
	if err := first.IncreaseSize(provider.WithRequestID(t.Context(), "one"), group, 1); err != nil {
		t.Fatal(err)
	}
	s.until("the memo", func() bool { return len(s.places()) == 1 })
	stop()
	if err := first.IncreaseSize(provider.WithRequestID(t.Context(), "two"), group, 1); err != nil {
		t.Fatal(err)
	}
	want := []string{"ichor://demo/worker/one-0", "ichor://demo/worker/two-0"}
	if got := shown(t, s.open(s.options)); !slices.Equal(got, want) {
		t.Errorf("shown: %q", got)
	}
	other := options(t, s.address, key(t, 'b'))
	src, err := snapshot.Open(t.Context(), snapshot.Config{Temporal: s.dial(other), Converter: other.DataConverter})
	if err == nil {
		defer src.Close()
		src.Know("demo", "worker")
		err = src.Refresh(t.Context())
	}
	if !fault.Is(err, fault.Unavailable) {
		t.Errorf("read with the wrong key: %v", err)
	}
}

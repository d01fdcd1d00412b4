package standalone

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/testsuite/stack/grpcserver"
)

// speed is how many times faster than real the cloud runs.
const speed = 40

// patience is how long anything may take; nothing is measured by it.
const patience = 4 * time.Minute

var bin string

func TestMain(m *testing.M) {
	var err error
	if _, bin, err = stack.Programs("ichor-grpcprovider"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// system is Temporal and a cloud, and perhaps a worker.
type system struct {
	*stack.Stack
	t        *testing.T
	dir      string
	temporal client.Client
	// last is the worker that was started last.
	last *proc.Process
}

func start(t *testing.T) *system {
	t.Helper()
	settings := stack.Scaled(speed)
	maps.Copy(settings, map[string]string{"ICHOR_RECONCILE": "2s", "ICHOR_HEARTBEAT": "3s"})
	s := &system{t: t, dir: t.TempDir()}
	var err error
	s.Stack, err = stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: s.dir, Speed: speed, LoopbackPrefix: fmt.Sprintf("127.%d", 20+rand.IntN(50)), UIPort: -1, Settings: settings,
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the logs:\n%s\n--- provider\n%s", s.Tail(25), proc.Tail(s.Log("provider"), 40))
		}
		if err := s.Close(); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if s.temporal, err = s.Dial(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.temporal.Close)
	return s
}

func (s *system) worker() *system {
	s.t.Helper()
	w, err := s.StartWorker(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.last = w
	return s
}

// on makes the helpers report to a subtest.
func (s *system) on(t *testing.T) *system {
	sub := *s
	sub.t = t
	return &sub
}

// eventually waits until f has nothing to complain about.
func (s *system) eventually(what string, f func(ctx context.Context) error) {
	s.t.Helper()
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if last = f(s.t.Context()); last == nil {
			return
		}
	}
	s.t.Fatalf("%s: %v", what, last)
}

// server makes a server as its owner would, without Ichor.
func (s *system) server(name string, tags map[string]string) string {
	s.t.Helper()
	var made struct{ UUID string }
	err := s.Cloud(s.t.Context(), http.MethodPost, "v1/servers", map[string]any{
		"name": name, "zone": "rma1", "flavor": "flex-8-2", "image": "flatcar", "ssh_keys": []string{}, "volume_size_gb": 50, "tags": tags,
	}, &made)
	if err != nil {
		s.t.Fatal(err)
	}
	s.eventually(name+" runs", func(ctx context.Context) error {
		var r struct{ Status string }
		if err := s.Cloud(ctx, http.MethodGet, "v1/servers/"+made.UUID, nil, &r); err != nil {
			return err
		}
		if r.Status != "running" {
			return fmt.Errorf("is %s", r.Status)
		}
		return nil
	})
	return made.UUID
}

// tags returns the tags of all servers by uuid.
func (s *system) tags() map[string]map[string]string {
	s.t.Helper()
	a, err := s.Account(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, r := range a.Machines() {
		out[r.ID] = r.Tags
	}
	return out
}

// request is an entry of the cloud's log.
type request struct {
	Seq          int
	Method, Path string
	Status       int
}

// writes returns the requests since seq that make or delete something, and the
// sequence number to ask from next.
func (s *system) writes(seq int) (out []string, next int) {
	s.t.Helper()
	var log []request
	if err := s.Cloud(s.t.Context(), http.MethodGet, fmt.Sprintf("_devcloud/requests?since=%d", seq), nil, &log); err != nil {
		s.t.Fatal(err)
	}
	for _, r := range log {
		seq = max(seq, r.Seq+1)
		if r.Method == http.MethodPost || r.Method == http.MethodDelete {
			out = append(out, r.Method+" "+strings.TrimPrefix(r.Path, "/v1/"))
		}
	}
	slices.Sort(out)
	return out, seq
}

// write puts a file into the system's folder.
func (s *system) write(name, text string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// provider is a running ichor-grpcprovider with a client.
type provider struct{ *grpcserver.Provider }

func (s *system) launch(file string) *provider {
	s.t.Helper()
	p, err := grpcserver.Launch(s.Stack, "provider", "--config", file)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := p.Close(); err != nil {
			s.t.Errorf("stop the provider: %v", err)
		}
	})
	return &provider{p}
}

// serve starts a provider and waits until it answers.
func (s *system) serve(file string) *provider {
	s.t.Helper()
	return s.answers(s.launch(file))
}

// answers waits until a provider answers.
func (s *system) answers(p *provider) *provider {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	err := p.Ready(ctx, func(ctx context.Context) error {
		_, err := p.Refresh(ctx, &pb.RefreshRequest{})
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// group is what the autoscaler sees.
type group struct {
	Target    int32
	Instances map[string]string // state by id
}

func (p *provider) group(ctx context.Context, id string) (group, error) {
	if _, err := p.Refresh(ctx, &pb.RefreshRequest{}); err != nil {
		return group{}, err
	}
	target, err := p.NodeGroupTargetSize(ctx, &pb.NodeGroupTargetSizeRequest{Id: id})
	if err != nil {
		return group{}, err
	}
	nodes, err := p.NodeGroupNodes(ctx, &pb.NodeGroupNodesRequest{Id: id})
	if err != nil {
		return group{}, err
	}
	g := group{Target: target.GetTargetSize(), Instances: map[string]string{}}
	for _, i := range nodes.GetInstances() {
		state := strings.TrimPrefix(i.GetStatus().GetInstanceState().String(), "instance")
		if e := i.GetStatus().GetErrorInfo(); e != nil {
			state += ": " + e.GetErrorMessage()
		}
		g.Instances[i.GetId()] = state
	}
	return g, nil
}

// running are the instances of uuids that run.
func running(uuids ...string) map[string]string {
	out := map[string]string{}
	for _, u := range uuids {
		out["cloudscale://"+u] = "Running"
	}
	return out
}

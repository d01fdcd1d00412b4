package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

// speed is how many times faster than real the cloud runs; what runs behind it,
// above all the Kubernetes API servers, does not get faster.
const speed = 40

// Exit codes of the command line: docs/reference/cli.md.
const (
	codeOK       = 0
	codeFailed   = 1
	codeInvalid  = 3
	codeConflict = 4
	codeNotFound = 5
	codeNotReady = 6
)

var root, bin string

// chosen is the cloud that the suite runs on: ICHOR_TEST_CLOUD names it.
var chosen stack.Cloud

func TestMain(m *testing.M) {
	var err error
	if chosen, root, bin, err = stack.Suite(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prefixes are handed out once each: two systems never share addresses, and
// another run of this suite on the same machine hardly ever does.
var prefixes = struct {
	sync.Mutex
	next int
}{next: 110 + rand.IntN(100)}

func loopbackPrefix() string {
	prefixes.Lock()
	defer prefixes.Unlock()
	prefixes.next++
	return fmt.Sprintf("127.%d", prefixes.next)
}

// system is a whole Ichor with the judge's tools.
type system struct {
	*stack.Stack
	t        *testing.T
	temporal client.Client
	dir      string
}

// start runs a system with one worker. Settings override the scaled ones.
func start(t *testing.T, settings map[string]string) *system {
	t.Helper()
	s := startWithoutWorker(t, settings)
	if _, err := s.StartWorker(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func startWithoutWorker(t *testing.T, settings map[string]string) *system {
	t.Helper()
	dir := t.TempDir()
	all := stack.Scaled(speed)
	maps.Copy(all, settings)
	st, err := stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: dir, Speed: speed, LoopbackPrefix: loopbackPrefix(), UIPort: -1, Settings: all,
	})
	s := &system{Stack: st, t: t, dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the logs:\n%s", st.Tail(25))
		}
		if err := st.Close(); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.dial()
	return s
}

func (s *system) dial() {
	s.t.Helper()
	c, err := s.Dial(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.temporal = c
	s.t.Cleanup(c.Close)
}

// on makes the helpers report to a subtest.
func (s *system) on(t *testing.T) *system {
	sub := *s
	sub.t = t
	return &sub
}

// spec is the demo's cluster of the chosen cloud in its smallest form.
func (s *system) spec(name string) cluster.Cluster {
	s.t.Helper()
	c, err := chosen.Spec(root, name)
	if err != nil {
		s.t.Fatal(err)
	}
	return chosen.Small(c)
}

func (s *system) write(c cluster.Cluster) string {
	s.t.Helper()
	file, err := s.WriteSpec(c)
	if err != nil {
		s.t.Fatal(err)
	}
	return file
}

// ichor runs the command line, which must end with the code and say the texts.
func (s *system) ichor(code int, texts []string, args ...string) stack.Result {
	s.t.Helper()
	r, err := s.Ichor(s.t.Context(), args...)
	if err != nil {
		s.t.Fatalf("ichor %s: %v\n%s", strings.Join(args, " "), err, r)
	}
	s.judge(r, code, texts, "ichor "+strings.Join(args, " "))
	return r
}

func (s *system) judge(r stack.Result, code int, texts []string, what string) {
	s.t.Helper()
	if r.Code != code {
		s.t.Fatalf("%s: want exit code %d, got %s", what, code, r)
	}
	for _, text := range texts {
		if !strings.Contains(r.Stdout+r.Stderr, text) {
			s.t.Errorf("%s: the output lacks %q: %s", what, text, r)
		}
	}
}

func (s *system) account() stack.Account {
	s.t.Helper()
	a, err := s.Account(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *system) wantEmpty() {
	s.t.Helper()
	if a := s.account(); a.Count != 0 {
		s.t.Errorf("the account is not empty: %s", a)
	}
}

// status is what `ichor status -o json` says.
type status struct {
	Phase    cluster.Phase           `json:"phase"`
	Endpoint string                  `json:"endpoint"`
	Failure  string                  `json:"failure"`
	Progress *workflows.Progress     `json:"progress"`
	Groups   []workflows.GroupStatus `json:"groups"`
	Unknown  []string                `json:"unknown"`
}

func (s *system) status(name string) status {
	s.t.Helper()
	r := s.ichor(codeOK, nil, "status", name, "-o", "json")
	var out status
	if err := json.Unmarshal([]byte(r.Stdout), &out); err != nil {
		s.t.Fatalf("ichor status -o json: %v: %s", err, r)
	}
	return out
}

// progress asks the latest lifecycle run; ok is false while none answers.
func (s *system) progress(name string) (p workflows.Progress, ok bool) {
	v, err := s.temporal.QueryWorkflow(s.t.Context(), cluster.LifecycleID(name), "", workflows.QueryProgress)
	if err != nil {
		return p, false
	}
	if err := v.Get(&p); err != nil {
		s.t.Fatalf("progress of %s: %v", name, err)
	}
	return p, true
}

// patience bounds every wait; it only matters when something is broken.
const patience = 3 * time.Minute

// until polls for a state that is bound to come.
func (s *system) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("it never happened: %s", what)
		}
	}
}

// background runs the command line beside the test.
func (s *system) background(args ...string) <-chan stack.Result {
	out := make(chan stack.Result, 1)
	go func() {
		r, err := s.Ichor(s.t.Context(), args...)
		if err != nil {
			r.Code, r.Stderr = -1, r.Stderr+err.Error()
		}
		out <- r
	}()
	return out
}

// Command screenshots makes the pictures of the README: it provisions the demo
// cluster on devcloud, with the command on a terminal of its own, and lets
// headless Chromium take pictures of the terminal and of the Temporal UI. It
// runs in the root of the repository.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
	"github.com/ichor-project/ichor/workflows"
)

func main() { stack.Main("screenshots", run) }

const (
	// limit bounds the whole run.
	limit = 5 * time.Minute
	spec  = "examples/demo.yaml"
	name  = "demo" // of the cluster in spec
	// The terminal's size.
	columns, rows = 108, 46
)

func run(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("screenshots", flag.ContinueOnError)
	out := fs.String("out", filepath.Join("docs", "images"), "folder of the pictures")
	bin := fs.String("bin", "bin", "folder of the commands")
	speed := fs.Float64("speed", 8, "how many times faster than real time the cloud runs")
	prefix := fs.String("loopback-prefix", "127.92", "first two octets of the emulated public addresses")
	if err := fs.Parse(args); err != nil {
		return err
	}
	program, err := exec.LookPath("chromium")
	if err != nil {
		return errors.New("chromium is not in PATH; on Debian: apt-get install chromium")
	}
	if *bin, err = filepath.Abs(*bin); err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ichor-screenshots-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	st, err := stack.Start(ctx, stack.Options{
		Bin: *bin, Dir: filepath.Join(dir, "stack"), Speed: *speed, LoopbackPrefix: *prefix, Settings: stack.Scaled(*speed),
	})
	defer func() { err = errors.Join(err, st.Close()) }()
	if err != nil {
		return err
	}
	if _, err := st.StartWorker(ctx); err != nil {
		return err
	}
	ui, err := dressed(ctx, st.UIURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ui.close()) }()
	s := &session{stack: st, camera: camera{program: program, dir: dir, out: *out}, ui: ui.url, ichor: filepath.Join(*bin, "ichor")}
	if err := s.provision(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, st.Tail(15))
	}
	return s.afterwards(ctx)
}

// session is a running system and the camera in front of it.
type session struct {
	stack  *stack.Stack
	camera camera
	ui     string
	ichor  string
}

// provision runs the command on a terminal, which is taken at its most telling
// moment and at the end.
func (s *session) provision(ctx context.Context) error {
	var best []string
	mixture := 0
	last, err := watchTerminal(ctx, s.command(ctx, "provision", "-f", spec), func(screen *screen) {
		if n := telling(screen.text()); n > 0 && n >= mixture {
			mixture, best = n, screen.html()
		}
	})
	if err != nil {
		return err
	}
	if best == nil {
		return errors.New("no moment was seen at which nodes were in different phases")
	}
	prompt := "ichor provision -f " + spec
	if err := s.terminal(ctx, "terminal-running", prompt, best); err != nil {
		return err
	}
	return s.terminal(ctx, "terminal-done", prompt, last.html())
}

// telling counts in how many phases nodes are while the run goes on.
func telling(text string) int {
	n := 0
	for _, phase := range []string{" creating ", " booting ", " joined ", " ready "} {
		if strings.Contains(text, phase) {
			n++
		}
	}
	if !strings.Contains(text, "▶") || n < 2 {
		return 0
	}
	return n
}

// afterwards shows the run in the Temporal UI.
func (s *session) afterwards(ctx context.Context) error {
	query := "?query=" + url.QueryEscape(workflows.AttrCluster.GetName()+`="`+name+`"`)
	if err := s.shoot(ctx, "temporal-workflows", query, frame{width: 1360, height: 386}); err != nil {
		return err
	}
	if err := s.lifecycle(ctx, "temporal-run", "/user-metadata", frame{width: 1360, height: 1080}); err != nil {
		return err
	}
	// Input and result stand above the timeline.
	return s.lifecycle(ctx, "temporal-history", "/history", frame{width: 1360, height: 1560, top: 690})
}

func (s *session) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.ichor, args...)
	cmd.Env = append(s.stack.Env(), "TERM=xterm-256color")
	return cmd
}

// lifecycle takes a picture of a page of the cluster's run.
func (s *session) lifecycle(ctx context.Context, file, page string, f frame) error {
	c, err := s.stack.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	id := cluster.LifecycleID(name)
	d, err := c.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return err
	}
	run := d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	return s.shoot(ctx, file, "/"+url.PathEscape(id)+"/"+run+page, f)
}

func (s *session) shoot(ctx context.Context, file, path string, f frame) error {
	return s.camera.shoot(ctx, file, s.ui+"/namespaces/default/workflows"+path, f)
}

func (s *session) terminal(ctx context.Context, file, prompt string, lines []string) error {
	page := filepath.Join(s.camera.dir, file+".html")
	if err := os.WriteFile(page, []byte(terminalPage(prompt, lines)), 0o600); err != nil {
		return err
	}
	return s.camera.shoot(ctx, file, "file://"+page, frame{width: 40 + columns*8, height: 36 + 20*(len(lines)+1)})
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"golang.org/x/term"

	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// system is what the serving process writes down for the others.
type system struct {
	PID   int
	UI    string
	Cloud string
	Env   []string
}

func isTerminal() bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stdout.Fd()))
}

var errRuns = errors.New("the demo runs already; stop it with make demo-down")

// start runs the system in a process of its own, which outlives this one unless it is
// tied to it.
func (d demo) start(ctx context.Context) (sys *system, err error) {
	if d.running() != nil {
		return nil, errRuns
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	server, err := proc.Start(proc.Spec{
		Name: "the system", Path: self, Dir: d.root, Log: d.path("logs/demo.log"), Detached: !d.tied, Grace: time.Minute,
		Args: []string{"serve", "-dir", d.dir, "-bin", d.bins, "-speed", strconv.FormatFloat(d.speed, 'f', -1, 64)},
	})
	if err != nil {
		return nil, err
	}
	if err := server.WaitReady(ctx, 50*time.Millisecond, func(context.Context) (err error) {
		sys, err = d.read()
		return err
	}); err != nil {
		return nil, errors.Join(err, server.Stop())
	}
	return sys, nil
}

// serve runs the system until it is told to end.
func (d demo) serve(ctx context.Context) error {
	s, err := stack.Start(ctx, stack.Options{
		Bin: d.bins, Dir: d.dir, Speed: d.speed,
		TemporalPort: preferred(7233), UIPort: preferred(8233), CloudPort: preferred(8899), FactoryPort: preferred(8898),
		Settings: stack.Scaled(d.speed),
	})
	if err == nil {
		_, err = s.StartWorker(ctx)
	}
	if err == nil {
		err = d.write(system{PID: os.Getpid(), UI: s.UIURL, Cloud: s.CloudURL, Env: s.Env()})
	}
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, s.Close())
}

// preferred returns the well-known port if it is free, and otherwise none.
func preferred(port int) int {
	l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return 0
	}
	if l.Close() != nil {
		return 0
	}
	return port
}

func (d demo) write(s system) error {
	var env strings.Builder
	for _, e := range s.Env {
		k, v, _ := strings.Cut(e, "=")
		if k != "HOME" && k != "PATH" {
			env.WriteString("export " + k + "='" + v + "'\n")
		}
	}
	if err := os.WriteFile(d.path("env"), []byte(env.String()), 0o600); err != nil {
		return err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("system.tmp"), b, 0o600); err != nil {
		return err
	}
	return os.Rename(d.path("system.tmp"), d.path("system.json"))
}

func (d demo) read() (*system, error) {
	b, err := os.ReadFile(d.path("system.json"))
	if err != nil {
		return nil, err
	}
	var s system
	return &s, json.Unmarshal(b, &s)
}

// running is the system, or nil where none was ever ready or it has ended.
func (d demo) running() *system {
	if s, err := d.read(); err == nil && alive(s.PID) {
		return s
	}
	return nil
}

// down stops the system and removes its state. Nothing running is success.
func (d demo) down() error {
	if err := d.stop(); err != nil {
		return err
	}
	return os.RemoveAll(d.dir)
}

// stop stops the system and waits until it is gone.
func (d demo) stop() error {
	s := d.running()
	if s == nil {
		return nil
	}
	if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil {
		return err
	}
	for deadline := time.Now().Add(time.Minute); alive(s.PID); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not end", s.PID)
		}
	}
	return nil
}

// alive reports whether pid is a demo process; a pid may have been reused.
func alive(pid int) bool {
	exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil && strings.Contains(filepath.Base(exe), "ichor-demo")
}

// gone is closed when the system has ended.
func (s *system) gone(ctx context.Context) <-chan struct{} {
	ch := make(chan struct{})
	go func() {
		defer close(ch)
		for alive(s.PID) && ctx.Err() == nil {
			time.Sleep(200 * time.Millisecond)
		}
	}()
	return ch
}

// api is how the cluster's API is reached once its nodes have been shown, without a
// limit on this side.
func (d demo) api() (*rest.Config, *kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", d.path("kubeconfig"))
	if err != nil {
		return nil, nil, err
	}
	config.QPS = -1
	api, err := kubernetes.NewForConfig(config)
	return config, api, err
}

// nodes prints what the cluster's own API says.
func (d demo) nodes(ctx context.Context, s *system) error {
	kubeconfig, err := d.output(ctx, s, "kubeconfig", "demo")
	if err != nil {
		return err
	}
	if err := os.WriteFile(d.path("kubeconfig"), kubeconfig, 0o600); err != nil {
		return err
	}
	config, api, err := d.api()
	if err != nil {
		return err
	}
	list, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	sort.Slice(list.Items, func(i, j int) bool { return list.Items[i].Name < list.Items[j].Name })
	fmt.Printf("\nNodes, as %s says:\n\n", config.Host)
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "NAME\tREADY\tVERSION\tOS\tPROVIDER ID") // to a buffer
	for _, n := range list.Items {
		ready := "False"
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				ready = string(c.Status)
			}
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", n.Name, ready, n.Status.NodeInfo.KubeletVersion, n.Status.NodeInfo.OSImage, n.Spec.ProviderID)
	}
	return w.Flush()
}

func (d demo) next(s *system) {
	fmt.Printf(`
Watch the run:  %s/namespaces/default/workflows/cluster%%2Fdemo%%2Flifecycle

Try next:
  . .demo/env                       # where everything is
  bin/ichor status demo
  bin/ichor talosconfig demo > .demo/talosconfig
  kubectl --kubeconfig .demo/kubeconfig get pods -A
  bin/tools/temporal workflow list
  bin/ichor delete demo
  make demo-down                    # stops everything, removes all state
`, s.UI)
}

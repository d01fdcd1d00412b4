// Package stack runs a whole Ichor on loopback: a real Temporal server, devcloud
// and workers, each a process of its own. The demo, the end-to-end suite, the
// kill matrix and the benchmarks stand on it.
package stack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// Options say what to run and where.
type Options struct {
	// Bin is the folder with the product's commands; its subfolder tools holds
	// the others.
	Bin string
	// Dir gets every file: databases, logs, the store.
	Dir string
	// Speed is how many times faster than real time the cloud runs.
	Speed float64
	// LoopbackPrefix is the wished first two octets of the emulated public
	// addresses; a system that finds them taken uses the next free ones.
	LoopbackPrefix string
	// Ports of Temporal, its UI and devcloud; zero means any free one. UI is
	// served only if UIPort is not negative.
	TemporalPort, UIPort, CloudPort, FactoryPort int
	// Settings are further environment of workers and of the CLI.
	Settings map[string]string
	// CloudArgs are further arguments of devcloud.
	CloudArgs []string
}

// Stack is a running system.
type Stack struct {
	opts     Options
	temporal *proc.Process
	cloud    *proc.Process

	mu      sync.Mutex // workers are killed and replaced while others look
	workers []*proc.Process
	// reserved keeps others from the loopback addresses of this system.
	reserved net.Listener

	TemporalAddress string
	UIURL           string
	CloudURL        string
	FactoryURL      string
	// AWS is the environment in which an SDK of AWS finds the emulated account and
	// may do what the documented policy allows. AWSOwner may do everything.
	AWS, AWSOwner map[string]string
	awsKeys       map[string]string // all secrets, by access key
}

var loopback = netip.MustParseAddr("127.0.0.1")

// Token is the credential of the emulated account; any would do.
const Token = "devcloud-token"

// Start runs Temporal and devcloud; workers are started by StartWorker. Close
// ends everything, also after an error of Start.
func Start(ctx context.Context, o Options) (*Stack, error) {
	s := &Stack{opts: o}
	if err := os.MkdirAll(o.Dir, 0o750); err != nil {
		return s, err
	}
	if err := s.StartTemporal(ctx); err != nil {
		return s, err
	}
	return s, s.startCloud(ctx)
}

func port(want int) (int, error) {
	if want > 0 {
		return want, nil
	}
	p, err := proc.FreePort(loopback)
	return int(p), err
}

// StartTemporal runs the Temporal server on the stack's database; it is also how
// a test brings it back after StopTemporal.
func (s *Stack) StartTemporal(ctx context.Context) error {
	p, err := port(s.opts.TemporalPort)
	if err != nil {
		return err
	}
	s.opts.TemporalPort = p
	s.TemporalAddress = "127.0.0.1:" + strconv.Itoa(p)
	args := []string{
		"server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(p), "--log-level", "warn",
		"--db-filename", filepath.Join(s.opts.Dir, "temporal.db"),
		"--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=1",
		// A single-shard development server dispatches slowly without these.
		"--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000",
		"--dynamic-config-value", "matching.numTaskqueueReadPartitions=1",
		"--dynamic-config-value", "matching.numTaskqueueWritePartitions=1",
		"--dynamic-config-value", "system.enableActivityEagerExecution=true",
	}
	if s.opts.UIPort < 0 {
		args = append(args, "--headless")
	} else {
		ui, err := port(s.opts.UIPort)
		if err != nil {
			return err
		}
		s.opts.UIPort = ui
		s.UIURL = "http://127.0.0.1:" + strconv.Itoa(ui)
		args = append(args, "--ui-ip", "127.0.0.1", "--ui-port", strconv.Itoa(ui))
	}
	s.temporal, err = proc.Start(proc.Spec{
		Name: "temporal", Path: s.tool("temporal"), Args: args, Log: s.log("temporal"),
		Env: append(os.Environ(), "HOME="+s.opts.Dir, "XDG_CONFIG_HOME="+filepath.Join(s.opts.Dir, "config")),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.temporal.WaitReady(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		c, err := s.Dial(ctx)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.CheckHealth(ctx, &client.CheckHealthRequest{})
		return err
	})
}

// Dial opens a client of the stack's Temporal server.
func (s *Stack) Dial(ctx context.Context) (client.Client, error) {
	return client.DialContext(ctx, client.Options{HostPort: s.TemporalAddress, Logger: log.NewStructuredLogger(quiet)})
}

func (s *Stack) startCloud(ctx context.Context) error {
	cloudPort, err := port(s.opts.CloudPort)
	if err != nil {
		return err
	}
	factoryPort, err := port(s.opts.FactoryPort)
	if err != nil {
		return err
	}
	prefix, err := s.reserve(ctx, s.opts.LoopbackPrefix)
	if err != nil {
		return err
	}
	// What works at AWS works with the rights that the guide says.
	root, err := Root()
	if err != nil {
		return err
	}
	policies := filepath.Join(root, "docs", "reference")
	s.cloud, err = proc.Start(proc.Spec{
		Name: "devcloud", Path: filepath.Join(s.opts.Bin, "devcloud"), Log: s.log("devcloud"),
		Args: append([]string{
			"--listen", "127.0.0.1:" + strconv.Itoa(cloudPort), "--factory-listen", "127.0.0.1:" + strconv.Itoa(factoryPort),
			"--speed", strconv.FormatFloat(max(s.opts.Speed, 1), 'f', -1, 64), "--loopback-prefix", prefix,
			"--data", filepath.Join(s.opts.Dir, "devcloud"), "--tools", filepath.Join(s.opts.Bin, "tools"),
			"--aws-policy", filepath.Join(policies, "aws-iam-policy.json"), "--aws-node-policy", filepath.Join(policies, "aws-iam-node-policy.json"),
		}, s.opts.CloudArgs...),
		Grace: 20 * time.Second,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.cloud.WaitReady(ctx, 50*time.Millisecond, func(context.Context) error { return s.readURLs() })
}

// readURLs finds the line of JSON that devcloud prints when it is ready.
func (s *Stack) readURLs() error {
	f, err := os.Open(s.log("devcloud"))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // opened for reading
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var line struct {
			URL, Factory           string
			AWS, AWSOwner, AWSKeys map[string]string
		}
		if strings.HasPrefix(scan.Text(), "{") && json.Unmarshal(scan.Bytes(), &line) == nil && line.URL != "" {
			s.CloudURL, s.FactoryURL, s.AWS, s.AWSOwner, s.awsKeys = line.URL, line.Factory, line.AWS, line.AWSOwner, line.AWSKeys
			return nil
		}
	}
	return errors.New("devcloud has not printed its URLs yet")
}

// Env is the environment in which workers and the CLI find everything.
func (s *Stack) Env() []string {
	env := []string{
		"HOME=" + s.opts.Dir, "PATH=" + os.Getenv("PATH"),
		"TEMPORAL_ADDRESS=" + s.TemporalAddress, "TEMPORAL_CONFIG_FILE=" + filepath.Join(s.opts.Dir, "temporal.toml"),
		"CLOUDSCALE_API_URL=" + s.CloudURL, "CLOUDSCALE_API_TOKEN=" + Token,
		"ICHOR_FACTORY_URL=" + s.FactoryURL,
		"ICHOR_AWS_INSTANCE_PROFILE=" + Profile, "ICHOR_AWS_CONTROL_PLANE_PROFILE=" + PlaneProfile,
		"ICHOR_STORE=file://" + filepath.Join(s.opts.Dir, "store"),
	}
	for k, v := range s.AWS {
		env = append(env, k+"="+v)
	}
	for k, v := range s.opts.Settings {
		env = append(env, k+"="+v)
	}
	return env
}

// StartWorker runs one more worker and returns when it polls. Further
// environment overrides the stack's.
func (s *Stack) StartWorker(ctx context.Context, env ...string) (*proc.Process, error) {
	w, ready, err := s.LaunchWorker(env...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return w, w.WaitReady(ctx, 50*time.Millisecond, ready)
}

// LaunchWorker is StartWorker without waiting: ready says whether the worker
// polls. Who kills workers may have to before they are ready.
func (s *Stack) LaunchWorker(env ...string) (w *proc.Process, ready func(context.Context) error, err error) {
	health, err := port(0)
	if err != nil {
		return nil, nil, err
	}
	addr := "127.0.0.1:" + strconv.Itoa(health)
	w, err = proc.Start(proc.Spec{
		Name: "ichor-worker", Path: filepath.Join(s.opts.Bin, "ichor-worker"), Log: s.log("worker"),
		Env: append(append(s.Env(), "ICHOR_METRICS_LISTEN="+addr), env...), Grace: 15 * time.Second,
	})
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers = append(s.workers, w)
	return w, httpOK("http://" + addr + "/readyz"), nil
}

// StopTemporal ends the Temporal server; wipe also removes its database.
func (s *Stack) StopTemporal(wipe bool) error {
	err := s.temporal.Stop()
	if !wipe {
		return err
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if e := os.Remove(filepath.Join(s.opts.Dir, "temporal.db"+suffix)); e != nil && !os.IsNotExist(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// KillTemporal ends the Temporal server with SIGKILL, in whatever it is doing.
func (s *Stack) KillTemporal() error { return s.temporal.Kill() }

// Log returns the path of a process's log: temporal, devcloud, worker or ichor.
func (s *Stack) Log(name string) string { return s.log(name) }

// Close ends every process of the stack, in order.
func (s *Stack) Close() error {
	var errs []error
	s.mu.Lock()
	for _, w := range s.workers {
		errs = append(errs, w.Stop())
	}
	s.mu.Unlock()
	if s.cloud != nil {
		errs = append(errs, s.refused(), s.cloud.Stop())
	}
	if s.temporal != nil {
		errs = append(errs, s.temporal.Stop())
	}
	if s.reserved != nil {
		errs = append(errs, s.reserved.Close())
	}
	return errors.Join(errs...)
}

func (s *Stack) tool(name string) string { return filepath.Join(s.opts.Bin, "tools", name) }

func (s *Stack) log(name string) string { return filepath.Join(s.opts.Dir, "logs", name+".log") }

// Tail returns the last lines of every log, for the message of a failing test.
func (s *Stack) Tail(lines int) string {
	var b strings.Builder
	for _, name := range []string{"worker", "devcloud", "temporal"} {
		b.WriteString(fmt.Sprintf("--- %s\n%s\n", name, proc.Tail(s.log(name), lines)))
	}
	return b.String()
}

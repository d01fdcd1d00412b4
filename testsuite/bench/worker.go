package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ichor-project/ichor/testsuite/proc"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// worker is an ichor-worker whose metrics are known where to find.
type worker struct {
	process *proc.Process
	address string
}

func startWorker(ctx context.Context, bin string, st *stack.Stack) (*worker, error) {
	address, err := proc.FreeAddress()
	if err != nil {
		return nil, err
	}
	w := &worker{address: address}
	w.process, err = proc.Start(proc.Spec{
		Name: "ichor-worker", Path: filepath.Join(bin, "ichor-worker"), Log: st.Log("worker"),
		Env: append(st.Env(), "ICHOR_METRICS_LISTEN="+w.address), Grace: 15 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return w, w.process.WaitReady(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		return w.get(ctx, "/readyz", func(string) {})
	})
}

func (w *worker) stop() error { return w.process.Stop() }

func (w *worker) tail(lines int) string { return w.process.Tail(lines) }

func (w *worker) get(ctx context.Context, path string, line func(string)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.address+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, res.Status)
	}
	scan := bufio.NewScanner(res.Body)
	for scan.Scan() {
		line(scan.Text())
	}
	return scan.Err()
}

// heartbeats is how many heartbeats the worker has sent to the server; most are
// held back by the SDK and cost nothing.
func (w *worker) heartbeats(ctx context.Context) (int, error) {
	sum := 0.0
	err := w.get(ctx, "/metrics", func(line string) {
		if strings.HasPrefix(line, "temporal_request_total{") && strings.Contains(line, `operation="RecordActivityTaskHeartbeat"`) {
			v, err := strconv.ParseFloat(line[strings.LastIndex(line, " ")+1:], 64)
			if err == nil {
				sum += v
			}
		}
	})
	return int(sum), err
}

// How the clouds' own controllers call themselves: devcloud's stand-in for that
// of cloudscale.ch, and the vendor's for AWS, whose SDK is the product's.
var ccmAgents = []string{"cloudscale-cloud-controller-manager", " kubernetes/"}

// controller says whether a request is the cluster's own.
func controller(r request) bool {
	return slices.ContainsFunc(ccmAgents, func(name string) bool { return strings.Contains(r.UserAgent, name) })
}

// product says whether a request to a cloud is the product's.
func product(r request) bool {
	return !controller(r) && (strings.HasPrefix(r.Path, "/v1/") || strings.HasPrefix(r.Path, "/aws/"))
}

var ids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)

// route is a request without what names one resource: method and path, or the
// action as policies name it.
func route(r request) string {
	if service, action, ok := strings.Cut(strings.TrimPrefix(r.Path, "/aws/"), "/"); ok && strings.HasPrefix(r.Path, "/aws/") && r.Method == http.MethodPost {
		return service + ":" + action
	}
	return r.Method + " " + strings.TrimSuffix(ids.ReplaceAllString(r.Path, "*"), "/")
}

// processors returns a function that says which share of the machine's
// processor time was used since.
func processors() func() float64 {
	from, fromIdle := processorTime()
	return func() float64 {
		to, idle := processorTime()
		if to <= from {
			return 0
		}
		return 1 - (idle-fromIdle)/(to-from)
	}
}

// processorTime is all and idle processor time since boot; idle includes waiting
// for disks.
func processorTime() (all, idle float64) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	first, _, _ := strings.Cut(string(data), "\n")
	for i, f := range strings.Fields(first) {
		if i == 0 || i > 8 { // the name, and guest time, which is in user time
			continue
		}
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, 0
		}
		all += v
		if i == 4 || i == 5 {
			idle += v
		}
	}
	return all, idle
}

// machine describes where the measurement ran.
func machine() string {
	model := runtime.GOARCH
	memory := ""
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.SplitSeq(string(data), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int
		if _, err := fmt.Sscanf(string(data), "MemTotal: %d kB", &kib); err == nil {
			memory = fmt.Sprintf(", %d GiB of memory", (kib+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d processors (%s)%s, %s", runtime.NumCPU(), model, memory, runtime.Version())
}

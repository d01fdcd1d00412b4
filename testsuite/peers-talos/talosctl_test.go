// Package peerstalos lets the real talosctl judge devcloud's Talos nodes.
package peerstalos

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/nodetest"
	"github.com/ichor-project/ichor/testsuite/proc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// judge runs the real talosctl.
type judge struct {
	t           *testing.T
	binary      string
	talosconfig string
	home        string
}

func newJudge(t *testing.T, p *nodetest.PKI, at guest.Server) *judge {
	t.Helper()

	binary := os.Getenv("ICHOR_TALOSCTL")
	if binary == "" {
		binary = filepath.Join("..", "..", "bin", "tools", "talosctl")
	}

	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("the judge is missing, build it with `make bin/tools/talosctl`: %v", err)
	}

	pem, err := p.Bundle.GenerateTalosAPIClientCertificate(role.MakeSet(role.Admin))
	if err != nil {
		t.Fatal(err)
	}

	conf := clientconfig.NewConfig("demo", []string{at.Loopback.String()}, p.Bundle.Certs.OS.Crt, pem)
	path := filepath.Join(t.TempDir(), "talosconfig")

	if err := conf.Save(path); err != nil {
		t.Fatal(err)
	}

	return &judge{t: t, binary: binary, talosconfig: path, home: t.TempDir()}
}

func (j *judge) try(args ...string) (string, error) {
	j.t.Helper()

	ctx, cancel := context.WithTimeout(j.t.Context(), time.Minute)
	defer cancel()

	return j.run(ctx, args...)
}

func (j *judge) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, j.binary, args...)
	cmd.Dir = j.home
	cmd.Env = []string{"HOME=" + j.home, "TALOSCONFIG=" + j.talosconfig}

	var out bytes.Buffer

	cmd.Stdout, cmd.Stderr = &out, &out
	err := proc.Run(cmd)

	return out.String(), err
}

// says runs a command until its output holds all the texts.
func (j *judge) says(args []string, texts ...string) {
	j.t.Helper()

	var missing, out string

	deadline := time.Now().Add(30 * time.Second)

	for time.Now().Before(deadline) {
		var err error

		out, err = j.try(args...)
		missing = ""

		if err != nil {
			missing = err.Error()
		}

		for _, text := range texts {
			if !strings.Contains(out, text) {
				missing = text
			}
		}

		if missing == "" {
			j.t.Logf("talosctl %s\n%s", strings.Join(args, " "), out)

			return
		}

		time.Sleep(50 * time.Millisecond)
	}

	j.t.Errorf("talosctl %s: missing %q in:\n%s", strings.Join(args, " "), missing, out)
}

// refuses runs a command that must fail with a text.
func (j *judge) refuses(args []string, text string) {
	j.t.Helper()

	out, err := j.try(args...)
	if err == nil || !strings.Contains(out, text) {
		j.t.Errorf("talosctl %s: want failure with %q, got %v:\n%s", strings.Join(args, " "), text, err, out)
	}
}

func TestMaintenance(t *testing.T) {
	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.13")
	s := l.Server("demo-cp-0", nil, func(s *guest.Server) { s.Image.TalosVersion = "v1.13.5" })
	l.Boot(s)

	j := newJudge(t, p, s)
	ip := s.Loopback.String()
	file := filepath.Join(t.TempDir(), "controlplane.yaml")

	if err := os.WriteFile(file, p.ControlPlane(), 0o600); err != nil {
		t.Fatal(err)
	}

	j.says([]string{"-n", ip, "version", "--insecure"}, "Server:", "Tag:         v1.13.5")
	j.says([]string{"-n", ip, "get", "machinestatus", "--insecure"}, "maintenance")
	j.refuses([]string{"-n", ip, "get", "machineconfig", "--insecure"}, "not authorized")
	j.refuses([]string{"-n", ip, "version"}, "tls")
	j.says([]string{"-n", ip, "apply-config", "--insecure", "-f", file})
	j.says([]string{"-n", ip, "-e", ip, "version"}, "Tag:         v1.13.5")
	j.refuses([]string{"-n", ip, "version", "--insecure"}, "error getting version")
	j.says([]string{"-n", ip, "get", "machineconfig", "v1alpha1", "-o", "yaml"}, "controlplane")
}

func TestCluster(t *testing.T) {
	l := nodetest.New(t)
	p := nodetest.NewPKI(t, "v1.13")
	image := func(s *guest.Server) { s.Image.TalosVersion = "v1.13.5" }

	servers := []guest.Server{
		l.Server("demo-cp-0", p.ControlPlane(), image),
		l.Server("demo-cp-1", p.ControlPlane(), image),
		l.Server("demo-cp-2", p.ControlPlane(), image),
		l.Server("demo-w-0", p.Worker(), image),
	}
	for _, s := range servers {
		l.Boot(s)
	}

	j := newJudge(t, p, servers[0])
	first, second, worker := servers[0].Loopback.String(), servers[1].Loopback.String(), servers[3].Loopback.String()

	j.says([]string{"-n", first, "bootstrap"})
	j.refuses([]string{"-n", first, "bootstrap"}, "AlreadyExists")
	j.says([]string{"-n", first, "etcd", "members"}, "demo-cp-0", "demo-cp-1", "demo-cp-2")
	j.says([]string{"-n", first, "etcd", "status"}, "3.6")
	j.says([]string{"-n", first, "get", "members"}, "demo-cp-2", "demo-w-0", "worker")
	j.says([]string{"-n", first, "service"}, "etcd", "kubelet", "trustd")
	j.says([]string{"-n", first, "service", "etcd"}, "Health check successful")
	j.says([]string{"-n", second, "get", "machinestatus"}, "running", "true")
	j.says([]string{"-n", worker, "version"}, "v1.13.5")
	j.says([]string{"-n", first + "," + worker, "version"}, "NODE:        "+first, "NODE:        "+worker)
	j.says([]string{"-n", first + "," + worker, "service", "kubelet"}, "STATE                 Running")
	j.says([]string{"-n", first, "memory"}, "TOTAL", "4096")
	j.says([]string{"-n", first, "mounts"}, "/var")
	j.says([]string{"-n", first, "read", "/proc/sys/kernel/random/boot_id"}, "-")
	j.says([]string{"-n", first, "dmesg"}, "booting Talos v1.13.5")
	j.says([]string{"-n", first, "get", "extensions"}, "schematic")
	j.says([]string{"-n", first, "etcd", "snapshot", filepath.Join(j.home, "db")}, "etcd snapshot saved")
	j.says([]string{"-n", first, "kubeconfig", filepath.Join(j.home, "kubeconfig")})

	kubeconfig, err := os.ReadFile(filepath.Join(j.home, "kubeconfig"))
	if err != nil || !bytes.Contains(kubeconfig, []byte("https://10.11.0.200:6443")) {
		t.Errorf("kubeconfig: %v\n%s", err, kubeconfig)
	}

	j.says([]string{"-n", first, "health", "--wait-timeout", "20s"}, "waiting for all nodes to finish boot sequence: OK")
	j.refuses([]string{"-n", first, "health", "--wait-timeout", "1s", "--control-plane-nodes", "10.99.0.1"}, "does not answer")
	j.refuses([]string{"-n", worker, "health", "--wait-timeout", "1s"}, "only available on control plane nodes")
	j.says([]string{"-n", servers[2].Loopback.String(), "etcd", "leave"})
	j.says([]string{"-n", second, "reboot", "--wait=false"})
}

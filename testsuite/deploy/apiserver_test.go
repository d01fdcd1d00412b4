package deploy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/ichor-project/ichor/testsuite/proc"
)

// patience bounds a wait that is expected to end; far above what it takes.
const patience = 2 * time.Minute

const token = "admission-tests"

// startAPIServer runs a kube-apiserver as a cluster has it, with its admission
// plugins, and without anything that acts on objects.
func startAPIServer(t *testing.T) *rest.Config {
	t.Helper()
	dir := t.TempDir()
	// A relative socket: paths of test folders can be too long for one.
	const datastore = "unix://kine.sock"
	startProcess(t, proc.Spec{
		Path: program(t, "tools/kine"), Dir: dir, Log: filepath.Join(dir, "kine.log"), Env: []string{"HOME=/nonexistent"},
		Args: []string{
			"--listen-address=" + datastore, "--metrics-bind-address=0",
			"--endpoint=sqlite://state.db?_journal_mode=WAL&_busy_timeout=30000&_synchronous=OFF&_txlock=immediate&_kine_disable_startup_vacuum",
		},
	})
	writeKeys(t, dir)
	port, err := proc.FreePort(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	server := startProcess(t, proc.Spec{
		Path: program(t, "tools/kube-apiserver"), Dir: dir, Log: filepath.Join(dir, "kube-apiserver.log"), Env: []string{"HOME=/nonexistent"},
		Args: []string{
			"--etcd-servers=" + datastore, "--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(int(port)), "--cert-dir=" + dir,
			"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + filepath.Join(dir, "sa.pub"),
			"--service-account-signing-key-file=" + filepath.Join(dir, "sa.key"),
			"--token-auth-file=" + filepath.Join(dir, "tokens"), "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16",
			"--enable-priority-and-fairness=false", "--profiling=false",
		},
	})
	config := &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", port), BearerToken: token, QPS: 200, Burst: 400,
		// The server writes its certificate when it starts.
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "apiserver.crt")},
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.WaitReady(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		return client.RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}); err != nil {
		t.Fatalf("%v\n%s", err, server.Tail(20))
	}
	return config
}

func startProcess(t *testing.T, spec proc.Spec) *proc.Process {
	t.Helper()
	p, err := proc.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Logf("stop: %v", err)
		}
		if t.Failed() {
			t.Logf("=== %s\n%s", p.Name(), p.Tail(15))
		}
	})
	return p
}

// writeKeys makes the key of service accounts and the token of the tests.
func writeKeys(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"sa.key": pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
		"sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"tokens": []byte(token + ",tests,tests,system:masters\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

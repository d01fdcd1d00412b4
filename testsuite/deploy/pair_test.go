package deploy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/testsuite/proc"
)

const pairValues = `
image: {registry: registry.example.com}
temporal: {address: "127.0.0.1:%d"}
store:
  url: file:///var/lib/ichor/store
  key: {secretName: ichor-store}
  persistence: {enabled: true}
worker: {replicas: 1}
provider: {tls: {certManager: {enabled: true}}}
providers: [{name: demo, cluster: demo}]
`

// TestPairAnswers runs worker and provider out of their images with the arguments
// and variables of the chart, and nothing else, against a real Temporal server.
// The certificates are those that the chart asks cert-manager for.
func TestPairAnswers(t *testing.T) {
	port := freePort(t)
	dir := t.TempDir()
	values := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(values, fmt.Appendf(nil, pairValues, port), 0o600); err != nil {
		t.Fatal(err)
	}
	objects := render(t, "--values", values)
	startProcess(t, proc.Spec{
		Name: "temporal", Path: program(t, "tools/temporal"), Log: filepath.Join(dir, "temporal.log"), Env: []string{"HOME=" + dir},
		Args: []string{"server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", strconv.Itoa(port), "--log-level", "error"},
	})
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	secrets := map[string]string{"ichor-store/store-key": "base64key://" + base64.URLEncoding.EncodeToString(key)}
	ca := newAuthority(t)
	certificates := map[string]pair{}
	for _, o := range of(objects, "Certificate") {
		if authority, _, err := unstructured.NestedBool(o.Object, "spec", "isCA"); err != nil || !authority {
			certificates[field(t, o, "spec", "secretName")] = ca.issue(t, o)
		}
	}
	address := ""
	for _, o := range of(objects, "Deployment") {
		pod := typed[appsv1.Deployment](t, o).Spec.Template.Spec
		at := startContainer(t, pod, secrets, certificates, ca)
		if programOf(pod.Containers[0]) == "ichor-grpcprovider" {
			address = at
		}
	}
	checkProvider(t, address, notedHost(t, values), ca, certificates)
}

// notedHost is the host that the notes of an installation tell people to put
// into the autoscaler's cloud config.
func notedHost(t *testing.T, values string) string {
	t.Helper()
	out, problems, err := helm(t, "install", release, chart, "--namespace", namespace, "--dry-run=client", "--values", values)
	if err != nil {
		t.Fatalf("helm install: %v\n%s", err, problems)
	}
	m := regexp.MustCompile(`(?m)^ +address: (\S+):8086$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("the notes name no address:\n%s", out)
	}
	return m[1]
}

// startContainer runs a Pod's container until the test ends, waits until its
// probes succeed, and returns the address that it was made to listen on.
func startContainer(t *testing.T, pod corev1.PodSpec, secrets map[string]string, certificates map[string]pair, ca *authority) string {
	t.Helper()
	container := pod.Containers[0]
	name, dir := programOf(container), t.TempDir()
	folder := filepath.Join(dir, "root")
	config := unpackImage(t, image(t, name), folder)
	for _, v := range pod.Volumes {
		if v.Secret == nil || certificates[v.Secret.SecretName].cert == nil {
			continue
		}
		p := certificates[v.Secret.SecretName]
		for _, m := range container.VolumeMounts {
			if m.Name != v.Name {
				continue
			}
			for _, item := range v.Secret.Items {
				body := map[string][]byte{"tls.crt": p.cert, "tls.key": p.key, "ca.crt": ca.pem}[item.Key]
				write(t, filepath.Join(folder, m.MountPath, item.Path), body)
			}
		}
	}
	listen, metrics := freePort(t), freePort(t)
	// Absolute paths mean the container's file system, and a Pod has an address of
	// its own.
	inside := strings.NewReplacer(
		"=/etc/ichor/", "="+folder+"/etc/ichor/", "file:///var/lib/ichor", "file://"+folder+"/var/lib/ichor",
		"--listen=:8086", fmt.Sprintf("--listen=127.0.0.1:%d", listen), "--metrics-listen=:9090", fmt.Sprintf("--metrics-listen=127.0.0.1:%d", metrics),
	)
	var args []string
	for _, arg := range container.Args {
		args = append(args, inside.Replace(arg))
	}
	env := config.Config.Env
	for _, e := range container.Env {
		value := e.Value
		if e.ValueFrom != nil {
			value = secrets[e.ValueFrom.SecretKeyRef.Name+"/"+e.ValueFrom.SecretKeyRef.Key]
		}
		env = append(env, e.Name+"="+value)
	}
	process := startProcess(t, proc.Spec{
		Path: filepath.Join(folder, config.Config.Entrypoint[0]), Args: args, Env: env,
		Dir: filepath.Join(folder, config.Config.WorkingDir), Log: filepath.Join(dir, name+".log"),
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, probe := range []*corev1.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		url := fmt.Sprintf("http://127.0.0.1:%d%s", metrics, probe.HTTPGet.Path)
		if err := process.WaitReady(ctx, 100*time.Millisecond, func(ctx context.Context) error { return get(ctx, url) }); err != nil {
			t.Fatalf("%v\n%s", err, process.Tail(20))
		}
	}
	if err := get(ctx, fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics)); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return fmt.Sprintf("127.0.0.1:%d", listen)
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, answer.Status, body)
	}
	return err
}

// checkProvider dials as an autoscaler with the noted address does.
func checkProvider(t *testing.T, address, host string, ca *authority, certificates map[string]pair) {
	t.Helper()
	client, server := certificates["ichor-provider-demo-client"], certificates["ichor-provider-demo-tls"]
	other := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"dnsNames": []any{"other.autoscaler.ichor.dev"}, "usages": []any{"client auth"},
	}}}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.pem)
	refresh := func(host string, p pair) error {
		config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: host}
		if p.cert != nil {
			shown, err := tls.X509KeyPair(p.cert, p.key)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{shown}
		}
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = pb.NewCloudProviderClient(conn).Refresh(ctx, &pb.RefreshRequest{})
		return err
	}
	if err := refresh(host, client); err != nil {
		t.Errorf("the autoscaler of demo: %v", err)
	}
	if err := refresh("elsewhere.example.com", client); err == nil {
		t.Error("the provider's certificate is for any name")
	}
	for who, p := range map[string]pair{
		"nobody": {}, "the autoscaler of another cluster": ca.issue(t, other), "a server": server,
		"a stranger": newAuthority(t).issue(t, other),
	} {
		if err := refresh(host, p); err == nil {
			t.Errorf("%s is let in", who)
		}
	}
}

type pair struct{ cert, key []byte }

// authority stands for cert-manager: it signs what a Certificate asks for.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := certificate(t)
	template.Subject.CommonName, template.IsCA, template.BasicConstraintsValid = "ca", true, true
	template.KeyUsage = x509.KeyUsageCertSign
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func certificate(t *testing.T) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
}

func (a *authority) issue(t *testing.T, o *unstructured.Unstructured) pair {
	t.Helper()
	template := certificate(t)
	names, _, err := unstructured.NestedStringSlice(o.Object, "spec", "dnsNames")
	if err != nil || len(names) == 0 {
		t.Fatalf("names of %s: %v", o.GetName(), err)
	}
	template.DNSNames, template.Subject = names, pkix.Name{CommonName: names[0]}
	usages, _, err := unstructured.NestedStringSlice(o.Object, "spec", "usages")
	if err != nil {
		t.Fatal(err)
	}
	for _, usage := range usages {
		template.ExtKeyUsage = append(template.ExtKeyUsage, map[string]x509.ExtKeyUsage{
			"server auth": x509.ExtKeyUsageServerAuth, "client auth": x509.ExtKeyUsageClientAuth,
		}[usage])
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

func field(t *testing.T, o *unstructured.Unstructured, path ...string) string {
	t.Helper()
	text, ok, err := unstructured.NestedString(o.Object, path...)
	if err != nil || !ok {
		t.Fatalf("%s %s: no %v: %v", o.GetKind(), o.GetName(), path, err)
	}
	return text
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := proc.FreePort(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	return int(port)
}

func write(t *testing.T, name string, body []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
}

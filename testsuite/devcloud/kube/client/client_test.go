package client_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/testsuite/devcloud/kube/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// api answers every request with an empty namespace and tells where it came from
// and with which token.
func api(t *testing.T) (server *httptest.Server, ca []byte, requests <-chan *http.Request) {
	t.Helper()
	got := make(chan *http.Request, 10)
	server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write([]byte(`{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"x"}}`)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return server, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), got
}

func TestConnectsFromTheSource(t *testing.T) {
	server, ca, requests := api(t)
	c, err := client.New(client.Options{
		Server: server.URL, CA: ca, Token: "abc.def", Source: netip.MustParseAddr("127.0.0.9"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.CoreV1().Namespaces().Get(t.Context(), "x", metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	request := <-requests
	if !strings.HasPrefix(request.RemoteAddr, "127.0.0.9:") {
		t.Errorf("came from %s", request.RemoteAddr)
	}
	if got := request.Header.Get("Authorization"); got != "Bearer abc.def" {
		t.Errorf("authorised by %q", got)
	}
	c.Close()
	if _, err := c.CoreV1().Namespaces().Get(t.Context(), "x", metav1.GetOptions{}); err == nil {
		t.Error("a closed client works")
	}
}

func TestTrustsOnlyTheAuthority(t *testing.T) {
	server, ca, _ := api(t)
	// The certificate names addresses only.
	c, err := client.New(client.Options{Server: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.CoreV1().Namespaces().Get(t.Context(), "x", metav1.GetOptions{}); err == nil || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("got %v, want the name refused", err)
	}
	if _, err := client.New(client.Options{Server: server.URL, CA: []byte("no PEM")}); err == nil {
		t.Error("took an authority that is none")
	}
	if _, err := client.New(client.Options{Server: server.URL, CA: ca, Cert: []byte("x"), Key: []byte("y")}); err == nil {
		t.Error("took a certificate that is none")
	}
}

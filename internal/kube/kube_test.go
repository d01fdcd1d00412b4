package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

const canary = "s3cr3t-c4n4ry"

// against makes a client of a server that always answers the same.
func against(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(handler)
	c, err := New(configFor(s.URL), Options{Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c
}

func configFor(server string) secrets.Value {
	return secrets.NewValue(fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
users: [{name: u, user: {token: x}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, server))
}

func answer(t *testing.T, code int, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(code)
		err := json.NewEncoder(rw).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Message: message, Reason: reason, Code: int32(code),
			Details: &metav1.StatusDetails{Causes: causes},
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	for name, tc := range map[string]struct {
		code    int
		reason  metav1.StatusReason
		message string
		causes  []metav1.StatusCause
		want    fault.Kind
	}{
		"unauthorized":    {401, metav1.StatusReasonUnauthorized, "Unauthorized", nil, fault.Unauthorized},
		"permission":      {403, metav1.StatusReasonForbidden, `nodes is forbidden: User "x" cannot list resource "nodes"`, nil, fault.Unauthorized},
		"admission":       {403, metav1.StatusReasonForbidden, "pods p is forbidden: violates PodSecurity", nil, fault.Invalid},
		"service account": {403, metav1.StatusReasonForbidden, `pods "p" is forbidden: error looking up service account a/default`, nil, fault.NotYet},
		"terminating":     {403, metav1.StatusReasonForbidden, "being terminated", []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}, fault.Conflict},
		"not found":       {404, metav1.StatusReasonNotFound, "no", nil, fault.NotFound},
		"conflict":        {409, metav1.StatusReasonConflict, "changed", nil, fault.Conflict},
		"exists":          {409, metav1.StatusReasonAlreadyExists, "exists", nil, fault.Conflict},
		"invalid":         {422, metav1.StatusReasonInvalid, "bad", nil, fault.Invalid},
		"bad request":     {400, metav1.StatusReasonBadRequest, "bad", nil, fault.Invalid},
		"too large":       {413, metav1.StatusReasonRequestEntityTooLarge, "big", nil, fault.Invalid},
		"internal":        {500, metav1.StatusReasonInternalError, "failed calling webhook", nil, fault.Unavailable},
		"unavailable":     {503, metav1.StatusReasonServiceUnavailable, "starting", nil, fault.Unavailable},
		"timeout":         {504, metav1.StatusReasonTimeout, "slow", nil, fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			c := against(t, answer(t, tc.code, tc.reason, tc.message, tc.causes...))
			_, err := c.Nodes(context.Background())
			if got := fault.KindOf(err); got != tc.want {
				t.Errorf("got %s, want %s: %v", got, tc.want, err)
			}
		})
	}
}

func TestRateLimitIsShown(t *testing.T) {
	requests := 0
	c := against(t, func(rw http.ResponseWriter, _ *http.Request) {
		requests++
		rw.Header().Set("Retry-After", "7")
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusTooManyRequests)
		err := json.NewEncoder(rw).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Code: http.StatusTooManyRequests,
			Reason: metav1.StatusReasonTooManyRequests, Details: &metav1.StatusDetails{RetryAfterSeconds: 7},
		})
		if err != nil {
			t.Error(err)
		}
	})
	_, err := c.Nodes(context.Background())
	if fault.KindOf(err) != fault.RateLimited || fault.RetryAfter(err) != 7*time.Second || requests != 1 {
		t.Errorf("%d requests, wait %s: %v", requests, fault.RetryAfter(err), err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	c, err := New(configFor(s.URL), Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	for name, err := range map[string]error{
		"ready": c.Ready(context.Background()), "delete": c.DeleteNode(context.Background(), "n"),
		"secret": c.EnsureSecret(context.Background(), "ns", "s", "k", secrets.NewValue([]byte(canary))),
		"apply":  c.Apply(context.Background(), "m", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n")),
	} {
		if fault.KindOf(err) != fault.Unavailable || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %s: %v", name, fault.KindOf(err), err)
		}
	}
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	c, err = New(configFor(other.URL), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(context.Background()); fault.KindOf(err) != fault.Unauthorized || !strings.Contains(err.Error(), "another cluster's certificate") {
		t.Errorf("foreign certificate: %v", err)
	}
}

func TestReady(t *testing.T) {
	code, body := 200, "ok"
	c := against(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		rw.WriteHeader(code)
		if _, err := rw.Write([]byte(body)); err != nil {
			t.Error(err)
		}
	})
	if err := c.Ready(context.Background()); err != nil {
		t.Error(err)
	}
	code, body = 500, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]informer-sync failed: reason withheld\nreadyz check failed\n"
	err := c.Ready(context.Background())
	if fault.KindOf(err) != fault.NotYet || !strings.Contains(err.Error(), "not ready: etcd, informer-sync") {
		t.Errorf("got %v", err)
	}
	code, body = 503, "no backend"
	if err := c.Ready(context.Background()); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, text := range []string{"", canary, "apiVersion: v1\nkind: Config\n", "clusters: [" + canary} {
		if _, err := New(secrets.NewValue([]byte(text)), Options{}); fault.KindOf(err) != fault.Invalid || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDecode(t *testing.T) {
	objects, err := Decode("m", []byte(`# only a comment
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: x}}
---
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: c}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range objects {
		got = append(got, describe(o.GetKind(), o.GetNamespace(), o.GetName()))
	}
	if diff := cmp.Diff([]string{"ConfigMap a", "ConfigMap x/b", "Deployment c"}, got); diff != "" {
		t.Error(diff)
	}
	for name, tc := range map[string]struct{ manifest, want string }{
		"not yaml": {"key: [" + canary + "\n", "document 1"},
		"scalar":   {canary, "document 1 is not a YAML mapping"},
		"no kind":  {"apiVersion: v1\nmetadata: {name: " + canary + "}\n", "document 1 lacks kind"},
		"no name":  {"apiVersion: v1\nkind: Secret\nstringData: {a: " + canary + "}\n", "document 1 (Secret) lacks metadata.name"},
		"bad item": {"apiVersion: v1\nkind: List\nitems: [" + canary + "]\n", "items[0]"},
	} {
		_, err := Decode("m", []byte(tc.manifest))
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
	f.Add("---\n---\n- a\n")
	f.Add("kind: List\napiVersion: v1\nitems: [{}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := Decode("m", []byte(text))
		if err != nil && fault.KindOf(err) != fault.Invalid {
			t.Errorf("kind %s", fault.KindOf(err))
		}
		for _, o := range objects {
			if o.GetName() == "" || o.GetKind() == "" {
				t.Errorf("an object without name or kind: %v", o.Object)
			}
		}
	})
}

func TestWithoutValues(t *testing.T) {
	for in, want := range map[string]string{
		`Secret "s" is invalid: data[a b]: Invalid value: "` + canary + `": a valid key`:                                                                   `Secret "s" is invalid: data[a b]: Invalid value: …: a valid key`,
		`type: Unsupported value: "` + canary + `": supported values: "A"`:                                                                                 `type: Unsupported value: …: supported values: "A"`,
		`x: Invalid value: {"a":"` + canary + `"}: no; y: Duplicate value: ` + canary + `, z`:                                                              `x: Invalid value: …: no; y: Duplicate value: …, z`,
		`failed to create typed patch object (default/p; /v1, Kind=Pod): .spec.env: expected string, got &value.valueUnstructured{Value:"` + canary + `"}`: `failed to create typed patch object (default/p; /v1, Kind=Pod): .spec.env: expected string, got …`,
		`error decoding from json: ` + canary:                                                                                                              "error decoding from json …",
		"plain":                                                                                                                                            "plain",
	} {
		if got := withoutValues(in); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}

func TestNodeOf(t *testing.T) {
	created := time.Date(2026, 11, 21, 5, 0, 0, 0, time.UTC)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: metav1.NewTime(created), Labels: map[string]string{"l": "v"}}}
	if got := nodeOf(n); got.Ready || got.Reason == "" || got.Uninitialized {
		t.Errorf("a silent node: %+v", got)
	}
	n.Spec = corev1.NodeSpec{ProviderID: "cloudscale://x", Unschedulable: true, Taints: []corev1.Taint{{Key: uninitializedTaint, Effect: "NoSchedule"}}}
	n.Status = corev1.NodeStatus{
		NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.3"},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionFalse, Reason: "KubeletNotReady", Message: "no CNI"}},
	}
	want := Node{
		Name: "a", Reason: "KubeletNotReady: no CNI", ProviderID: "cloudscale://x", Uninitialized: true,
		KubeletVersion: "v1.36.3", Unschedulable: true, CreatedAt: created, Labels: map[string]string{"l": "v"},
	}
	if diff := cmp.Diff(want, nodeOf(n)); diff != "" {
		t.Error(diff)
	}
	n.Status.Conditions[0].Status = corev1.ConditionTrue
	if got := nodeOf(n); !got.Ready || got.Reason != "" {
		t.Errorf("a ready node: %+v", got)
	}
}

// TestKubeconfigReadsNoFiles: who names a kubeconfig must not choose what this
// process reads.
func TestKubeconfigReadsNoFiles(t *testing.T) {
	for _, user := range []string{
		"{client-certificate: /etc/passwd, client-key: /etc/passwd}", "{tokenFile: /etc/passwd}",
		"{exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, interactiveMode: Never}}", "{auth-provider: {name: gcp}}",
	} {
		config := strings.Replace(configFor("https://192.0.2.1").RevealString(), "{token: x}", user, 1)
		if _, err := New(secrets.NewValue([]byte(config)), Options{}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: %v", user, err)
		}
	}
	config := strings.Replace(configFor("https://192.0.2.1").RevealString(), "{server:", "{certificate-authority: /etc/passwd, server:", 1)
	if _, err := New(secrets.NewValue([]byte(config)), Options{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a CA file: %v", err)
	}
	if _, err := New(configFor("https://192.0.2.1"), Options{}); err != nil {
		t.Errorf("inline credentials: %v", err)
	}
}

func TestInClusterNeedsAPod(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := NewInCluster(Options{}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("outside of a pod: %v", err)
	}
}

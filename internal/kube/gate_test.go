package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// serving is an API with deployments, secrets and nodes.
func serving(t *testing.T) http.HandlerFunc {
	object := func(apiVersion, kind, namespace, name string, more map[string]any) map[string]any {
		meta := map[string]any{"name": name, "labels": map[string]any{"a.b/c": "d"}}
		if namespace != "" {
			meta["namespace"] = namespace
		}
		out := map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": meta}
		for k, v := range more {
			out[k] = v
		}
		return out
	}
	deployment := func(name string, want, ready int) map[string]any {
		status := map[string]any{}
		if ready > 0 {
			status["readyReplicas"] = ready
		}
		return object("apps/v1", "Deployment", "web", name, map[string]any{"spec": map[string]any{"replicas": want}, "status": status})
	}
	list := func(apiVersion, kind string, items ...any) map[string]any {
		return map[string]any{"apiVersion": apiVersion, "kind": kind, "items": items}
	}
	resources := func(gv string, r ...metav1.APIResource) any {
		return metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: gv, APIResources: r}
	}
	return func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		var body any
		switch r.URL.Path {
		case "/apis/apps/v1":
			body = resources("apps/v1", metav1.APIResource{Name: "deployments", Kind: "Deployment", Namespaced: true})
		case "/api/v1":
			body = resources("v1", metav1.APIResource{Name: "nodes", Kind: "Node"}, metav1.APIResource{Name: "secrets", Kind: "Secret", Namespaced: true})
		case "/apis/apps/v1/deployments":
			body = list("apps/v1", "DeploymentList", deployment("full", 2, 2), deployment("half", 2, 1), deployment("empty", 2, 0))
		case "/apis/apps/v1/namespaces/web/deployments":
			if r.URL.Query().Get("labelSelector") != "none=x" {
				t.Errorf("selector %q", r.URL.Query().Get("labelSelector"))
			}
			body = list("apps/v1", "DeploymentList")
		case "/apis/apps/v1/namespaces/web/deployments/full":
			body = deployment("full", 2, 2)
		case "/api/v1/namespaces/web/secrets/s":
			body = object("v1", "Secret", "web", "s", map[string]any{"data": map[string]any{"k": canary}})
		case "/api/v1/nodes":
			body = list("v1", "NodeList", object("v1", "Node", "", "n1", nil))
		case "/apis/metrics.k8s.io/v1":
			answer(t, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "no backend")(rw, r)
			return
		default:
			answer(t, http.StatusNotFound, metav1.StatusReasonNotFound, "not found")(rw, r)
			return
		}
		if err := json.NewEncoder(rw).Encode(body); err != nil {
			t.Error(err)
		}
	}
}

func TestGateExpressions(t *testing.T) {
	full := plan.Gate{Resource: "apps/v1/deployments", Namespace: "web", ObjectName: "full"}
	secret := plan.Gate{Resource: "v1/secrets", Namespace: "web", ObjectName: "s"}
	with := func(g plan.Gate, expression string) plan.Gate { g.Expression = expression; return g }
	all := plan.Gate{Resource: "apps/v1/deployments"}
	for _, tc := range []struct {
		name string
		gate plan.Gate
		kind fault.Kind
		says string
	}{
		{"holds", with(full, "object.status.readyReplicas == object.spec.replicas"), "", ""},
		{"with functions", with(full, `object.metadata.name.startsWith("fu") && has(object.status.readyReplicas) && object.metadata.labels["a.b/c"] == "d"`), "", ""},
		{"optional fields", with(full, `object.?status.?missing.orValue(1) == 1`), "", ""},
		{"of the cluster", plan.Gate{Resource: "v1/nodes", Expression: `object.kind == "Node"`}, "", ""},
		{"does not hold", with(full, "object.spec.replicas > 2"), fault.NotYet, "1 of 1 objects do not pass: web/full"},
		{"some do not, one lacks the field", with(all, "object.status.readyReplicas == object.spec.replicas"), fault.NotYet, "2 of 3 objects do not pass: web/empty (no such key: readyReplicas); web/half"},
		{"selects nothing", plan.Gate{Resource: "apps/v1/deployments", Namespace: "web", Selector: "none=x", Expression: "true"}, fault.NotYet, "would guard nothing"},
		{"object absent", plan.Gate{Resource: "apps/v1/deployments", Namespace: "web", ObjectName: "gone", Expression: "true"}, fault.NotYet, "gone does not exist"},
		{"does not compile", with(full, "object.spec.replicas ="), fault.Invalid, "does not compile"},
		{"unknown variable", with(full, "objekt.spec == 1"), fault.Invalid, "undeclared reference"},
		{"no condition", with(full, `"yes"`), fault.Invalid, "gives string"},
		{"no condition, as it turns out", with(full, "object.spec.replicas"), fault.Invalid, "gives int"},
		{"wrong types", with(full, `object.spec.replicas == 2 && object.spec + 1 > 0`), fault.Invalid, "fails for web/full: no such overload"},
		{"too expensive", with(full, "[1,2,3,4,5,6,7,8,9,10].all(a, "+strings.Repeat("[1,2,3,4,5,6,7,8,9,10].all(b, ", 7)+"a+b < 100"+strings.Repeat(")", 8)), fault.Invalid, "cost limit"},
		{"too long", with(full, strings.Repeat(" ", gateLength)+"true"), fault.Invalid, "longer than"},
		{"a secret in the reason", with(secret, "int(object.data.k) == 1"), fault.Invalid, "not repeated"},
		{"a secret not in the answer", with(secret, `object.data.k == ""`), fault.NotYet, "web/s"},
		{"no such resource", plan.Gate{Resource: "apps/v1/deployment", Expression: "true"}, fault.Invalid, "serves no deployment in apps/v1"},
		{"no such group", plan.Gate{Resource: "example.com/v1/things", Expression: "true"}, fault.Invalid, "does not serve example.com/v1"},
		{"an API that is down", plan.Gate{Resource: "metrics.k8s.io/v1/nodes", Expression: "true"}, fault.Unavailable, "no backend"},
		{"no resource", plan.Gate{Resource: "deployments", Expression: "true"}, fault.Invalid, "not of the form"},
		{"bad selector", plan.Gate{Resource: "v1/nodes", Selector: "a in", Expression: "true"}, fault.Invalid, "selector"},
		{"selector and name", plan.Gate{Resource: "v1/nodes", Selector: "a=b", ObjectName: "n1", Expression: "true"}, fault.Invalid, "both a selector"},
		{"namespace of nodes", plan.Gate{Resource: "v1/nodes", Namespace: "web", Expression: "true"}, fault.Invalid, "has no namespaces"},
		{"name without namespace", plan.Gate{Resource: "v1/secrets", ObjectName: "s", Expression: "true"}, fault.Invalid, "named by its namespace"},
		{"nothing", plan.Gate{}, fault.Invalid, "needs a resource"},
		{"both", plan.Gate{URL: "http://x", Resource: "v1/nodes", Expression: "true"}, fault.Invalid, "both an expression and a URL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.gate.Name = "g"
			err := against(t, serving(t)).Gate(t.Context(), tc.gate)
			if fault.KindOf(err) != tc.kind {
				t.Fatalf("got %q, want %q: %v", fault.KindOf(err), tc.kind, err)
			}
			if err != nil && (!strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), canary) || !strings.HasPrefix(err.Error(), "gate g: ")) {
				t.Errorf("says %v", err)
			}
		})
	}
}

func TestGateStopsWithItsCaller(t *testing.T) {
	program, err := compile("gate g", "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a+b+c+d < 100))))")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := evaluate(ctx, "gate g", program, &emptyObject); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("%s: %v", fault.KindOf(err), err)
	}
}

func TestGateURL(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect led to another host") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
		case "/other":
			rw.WriteHeader(http.StatusAccepted)
		case "/down":
			rw.WriteHeader(http.StatusServiceUnavailable)
		case "/moved":
			http.Redirect(rw, r, "/ok", http.StatusFound)
		case "/away":
			http.Redirect(rw, r, elsewhere.URL, http.StatusFound)
		case "/loop":
			http.Redirect(rw, r, "/loop", http.StatusFound)
		}
	}))
	defer s.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c := against(t, serving(t))
	for _, tc := range []struct {
		url    string
		status int
		kind   fault.Kind
		says   string
	}{
		{s.URL + "/ok", 0, "", ""},
		{s.URL + "/other", 202, "", ""},
		{s.URL + "/moved", 0, "", ""},
		{s.URL + "/moved", 302, "", ""},
		{s.URL + "/other", 0, fault.NotYet, "/other answers 202, not 200"},
		{s.URL + "/down?token=" + canary, 0, fault.NotYet, "/down answers 503, not 200"},
		{s.URL + "/away", 0, fault.NotYet, "redirects to another host"},
		{s.URL + "/loop", 0, fault.NotYet, "again and again"},
		{gone.URL + "/?token=" + canary, 0, fault.NotYet, "refused"},
		{"http://user:" + canary + "@" + strings.TrimPrefix(s.URL, "http://"), 0, fault.Invalid, "contains credentials"},
		{"http://" + canary + " x/", 0, fault.Invalid, "not one of http or https"},
		{"ftp://example.com/" + canary, 0, fault.Invalid, "not one of http or https"},
		{"file:///etc/passwd", 0, fault.Invalid, "not one of http or https"},
		{"http://169.254.169.254/latest/meta-data/", 0, fault.Invalid, "credentials of machines"},
		{"http://[fe80::1]/", 0, fault.Invalid, "credentials of machines"},
		{"http://[::ffff:169.254.169.254]/", 0, fault.Invalid, "credentials of machines"},
		{"http://[fd00:ec2::254]/", 0, fault.Invalid, "credentials of machines"},
		{s.URL + "/ok", 100, fault.Invalid, "100 is not a status"},
	} {
		err := c.Gate(t.Context(), plan.Gate{Name: "g", URL: tc.url, Status: tc.status})
		if fault.KindOf(err) != tc.kind || err != nil && (!strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), canary)) {
			t.Errorf("%s: %q: %v", tc.url, fault.KindOf(err), err)
		}
	}
}

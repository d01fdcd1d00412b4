package kube

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
)

// older is an API server whose users use what is gone later.
func older(t *testing.T, metrics string, workloads int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		var body any
		switch r.URL.Path {
		case "/metrics":
			rw.Header().Set("Content-Type", "text/plain")
			if _, err := rw.Write([]byte(metrics)); err != nil {
				t.Error(err)
			}
			return
		case "/apis/scheduling.k8s.io/v1alpha2/workloads":
			items := make([]any, workloads)
			for i := range items {
				items[i] = map[string]any{"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "Workload", "metadata": map[string]any{"name": "w"}}
			}
			body = map[string]any{"apiVersion": "scheduling.k8s.io/v1alpha2", "kind": "WorkloadList", "items": items}
		default:
			rw.WriteHeader(http.StatusNotFound)
			body = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: http.StatusNotFound}
		}
		if err := json.NewEncoder(rw).Encode(body); err != nil {
			t.Error(err)
		}
	}
}

const askedFor = `# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs that have been requested
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="",removed_release="",resource="componentstatuses",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.37",resource="flowschemas",subresource="status",version="v1beta3"} 1
apiserver_requested_deprecated_apis{group="resource.k8s.io",removed_release="1.39",resource="resourceclaims",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="policy",removed_release="1.36",resource="old",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis_else{removed_release="1.36"} 1
`

func TestRemovedAPIs(t *testing.T) {
	flow := plan.Refusal{
		Field:  "flowschemas/status.v1beta3.flowcontrol.apiserver.k8s.io",
		Reason: "somebody uses this API, which Kubernetes 1.37 does not serve any more: move its users to a newer version of it (seen since the API server was started; restart it after the use has ended)",
	}
	objects := plan.Refusal{Field: "workloads.v1alpha2.scheduling.k8s.io", Reason: "2 objects exist, and Kubernetes 1.37 does not serve this API any more: convert or delete them"}
	for _, tc := range []struct {
		name      string
		from, to  string
		metrics   string
		workloads int
		want      []plan.Refusal
	}{
		{name: "nothing in use", from: "v1.36.3", to: "v1.37.0"},
		{name: "everything in use", from: "v1.36.3", to: "v1.37.0", metrics: askedFor, workloads: 2, want: []plan.Refusal{flow, objects}},
		{name: "what a later step removes", from: "v1.35.1", to: "1.37.0", workloads: 2, want: []plan.Refusal{objects}},
		{name: "a patch removes nothing", from: "v1.36.3", to: "v1.36.9", metrics: askedFor, workloads: 2},
		{name: "backwards", from: "v1.36.3", to: "v1.35.0", want: []plan.Refusal{{Field: "kubernetes", Reason: "there is no way from 1.36 to 1.35"}}},
		{name: "beyond what is known", from: "v1.36.3", to: "v1.99.0", want: []plan.Refusal{{Field: "kubernetes", Reason: "the step from 1.37 to 1.38 is not known to this version of Ichor"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := against(t, older(t, tc.metrics, tc.workloads)).RemovedAPIs(t.Context(), tc.from, tc.to)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRemovedAPIsDoNotTakeSilenceForAbsence: each of the questions may stay
// without an answer.
func TestRemovedAPIsDoNotTakeSilenceForAbsence(t *testing.T) {
	for _, path := range []string{"/metrics", "/workloads"} {
		fine := older(t, "", 0)
		broken := answer(t, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "starting")
		c := against(t, func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, path) {
				broken(rw, r)
				return
			}
			fine(rw, r)
		})
		if _, err := c.RemovedAPIs(t.Context(), "v1.36.3", "v1.37.0"); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, v := range []string{"", "latest"} {
		if _, err := against(t, older(t, "", 0)).RemovedAPIs(t.Context(), v, "v1.37.0"); fault.KindOf(err) != fault.Invalid {
			t.Errorf("from %q: %v", v, err)
		}
	}
}

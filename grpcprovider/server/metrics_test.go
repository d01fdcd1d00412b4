package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/ichor-project/ichor/grpcprovider/provider"
)

// scrape returns the metrics of the provider as "name{labels}" and value; of
// histograms the count.
func scrape(t *testing.T, f *fixture) map[string]float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := family.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				out[key] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				out[key] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				out[key] = float64(m.GetHistogram().GetSampleCount())
			default:
				t.Errorf("%s has the type %s", key, family.GetType())
			}
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	source := newFake()
	source.groups[1].Unread = "its history cannot be read"
	f := serve(t, source, nil)
	for range 3 {
		if _, err := f.call(t, "NodeGroups", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.call(t, "NodeGroupTargetSize", msg{}.text(1, "demo/x")); err == nil {
		t.Fatal("an unknown group has a target")
	}
	got := scrape(t, f)
	want := map[string]float64{
		"ichor_provider_requests_total{code=OK,method=NodeGroups}":                3,
		"ichor_provider_requests_total{code=NotFound,method=NodeGroupTargetSize}": 1,
		"ichor_provider_request_duration_seconds{method=NodeGroups}":              3,
		"ichor_provider_request_duration_seconds{method=NodeGroupTargetSize}":     1,
		"ichor_provider_groups{}":                                    2,
		"ichor_provider_target_size{group=demo/worker}":              4,
		"ichor_provider_target_size{group=demo/tuned}":               0,
		"ichor_provider_min_size{group=demo/worker}":                 1,
		"ichor_provider_min_size{group=demo/tuned}":                  0,
		"ichor_provider_max_size{group=demo/worker}":                 5,
		"ichor_provider_max_size{group=demo/tuned}":                  3,
		"ichor_provider_paused{group=demo/worker}":                   0,
		"ichor_provider_paused{group=demo/tuned}":                    1,
		"ichor_provider_unread{group=demo/worker}":                   1,
		"ichor_provider_unread{group=demo/tuned}":                    0,
		"ichor_provider_instances{group=demo/worker,state=creating}": 1,
		"ichor_provider_instances{group=demo/worker,state=running}":  1,
		"ichor_provider_instances{group=demo/worker,state=deleting}": 1,
		"ichor_provider_instances{group=demo/worker,state=failed}":   2,
		"ichor_provider_instances{group=demo/tuned,state=creating}":  0,
		"ichor_provider_instances{group=demo/tuned,state=running}":   0,
		"ichor_provider_instances{group=demo/tuned,state=deleting}":  0,
		"ichor_provider_instances{group=demo/tuned,state=failed}":    0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}

	source.stats = provider.Stats{
		Refreshed: time.Now().Add(-time.Hour),
		Listed:    map[string]time.Time{"cloudscale a": time.Now().Add(-2 * time.Hour), "cloudscale never": {}},
	}
	got = scrape(t, f)
	if age := got["ichor_provider_snapshot_age_seconds{}"]; age < 3600 {
		t.Errorf("the snapshot is %v s old", age)
	}
	if age := got["ichor_provider_cloud_list_age_seconds{account=cloudscale a}"]; age < 7200 {
		t.Errorf("the list is %v s old", age)
	}
	if _, ok := got["ichor_provider_cloud_list_age_seconds{account=cloudscale never}"]; ok {
		t.Error("a list that never was has an age")
	}
}

package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/ichor-project/ichor/grpcprovider/provider"
)

// callBuckets reach from a read from memory to what the autoscaler gives up on.
var callBuckets = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1, 3, 5}

// Metrics count calls, and describe the snapshot at each scrape.
type Metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// NewMetrics registers the metrics of calls, and, for a source, those of its
// snapshot.
func NewMetrics(r prometheus.Registerer, source provider.Source) (*Metrics, error) {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ichor_provider_requests_total", Help: "Calls of the autoscaler by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ichor_provider_request_duration_seconds", Help: "How long calls of the autoscaler took.", Buckets: callBuckets,
		}, []string{"method"}),
	}
	for _, c := range []prometheus.Collector{m.calls, m.seconds, snapshot{source}} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) call(method string, code codes.Code, took time.Duration) {
	m.calls.WithLabelValues(method, code.String()).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}

// snapshot describes what the source holds at the moment of a scrape.
type snapshot struct{ source provider.Source }

var (
	groupLabels = []string{"group"}
	descGroups  = prometheus.NewDesc("ichor_provider_groups", "Node groups that are served.", nil, nil)
	descTarget  = prometheus.NewDesc("ichor_provider_target_size", "Machines wanted, by group.", groupLabels, nil)
	descMin     = prometheus.NewDesc("ichor_provider_min_size", "Least machines, by group.", groupLabels, nil)
	descMax     = prometheus.NewDesc("ichor_provider_max_size", "Most machines, by group.", groupLabels, nil)
	descPaused  = prometheus.NewDesc("ichor_provider_paused", "1 for groups that are paused.", groupLabels, nil)
	descUnread  = prometheus.NewDesc("ichor_provider_unread", "1 for groups that could not be read: they are shown as they were, and refuse requests.", groupLabels, nil)
	descInst    = prometheus.NewDesc("ichor_provider_instances", "Instances by group and state: creating, running, deleting, failed.", []string{"group", "state"}, nil)
	descAge     = prometheus.NewDesc("ichor_provider_snapshot_age_seconds", "Time since the state of all groups was last read.", nil, nil)
	descList    = prometheus.NewDesc("ichor_provider_cloud_list_age_seconds", "Time since the account's machines were last listed completely.", []string{"account"}, nil)
)

// Describe implements prometheus.Collector.
func (snapshot) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descGroups, descTarget, descMin, descMax, descPaused, descUnread, descInst, descAge, descList} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (s snapshot) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	groups := s.source.Groups()
	gauge(descGroups, float64(len(groups)))
	for _, g := range groups {
		gauge(descTarget, float64(g.Target), g.ID)
		gauge(descMin, float64(g.Facts.Min), g.ID)
		gauge(descMax, float64(g.Facts.Max), g.ID)
		paused := 0.0
		if g.Paused != "" {
			paused = 1
		}
		gauge(descPaused, paused, g.ID)
		unread := 0.0
		if g.Unread != "" {
			unread = 1
		}
		gauge(descUnread, unread, g.ID)
		count := map[string]int{string(provider.Creating): 0, string(provider.Running): 0, string(provider.Deleting): 0, "failed": 0}
		for _, i := range g.Instances {
			if i.Error != nil {
				count["failed"]++
			} else {
				count[string(i.State)]++
			}
		}
		for state, n := range count {
			gauge(descInst, float64(n), g.ID, state)
		}
	}
	stats := s.source.Stats()
	// An age that is not known yet is not there, rather than half a century.
	if !stats.Refreshed.IsZero() {
		gauge(descAge, time.Since(stats.Refreshed).Seconds())
	}
	for account, at := range stats.Listed {
		if !at.IsZero() {
			gauge(descList, time.Since(at).Seconds(), account)
		}
	}
}

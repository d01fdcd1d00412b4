package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ichor-project/ichor/grpcprovider/snapshot"
)

// metric is one of the snapshot's numbers as a metric.
type metric struct {
	prometheus.Opts
	counter bool
	// value is negative when it is not known.
	value func(snapshot.Numbers) float64
}

// numbers say how the state was come by. Those of the groups themselves are the
// server's.
var numbers = []metric{
	{prometheus.Opts{Name: "ichor_provider_left_out_groups", Help: "Groups that were never read since the start and are not shown."}, false, func(n snapshot.Numbers) float64 { return float64(n.LeftOut) }},
	{prometheus.Opts{Name: "ichor_provider_silent_groups", Help: "Groups whose entities do not answer, as without a worker: read from memo and history."}, false, func(n snapshot.Numbers) float64 { return float64(n.Silent) }},
	{prometheus.Opts{Name: "ichor_provider_unnamed_instances", Help: "Instances of which it is not known which machines they are."}, false, func(n snapshot.Numbers) float64 { return float64(n.Unnamed) }},
	{prometheus.Opts{Name: "ichor_provider_unconfirmed_requests", Help: "Accepted requests that no reading contains yet."}, false, func(n snapshot.Numbers) float64 { return float64(n.Unconfirmed) }},
	{prometheus.Opts{Name: "ichor_provider_owed_cancellations", Help: "Requests of unknown fate whose cancellation is not durable yet."}, false, func(n snapshot.Numbers) float64 { return float64(n.Owed) }},
	{prometheus.Opts{Name: "ichor_provider_refresh_failures_total", Help: "Refreshes that could not read the state."}, true, func(n snapshot.Numbers) float64 { return float64(n.RefreshesFailed) }},
	{prometheus.Opts{Name: "ichor_provider_late_discoveries_total", Help: "Refreshes that went on before Temporal had named all groups."}, true, func(n snapshot.Numbers) float64 { return float64(n.Undiscovered) }},
	{prometheus.Opts{Name: "ichor_provider_queries_total", Help: "Questions to entities."}, true, func(n snapshot.Numbers) float64 { return float64(n.Queries) }},
	{prometheus.Opts{Name: "ichor_provider_unanswered_queries_total", Help: "Questions that entities did not answer in time."}, true, func(n snapshot.Numbers) float64 { return float64(n.QueriesUnanswered) }},
	{prometheus.Opts{Name: "ichor_provider_unchanged_readings_total", Help: "Readings of groups that had not changed, for which no entity was asked."}, true, func(n snapshot.Numbers) float64 { return float64(n.QueriesSkipped) }},
	{prometheus.Opts{Name: "ichor_provider_recalled_readings_total", Help: "Readings from memo and history instead of the entity."}, true, func(n snapshot.Numbers) float64 { return float64(n.Recalls) }},
	{prometheus.Opts{Name: "ichor_provider_discarded_readings_total", Help: "Readings that came after a newer one."}, true, func(n snapshot.Numbers) float64 { return float64(n.Discarded) }},
	{prometheus.Opts{Name: "ichor_provider_cancelled_requests_total", Help: "Requests of unknown fate that were cancelled."}, true, func(n snapshot.Numbers) float64 { return float64(n.Cancelled) }},
	{prometheus.Opts{Name: "ichor_provider_cloud_lists_total", Help: "Lists of an account's machines that were begun."}, true, func(n snapshot.Numbers) float64 { return float64(n.Lists) }},
	{prometheus.Opts{Name: "ichor_provider_cloud_list_failures_total", Help: "Lists of an account's machines that failed."}, true, func(n snapshot.Numbers) float64 { return float64(n.ListsFailed) }},
	{prometheus.Opts{Name: "ichor_provider_discovery_age_seconds", Help: "Time since Temporal last named all groups; those that are known are read without."}, false, func(n snapshot.Numbers) float64 {
		if n.Discovered.IsZero() {
			return -1
		}
		return time.Since(n.Discovered).Seconds()
	}},
}

// gauges collects the numbers at each scrape.
type gauges struct{ read func() snapshot.Numbers }

// Describe implements prometheus.Collector.
func (g gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, n := range numbers {
		ch <- n.desc()
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(ch chan<- prometheus.Metric) {
	now := g.read()
	for _, n := range numbers {
		kind := prometheus.GaugeValue
		if n.counter {
			kind = prometheus.CounterValue
		}
		// What is not known is not there, rather than half a century old.
		if v := n.value(now); v >= 0 {
			ch <- prometheus.MustNewConstMetric(n.desc(), kind, v)
		}
	}
}

func (n metric) desc() *prometheus.Desc { return prometheus.NewDesc(n.Name, n.Help, nil, nil) }

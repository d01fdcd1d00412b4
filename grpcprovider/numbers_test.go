package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ichor-project/ichor/grpcprovider/snapshot"
)

// Every number is a metric, and each metric is another number.
func TestEveryNumberIsAMetric(t *testing.T) {
	// The server tells these of its groups, by group and by account.
	others := map[string]bool{"Refreshed": true, "Listed": true, "Groups": true, "Instances": true, "Unread": true}
	var n snapshot.Numbers
	v := reflect.ValueOf(&n).Elem()
	values := map[float64]string{}
	for i := range v.NumField() {
		switch name := v.Type().Field(i).Name; {
		case others[name]:
		case name == "Discovered":
			n.Discovered = time.Now().Add(-time.Hour)
		default:
			v.Field(i).SetInt(int64(100 + i))
			values[float64(100+i)] = name
		}
	}
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(gauges{func() snapshot.Numbers { return n }}); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
		if f.GetName() == "ichor_provider_discovery_age_seconds" {
			if value < 3600 {
				t.Errorf("discovered %v s ago, not an hour", value)
			}
			continue
		}
		if values[value] == "" {
			t.Errorf("%s is %v, which is no number or another metric as well", f.GetName(), value)
		}
		delete(values, value)
		if counts := strings.HasSuffix(f.GetName(), "_total"); counts != (m.GetCounter() != nil) {
			t.Errorf("%s: a counter is %t", f.GetName(), !counts)
		}
	}
	if len(values) > 0 {
		t.Errorf("no metrics: %s", fmt.Sprint(values))
	}
}

func TestAnAgeThatIsNotKnown(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(gauges{func() snapshot.Numbers { return snapshot.Numbers{} }}); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "ichor_provider_discovery_age_seconds" {
			t.Error("groups that were never discovered have an age")
		}
	}
}

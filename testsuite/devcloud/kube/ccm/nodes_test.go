package ccm

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func parse(t *testing.T, text string) []server {
	t.Helper()
	var servers []server
	if err := json.Unmarshal([]byte(text), &servers); err != nil {
		t.Fatal(err)
	}
	return servers
}

func TestFind(t *testing.T) {
	servers := parse(t, `[{"uuid":"a","name":"one"},{"uuid":"b","name":"two"},{"uuid":"c","name":"two"}]`)
	for name, test := range map[string]struct {
		node, providerID string
		want, err        string
	}{
		"by name":                    {node: "one", want: "a"},
		"by provider ID":             {node: "other", providerID: "cloudscale://b", want: "b"},
		"name of two":                {node: "two", err: "found more than one"},
		"fully qualified name":       {node: "one.example.com", err: "no such server"},
		"other case":                 {node: "One", err: "no such server"},
		"provider ID without server": {node: "one", providerID: "cloudscale://z", err: "no such server"},
		"provider ID of OpenStack":   {node: "one", providerID: "openstack:///a", err: "not a valid cloudscale provider id"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := find(servers, &corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: test.node}, Spec: corev1.NodeSpec{ProviderID: test.providerID},
			})
			if got.UUID != test.want {
				t.Errorf("found %q, want %q", got.UUID, test.want)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q in it", err, test.err)
			}
		})
	}
}

func TestNodeAddresses(t *testing.T) {
	one := parse(t, `[{"uuid":"a","zone":{"slug":"lpg1"},"interfaces":[
		{"type":"public","addresses":[{"version":4,"address":"198.51.100.1"},{"version":6,"address":"2001:db8::1"}]},
		{"type":"private","addresses":[{"version":4,"address":"10.0.0.5"}]},
		{"type":"private","addresses":[{"version":4,"address":"10.1.0.5"}]}]}]`)[0]
	external := func(address string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: address}
	}
	internal := func(address string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address}
	}
	for name, test := range map[string]struct {
		provided string
		want     []corev1.NodeAddress
	}{
		"none given":         {"", []corev1.NodeAddress{external("198.51.100.1"), external("2001:db8::1"), internal("10.0.0.5"), internal("10.1.0.5")}},
		"the second private": {"10.1.0.5", []corev1.NodeAddress{internal("10.1.0.5"), external("198.51.100.1"), external("2001:db8::1")}},
		"public":             {"198.51.100.1", []corev1.NodeAddress{external("198.51.100.1"), internal("10.0.0.5"), internal("10.1.0.5")}},
		"unknown":            {"10.9.9.9", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := nodeAddresses(&corev1.Node{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{providedIP: test.provided}},
			}, one)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (test.want != nil) {
				t.Errorf("error %v", err)
			}
		})
	}
	if got := one.region(); got != "lpg" {
		t.Errorf("region %q, want lpg", got)
	}
}

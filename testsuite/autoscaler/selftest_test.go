package autoscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/autoscaler/certs"
	"github.com/ichor-project/ichor/testsuite/autoscaler/proxy"
	"github.com/ichor-project/ichor/testsuite/autoscaler/scripted"
	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
	"github.com/ichor-project/ichor/testsuite/proc"
)

var wires = []Wire{oldWire, newWire}

// description is a group as the autoscaler understands it: what its programs
// print with --describe.
type description struct {
	ID        string          `json:"id"`
	Min       int             `json:"min"`
	Max       int             `json:"max"`
	Target    int             `json:"target"`
	Instances []any           `json:"instances"`
	Template  *corev1.Node    `json:"template"`
	Options   json.RawMessage `json:"options"`
}

// describe asks a provider through the autoscaler's own client.
func describe(ctx context.Context, w Wire, cloudConfig string) ([]description, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "tools", string(w)), "--describe", "--cloud-provider=externalgrpc", "--cloud-config="+cloudConfig)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := proc.Run(cmd); err != nil {
		return nil, err
	}
	var groups []description
	return groups, json.Unmarshal(out.Bytes(), &groups)
}

func scriptedProvider() *scripted.Provider {
	amounts := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("40Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	return &scripted.Provider{ID: "scripted", Max: 3, Template: &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "next", Labels: map[string]string{
			poolLabel: "scripted", "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
		}},
		Spec:   corev1.NodeSpec{Taints: []corev1.Taint{{Key: "example.com/a", Value: "b", Effect: corev1.TaintEffectPreferNoSchedule}}},
		Status: corev1.NodeStatus{Capacity: amounts, Allocatable: amounts, Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
	}}
}

// serve runs a scripted provider behind mutual TLS.
func serve(t *testing.T, trust *certs.Authority, p *scripted.Provider) (address string) {
	t.Helper()
	pair, err := trust.Issue("provider", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	config, err := trust.Config(pair)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(config)))
	wire.RegisterCloudProviderServer(server, p)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// TestProgramsDecodeAlike shows that the clients of both generations read the
// same answers: what one of them gets wrong is the provider's fault.
func TestProgramsDecodeAlike(t *testing.T) {
	trust, err := certs.NewAuthority("self")
	if err != nil {
		t.Fatal(err)
	}
	s := &system{t: t, whole: t, dir: t.TempDir(), trust: trust}
	p := scriptedProvider()
	config := s.cloudConfig(serve(t, trust, p))
	var seen [][]description
	for _, w := range wires {
		groups, err := describe(t.Context(), w, config)
		if err != nil {
			t.Fatalf("%s: %v", w, err)
		}
		if len(groups) != 1 || groups[0].Template == nil {
			t.Fatalf("%s: %+v", w, groups)
		}
		if diff := cmp.Diff(p.Template, groups[0].Template); diff != "" {
			t.Errorf("%s: template (-sent +read):\n%s", w, diff)
		}
		seen = append(seen, groups)
	}
	if diff := cmp.Diff(seen[0], seen[1]); diff != "" {
		t.Errorf("(-%s +%s):\n%s", oldWire, newWire, diff)
	}
}

// TestRig shows that everything around the provider works: the real autoscaler
// of either generation asks a scripted provider, through the proxy, for the one
// machine that a pending pod needs.
func TestRig(t *testing.T) {
	s := startCluster(t, []cluster.NodeGroup{newGroup("unused", 0, 1)}, nil)
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			s := s.on(t)
			s.whole, s.processes = t, &processes{}
			p := scriptedProvider()
			s.listen = serve(t, s.trust, p)
			s.startProxy()
			s.startAutoscaler(w)
			s.deploy(string(w), 1, "3", map[string]string{poolLabel: "scripted"})
			s.until("a machine is asked for", func() bool { return len(p.Instances()) > 0 })
			mark := s.proxy.Mark()
			s.first(mark, mNodes, "", nil)
			var asked []proxy.Call
			for _, c := range s.proxy.Calls() {
				if c.Method == mIncrease {
					asked = append(asked, c)
				}
			}
			if len(asked) != 1 || wanted(asked) != 1 || groupOf(asked[0]) != "scripted" {
				t.Errorf("the autoscaler asked: %v", asked)
			}
			s.scale(string(w), 0)
		})
	}
}

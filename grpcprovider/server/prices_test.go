package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/ichor-project/ichor/grpcprovider/server"
	"github.com/ichor-project/ichor/internal/fault"
)

func TestLoadPrices(t *testing.T) {
	dir := t.TempDir()
	path := func(body string) string {
		t.Helper()
		p := filepath.Join(dir, "prices.yaml")
		if err := os.WriteFile(p, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	got, err := server.LoadPrices(path("flavors:\n  flex-8-4: 0.22\n  flex-4-2: 1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]float64{"flex-8-4": 0.22, "flex-4-2": 1}, got.Flavors); diff != "" {
		t.Errorf("prices (-want +got):\n%s", diff)
	}
	for name, body := range map[string]string{
		"nothing": "", "no flavors": "flavors: {}", "free": "flavors: {a: 0}", "negative": "flavors: {a: -1}",
		"not a number": "flavors: {a: .nan}", "endless": "flavors: {a: .inf}", "unknown field": "flavor: {a: 1}", "text": "flavors: {a: much}",
		"too long": strings.Repeat("#", 2<<20),
	} {
		if _, err := server.LoadPrices(path(body)); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := server.LoadPrices(filepath.Join(dir, "absent")); !fault.Is(err, fault.Invalid) {
		t.Errorf("an absent file: %v", err)
	}
}

func prices() *server.Prices {
	return &server.Prices{Flavors: map[string]float64{"flex-8-4": 0.4, "flex-4-2": 0.2}}
}

func TestPrices(t *testing.T) {
	bare := serve(t, newFake(), nil)
	for _, method := range []string{"PricingNodePrice", "PricingPodPrice"} {
		_, err := bare.call(t, method, nil)
		wantCode(t, method+" without prices", err, codes.Unimplemented)
	}

	f := serve(t, newFake(), prices())
	at := func(s int64) msg { return msg{}.num(1, s) } // Timestamp and Time look alike
	typed := msg{}.text(2, "template-node").sub(3, msg{}.text(1, "node.kubernetes.io/instance-type").text(2, "flex-4-2"))
	for name, tc := range map[string]struct {
		in   msg
		want float64
		code codes.Code
	}{
		"current, by label":   {msg{}.sub(1, typed).sub(4, at(1000)).sub(5, at(4600)), 0.2, codes.OK},
		"legacy, by label":    {msg{}.sub(1, typed).sub(2, at(1000)).sub(3, at(1000+7200)), 0.4, codes.OK},
		"both: current first": {msg{}.sub(1, typed).sub(2, at(0)).sub(3, at(1)).sub(4, at(1000)).sub(5, at(4600)), 0.2, codes.OK},
		"by group":            {msg{}.sub(1, msg{}.text(1, "cloudscale://1")).sub(4, at(0)).sub(5, at(1800)), 0.2, codes.OK},
		"unknown node":        {msg{}.sub(1, msg{}.text(1, "x")).sub(4, at(0)).sub(5, at(1800)), 0, codes.NotFound},
		"unknown flavor":      {msg{}.sub(1, msg{}.sub(3, msg{}.text(1, "node.kubernetes.io/instance-type").text(2, "huge"))).sub(4, at(0)).sub(5, at(1)), 0, codes.NotFound},
		"no period":           {msg{}.sub(1, typed), 0, codes.InvalidArgument},
		"backwards":           {msg{}.sub(1, typed).sub(4, at(2)).sub(5, at(1)), 0, codes.InvalidArgument},
		"beyond all time":     {msg{}.sub(1, typed).sub(2, at(0)).sub(3, at(1<<60)), 0, codes.InvalidArgument},
	} {
		out, err := f.call(t, "PricingNodePrice", tc.in)
		if status.Code(err) != tc.code {
			t.Errorf("%s: %v, want %s", name, err, tc.code)
		} else if err == nil && !near(decode(t, out).double(1), tc.want) {
			t.Errorf("%s: %v, want %v", name, decode(t, out).double(1), tc.want)
		}
	}

	hour := func(form protowire.Number, m msg) msg { return m.sub(form+1, at(0)).sub(form+2, at(3600)) }
	for name, tc := range map[string]struct {
		pod  corev1.PodSpec
		want float64
		code codes.Code
	}{
		"a quarter of the CPUs":    {corev1.PodSpec{Containers: containers("1", "1Gi")}, 0.1, codes.OK},
		"half of the memory":       {corev1.PodSpec{Containers: containers("1", "4Gi")}, 0.2, codes.OK},
		"nothing":                  {corev1.PodSpec{}, 0.4 / 110, codes.OK},
		"two containers":           {corev1.PodSpec{Containers: append(containers("1", "0"), containers("1", "0")...)}, 0.2, codes.OK},
		"an init container":        {corev1.PodSpec{Containers: containers("1", "0"), InitContainers: containers("2", "0")}, 0.2, codes.OK},
		"overhead":                 {corev1.PodSpec{Containers: containers("1", "0"), Overhead: list("1", "0")}, 0.2, codes.OK},
		"as a whole":               {corev1.PodSpec{Containers: containers("1", "0"), Resources: &corev1.ResourceRequirements{Requests: list("3", "0")}}, 0.3, codes.OK},
		"a sidecar":                {corev1.PodSpec{Containers: containers("1", "0"), InitContainers: sidecar("1", "0")}, 0.2, codes.OK},
		"a GPU":                    {corev1.PodSpec{Containers: gpu("nvidia.com/gpu")}, 0.4, codes.OK},
		"a GPU that nobody has":    {corev1.PodSpec{Containers: gpu("amd.com/gpu")}, 0, codes.NotFound},
		"more than any node has":   {corev1.PodSpec{Containers: containers("8", "0")}, 0.8, codes.OK},
		"something we do not know": {corev1.PodSpec{Containers: gpu("example.com/thing")}, 0.4 / 110, codes.OK},
	} {
		pod := corev1.Pod{Spec: tc.pod}
		pod.Name = "p"
		b, err := pod.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		for form, in := range map[string]msg{"legacy": hour(1, msg{}.sub(1, b)), "current": hour(4, msg{}.sub(4, b))} {
			out, err := f.call(t, "PricingPodPrice", in)
			if status.Code(err) != tc.code {
				t.Errorf("%s, %s: %v, want %s", name, form, err, tc.code)
			} else if err == nil && !near(decode(t, out).double(1), tc.want) {
				t.Errorf("%s, %s: %v, want %v", name, form, decode(t, out).double(1), tc.want)
			}
		}
	}
	_, err := f.call(t, "PricingPodPrice", hour(4, msg{}.sub(4, msg{0xff})))
	wantCode(t, "a pod that is none", err, codes.InvalidArgument)
}

func near(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }

func list(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

func containers(cpu, memory string) []corev1.Container {
	return []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: list(cpu, memory), Limits: list("64", "64Gi")}}}
}

func sidecar(cpu, memory string) []corev1.Container {
	out, always := containers(cpu, memory), corev1.ContainerRestartPolicyAlways
	out[0].RestartPolicy = &always
	return out
}

func gpu(name string) []corev1.Container {
	return []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceName(name): resource.MustParse("1")}}}}
}

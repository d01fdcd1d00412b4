package deploy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// autoscalerValues are the fields of the upstream chart that the example sets.
type autoscalerValues struct {
	FullnameOverride string
	CloudProvider    string
	AutoDiscovery    struct{ ClusterName string }
	Image            struct{ Tag string }
	ReplicaCount     int
	// ExtraArgs become flags; what follows an underscore only makes keys differ.
	ExtraArgs                map[string]any
	ExtraVolumes             []corev1.Volume
	ExtraVolumeMounts        []corev1.VolumeMount
	SecurityContext          corev1.PodSecurityContext
	ContainerSecurityContext corev1.SecurityContext
	Resources                corev1.ResourceRequirements
}

// cloudConfig is what the autoscaler reads for the cloud externalgrpc.
type cloudConfig struct {
	Address     string `json:"address"`
	Key         string `json:"key"`
	Cert        string `json:"cert"`
	CACert      string `json:"cacert"`
	GRPCTimeout string `json:"grpc_timeout"`
}

func example[T any](t *testing.T, name string) T {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(root(t), "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := yaml.UnmarshalStrict(body, &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// TestAutoscalerExample compares the example with the real autoscaler's flags,
// with the worker's deadline, and with what our chart makes for its side.
func TestAutoscalerExample(t *testing.T) {
	v := example[autoscalerValues](t, "cluster-autoscaler-values.yaml")
	help := helpOf(t, "tools/cluster-autoscaler")
	for key := range v.ExtraArgs {
		name, _, _ := strings.Cut(key, "_")
		if !regexp.MustCompile(`(?m)^ +(-[a-z], )?--?` + regexp.QuoteMeta(name) + `\b`).MatchString(help) {
			t.Errorf("the autoscaler has no flag --%s", name)
		}
	}
	arg := func(name string) string { return fmt.Sprint(v.ExtraArgs[name]) }
	wait, err := time.ParseDuration(arg("max-node-provision-time"))
	if err != nil {
		t.Fatal(err)
	}
	if own := defaultOf(t, "ichor-worker", "provision-deadline"); own >= wait {
		t.Errorf("Ichor waits %s for a node, the autoscaler %s: it would give up first", own, wait)
	}
	var taints []string
	for key, value := range v.ExtraArgs {
		if strings.HasPrefix(key, "startup-taint") {
			taints = append(taints, fmt.Sprint(value))
		}
	}
	for _, want := range []string{"node.cloudprovider.kubernetes.io/uninitialized", "node.cilium.io/agent-not-ready"} {
		if !slices.Contains(taints, want) {
			t.Errorf("%s is no startup taint", want)
		}
	}
	if v.CloudProvider != "externalgrpc" || v.AutoDiscovery.ClusterName == "" {
		t.Errorf("cloud %q, cluster %q", v.CloudProvider, v.AutoDiscovery.ClusterName)
	}
	checkCloudConfig(t, v)
}

// checkCloudConfig follows the autoscaler from its flag to the provider.
func checkCloudConfig(t *testing.T, v autoscalerValues) {
	t.Helper()
	configMap := example[corev1.ConfigMap](t, "manifests/cluster-autoscaler-cloud-config.yaml")
	mounted := map[string]string{} // path in the container: key of the volume's object
	for _, m := range v.ExtraVolumeMounts {
		at := slices.IndexFunc(v.ExtraVolumes, func(v corev1.Volume) bool { return v.Name == m.Name })
		if at < 0 {
			t.Fatalf("no volume %s", m.Name)
		}
		switch source := v.ExtraVolumes[at]; {
		case source.ConfigMap != nil && source.ConfigMap.Name == configMap.Name:
			for key := range configMap.Data {
				mounted[path.Join(m.MountPath, key)] = "config " + key
			}
		case source.Secret != nil:
			for _, key := range []string{"tls.crt", "tls.key", "ca.crt"} {
				mounted[path.Join(m.MountPath, key)] = source.Secret.SecretName + " " + key
			}
		}
	}
	file := fmt.Sprint(v.ExtraArgs["cloud-config"])
	key, ok := strings.CutPrefix(mounted[file], "config ")
	if !ok {
		t.Fatalf("nothing is mounted at %s", file)
	}
	var c cloudConfig
	if err := yaml.UnmarshalStrict([]byte(configMap.Data[key]), &c); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(c.Address)
	if _, timeoutErr := time.ParseDuration(c.GRPCTimeout); errors.Join(err, timeoutErr) != nil {
		t.Fatal(errors.Join(err, timeoutErr))
	}
	objects := render(t, "--values", filepath.Join(root(t), chart, "ci", "minimal-values.yaml"),
		"--set", "provider.tls.certManager.enabled=true", "--set", "providers[0].name="+v.AutoDiscovery.ClusterName,
		"--set", "providers[0].cluster="+v.AutoDiscovery.ClusterName)
	client, served := "", false
	for _, o := range of(objects, "Certificate") {
		names, _, err := unstructured.NestedStringSlice(o.Object, "spec", "dnsNames")
		if err != nil {
			t.Fatal(err)
		}
		served = served || slices.Contains(names, host)
		if strings.HasSuffix(o.GetName(), "-client") {
			client = field(t, o, "spec", "secretName")
		}
	}
	if !served {
		t.Errorf("no certificate of the chart is for %s", host)
	}
	for name, want := range map[string]string{c.Key: client + " tls.key", c.Cert: client + " tls.crt", c.CACert: client + " ca.crt"} {
		if mounted[name] != want {
			t.Errorf("%s holds %q, want %q", name, mounted[name], want)
		}
	}
	if !slices.ContainsFunc(of(objects, "Service"), func(o *unstructured.Unstructured) bool {
		s := typed[corev1.Service](t, o)
		return strings.HasPrefix(host, s.Name+"."+s.Namespace+".") && fmt.Sprint(s.Spec.Ports[0].Port) == port
	}) {
		t.Errorf("no Service of the chart is at %s", c.Address)
	}
}

func helpOf(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program(t, name), "--help").CombinedOutput()
	// Some programs call being asked for help a failure.
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out)
}

// defaultOf reads the default of a flag out of a program's help.
func defaultOf(t *testing.T, name, flag string) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`(?s)\n  -` + flag + ` .*?\(default ([0-9a-z]+)\)`).FindStringSubmatch(helpOf(t, name))
	if m == nil {
		t.Fatalf("%s has no default for --%s", name, flag)
	}
	d, err := time.ParseDuration(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

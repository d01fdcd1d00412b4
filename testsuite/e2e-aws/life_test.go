// Package e2eaws lets AWS' own cloud controller judge a cluster on AWS' stand-in.
package e2eaws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/testsuite/stack"
)

const (
	speed = 40
	name  = "life"
)

// system is a whole Ichor whose cloud is AWS.
type system struct {
	*stack.Stack
	root, dir string
}

func start(t *testing.T) *system {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	bin := os.Getenv("ICHOR_BIN")
	if bin == "" {
		bin = filepath.Join(root, "bin")
	}
	const controller = "tools/aws-cloud-controller-manager"
	_, missing := os.Stat(filepath.Join(bin, controller))
	if err := errors.Join(stack.Missing(bin), missing); err != nil {
		t.Fatalf("%v; build everything with: make build tools bin/%s", err, controller)
	}
	s := &system{root: root, dir: t.TempDir()}
	s.Stack, err = stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: s.dir, Speed: speed, LoopbackPrefix: fmt.Sprintf("127.%d", 40+rand.IntN(60)), UIPort: -1, Settings: stack.Scaled(speed),
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last lines of the logs:\n%s", s.Tail(25))
		}
		if err := s.Close(); err != nil {
			t.Errorf("stop the system: %v", err)
		}
	})
	if err == nil {
		_, err = s.StartWorker(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ichor runs the command line, which must succeed and say the text.
func (s *system) ichor(t *testing.T, text string, args ...string) {
	t.Helper()
	r, err := s.Ichor(t.Context(), args...)
	if err != nil || r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, text) {
		t.Fatalf("ichor %s: %v, want %q\n%s", strings.Join(args, " "), err, text, r)
	}
}

// item is a resource of the account.
type item struct {
	ID, Name, State, Zone, Detail string
	Tags                          map[string]string
}

func (s *system) account(t *testing.T) (kinds map[string][]item, count int) {
	t.Helper()
	var state struct {
		AWS   map[string]json.RawMessage
		Count int
	}
	s.ask(t, http.MethodGet, "_devcloud/state", nil, &state)
	kinds = map[string][]item{}
	for kind, raw := range state.AWS {
		var list []item
		// The load balancers' part has a shape of its own; Count has them too.
		if json.Unmarshal(raw, &list) == nil {
			kinds[kind] = slices.DeleteFunc(list, func(i item) bool { return i.State == "terminated" })
		}
	}
	return kinds, state.Count
}

func (s *system) ask(t *testing.T, method, path string, in, out any) {
	t.Helper()
	if err := s.Cloud(t.Context(), method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

func (s *system) kube(t *testing.T) kubernetes.Interface {
	t.Helper()
	file := filepath.Join(s.dir, "kubeconfig")
	s.ichor(t, "", "kubeconfig", name, "--write", file)
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// nodes are those that Kubernetes has, by group. Each must be complete, and be what
// the account says of its instance.
func (s *system) nodes(ctx context.Context, t *testing.T, api kubernetes.Interface) map[string][]corev1.Node {
	t.Helper()
	list, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kinds, _ := s.account(t)
	instances := map[string]item{}
	for _, i := range kinds["instances"] {
		instances[i.Name] = i
	}
	if len(list.Items) != len(instances) {
		t.Errorf("%d nodes and %d instances", len(list.Items), len(instances))
	}
	groups := map[string][]corev1.Node{}
	for _, n := range list.Items {
		i := instances[n.Name]
		if want := "aws:///" + i.Zone + "/" + i.ID; i.ID == "" || n.Spec.ProviderID != want {
			t.Errorf("node %s: provider ID %q, want %q", n.Name, n.Spec.ProviderID, want)
		}
		if !slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			t.Errorf("node %s is not Ready: %+v", n.Name, n.Status.Conditions)
		}
		if slices.ContainsFunc(n.Spec.Taints, func(x corev1.Taint) bool { return strings.HasPrefix(x.Key, "node.cloudprovider") }) {
			t.Errorf("node %s has not been initialised: %v", n.Name, n.Spec.Taints)
		}
		// These come from the cloud controller and from nobody else.
		for label, want := range map[string]string{
			corev1.LabelTopologyZone: i.Zone, corev1.LabelTopologyRegion: "eu-central-1", corev1.LabelInstanceTypeStable: i.Detail,
		} {
			if n.Labels[label] != want {
				t.Errorf("node %s: label %s is %q, want %q", n.Name, label, n.Labels[label], want)
			}
		}
		group := i.Tags["ichor/group"]
		if want := map[bool]string{true: "arm64", false: "amd64"}[group == "arm"]; n.Status.NodeInfo.Architecture != want {
			t.Errorf("node %s is %s, want %s", n.Name, n.Status.NodeInfo.Architecture, want)
		}
		groups[group] = append(groups[group], n)
	}
	return groups
}

// TestAWSLife is the life of the demonstration's cluster.
func TestAWSLife(t *testing.T) {
	s := start(t)
	settings := map[string]any{}
	s.ask(t, http.MethodGet, "_devcloud/aws/settings", nil, &settings)
	settings["capacity"] = map[string]int{"m7g.large@eu-central-1a": 0}
	s.ask(t, http.MethodPut, "_devcloud/aws/settings", settings, nil)

	spec, err := stack.Example(s.root, "aws/demo.yaml", name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := s.WriteSpec(spec)
	if err != nil {
		t.Fatal(err)
	}
	s.ichor(t, `Cluster "life" is ready: 8 nodes`, "provision", "-f", file)
	api := s.kube(t)
	groups := s.nodes(t.Context(), t, api)
	count := func() map[string]int {
		out := map[string]int{}
		for g, nodes := range groups {
			out[g] = len(nodes)
		}
		return out
	}
	if got, want := count(), map[string]int{"cp": 3, "general": 2, "arm": 2, "gpu": 1}; !maps.Equal(got, want) {
		t.Errorf("nodes %v, want %v", got, want)
	}
	zones := func(group string) map[string]int {
		out := map[string]int{}
		for _, n := range groups[group] {
			out[n.Labels[corev1.LabelTopologyZone]]++
		}
		return out
	}
	if got, want := zones("cp"), map[string]int{"eu-central-1a": 1, "eu-central-1b": 1, "eu-central-1c": 1}; !maps.Equal(got, want) {
		t.Errorf("control planes in %v, want %v", got, want)
	}
	if got := zones("arm"); got["eu-central-1a"] != 0 {
		t.Errorf("machines in %v, where there is no capacity", got)
	}
	if s.refused(t) == 0 {
		t.Error("no launch was refused for lack of capacity")
	}

	s.ichor(t, name+"/arm: 4 of 4 ready", "scale", name+"/arm", "--to", "4", "--wait")
	if groups = s.nodes(t.Context(), t, api); len(groups["arm"]) != 4 {
		t.Errorf("%v after scaling up", count())
	}
	s.ichor(t, name+"/arm: 1 of 1 ready", "scale", name+"/arm", "--to", "1", "--wait")
	if groups = s.nodes(t.Context(), t, api); len(groups["arm"]) != 1 {
		t.Errorf("%v after scaling down", count())
	}

	s.ichor(t, `Cluster "life" is deleted`, "delete", name)
	if kinds, n := s.account(t); n != 0 {
		t.Errorf("%d resources are left: %v", n, kinds)
	}
}

// refused counts launches that the cloud refused.
func (s *system) refused(t *testing.T) int {
	t.Helper()
	var requests []struct {
		Path   string
		Status int
	}
	s.ask(t, http.MethodGet, "_devcloud/requests", nil, &requests)
	n := 0
	for _, r := range requests {
		if r.Path == "/aws/ec2/RunInstances" && r.Status == http.StatusBadRequest {
			n++
		}
	}
	return n
}

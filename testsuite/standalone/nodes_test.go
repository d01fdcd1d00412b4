package standalone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/testsuite/stack"
)

const nodesFile = `cluster: shop
credentials: env:CLOUDSCALE_API_TOKEN
kubeconfig: file:%s
zone: lpg1
nodeGroups:
- name: pool
  flavor: flex-8-4
  min: 0
  max: 4
  image: %s
  subnets: [%s]
  userData: "@worker.yaml"
  tag: role=pool
  labels: {pool: pool}
`

// With a kubeconfig, members are nodes: two workers that joined a cluster before
// are taken over as they are, a third joins with the user data of the file, and
// the Node object of a deleted machine goes, whoever wants it gone.
func TestNodesOfATakenOverGroup(t *testing.T) {
	s := start(t).worker()
	base := s.cluster("base")
	place := map[string]any{
		"zone": "lpg1", "flavor": "flex-8-4", "image": base.image, "ssh_keys": []string{}, "volume_size_gb": 50,
		"interfaces": []any{map[string]any{"network": "public"}, map[string]any{"addresses": []any{map[string]any{"subnet": base.subnet}}}},
		"user_data":  base.userData, "tags": map[string]string{"role": "pool"},
	}
	for i := range 2 {
		place["name"] = fmt.Sprintf("hand-made-%d", i)
		if err := s.Cloud(t.Context(), http.MethodPost, "v1/servers", place, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.eventually("two workers join by themselves", base.ready("hand-made-0", "hand-made-1"))
	before := s.byName()
	hand := []string{before["hand-made-0"], before["hand-made-1"]}
	_, seq := s.writes(0)

	config := s.write("groups.yaml", fmt.Sprintf(nodesFile, base.kubeconfig, base.image, base.subnet))
	s.write("worker.yaml", base.userData)
	p := s.serve(config)
	s.sees(p, "shop/pool", "two members", group{Target: 2, Instances: running(hand...)})
	if done := withoutControllers(s.writes(seq)); len(done) > 0 {
		t.Fatalf("taking over made or deleted something: %q", done)
	}

	if _, err := p.NodeGroupIncreaseSize(t.Context(), &pb.NodeGroupIncreaseSizeRequest{Id: "shop/pool", Delta: 1}); err != nil {
		t.Fatal(err)
	}
	var third, name string
	s.eventually("the third", func(context.Context) error {
		for n, uuid := range s.byName() {
			if strings.HasPrefix(n, "shop-pool-") {
				third, name = uuid, n
				return nil
			}
		}
		return errors.New("is not there")
	})
	s.sees(p, "shop/pool", "three members", group{Target: 3, Instances: running(append(slices.Clone(hand), third)...)})
	s.eventually("the third joins with the user data of the file", base.ready("hand-made-0", "hand-made-1", name))

	t.Run("the autoscaler deletes one that was taken over", func(t *testing.T) {
		s := s.on(t)
		_, err := p.NodeGroupDeleteNodes(t.Context(), &pb.NodeGroupDeleteNodesRequest{
			Id: "shop/pool", Nodes: []*pb.ExternalGrpcNode{{Name: "hand-made-1", ProviderID: "cloudscale://" + hand[1]}},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.sees(p, "shop/pool", "two members", group{Target: 2, Instances: running(hand[0], third)})
		s.eventually("its Node object goes", base.gone("hand-made-1"))
	})
	t.Run("a person scales the group to none", func(t *testing.T) {
		s := s.on(t)
		r, err := s.Ichor(t.Context(), "scale", "shop/pool", "--to", "0")
		if err != nil || r.Code != 0 {
			t.Fatalf("%v %s", err, r)
		}
		s.sees(p, "shop/pool", "no member", group{Instances: running()})
		s.eventually("all Node objects go", base.gone("hand-made-0", name))
	})
	for _, n := range base.nodes(t) {
		if after := s.byName(); after[n] == "" || after[n] != before[n] {
			t.Errorf("node %s of the cluster itself: server %q, was %q", n, after[n], before[n])
		}
	}
}

// withoutControllers leaves out what the cluster's own controllers ask for.
func withoutControllers(done []string, _ int) []string {
	return slices.DeleteFunc(done, func(w string) bool { return !strings.Contains(w, "server") })
}

// byName returns the uuids of all servers by name.
func (s *system) byName() map[string]string {
	s.t.Helper()
	a, err := s.Account(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range a.Machines() {
		out[r.Name] = r.ID
	}
	return out
}

// foreign is a cluster that the provider knows only through a file.
type foreign struct {
	api                                 kubernetes.Interface
	kubeconfig, image, subnet, userData string
}

// cluster makes one. That Ichor makes it is convenient; the group under test
// knows nothing of it.
func (s *system) cluster(name string) foreign {
	s.t.Helper()
	root, err := stack.Root()
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := stack.Spec(root, name)
	if err != nil {
		s.t.Fatal(err)
	}
	spec, err := s.WriteSpec(stack.Small(c))
	if err != nil {
		s.t.Fatal(err)
	}
	if r, err := s.Ichor(s.t.Context(), "provision", "-f", spec); err != nil || r.Code != 0 {
		s.t.Fatalf("%v %s", err, r)
	}
	rec, config := s.record(name)
	out := foreign{image: rec.Frozen.ImageID, userData: config, kubeconfig: filepath.Join(s.dir, "base.kubeconfig")}
	if r, err := s.Ichor(s.t.Context(), "kubeconfig", name, "--write", out.kubeconfig); err != nil || r.Code != 0 {
		s.t.Fatalf("%v %s", err, r)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", out.kubeconfig)
	if err != nil {
		s.t.Fatal(err)
	}
	if out.api, err = kubernetes.NewForConfig(rest); err != nil {
		s.t.Fatal(err)
	}
	a, err := s.Account(s.t.Context())
	if err != nil || len(a.Kind(stack.Subnets)) != 1 {
		s.t.Fatalf("subnets: %v %v", a.Kind(stack.Subnets), err)
	}
	out.subnet = a.Kind(stack.Subnets)[0].ID
	return out
}

// record reads a cluster's record and the config of its workers without what
// belongs to one of them.
func (s *system) record(name string) (cluster.Record, string) {
	s.t.Helper()
	st, err := store.Open(s.t.Context(), store.Options{URL: "file://" + filepath.Join(s.dir, "store")})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		if err := st.Close(); err != nil {
			s.t.Error(err)
		}
	}()
	rec, _, err := st.Record(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, b := range rec.Frozen.BaseConfig {
		if b.Role == cluster.RoleWorker {
			body, err := st.GetObject(s.t.Context(), b.Ref)
			if err != nil {
				s.t.Fatal(err)
			}
			return rec, string(body.Reveal())
		}
	}
	s.t.Fatal("the record has no config of workers")
	return rec, ""
}

// ready complains about nodes that are not ready.
func (f foreign) ready(names ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, name := range names {
			n, err := f.api.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			ready := slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
				return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
			})
			if !ready || n.Spec.ProviderID == "" {
				return fmt.Errorf("node %s: ready %v, provider ID %q", name, ready, n.Spec.ProviderID)
			}
		}
		return nil
	}
}

// gone complains about nodes that exist.
func (f foreign) gone(names ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		list, err := f.api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, n := range list.Items {
			if slices.Contains(names, n.Name) {
				return fmt.Errorf("node %s is there", n.Name)
			}
		}
		return nil
	}
}

func (f foreign) nodes(t *testing.T) []string {
	t.Helper()
	list, err := f.api.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("nodes: %v %v", list, err)
	}
	var out []string
	for _, n := range list.Items {
		out = append(out, n.Name)
	}
	return out
}

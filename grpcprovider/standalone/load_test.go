package standalone

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/workflows"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(t.Context(), store.Options{URL: "file://" + filepath.Join(t.TempDir(), "store")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

func load(t *testing.T, file string) Setup {
	t.Helper()
	s, err := Load(t.Context(), file, openStore(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadTheOtherSpelling(t *testing.T) {
	s := load(t, "testdata/other.yaml")
	ref := cluster.Ref{Name: "shop", UID: s.Cluster.UID}
	want := []workflows.GroupInput{{
		Cluster: ref, Group: "worker", Role: cluster.RoleWorker,
		Cloud: cluster.Cloud{Provider: "cloudscale", Zone: "rma1", Credentials: "env:CLOUDSCALE_API_TOKEN"}, Zone: "rma1",
		Flavor: "flex-8-2", DiskGiB: 100, ImageID: "custom:talos-v1-13", Networks: []string{"2db69ba3-1864-4608-853a-0771b6885a3a"},
		Tags:   []cluster.Tag{{Key: "k8s-autoscaler-group", Value: "worker"}, {Key: "k8s-cluster", Value: "shop"}, {Key: "team", Value: "web"}},
		Spread: true, Max: 10,
		Standalone: &workflows.Standalone{
			Kube:     activities.KubeTarget{Ref: ref, Kubeconfig: activities.InCluster},
			UserData: s.Groups[0].Standalone.UserData,
			AdoptTag: &cluster.Tag{Key: "k8s-autoscaler-group", Value: "worker"}, AdoptAlso: []cluster.Tag{{Key: "k8s-cluster", Value: "shop"}},
			Labels: []cluster.Tag{{Key: "node.kubernetes.io/role", Value: "worker"}},
			Taints: []cluster.Taint{{Key: "example.com/batch", Effect: "NoSchedule"}},
		},
	}}
	if diff := cmp.Diff(want, s.Groups); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"listen and tls have no effect: they are settings of the command"}, s.Notes); diff != "" {
		t.Error(diff)
	}
}

func TestLoadOurSpelling(t *testing.T) {
	s := load(t, "testdata/groups.yaml")
	if diff := cmp.Diff(map[string]float64{"flex-8-2": 0.08, "flex-16-4": 0.2, "flex-16-8": 0.25}, s.Prices); diff != "" {
		t.Error(diff)
	}
	worker, batch := s.Groups[0], s.Groups[1]
	if worker.Zone != "rma1" || worker.DiskGiB != cluster.DefaultDiskGiB || worker.Target != 1 || worker.Min != 1 || !worker.Spread {
		t.Errorf("defaults: %+v", worker)
	}
	if got := worker.Standalone.Kube; got != (activities.KubeTarget{Ref: s.Cluster, Kubeconfig: "kube:ichor/shop#kubeconfig"}) {
		t.Errorf("kubeconfig: %+v", got)
	}
	if diff := cmp.Diff(&cluster.Tag{Key: "k8s-autoscaler-group", Value: "worker"}, worker.Standalone.AdoptTag); diff != "" {
		t.Error(diff)
	}
	wantTags := []cluster.Tag{{Key: "role", Value: "batch-nodes"}, {Key: "team", Value: "data"}}
	if diff := cmp.Diff(wantTags, batch.Tags); diff != "" {
		t.Error(diff)
	}
	if batch.Zone != "lpg1" || batch.Cloud.Zone != "lpg1" || batch.DiskGiB != 100 || batch.Spread || batch.Autoscaling == nil ||
		len(batch.Subnets) != 1 || len(batch.Networks) != 1 || len(batch.Alternatives) != 1 || batch.Standalone.AdoptAlso != nil {
		t.Errorf("batch: %+v", batch)
	}
}

func TestLoadTheExample(t *testing.T) {
	s := load(t, "../../examples/standalone/groups.yaml")
	if len(s.Groups) != 2 || len(s.Notes) != 0 || s.Groups[0].Min != 3 {
		t.Errorf("%+v", s)
	}
}

func TestLoadKeepsUserDataEncryptedAndOutOfTheInput(t *testing.T) {
	st := openStore(t)
	first, err := Load(t.Context(), "testdata/groups.yaml", st)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(t.Context(), "testdata/groups.yaml", st)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("a second look gives something else:\n%s", diff)
	}
	for i, want := range []string{"canary-of-the-join-token", "machine: {type: worker}"} {
		u := first.Groups[i].Standalone.UserData
		body, err := st.GetBody(t.Context(), u.Ref, u.SHA256)
		if err != nil || !strings.Contains(string(body.Reveal()), want) {
			t.Errorf("group %d: the user data is not in the store: %v", i, err)
		}
	}
	b, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "canary") || strings.Contains(string(b), "machine:") {
		t.Errorf("user data would reach Temporal: %s", b)
	}
}

func TestTheClusterIsTheSameAfterARestart(t *testing.T) {
	base := uid("cloudscale", "env:A", "shop")
	if base != uid("cloudscale", "env:A", "shop") || len(base) != 36 || base[14] != '8' {
		t.Errorf("uid %s", base)
	}
	for _, other := range []string{uid("cloudscale", "env:B", "shop"), uid("cloudscale", "env:A", "shops"), uid("other", "env:A", "shop")} {
		if other == base {
			t.Errorf("another cluster has the uid %s, too", other)
		}
	}
}

func TestLoadWithoutKubeconfigSaysWhatThatMeans(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "talos"), "machine: {}")
	write(t, filepath.Join(dir, "groups.yaml"), minimal+"kubeconfig: none\n")
	s := load(t, filepath.Join(dir, "groups.yaml"))
	if k := s.Groups[0].Standalone.Kube; !k.None || k.Kubeconfig != "" {
		t.Errorf("%+v", k)
	}
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "none is replaced, and no Node object is deleted") {
		t.Errorf("notes: %q", s.Notes)
	}
}

func TestLoadProblemsOfUserData(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty"), " \n")
	write(t, filepath.Join(dir, "large"), canary+strings.Repeat("x", 32<<10))
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for data, want := range map[string]string{
		"@absent": "no such file", "@empty": "is empty", "@large": "bytes, and cloudscale takes 32768", "@pipe": "not a regular file", "@": "not a regular file",
	} {
		write(t, filepath.Join(dir, "groups.yaml"), strings.Replace(minimal, "@talos", data, 1))
		_, err := Load(t.Context(), filepath.Join(dir, "groups.yaml"), openStore(t))
		if err == nil || !strings.HasPrefix(err.Error(), "nodeGroups[0].userData (line 9): ") || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// records is a store with one record.
type records struct {
	Store
	rec cluster.Record
}

func (r records) Record(context.Context, string) (cluster.Record, store.Revision, error) {
	return r.rec, 1, nil
}

func TestLoadRefusesTheNameOfAClusterOfIchor(t *testing.T) {
	st := openStore(t)
	rec := cluster.Record{Ref: cluster.Ref{Name: "shop", UID: "u"}, Phase: cluster.PhaseReady}
	_, err := Load(t.Context(), "testdata/groups.yaml", records{st, rec})
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "--cluster shop") {
		t.Error(err)
	}
	if keys, err := st.List(t.Context(), "clusters"); err != nil || len(keys) > 0 {
		t.Errorf("something was stored: %v %v", keys, err)
	}
	rec.Phase = cluster.PhaseDeleted
	if _, err := Load(t.Context(), "testdata/groups.yaml", records{st, rec}); err != nil {
		t.Errorf("a deleted cluster: %v", err)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReferencesAreNotResolved(t *testing.T) {
	// References are for the worker; here they need not even exist.
	t.Setenv("CLOUDSCALE_API_TOKEN", canary)
	b, err := json.Marshal(load(t, "testdata/groups.yaml"))
	if err != nil || strings.Contains(string(b), canary) {
		t.Errorf("%s %v", b, err)
	}
}

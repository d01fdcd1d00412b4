package rig

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ichor-project/ichor/internal/secrets/store"
	"github.com/ichor-project/ichor/internal/talos"
)

// uninitialized is the taint that a cloud controller takes away.
const uninitialized = "node.cloudprovider.kubernetes.io/uninitialized"

// nodes proves that the cluster's own API shows one ready node for each machine of
// the account and no other. The credentials are those that the product keeps;
// the client is not.
func (r *Rig) nodes(ctx context.Context, s State) error {
	st, err := store.Open(ctx, store.Options{URL: "file://" + filepath.Join(r.dir, "store")})
	if err != nil {
		return err
	}
	rec, _, err := st.Record(ctx, Cluster)
	if err != nil {
		return err
	}
	bundle, err := st.GetObject(ctx, rec.Frozen.Bundle)
	if err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	kubeconfig, err := talos.Kubeconfig(talos.Access{Bundle: bundle, Cluster: rec.Ref.Name, TTL: time.Hour, Now: time.Now()}, rec.Endpoint)
	if err != nil {
		return err
	}
	rest, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig.Reveal())
	if err != nil {
		return err
	}
	rest.Timeout = 20 * time.Second
	api, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	list, err := api.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	var have, want []string
	for _, n := range list.Items {
		have = append(have, n.Name+" "+n.Spec.ProviderID+" "+judge(n))
	}
	for _, v := range s.Machines() {
		want = append(want, v.Name+" "+r.Home.ProviderID(v)+" ready")
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		return fmt.Errorf("nodes:\n    %s\n  want\n    %s", strings.Join(have, "\n    "), strings.Join(want, "\n    "))
	}
	return nil
}

func judge(n corev1.Node) string {
	if slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == uninitialized }) {
		return "uninitialized"
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			return "ready"
		}
	}
	return "not ready"
}

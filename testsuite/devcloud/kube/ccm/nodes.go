package ccm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	providerPrefix = "cloudscale://"
	uninitialized  = "node.cloudprovider.kubernetes.io/uninitialized"
	shutDown       = "node.cloudprovider.kubernetes.io/shutdown"
	// providedIP is the address a kubelet was configured with: the cloud has to
	// know it.
	providedIP = "alpha.kubernetes.io/provided-node-ip"
)

func isUninitialized(node *corev1.Node) bool { return hasTaint(node, uninitialized) }

func hasTaint(node *corev1.Node, key string) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == key })
}

func isReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
	})
}

// initialize gives new nodes what the cloud knows of them. What hinders it at
// one node does not hinder it at the others.
func (c *controller) initialize(ctx context.Context, cloud *cloud, nodes []*corev1.Node) error {
	if len(nodes) == 0 {
		return nil
	}
	servers, err := cloud.servers(ctx)
	for _, node := range nodes {
		err := err
		if err == nil {
			err = c.initializeNode(ctx, node, servers)
		}
		if err == nil {
			delete(c.retries, node.UID)
		} else {
			c.retries[node.UID] = c.retries[node.UID].next()
		}
		if !apierrors.IsConflict(err) { // the next round sees the new version
			c.say(node.Name, err)
		}
	}
	return err
}

// find is the server of a node: by its provider ID, else by its exact name,
// which cloudscale.ch does not keep unique.
func find(servers []server, node *corev1.Node) (server, error) {
	if id := node.Spec.ProviderID; id != "" {
		uuid, ok := strings.CutPrefix(id, providerPrefix)
		if !ok {
			return server{}, fmt.Errorf("%q is not a valid cloudscale provider id", id)
		}
		at := slices.IndexFunc(servers, func(s server) bool { return s.UUID == uuid })
		if at < 0 {
			return server{}, fmt.Errorf("%s: %w", id, errNoServer)
		}
		return servers[at], nil
	}
	var found []server
	for _, s := range servers {
		if s.Name == node.Name {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return server{}, fmt.Errorf("name %q: %w", node.Name, errNoServer)
	case 1:
		return found[0], nil
	}
	return server{}, fmt.Errorf("found more than one server named %q", node.Name)
}

func (c *controller) initializeNode(ctx context.Context, node *corev1.Node, servers []server) error {
	node, err := c.acts.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	s, err := find(servers, node)
	if err != nil {
		return err
	}
	addresses, err := nodeAddresses(node, s)
	if err != nil {
		return err
	}
	// Addresses first: a node without the taint is taken for complete.
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"addresses": addresses}})
	if err != nil {
		return err
	}
	updated, err := c.acts.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return err
	}
	updated.Spec.ProviderID = providerPrefix + s.UUID
	if updated.Labels == nil {
		updated.Labels = map[string]string{}
	}
	for key, value := range map[string]string{
		corev1.LabelInstanceTypeStable: s.Flavor.Slug, corev1.LabelInstanceType: s.Flavor.Slug,
		corev1.LabelTopologyZone: s.Zone.Slug, corev1.LabelFailureDomainBetaZone: s.Zone.Slug,
		corev1.LabelTopologyRegion: s.region(), corev1.LabelFailureDomainBetaRegion: s.region(),
	} {
		updated.Labels[key] = value
	}
	updated.Spec.Taints = slices.DeleteFunc(updated.Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Key == uninitialized
	})
	_, err = c.acts.CoreV1().Nodes().Update(ctx, updated, metav1.UpdateOptions{})
	return err
}

// nodeAddresses are the server's, with the one the kubelet was given as the only
// one of its kind. A node with an address the cloud does not know stays as it is.
func nodeAddresses(node *corev1.Node, s server) ([]corev1.NodeAddress, error) {
	all := s.addresses()
	provided := node.Annotations[providedIP]
	if provided == "" {
		return all, nil
	}
	at := slices.IndexFunc(all, func(address corev1.NodeAddress) bool { return address.Address == provided })
	if at < 0 {
		return nil, fmt.Errorf("server %s has no address %s, which is the node's", s.UUID, provided)
	}
	chosen := []corev1.NodeAddress{all[at]}
	for _, address := range all {
		if address.Type != all[at].Type {
			chosen = append(chosen, address)
		}
	}
	return chosen, nil
}

// monitor looks at nodes that are not ready: one whose server is gone goes too,
// one whose server is stopped is marked. Only a 404 proves that a server is
// gone.
func (c *controller) monitor(ctx context.Context, cloud *cloud, nodes []*corev1.Node) {
	for _, node := range nodes {
		uuid, ok := strings.CutPrefix(node.Spec.ProviderID, providerPrefix)
		if !ok {
			continue
		}
		if isReady(node) {
			c.say("shutdown of "+node.Name, c.mark(ctx, node, false))
			continue
		}
		found, err := cloud.server(ctx, uuid)
		switch {
		case errors.Is(err, errNoServer):
			err = c.acts.CoreV1().Nodes().Delete(ctx, node.Name, metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &node.UID},
			})
			if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
				err = nil
			}
		case err == nil:
			err = c.mark(ctx, node, found.Status == "stopped")
		}
		c.say("shutdown of "+node.Name, err)
	}
}

// mark sets or removes the taint of a server that is switched off.
func (c *controller) mark(ctx context.Context, node *corev1.Node, stopped bool) error {
	if hasTaint(node, shutDown) == stopped {
		return nil
	}
	updated := node.DeepCopy()
	updated.Spec.Taints = slices.DeleteFunc(updated.Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Key == shutDown
	})
	if stopped {
		updated.Spec.Taints = append(updated.Spec.Taints, corev1.Taint{Key: shutDown, Effect: corev1.TaintEffectNoSchedule})
	}
	_, err := c.acts.CoreV1().Nodes().Update(ctx, updated, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

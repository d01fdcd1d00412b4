package main

import (
	"context"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/testsuite/stack"
)

// network has an address for each machine of the largest cluster, and no more
// than any cloud allows.
const network = "10.200.0.0/22"

// podNetwork has the /24 that each node takes of it, for rolls of 500 too.
const podNetwork = "10.128.0.0/12"

// writeSpec writes the cluster to provision and returns its path: that of the
// cloud's demonstration with one group of workers.
func writeSpec(st *stack.Stack, on manner, root string, sh shape) (string, error) {
	c, err := stack.Named(on.provider)
	if err != nil {
		return "", err
	}
	spec, err := c.Spec(root, clusterName)
	if err != nil {
		return "", err
	}
	return st.WriteSpec(shaped(spec, sh))
}

// shaped makes a cluster one of a shape, whose workers are where its control
// planes are.
func shaped(c cluster.Cluster, sh shape) cluster.Cluster {
	s := &c.Spec
	s.Network.CIDR, s.Network.PodCIDR, s.OnFailure = network, podNetwork, cluster.OnFailureKeep
	s.ControlPlane.Replicas = sh.controlPlanes
	s.NodeGroups = s.NodeGroups[:1:1]
	g := &s.NodeGroups[0]
	g.Name, g.Min, g.Max, g.Count, g.Zones = "workers", 0, sh.workers, &sh.workers, s.ControlPlane.Zones
	return c
}

// machineNames are those of the machines that there are, by id.
func machineNames(ctx context.Context, st *stack.Stack) (map[string]string, error) {
	a, err := st.Account(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, m := range a.Machines() {
		out[m.ID] = m.Name
	}
	return out, nil
}

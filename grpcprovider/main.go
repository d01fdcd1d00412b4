// Command ichor-grpcprovider will serve the Cluster Autoscaler's externalgrpc
// contract. Until it does it refuses to start, so that nobody mistakes an idle
// process for a working provider.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "ichor-grpcprovider: autoscaling is not part of this release; scale node groups when the cluster is created (spec.nodeGroups[].count)")
	os.Exit(1)
}

// Command cluster-autoscaler is the Cluster Autoscaler's core 1.33 with its own
// externalgrpc client, which speaks the contract's older generation. It is built
// with the tag externalgrpc and understands the flags of the released program.
package main

import (
	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider"
	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider/builder"
	"k8s.io/autoscaler/cluster-autoscaler/config"

	"github.com/ichor-project/ichor/tools/cluster-autoscaler/run"
)

func main() {
	run.Main(func(o config.AutoscalingOptions) (cloudprovider.CloudProvider, error) {
		return builder.NewCloudProvider(o, nil), nil
	})
}

package run

import (
	"context"
	"fmt"

	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider"
	"k8s.io/autoscaler/cluster-autoscaler/config"
	"k8s.io/autoscaler/cluster-autoscaler/core"
	"k8s.io/autoscaler/cluster-autoscaler/core/podlistprocessor"
	"k8s.io/autoscaler/cluster-autoscaler/core/scaleup/orchestrator"
	"k8s.io/autoscaler/cluster-autoscaler/debuggingsnapshot"
	"k8s.io/autoscaler/cluster-autoscaler/metrics"
	"k8s.io/autoscaler/cluster-autoscaler/processors"
	"k8s.io/autoscaler/cluster-autoscaler/processors/nodegroupset"
	"k8s.io/autoscaler/cluster-autoscaler/processors/nodeinfosprovider"
	"k8s.io/autoscaler/cluster-autoscaler/processors/scaledowncandidates"
	"k8s.io/autoscaler/cluster-autoscaler/processors/scaledowncandidates/emptycandidates"
	"k8s.io/autoscaler/cluster-autoscaler/processors/scaledowncandidates/previouscandidates"
	"k8s.io/autoscaler/cluster-autoscaler/simulator/clustersnapshot/predicate"
	"k8s.io/autoscaler/cluster-autoscaler/simulator/clustersnapshot/store"
	"k8s.io/autoscaler/cluster-autoscaler/simulator/drainability/rules"
	"k8s.io/autoscaler/cluster-autoscaler/simulator/framework"
	nodeoptions "k8s.io/autoscaler/cluster-autoscaler/simulator/options"
	"k8s.io/autoscaler/cluster-autoscaler/simulator/scheduling"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
)

// assemble connects the core's parts as the flags say.
func assemble(ctx context.Context, client kubernetes.Interface, provider cloudprovider.CloudProvider, o config.AutoscalingOptions) (core.Autoscaler, error) {
	factory := informers.NewSharedInformerFactory(client, 0)
	handle, err := framework.NewHandle(factory, o.SchedulerConfig, o.DynamicResourceAllocationEnabled)
	if err != nil {
		return nil, err
	}
	deletion := nodeoptions.NewNodeDeleteOptions(o)
	drain := rules.Default(deletion)
	snapshot := predicate.NewPredicateSnapshot(store.NewDeltaSnapshotStore(o.ClusterSnapshotParallelism), handle, o.DynamicResourceAllocationEnabled)

	p := processors.DefaultProcessors(o)
	p.TemplateNodeInfoProvider = nodeinfosprovider.NewDefaultTemplateNodeInfoProvider(&o.NodeInfoCacheExpireTime, o.ForceDaemonSets)
	p.PodListProcessor = podlistprocessor.NewDefaultPodListProcessor(scheduling.ScheduleAnywhere)
	previous := previouscandidates.NewPreviousCandidates()
	p.ScaleDownCandidatesNotifier.Register(previous)
	candidates := scaledowncandidates.NewCombinedScaleDownCandidatesProcessor()
	candidates.Register(scaledowncandidates.NewScaleDownCandidatesSortingProcessor([]scaledowncandidates.CandidatesComparer{
		emptycandidates.NewEmptySortingProcessor(emptycandidates.NewNodeInfoGetter(snapshot), deletion, drain),
		previous,
	}))
	if o.ScaleDownDelayTypeLocal {
		delay := scaledowncandidates.NewScaleDownCandidatesDelayProcessor()
		candidates.Register(delay)
		p.ScaleStateNotifier.Register(delay)
	}
	p.ScaleDownNodeProcessor = candidates
	similar := nodegroupset.CreateGenericNodeInfoComparator(o.BalancingExtraIgnoredLabels, o.NodeGroupSetRatios)
	if len(o.BalancingLabels) > 0 {
		similar = nodegroupset.CreateLabelNodeInfoComparator(o.BalancingLabels)
	}
	p.NodeGroupSetProcessor = &nodegroupset.BalancingNodeGroupSetProcessor{Comparator: similar}
	metrics.InitMetrics()

	autoscaler, failure := core.NewAutoscaler(core.AutoscalerOptions{
		AutoscalingOptions:   o,
		CloudProvider:        provider,
		KubeClient:           client,
		InformerFactory:      factory,
		FrameworkHandle:      handle,
		ClusterSnapshot:      snapshot,
		Processors:           p,
		ScaleUpOrchestrator:  orchestrator.New(),
		DebuggingSnapshotter: debuggingsnapshot.NewDebuggingSnapshotter(o.DebuggingSnapshotEnabled),
		DeleteOptions:        deletion,
		DrainabilityRules:    drain,
	}, factory)
	if failure != nil {
		return nil, failure
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return nil, fmt.Errorf("cannot watch %v", kind)
		}
	}
	return autoscaler, nil
}

package main

import (
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	v1 "k8s.io/api/core/v1"
	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider"
	"k8s.io/autoscaler/cluster-autoscaler/config"
	"k8s.io/autoscaler/cluster-autoscaler/simulator/framework"

	"github.com/ichor-project/ichor/tools/cluster-autoscaler/newwire/wire"
)

// group is one node group. The released client makes a new one after each
// Refresh, and one per node, so it is cached no longer here.
type group struct {
	caller
	*wire.NodeGroup

	mu       sync.Mutex
	template *framework.NodeInfo
}

var _ cloudprovider.NodeGroup = (*group)(nil)

func newGroup(c caller, g *wire.NodeGroup) *group { return &group{caller: c, NodeGroup: g} }

func (g *group) Id() string    { return g.GetId() }
func (g *group) MinSize() int  { return int(g.GetMinSize()) }
func (g *group) MaxSize() int  { return int(g.GetMaxSize()) }
func (g *group) Debug() string { return g.GetDebug() }

func (g *group) TargetSize() (int, error) {
	response, err := rpc(g.caller, g.NodeGroupTargetSize, &wire.NodeGroupTargetSizeRequest{Id: g.Id()})
	return int(response.GetTargetSize()), err
}

func (g *group) IncreaseSize(delta int) error {
	_, err := rpc(g.caller, g.NodeGroupIncreaseSize, &wire.NodeGroupIncreaseSizeRequest{Id: g.Id(), Delta: int32(delta)})
	return err
}

func (*group) AtomicIncreaseSize(int) error { return cloudprovider.ErrNotImplemented }

func (g *group) DeleteNodes(nodes []*v1.Node) error {
	request := &wire.NodeGroupDeleteNodesRequest{Id: g.Id()}
	for _, n := range nodes {
		request.Nodes = append(request.Nodes, external(n))
	}
	_, err := rpc(g.caller, g.NodeGroupDeleteNodes, request)
	return err
}

func (*group) ForceDeleteNodes([]*v1.Node) error { return cloudprovider.ErrNotImplemented }

func (g *group) DecreaseTargetSize(delta int) error {
	_, err := rpc(g.caller, g.NodeGroupDecreaseTargetSize, &wire.NodeGroupDecreaseTargetSizeRequest{Id: g.Id(), Delta: int32(delta)})
	return err
}

func (g *group) Nodes() ([]cloudprovider.Instance, error) {
	response, err := rpc(g.caller, g.NodeGroupNodes, &wire.NodeGroupNodesRequest{Id: g.Id()})
	if err != nil {
		return nil, err
	}
	instances := []cloudprovider.Instance{}
	for _, i := range response.GetInstances() {
		instances = append(instances, cloudprovider.Instance{Id: i.GetId(), Status: statusOf(i.GetStatus())})
	}
	return instances, nil
}

// statusOf drops the whole status when the state is not specified, and an error
// without a code: as the released client does.
func statusOf(s *wire.InstanceStatus) *cloudprovider.InstanceStatus {
	if s.GetInstanceState() == wire.InstanceStatus_unspecified {
		return nil
	}
	out := &cloudprovider.InstanceStatus{State: cloudprovider.InstanceState(s.GetInstanceState())}
	if e := s.GetErrorInfo(); e.GetErrorCode() != "" {
		out.ErrorInfo = &cloudprovider.InstanceErrorInfo{
			ErrorClass: cloudprovider.InstanceErrorClass(e.GetInstanceErrorClass()),
			ErrorCode:  e.GetErrorCode(), ErrorMessage: e.GetErrorMessage(),
		}
	}
	return out
}

// TemplateNodeInfo returns nil without an error for an empty answer, which the
// core does not survive: that is how the released client behaves.
func (g *group) TemplateNodeInfo() (*framework.NodeInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.template != nil {
		return g.template, nil
	}
	response, err := rpc(g.caller, g.NodeGroupTemplateNodeInfo, &wire.NodeGroupTemplateNodeInfoRequest{Id: g.Id()})
	if err != nil {
		return nil, optional(err)
	}
	if len(response.GetNodeBytes()) == 0 {
		return nil, nil
	}
	node := &v1.Node{}
	if err := node.Unmarshal(response.GetNodeBytes()); err != nil {
		return nil, err
	}
	g.template = framework.NewNodeInfo(node, nil)
	return g.template, nil
}

func (*group) Exist() bool                              { return true }
func (*group) Create() (cloudprovider.NodeGroup, error) { return nil, cloudprovider.ErrNotImplemented }
func (*group) Delete() error                            { return cloudprovider.ErrNotImplemented }
func (*group) Autoprovisioned() bool                    { return false }

// GetOptions takes a duration that is missing for zero, as the released client
// does.
func (g *group) GetOptions(d config.NodeGroupAutoscalingOptions) (*config.NodeGroupAutoscalingOptions, error) {
	response, err := rpc(g.caller, g.NodeGroupGetOptions, &wire.NodeGroupAutoscalingOptionsRequest{
		Id: g.Id(),
		Defaults: &wire.NodeGroupAutoscalingOptions{
			ScaleDownUtilizationThreshold:    d.ScaleDownUtilizationThreshold,
			ScaleDownGpuUtilizationThreshold: d.ScaleDownGpuUtilizationThreshold,
			ScaleDownUnneededDuration:        durationpb.New(d.ScaleDownUnneededTime),
			ScaleDownUnreadyDuration:         durationpb.New(d.ScaleDownUnreadyTime),
			MaxNodeProvisionDuration:         durationpb.New(d.MaxNodeProvisionTime),
			ZeroOrMaxNodeScaling:             d.ZeroOrMaxNodeScaling,
			IgnoreDaemonSetsUtilization:      d.IgnoreDaemonSetsUtilization,
		},
	})
	if err != nil {
		return nil, optional(err)
	}
	o := response.GetNodeGroupAutoscalingOptions()
	if o == nil {
		return nil, nil
	}
	return &config.NodeGroupAutoscalingOptions{
		ScaleDownUtilizationThreshold:    o.GetScaleDownUtilizationThreshold(),
		ScaleDownGpuUtilizationThreshold: o.GetScaleDownGpuUtilizationThreshold(),
		ScaleDownUnneededTime:            o.GetScaleDownUnneededDuration().AsDuration(),
		ScaleDownUnreadyTime:             o.GetScaleDownUnreadyDuration().AsDuration(),
		MaxNodeProvisionTime:             o.GetMaxNodeProvisionDuration().AsDuration(),
		ZeroOrMaxNodeScaling:             o.GetZeroOrMaxNodeScaling(),
		IgnoreDaemonSetsUtilization:      o.GetIgnoreDaemonSetsUtilization(),
	}, nil
}

// prices asks the provider what nodes and pods cost.
type prices struct{ caller }

var _ cloudprovider.PricingModel = prices{}

func (p prices) NodePrice(node *v1.Node, start, end time.Time) (float64, error) {
	response, err := rpc(p.caller, p.PricingNodePrice, &wire.PricingNodePriceRequest{
		Node: external(node), StartTimestamp: timestamppb.New(start), EndTimestamp: timestamppb.New(end),
	})
	return response.GetPrice(), optional(err)
}

func (p prices) PodPrice(pod *v1.Pod, start, end time.Time) (float64, error) {
	body, err := pod.Marshal()
	if err != nil {
		return 0, err
	}
	response, err := rpc(p.caller, p.PricingPodPrice, &wire.PricingPodPriceRequest{
		PodBytes: body, StartTimestamp: timestamppb.New(start), EndTimestamp: timestamppb.New(end),
	})
	return response.GetPrice(), optional(err)
}

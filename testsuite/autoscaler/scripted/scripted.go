// Package scripted is a cloud provider that does what a test tells it. It shows
// that the suite's own parts work before they judge anything.
package scripted

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	v1 "k8s.io/api/core/v1"

	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// Provider serves one node group.
type Provider struct {
	wire.UnimplementedCloudProviderServer

	ID       string
	Min, Max int32
	// Template is what a new node looks like.
	Template *v1.Node

	mu        sync.Mutex
	instances []*wire.Instance
}

// Instances are the ids of all wanted machines.
func (p *Provider) Instances() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ids := make([]string, 0, len(p.instances))
	for _, i := range p.instances {
		ids = append(ids, i.GetId())
	}
	return ids
}

// NodeGroups implements the contract.
func (p *Provider) NodeGroups(context.Context, *wire.NodeGroupsRequest) (*wire.NodeGroupsResponse, error) {
	return &wire.NodeGroupsResponse{NodeGroups: []*wire.NodeGroup{{Id: p.ID, MinSize: p.Min, MaxSize: p.Max, Debug: p.ID}}}, nil
}

// NodeGroupForNode implements the contract: no node is of the group.
func (*Provider) NodeGroupForNode(context.Context, *wire.NodeGroupForNodeRequest) (*wire.NodeGroupForNodeResponse, error) {
	return &wire.NodeGroupForNodeResponse{NodeGroup: &wire.NodeGroup{}}, nil
}

// GPULabel implements the contract.
func (*Provider) GPULabel(context.Context, *wire.GPULabelRequest) (*wire.GPULabelResponse, error) {
	return &wire.GPULabelResponse{Label: "example.com/gpu"}, nil
}

// GetAvailableGPUTypes implements the contract.
func (*Provider) GetAvailableGPUTypes(context.Context, *wire.GetAvailableGPUTypesRequest) (*wire.GetAvailableGPUTypesResponse, error) {
	return &wire.GetAvailableGPUTypesResponse{}, nil
}

// Refresh implements the contract.
func (*Provider) Refresh(context.Context, *wire.RefreshRequest) (*wire.RefreshResponse, error) {
	return &wire.RefreshResponse{}, nil
}

// Cleanup implements the contract.
func (*Provider) Cleanup(context.Context, *wire.CleanupRequest) (*wire.CleanupResponse, error) {
	return &wire.CleanupResponse{}, nil
}

// NodeGroupTargetSize implements the contract.
func (p *Provider) NodeGroupTargetSize(context.Context, *wire.NodeGroupTargetSizeRequest) (*wire.NodeGroupTargetSizeResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &wire.NodeGroupTargetSizeResponse{TargetSize: int32(len(p.instances))}, nil
}

// NodeGroupIncreaseSize implements the contract.
func (p *Provider) NodeGroupIncreaseSize(_ context.Context, r *wire.NodeGroupIncreaseSizeRequest) (*wire.NodeGroupIncreaseSizeResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.GetDelta() <= 0 || len(p.instances)+int(r.GetDelta()) > int(p.Max) {
		return nil, status.Error(codes.InvalidArgument, "out of bounds")
	}
	for range r.GetDelta() {
		p.instances = append(p.instances, &wire.Instance{
			Id:     fmt.Sprintf("scripted://%d", len(p.instances)),
			Status: &wire.InstanceStatus{InstanceState: wire.InstanceStatus_instanceCreating},
		})
	}
	return &wire.NodeGroupIncreaseSizeResponse{}, nil
}

// NodeGroupNodes implements the contract.
func (p *Provider) NodeGroupNodes(context.Context, *wire.NodeGroupNodesRequest) (*wire.NodeGroupNodesResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &wire.NodeGroupNodesResponse{Instances: p.instances}, nil
}

// NodeGroupTemplateNodeInfo implements both generations of the contract: the
// older has the node as a message in field 1.
func (p *Provider) NodeGroupTemplateNodeInfo(context.Context, *wire.NodeGroupTemplateNodeInfoRequest) (*wire.NodeGroupTemplateNodeInfoResponse, error) {
	body, err := p.Template.Marshal()
	if err != nil {
		return nil, err
	}
	r := &wire.NodeGroupTemplateNodeInfoResponse{NodeBytes: body}
	r.ProtoReflect().SetUnknown(protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), body))
	return r, nil
}

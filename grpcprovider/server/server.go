// Package server answers the Cluster Autoscaler: it translates between the
// contract's messages and a provider.Source. Reads come from memory and succeed
// whenever they can; Refresh is the one call that tells bad news, since the
// autoscaler does nothing after it and misunderstands most other errors.
package server

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/internal/fault"
)

// The autoscaler gives every call up after 5 s by default. We answer before, so
// that it learns the reason and so that our outcome is the one that it sees.
const (
	refreshTimeout = 4 * time.Second
	changeTimeout  = 3 * time.Second
)

// Options are what a Server needs.
type Options struct {
	Source provider.Source
	// Prices is nil when the autoscaler is not to know any.
	Prices *Prices
	// GPULabel is the label of nodes with GPUs; its values are their types.
	GPULabel string
	// Logger takes what the autoscaler should hear of but cannot be told.
	Logger *slog.Logger
}

// Server implements the contract. It is safe for concurrent use.
type Server struct {
	pb.UnimplementedCloudProviderServer
	o    Options
	warn notices
	kept shelf
}

// New makes a server.
func New(o Options) *Server { return &Server{o: o, warn: notices{log: o.Logger}} }

// Register adds the service to a gRPC server that NewGRPC made: some answers are
// bytes already, which only its codec knows.
func (s *Server) Register(r grpc.ServiceRegistrar) { r.RegisterService(description(), s) }

// Refresh reads the state anew. It is the health gate: after an error the
// autoscaler does nothing in this loop.
func (s *Server) Refresh(ctx context.Context, _ *pb.RefreshRequest) (*pb.RefreshResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	if err := s.o.Source.Refresh(ctx); err != nil {
		return nil, refreshStatus(err)
	}
	s.kept.forget(s.o.Source)
	return &pb.RefreshResponse{}, nil
}

// Cleanup does nothing: an autoscaler that ends is being rolled out, and another
// one goes on.
func (s *Server) Cleanup(context.Context, *pb.CleanupRequest) (*pb.CleanupResponse, error) {
	return &pb.CleanupResponse{}, nil
}

// GPULabel always answers: an error would be asked for again with every node.
func (s *Server) GPULabel(context.Context, *pb.GPULabelRequest) (*pb.GPULabelResponse, error) {
	return &pb.GPULabelResponse{Label: s.o.GPULabel}, nil
}

// GetAvailableGPUTypes lists the types that groups say they have.
func (s *Server) GetAvailableGPUTypes(context.Context, *pb.GetAvailableGPUTypesRequest) (*pb.GetAvailableGPUTypesResponse, error) {
	out := &pb.GetAvailableGPUTypesResponse{GpuTypes: map[string]*anypb.Any{}}
	for _, g := range s.o.Source.Groups() {
		if g.Facts.Template == nil {
			continue
		}
		for _, l := range g.Facts.Template.Labels {
			if l.Key == s.o.GPULabel && l.Value != "" {
				out.GpuTypes[l.Value] = &anypb.Any{}
			}
		}
	}
	return out, nil
}

// NodeGroups lists all groups.
func (s *Server) NodeGroups(context.Context, *pb.NodeGroupsRequest) (*pb.NodeGroupsResponse, error) {
	groups := s.o.Source.Groups()
	out := &pb.NodeGroupsResponse{NodeGroups: make([]*pb.NodeGroup, 0, len(groups))}
	for _, g := range groups {
		out.NodeGroups = append(out.NodeGroups, nodeGroup(g))
	}
	return out, nil
}

// NodeGroupForNode answers an empty id for a node of no group: an error would
// stop scale-up in the whole cluster.
func (s *Server) NodeGroupForNode(_ context.Context, in *pb.NodeGroupForNodeRequest) (*pb.NodeGroupForNodeResponse, error) {
	id, ok := s.o.Source.GroupForNode(ref(in.GetNode()))
	if ok {
		if g, ok := s.o.Source.Group(id); ok {
			return &pb.NodeGroupForNodeResponse{NodeGroup: nodeGroup(g)}, nil
		}
	}
	return &pb.NodeGroupForNodeResponse{NodeGroup: &pb.NodeGroup{}}, nil
}

// NodeGroupTargetSize is the wanted number of machines.
func (s *Server) NodeGroupTargetSize(_ context.Context, in *pb.NodeGroupTargetSizeRequest) (*pb.NodeGroupTargetSizeResponse, error) {
	g, err := s.group(in.GetId())
	if err != nil {
		return nil, err
	}
	return &pb.NodeGroupTargetSizeResponse{TargetSize: int32(g.Target)}, nil
}

// NodeGroupNodes lists what the target consists of, and what is being deleted.
func (s *Server) NodeGroupNodes(_ context.Context, in *pb.NodeGroupNodesRequest) (*pb.NodeGroupNodesResponse, error) {
	g, err := s.group(in.GetId())
	if err != nil {
		return nil, err
	}
	return nodes(g), nil
}

func nodes(g *provider.Group) *pb.NodeGroupNodesResponse {
	out := &pb.NodeGroupNodesResponse{Instances: make([]*pb.Instance, 0, len(g.Instances))}
	for _, i := range g.Instances {
		out.Instances = append(out.Instances, instance(i))
	}
	return out
}

// NodeGroupIncreaseSize accepts the wish for more machines.
func (s *Server) NodeGroupIncreaseSize(ctx context.Context, in *pb.NodeGroupIncreaseSizeRequest) (*pb.NodeGroupIncreaseSizeResponse, error) {
	delta := int(in.GetDelta())
	if delta <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "delta %d: a group grows by 1 or more", delta)
	}
	g, err := s.group(in.GetId())
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, "increase-size", g, slog.Int("delta", delta), func(ctx context.Context) error {
		return s.o.Source.IncreaseSize(ctx, g.ID, delta)
	})
	if err != nil {
		if fault.Is(err, fault.Invalid) {
			return nil, status.Error(codes.OutOfRange, err.Error()) // delta is fine in itself
		}
		return nil, changeStatus(err)
	}
	return &pb.NodeGroupIncreaseSizeResponse{}, nil
}

// NodeGroupDecreaseTargetSize gives up machines that do not exist yet.
func (s *Server) NodeGroupDecreaseTargetSize(ctx context.Context, in *pb.NodeGroupDecreaseTargetSizeRequest) (*pb.NodeGroupDecreaseTargetSizeResponse, error) {
	delta := -int(in.GetDelta())
	if delta <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "delta %d: it must be negative", in.GetDelta())
	}
	g, err := s.group(in.GetId())
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, "decrease-target-size", g, slog.Int("delta", delta), func(ctx context.Context) error {
		return s.o.Source.DecreaseTargetSize(ctx, g.ID, delta)
	})
	if err != nil {
		return nil, changeStatus(err)
	}
	return &pb.NodeGroupDecreaseTargetSizeResponse{}, nil
}

// NodeGroupDeleteNodes accepts the deletion of all the nodes, or of none.
func (s *Server) NodeGroupDeleteNodes(ctx context.Context, in *pb.NodeGroupDeleteNodesRequest) (*pb.NodeGroupDeleteNodesResponse, error) {
	if len(in.GetNodes()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no nodes to delete are named")
	}
	g, err := s.group(in.GetId())
	if err != nil {
		return nil, err
	}
	nodes := make([]provider.NodeRef, 0, len(in.GetNodes()))
	names := make([]string, 0, len(in.GetNodes()))
	known := make(map[provider.NodeRef]bool, len(in.GetNodes()))
	for i, n := range in.GetNodes() {
		r := ref(n)
		if r == (provider.NodeRef{}) {
			return nil, status.Errorf(codes.InvalidArgument, "node %d of the request has neither a provider ID nor a name", i)
		}
		if !known[r] {
			known[r] = true
			nodes, names = append(nodes, r), append(names, clip(r.String()))
		}
	}
	err = s.change(ctx, "delete-nodes", g, slog.Any("nodes", names), func(ctx context.Context) error {
		return s.o.Source.DeleteNodes(ctx, g.ID, nodes)
	})
	if err != nil {
		return nil, changeStatus(err)
	}
	return &pb.NodeGroupDeleteNodesResponse{}, nil
}

// NodeGroupGetOptions is not implemented for groups that override nothing: to
// echo the defaults would set what newer autoscalers added to zero.
func (s *Server) NodeGroupGetOptions(_ context.Context, in *pb.NodeGroupAutoscalingOptionsRequest) (*pb.NodeGroupAutoscalingOptionsResponse, error) {
	g, err := s.group(in.GetId())
	if err != nil || g.Facts.Autoscaling == nil {
		// Also for a group that is gone: any other code would make the autoscaler
		// forget what it has just asked for.
		return nil, status.Error(codes.Unimplemented, "the group overrides no options")
	}
	if startupTimeIsLost(in.GetDefaults()) {
		s.warn.once(g.ID, "spec.nodeGroups[].autoscaling has a side effect with this autoscaler (1.35 and later): nodes that are not ready yet count as failed at once", "group", g.ID)
	}
	return &pb.NodeGroupAutoscalingOptionsResponse{NodeGroupAutoscalingOptions: options(*g.Facts.Autoscaling, in.GetDefaults())}, nil
}

// NodeGroupTemplateNodeInfo shows the next node of a group. While the flavor's
// size is not known it is not implemented, which keeps the group from growing:
// an answer without a node would crash the autoscaler, and any other error would
// stop it for all groups.
func (s *Server) NodeGroupTemplateNodeInfo(_ context.Context, in *pb.NodeGroupTemplateNodeInfoRequest) (*pb.NodeGroupTemplateNodeInfoResponse, error) {
	g, err := s.group(in.GetId())
	if err != nil {
		return nil, err
	}
	return template(g)
}

func template(g *provider.Group) (*pb.NodeGroupTemplateNodeInfoResponse, error) {
	if g.Facts.Template == nil {
		return nil, status.Errorf(codes.Unimplemented, "the size of the nodes of %s is not known yet", g.ID)
	}
	b, err := templateNode(g).Marshal()
	if err != nil {
		return nil, status.Errorf(codes.Internal, "template of %s: %v", g.ID, err)
	}
	return &pb.NodeGroupTemplateNodeInfoResponse{LegacyNode: b, NodeBytes: b}, nil
}

func (s *Server) group(id string) (*provider.Group, error) {
	g, ok := s.o.Source.Group(id)
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no node group %q", clip(id))
	}
	return g, nil
}

// change gives a request an id and a deadline, and logs what becomes of it.
func (s *Server) change(ctx context.Context, op string, g *provider.Group, what slog.Attr, do func(context.Context) error) error {
	// 80 random bits: short, since it becomes part of the ids of machines to be.
	id := "ca-" + strings.ToLower(rand.Text()[:16])
	ctx, cancel := context.WithTimeout(provider.WithRequestID(ctx, id), changeTimeout)
	defer cancel()
	start := time.Now()
	err := do(ctx)
	level, outcome := slog.LevelInfo, "accepted"
	attrs := []slog.Attr{slog.String("op", op), slog.String("group", g.ID), slog.String("request", id), what}
	if err != nil {
		level, outcome = slog.LevelWarn, "refused"
		attrs = append(attrs, slog.String("kind", string(fault.KindOf(err))), slog.Any("error", err))
	}
	attrs = append(attrs, slog.Int("seenTarget", g.Target), slog.Int64("seenGeneration", g.Generation), slog.Duration("took", time.Since(start)))
	s.o.Logger.LogAttrs(ctx, level, "request "+outcome, attrs...)
	return err
}

func nodeGroup(g *provider.Group) *pb.NodeGroup {
	out := &pb.NodeGroup{Id: g.ID, MinSize: int32(g.Facts.Min), MaxSize: int32(g.Facts.Max), Debug: describe(g)}
	if g.Unread != "" {
		// Whatever is asked of it is refused. Between bounds that leave nothing to
		// ask for, the autoscaler looks at other groups instead, and drains no node
		// that it could not delete.
		out.MinSize, out.MaxSize = int32(g.Target), int32(g.Target)
	}
	return out
}

func describe(g *provider.Group) string {
	text := fmt.Sprintf("%s (%d to %d, wanted %d, %s in %s)", g.ID, g.Facts.Min, g.Facts.Max, g.Target, g.Facts.Flavor, g.Facts.Zone)
	if g.Paused != "" {
		text += " paused: " + g.Paused
	}
	if g.Unread != "" {
		text += " as last read: " + clip(g.Unread)
	}
	return text
}

func ref(n *pb.ExternalGrpcNode) provider.NodeRef {
	return provider.NodeRef{ProviderID: n.GetProviderID(), Name: n.GetName()}
}

func instance(i provider.Instance) *pb.Instance {
	out := &pb.Instance{Id: i.ID, Status: &pb.InstanceStatus{InstanceState: states[i.State]}}
	if i.Error != nil {
		// The autoscaler heeds errors of creating instances only, and only those
		// with a code.
		out.Status.InstanceState = pb.InstanceStatus_instanceCreating
		out.Status.ErrorInfo = &pb.InstanceErrorInfo{
			ErrorCode: i.Error.Code, ErrorMessage: i.Error.Message, InstanceErrorClass: classOther,
		}
		if out.Status.ErrorInfo.ErrorCode == "" {
			out.Status.ErrorInfo.ErrorCode = string(fault.Internal)
		}
		if i.Error.Class == provider.OutOfResources {
			out.Status.ErrorInfo.InstanceErrorClass = classOutOfResources
		}
	}
	return out
}

// The autoscaler's numbers of error classes (cloudprovider.InstanceErrorClass).
const (
	classOutOfResources = 1
	classOther          = 99
)

var states = map[provider.State]pb.InstanceStatus_InstanceState{
	provider.Creating: pb.InstanceStatus_instanceCreating,
	provider.Running:  pb.InstanceStatus_instanceRunning,
	provider.Deleting: pb.InstanceStatus_instanceDeleting,
}

// clip keeps what strangers send short in messages and logs.
func clip(s string) string {
	const limit = 200
	if len(s) <= limit {
		return s
	}
	return s[:limit] + "…"
}

package server

import (
	"context"
	"math"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/ichor-project/ichor/internal/cluster"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
	"github.com/ichor-project/ichor/internal/fault"
)

// Prices says what machines cost; the currency does not matter, as long as it is
// one.
type Prices struct {
	// Flavors has the price of an hour by the cloud's name of the flavor.
	Flavors map[string]float64 `json:"flavors"`
}

// maxPricesFile is far above any cloud's list of flavors.
const maxPricesFile = 1 << 20

// LoadPrices reads a YAML file. Invalid when it is not one, or when a price is
// not a positive number.
func LoadPrices(path string) (*Prices, error) {
	const op = "read prices"
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	if info.Size() > maxPricesFile {
		return nil, fault.New(fault.Invalid, op, "%s has more than %d bytes", path, maxPricesFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, op, err)
	}
	var p Prices
	if err := yaml.UnmarshalStrict(b, &p); err != nil {
		return nil, fault.Wrap(fault.Invalid, op+" from "+path, err)
	}
	if len(p.Flavors) == 0 {
		return nil, fault.New(fault.Invalid, op, "%s names no flavors", path)
	}
	for flavor, price := range p.Flavors {
		if !(price > 0) || math.IsInf(price, 0) {
			return nil, fault.New(fault.Invalid, op, "%s: the price of %s is not a positive number", path, flavor)
		}
	}
	return &p, nil
}

// PricingNodePrice is what the node's flavor costs for the time asked for.
func (s *Server) PricingNodePrice(_ context.Context, in *pb.PricingNodePriceRequest) (*pb.PricingNodePriceResponse, error) {
	if s.o.Prices == nil {
		return nil, status.Error(codes.Unimplemented, "no prices are configured")
	}
	hours, err := hours(in.GetStartTimestamp(), in.GetEndTimestamp(), in.GetLegacyStart(), in.GetLegacyEnd())
	if err != nil {
		return nil, err
	}
	flavor := in.GetNode().GetLabels()[corev1.LabelInstanceTypeStable]
	if flavor == "" {
		if id, ok := s.o.Source.GroupForNode(ref(in.GetNode())); ok {
			if g, ok := s.o.Source.Group(id); ok {
				flavor = g.Facts.Flavor
			}
		}
	}
	price, ok := s.o.Prices.Flavors[flavor]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "flavor %q has no price", clip(flavor))
	}
	return &pb.PricingNodePriceResponse{Price: price * hours}, nil
}

// PricingPodPrice is the pod's part of the cheapest machine for it: the share of
// whatever it needs most of.
func (s *Server) PricingPodPrice(_ context.Context, in *pb.PricingPodPriceRequest) (*pb.PricingPodPriceResponse, error) {
	if s.o.Prices == nil {
		return nil, status.Error(codes.Unimplemented, "no prices are configured")
	}
	hours, err := hours(in.GetStartTimestamp(), in.GetEndTimestamp(), in.GetLegacyStart(), in.GetLegacyEnd())
	if err != nil {
		return nil, err
	}
	pod := in.GetPodBytes()
	if len(pod) == 0 {
		pod = in.GetLegacyPod()
	}
	need, err := podRequests(pod)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "pod: %v", err)
	}
	best := math.Inf(1)
	for _, g := range s.o.Source.Groups() {
		price, ok := s.o.Prices.Flavors[g.Facts.Flavor]
		if ok && g.Facts.Template != nil {
			best = min(best, price*share(need, g.Facts.Template.Capacity))
		}
	}
	if math.IsInf(best, 0) {
		return nil, status.Error(codes.NotFound, "no group with a price has nodes for this pod")
	}
	return &pb.PricingPodPriceResponse{Price: best * hours}, nil
}

// share is which part of a node a pod takes, infinite when a resource is not
// there at all.
func share(need requests, node cluster.NodeResources) float64 {
	part := func(need, have int64) float64 {
		switch {
		case need <= 0:
			return 0
		case have <= 0:
			return math.Inf(1)
		}
		return float64(need) / float64(have)
	}
	most := max(part(need.milliCPU, node.MilliCPU), part(need.memory, node.MemoryBytes), part(need.storage, node.StorageBytes), part(1, node.Pods))
	for _, name := range gpuResources {
		have := int64(0)
		if node.GPUResource == name {
			have = node.GPUs
		}
		most = max(most, part(need.gpus[name], have))
	}
	return most
}

// gpuResources are those that the autoscaler knows.
var gpuResources = []string{"nvidia.com/gpu", "amd.com/gpu", "gpu.intel.com/xe", "habana.ai/gaudi", "microsoft.com/directx"}

func isGPU(name string) bool { return slices.Contains(gpuResources, name) }

// hours reads a period in whichever form it came.
func hours(start, end *timestamppb.Timestamp, legacyStart, legacyEnd *pb.LegacyTime) (float64, error) {
	from, ok := point(start, legacyStart)
	to, ok2 := point(end, legacyEnd)
	if !ok || !ok2 || to.Before(from) {
		return 0, status.Error(codes.InvalidArgument, "a price needs a start and, later, an end")
	}
	// Not Sub: it saturates at 292 years.
	return (float64(to.Unix()-from.Unix()) + float64(to.Nanosecond()-from.Nanosecond())/1e9) / 3600, nil
}

func point(current *timestamppb.Timestamp, legacy *pb.LegacyTime) (time.Time, bool) {
	if current == nil && legacy != nil {
		current = &timestamppb.Timestamp{Seconds: legacy.GetSeconds(), Nanos: legacy.GetNanos()}
	}
	return current.AsTime(), current.CheckValid() == nil
}

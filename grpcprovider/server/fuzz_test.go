package server_test

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	"github.com/ichor-project/ichor/grpcprovider/server"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

// still is a Source that stays silent about what is asked of it.
type still struct{ *fake }

func (s still) IncreaseSize(context.Context, string, int) error               { return nil }
func (s still) DecreaseTargetSize(context.Context, string, int) error         { return nil }
func (s still) DeleteNodes(context.Context, string, []provider.NodeRef) error { return nil }

// call decodes a request as the server does, and calls the handler.
func handle[In any, P interface {
	*In
	proto.Message
}, Out proto.Message](do func(context.Context, P) (Out, error)) func(context.Context, []byte) (proto.Message, error) {
	codec := server.NewCodec()
	return func(ctx context.Context, b []byte) (proto.Message, error) {
		in := P(new(In))
		if err := codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, in); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		out, err := do(ctx, in)
		return out, err
	}
}

func handlers(s *server.Server) []func(context.Context, []byte) (proto.Message, error) {
	return []func(context.Context, []byte) (proto.Message, error){
		handle(s.NodeGroups), handle(s.NodeGroupForNode), handle(s.PricingNodePrice), handle(s.PricingPodPrice), handle(s.GPULabel),
		handle(s.GetAvailableGPUTypes), handle(s.Cleanup), handle(s.Refresh), handle(s.NodeGroupTargetSize), handle(s.NodeGroupIncreaseSize),
		handle(s.NodeGroupDeleteNodes), handle(s.NodeGroupDecreaseTargetSize), handle(s.NodeGroupNodes),
		handle(s.NodeGroupTemplateNodeInfo), handle(s.NodeGroupGetOptions),
	}
}

// Methods by their place in handlers, for seeds.
const (
	forNode = 1 + iota
	nodePrice
	podPrice
)

const (
	targetSize = 8 + iota
	increase
	deletion
	decrease
	nodes
	template
	getOptions
)

// FuzzRequests throws bytes at every call. Whatever comes, the server answers
// without a panic, in valid messages, and holds no more than a fixed multiple of
// what it was sent.
func FuzzRequests(f *testing.F) {
	at := func(s int64) msg { return msg{}.num(1, s).num(2, 5) }
	pod := corev1.Pod{Spec: corev1.PodSpec{Containers: containers("1", "1Gi"), InitContainers: sidecar("1", "1Gi"), Overhead: list("1", "1")}}
	podBytes, err := pod.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	full := node("cloudscale://1", "demo-worker-1").sub(3, msg{}.text(1, "a").text(2, "b")).sub(4, msg{}.text(1, "c").text(2, "d"))
	for _, seed := range []struct {
		method uint8
		in     msg
	}{
		{0, nil},
		{forNode, msg{}.sub(1, full)},
		{nodePrice, msg{}.sub(1, full).sub(2, at(1)).sub(3, at(9))},
		{nodePrice, msg{}.sub(1, full).sub(4, at(1)).sub(5, at(9))},
		{podPrice, msg{}.sub(1, podBytes).sub(2, at(1)).sub(3, at(9))},
		{podPrice, msg{}.sub(4, podBytes).sub(5, at(1)).sub(6, at(9))},
		{targetSize, msg{}.text(1, "demo/worker")},
		{increase, msg{}.num(1, 3).text(2, "demo/worker")},
		{increase, msg{}.num(1, -1<<31).text(2, "demo/worker")},
		{decrease, msg{}.num(1, -1<<31).text(2, "demo/worker")},
		{decrease, msg{}.num(1, -3).text(2, "demo/worker")},
		{deletion, msg{}.sub(1, full).sub(1, nil).text(2, "demo/worker")},
		{nodes, msg{}.text(1, "demo/worker")},
		{template, msg{}.text(1, "demo/worker")},
		{getOptions, msg{}.text(1, "demo/tuned").sub(2, msg{}.double(1, 0.5).sub(3, nanoseconds(time.Hour)).sub(8, seconds(3600)).sub(11, seconds(1)))},
		{getOptions, msg{}.text(1, "demo/tuned").sub(2, msg{}.num(8, 1).double(3, 1).text(100, "later"))},
		{255, msg{0xff, 0xff}},
	} {
		f.Add(seed.method, []byte(seed.in))
	}
	calls := handlers(server.New(server.Options{Source: still{newFake()}, Prices: prices(), GPULabel: "ichor.dev/gpu", Logger: slog.New(slog.DiscardHandler)}))
	f.Fuzz(func(t *testing.T, method uint8, in []byte) {
		out, err := calls[int(method)%len(calls)](t.Context(), in)
		if err != nil {
			if code := status.Code(err); code == codes.Unknown || code == codes.OK {
				t.Errorf("an error without a code: %v", err)
			}
			return
		}
		b, err := proto.Marshal(out)
		if err != nil {
			t.Fatalf("the answer is no valid message: %v", err)
		}
		if len(b) > len(in)+4096 {
			t.Errorf("%d bytes were answered with %d", len(in), len(b))
		}
		switch out := out.(type) {
		case *pb.NodeGroupForNodeResponse:
			if out.GetNodeGroup() == nil {
				t.Error("no group, not even an empty one")
			}
		case *pb.NodeGroupTemplateNodeInfoResponse:
			if len(out.GetNodeBytes()) == 0 || len(out.GetLegacyNode()) == 0 {
				t.Error("an empty template crashes the autoscaler")
			}
		case *pb.NodeGroupAutoscalingOptionsResponse:
			o := out.GetNodeGroupAutoscalingOptions()
			for _, d := range []time.Duration{
				o.GetScaleDownUnneededDuration().AsDuration(), o.GetScaleDownUnreadyDuration().AsDuration(), o.GetMaxNodeProvisionDuration().AsDuration(),
				time.Duration(o.GetLegacyUnneeded().GetNanoseconds()), time.Duration(o.GetLegacyUnready().GetNanoseconds()), time.Duration(o.GetLegacyProvision().GetNanoseconds()),
			} {
				if d <= 0 {
					t.Errorf("an option is %s", d)
				}
			}
		}
	})
}

// TestMemoryIsBounded sends to every call large requests that are made of the
// parts that grow most when they are decoded.
func TestMemoryIsBounded(t *testing.T) {
	calls := handlers(server.New(server.Options{Source: still{newFake()}, Prices: prices(), Logger: slog.New(slog.DiscardHandler)}))
	fill := func(part msg) msg {
		const size = 128 << 10
		out := make(msg, 0, size)
		for len(out)+len(part) <= size {
			out = append(out, part...)
		}
		return out
	}
	label := func(i int) msg {
		return msg{}.sub(3, msg{}.text(1, string([]byte{'a' + byte(i%26), 'a' + byte(i/26%26), 'a' + byte(i/676%26), 'a' + byte(i/17576%26)})))
	}
	labels := msg{}
	for i := 0; len(labels) < 128<<10; i++ {
		labels = append(labels, label(i)...)
	}
	for name, in := range map[string]msg{
		"empty parts 1":    fill(msg{}.sub(1, nil)),
		"empty parts 2":    fill(msg{}.sub(2, nil)),
		"empty parts 4":    fill(msg{}.sub(4, nil)),
		"empty containers": msg{}.sub(4, msg{}.sub(2, fill(msg{}.sub(2, nil))[:128<<10-32])),
		"legacy pod":       msg{}.sub(1, msg{}.sub(2, fill(msg{}.sub(2, nil))[:128<<10-32])),
		"labels":           msg{}.sub(1, labels),
		"unknown fields":   fill(msg{}.num(77, 1)),
		"groups":           fill(msg{0x0b, 0x0c}), // start and end of a group, field 1
	} {
		for i, call := range calls {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			// Either outcome is fine; how much it took is what counts.
			_, err := call(t.Context(), in)
			runtime.ReadMemStats(&after)
			// All allocations, also those that were freed meanwhile. A label costs
			// most: its entry of 8 bytes becomes an entry of a map that grows.
			if took := after.TotalAlloc - before.TotalAlloc; took > 32*uint64(len(in)) {
				t.Errorf("%s: call %d took %d KiB for %d KiB (%v)", name, i, took>>10, len(in)>>10, err)
			}
		}
	}
}

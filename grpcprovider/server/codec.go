package server

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that bounded wraps
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

// Limits of what one peer can make us hold. The autoscaler's largest request is
// a deletion: a batch of nodes with their labels and annotations.
const (
	// maxRequest is gRPC's own default, in bytes.
	maxRequest = 4 << 20
	// maxNodes bounds one deletion. An empty node takes two bytes on the wire and
	// a hundred in memory, so the size alone does not.
	maxNodes = 5000
	// maxStreams is how many calls one connection may have open; the autoscaler
	// has as many as it deletes nodes at once, 10 by default.
	maxStreams = 256
	// maxHeaders in bytes; the autoscaler sends none of its own.
	maxHeaders = 16 << 10
)

// bounded is gRPC's codec with a limit on what small requests grow into, and with
// answers that are encoded once for many calls.
type bounded struct{ encoding.CodecV2 }

// NewCodec is the codec of the server.
func NewCodec() encoding.CodecV2 { return bounded{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c bounded) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(encoded); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c bounded) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ok := v.(*pb.NodeGroupDeleteNodesRequest); ok {
		if n := countNodes(data.Materialize()); n > maxNodes {
			return fmt.Errorf("more than %d nodes in one deletion", maxNodes)
		}
	}
	return c.CodecV2.Unmarshal(data, v)
}

// countNodes counts the nodes of an encoded deletion, up to where it is broken.
func countNodes(b []byte) int {
	const nodes protowire.Number = 1
	count := 0
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		if n < 0 {
			break
		}
		if num == nodes {
			count++
		}
		b = b[n:]
	}
	return count
}

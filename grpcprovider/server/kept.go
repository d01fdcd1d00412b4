package server

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/ichor-project/ichor/grpcprovider/provider"
	pb "github.com/ichor-project/ichor/internal/externalgrpc"
)

// encoded is an answer that is on the wire already as it will be sent; the
// server's codec passes it on. It is never changed.
type encoded []byte

// kept has the large answers of one group as bytes. The autoscaler asks for them
// again and again, for the template once per node, and a group is another one
// whenever anything of it changes.
type kept struct {
	group           *provider.Group
	nodes, template func() (encoded, error)
}

func keep(g *provider.Group) *kept {
	bytes := func(m proto.Message, err error) (encoded, error) {
		if err != nil {
			return nil, err
		}
		return proto.Marshal(m)
	}
	return &kept{
		group:    g,
		nodes:    sync.OnceValues(func() (encoded, error) { return bytes(nodes(g), nil) }),
		template: sync.OnceValues(func() (encoded, error) { return bytes(template(g)) }),
	}
}

// shelf keeps answers of the groups by id.
type shelf struct{ groups sync.Map }

// of finds the answers of a group as it is now.
func (s *shelf) of(g *provider.Group) *kept {
	if k, ok := s.groups.Load(g.ID); ok {
		if k := k.(*kept); k.group == g {
			return k
		}
	}
	k := keep(g)
	s.groups.Store(g.ID, k)
	return k
}

// forget drops the answers of groups that are no more.
func (s *shelf) forget(source provider.Source) {
	s.groups.Range(func(id, _ any) bool {
		if _, ok := source.Group(id.(string)); !ok {
			s.groups.Delete(id)
		}
		return true
	})
}

// description is the contract's service with the large answers as bytes.
func description() *grpc.ServiceDesc {
	d := pb.CloudProvider_ServiceDesc
	d.Methods = slices.Clone(d.Methods)
	for i, m := range d.Methods {
		switch m.MethodName {
		case "NodeGroupNodes":
			d.Methods[i].Handler = answer(pb.CloudProvider_NodeGroupNodes_FullMethodName, func(s *Server, in *pb.NodeGroupNodesRequest) (encoded, error) {
				g, err := s.group(in.GetId())
				if err != nil {
					return nil, err
				}
				return s.kept.of(g).nodes()
			})
		case "NodeGroupTemplateNodeInfo":
			d.Methods[i].Handler = answer(pb.CloudProvider_NodeGroupTemplateNodeInfo_FullMethodName, func(s *Server, in *pb.NodeGroupTemplateNodeInfoRequest) (encoded, error) {
				g, err := s.group(in.GetId())
				if err != nil {
					return nil, err
				}
				return s.kept.of(g).template()
			})
		}
	}
	return &d
}

// answer is a method's handler as gRPC calls it: like a generated one, but with
// bytes for the answer.
func answer[In any](method string, f func(*Server, *In) (encoded, error)) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, through grpc.UnaryServerInterceptor) (any, error) {
		in := new(In)
		if err := decode(in); err != nil {
			return nil, err
		}
		handle := func(_ context.Context, req any) (any, error) {
			out, err := f(srv.(*Server), req.(*In))
			if err != nil {
				return nil, err
			}
			return out, nil
		}
		if through == nil {
			return handle(ctx, in)
		}
		return through(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: method}, handle)
	}
}

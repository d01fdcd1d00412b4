// Package apid is the front door of an emulated Talos node: it terminates TLS,
// turns certificates into roles and routes calls to the machine service of this
// node or, on control planes, of another one.
package apid

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
)

// Config says how one apid behaves.
type Config struct {
	TLS *tls.Config
	// Maintenance gives every caller os:reader and forwards nothing.
	Maintenance bool
	// Forwarding is true on control planes only.
	Forwarding bool
	// Local reaches this node's machine service.
	Local *grpc.ClientConn
	// IsLocal says whether a routing target means this node.
	IsLocal func(node string) bool
	// Remote connects to the apid of another node; the caller closes.
	Remote func(node string) (*grpc.ClientConn, error)
}

// Server is a running apid.
type Server struct {
	cfg  Config
	grpc *grpc.Server
}

// New makes an apid; Serve starts it.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
	s.grpc = grpc.NewServer(
		grpc.Creds(credentials.NewTLS(cfg.TLS)),
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(s.handle),
		grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize),
		grpc.MaxSendMsgSize(constants.GRPCMaxMessageSize),
	)

	return s
}

// Serve answers on l until Stop.
func (s *Server) Serve(l net.Listener) error { return s.grpc.Serve(l) }

// Stop closes all connections at once, as a dying node does.
func (s *Server) Stop() { s.grpc.Stop() }

// Metadata keys of Talos' routing.
const (
	keyNode      = "node"
	keyNodes     = "nodes"
	keyProxyFrom = "proxyfrom"
)

// roles derives the caller's roles: from the certificate, or, when another
// node's apid calls, from what that apid vouches for.
func (s *Server) roles(ctx context.Context, md metadata.MD) (role.Set, error) {
	if s.cfg.Maintenance {
		return role.MakeSet(role.Reader), nil
	}

	p, ok := peer.FromContext(ctx)
	if !ok {
		return role.Set{}, status.Error(codes.Unauthenticated, "no peer")
	}

	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return role.Set{}, status.Error(codes.Unauthenticated, "no verified certificate")
	}

	leaf := info.State.PeerCertificates[0]
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != extKeyUsageClient {
		return role.Set{}, status.Error(codes.Unauthenticated, "certificate is not for client authentication only")
	}

	set, _ := role.Parse(leaf.Subject.Organization)
	if set.Includes(role.Impersonator) {
		set, _ = role.Parse(md.Get(constants.APIAuthzRoleMetadataKey))
	}

	return set, nil
}

// target is one place a call goes to.
type target struct {
	node  string // as asked; empty when the caller named none
	local bool
}

func (s *Server) targets(md metadata.MD) (to []target, many bool, err error) {
	// A forwarded call has arrived.
	if len(md.Get(keyProxyFrom)) > 0 {
		return []target{{local: true}}, false, nil
	}

	nodes := md.Get(keyNodes)
	many = len(nodes) > 0

	if one := md.Get(keyNode); !many && len(one) > 0 {
		nodes = one[:1]
	}

	if len(nodes) == 0 {
		return []target{{local: true}}, false, nil
	}

	for _, n := range nodes {
		t := target{node: n, local: n == "" || s.cfg.IsLocal(n)}
		if !t.local && (s.cfg.Maintenance || !s.cfg.Forwarding) {
			return nil, false, status.Error(codes.PermissionDenied, "no request forwarding")
		}

		to = append(to, t)
	}

	return to, many, nil
}

func (s *Server) handle(_ any, ss grpc.ServerStream) error {
	ctx := ss.Context()
	method, _ := grpc.MethodFromServerStream(ss)
	md, _ := metadata.FromIncomingContext(ctx)

	set, err := s.roles(ctx, md)
	if err != nil {
		return err
	}

	to, many, err := s.targets(md)
	if err != nil {
		return err
	}

	if many {
		if slices.ContainsFunc(oneToOneOnly, func(service string) bool { return strings.HasPrefix(method, service) }) {
			return status.Error(codes.InvalidArgument, "one-2-many proxying is not supported for this method")
		}

		return s.fanOut(ss, method, outgoing(md, set, caller(ctx)), to)
	}

	cc, done, err := s.dial(to[0])
	if err != nil {
		return err
	}
	defer done()

	return pipe(ss, cc, method, outgoing(md, set, caller(ctx)), identity)
}

// oneToOneOnly lists services whose answers have no room for a host name.
var oneToOneOnly = []string{"/machine.LifecycleService/", "/machine.ImageService/", "/cosi.resource.State/"}

// caller is who apid names as the origin of a forwarded call.
func caller(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}

	return "unknown"
}

// outgoing is the metadata of the forwarded call.
func outgoing(md metadata.MD, set role.Set, from string) metadata.MD {
	out := md.Copy()
	for _, k := range []string{keyNodes, ":authority", "content-type", "user-agent"} {
		out.Delete(k)
	}

	out.Set(constants.APIAuthzRoleMetadataKey, set.Strings()...)
	out.Set(keyProxyFrom, from)

	return out
}

func (s *Server) dial(t target) (*grpc.ClientConn, func(), error) {
	if t.local {
		return s.cfg.Local, func() {}, nil
	}

	cc, err := s.cfg.Remote(t.node)
	if err != nil {
		return nil, nil, err
	}

	return cc, func() {
		// The call is over; nothing depends on how the connection ends.
		_ = cc.Close()
	}, nil
}

var anyStream = &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}

func identity(b []byte) []byte { return b }

// pipe connects a caller's stream with the same call on cc.
func pipe(ss grpc.ServerStream, cc *grpc.ClientConn, method string, md metadata.MD, rewrite func([]byte) []byte) error {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ss.Context(), md))
	defer cancel()

	cs, err := cc.NewStream(ctx, anyStream, method, grpc.ForceCodecV2(rawCodec{}),
		grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize), grpc.MaxCallSendMsgSize(constants.GRPCMaxMessageSize))
	if err != nil {
		return err
	}

	// The server stream ends with this handler, so its RecvMsg returns and the
	// goroutine with it.
	go forwardRequests(ss, cs, cancel)

	return forwardReplies(ss, cs, rewrite)
}

// forwardRequests reports nothing: whatever stops it shows on the replies.
func forwardRequests(ss grpc.ServerStream, cs grpc.ClientStream, cancel func()) {
	for {
		f := &frame{}

		err := ss.RecvMsg(f)
		if errors.Is(err, io.EOF) {
			err = cs.CloseSend()
		} else if err == nil {
			if err = cs.SendMsg(f); err == nil {
				continue
			}

			// The reason comes out of the receiving side.
			return
		}

		if err != nil {
			cancel()
		}

		return
	}
}

func forwardReplies(ss grpc.ServerStream, cs grpc.ClientStream, rewrite func([]byte) []byte) error {
	for first := true; ; first = false {
		f := &frame{}
		if err := cs.RecvMsg(f); err != nil {
			ss.SetTrailer(cs.Trailer())

			if errors.Is(err, io.EOF) {
				return nil
			}

			return err
		}

		if first {
			md, err := cs.Header()
			if err != nil {
				return err
			}

			if err := ss.SendHeader(md); err != nil {
				return err
			}
		}

		f.data = rewrite(f.data)
		if err := ss.SendMsg(f); err != nil {
			return err
		}
	}
}

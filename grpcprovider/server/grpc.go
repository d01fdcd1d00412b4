package server

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// Lives of connections.
const (
	// The autoscaler reads its certificate once per process, but every new
	// connection is checked anew: an hour bounds how long a withdrawn one works.
	maxConnectionAge = time.Hour
	// Calls in flight get this long when a connection ends of age; more than the
	// longest call.
	connectionGrace = 10 * time.Second
	// A peer that vanished is noticed after both; the autoscaler itself sends no
	// keepalives.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// Pings more often than this are abuse; a client in between may send some.
	minPing = 10 * time.Second
	// handshakeTimeout bounds strangers that connect and say nothing.
	handshakeTimeout = 10 * time.Second
)

// NewGRPC makes a gRPC server with the limits, the log and the metrics that the
// contract needs; services are registered by the caller. creds is nil for
// plaintext.
func NewGRPC(creds credentials.TransportCredentials, log *slog.Logger, m *Metrics) *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.ForceServerCodecV2(NewCodec()),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxStreams), grpc.MaxHeaderListSize(maxHeaders),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: maxConnectionAge, MaxConnectionAgeGrace: connectionGrace, Time: keepaliveTime, Timeout: keepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(observe(log, m), survive(log)),
	}
	if creds != nil {
		opts = append(opts, grpc.Creds(creds))
	}
	return grpc.NewServer(opts...)
}

// observe counts every call, and logs those that fail for no ordinary reason.
func observe(log *slog.Logger, m *Metrics) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
		start := time.Now()
		out, err := next(ctx, req)
		took, code := time.Since(start), status.Code(err)
		method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
		m.call(method, code, took)
		level := slog.LevelDebug
		if code != codes.OK && code != codes.Unimplemented && code != codes.NotFound {
			level = slog.LevelWarn
		}
		if log.Enabled(ctx, level) {
			from := ""
			if p, ok := peer.FromContext(ctx); ok {
				from = p.Addr.String()
			}
			log.LogAttrs(ctx, level, "call", slog.String("method", method), slog.String("code", code.String()),
				slog.Duration("took", took), slog.String("from", from), slog.String("answer", clip(status.Convert(err).Message())))
		}
		return out, err
	}
}

// survive turns a panic of a handler into an error of one call.
func survive(log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
		defer func() {
			if r := recover(); r != nil {
				log.ErrorContext(ctx, "a handler panicked", "method", info.FullMethod, "panic", r, "stack", string(debug.Stack()))
				out, err = nil, status.Error(codes.Internal, "internal error; the provider's log has the details")
			}
		}()
		return next(ctx, req)
	}
}

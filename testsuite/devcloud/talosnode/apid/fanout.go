package apid

import (
	"context"
	"crypto/x509"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/constants"
)

const extKeyUsageClient = x509.ExtKeyUsageClientAuth

// streaming lists the methods whose replies are a stream of bare messages; all
// others reply once, with a list of messages in field 1.
var streaming = map[string]bool{
	"/machine.MachineService/Copy":           true,
	"/machine.MachineService/DiskUsage":      true,
	"/machine.MachineService/Dmesg":          true,
	"/machine.MachineService/Events":         true,
	"/machine.MachineService/Kubeconfig":     true,
	"/machine.MachineService/List":           true,
	"/machine.MachineService/Logs":           true,
	"/machine.MachineService/PacketCapture":  true,
	"/machine.MachineService/Read":           true,
	"/machine.MachineService/EtcdSnapshot":   true,
	"/machine.MachineService/ImageList":      true,
	"/cluster.ClusterService/HealthCheck":    true,
	"/machine.MachineService/ImagePullWatch": true,
}

// uploading lists the methods whose requests are a stream; clients address one
// machine with them, however they name it.
var uploading = map[string]bool{
	"/machine.MachineService/EtcdRecover": true,
}

// upload passes a stream of requests on to the only target.
func (s *Server) upload(ss grpc.ServerStream, method string, md metadata.MD, to []target) error {
	if len(to) != 1 {
		return status.Error(codes.InvalidArgument, "one-2-many proxying is not supported for this method")
	}

	cc, done, err := s.dial(to[0])
	if err != nil {
		return err
	}
	defer done()

	return pipe(ss, cc, method, md, func(reply []byte) []byte { return nameMessages(reply, to[0].node) })
}

// fanOut asks every target the same and says in each message whose it is, as
// clients older than 1.14 ask for.
func (s *Server) fanOut(ss grpc.ServerStream, method string, md metadata.MD, to []target) error {
	if uploading[method] {
		return s.upload(ss, method, md, to)
	}

	request := &frame{}
	if err := ss.RecvMsg(request); err != nil {
		return err
	}

	if streaming[method] {
		return s.fanOutStream(ss, method, md, to, request)
	}

	var merged []byte

	for _, t := range to {
		reply, err := s.unary(ss.Context(), method, md, t, request)
		if err != nil {
			reply = failure(t.node, err)
		} else {
			reply = nameMessages(reply, t.node)
		}

		merged = append(merged, reply...)
	}

	return ss.SendMsg(&frame{data: merged})
}

func (s *Server) unary(ctx context.Context, method string, md metadata.MD, t target, request *frame) ([]byte, error) {
	cc, done, err := s.dial(t)
	if err != nil {
		return nil, err
	}
	defer done()

	reply := &frame{}

	err = cc.Invoke(metadata.NewOutgoingContext(ctx, md), method, request, reply, grpc.ForceCodecV2(rawCodec{}),
		grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize))

	return reply.data, err
}

func (s *Server) fanOutStream(ss grpc.ServerStream, method string, md metadata.MD, to []target, request *frame) error {
	for _, t := range to {
		if err := s.streamOne(ss, method, md, t, request); err != nil {
			if err := ss.SendMsg(&frame{data: metadataField(t.node, err)}); err != nil {
				return err
			}
		}
	}

	return nil
}

func (s *Server) streamOne(ss grpc.ServerStream, method string, md metadata.MD, t target, request *frame) error {
	cc, done, err := s.dial(t)
	if err != nil {
		return err
	}
	defer done()

	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ss.Context(), md))
	defer cancel()

	cs, err := cc.NewStream(ctx, anyStream, method, grpc.ForceCodecV2(rawCodec{}), grpc.MaxCallRecvMsgSize(constants.GRPCMaxMessageSize))
	if err != nil {
		return err
	}

	if err := cs.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}

	if err := cs.CloseSend(); err != nil {
		return err
	}

	return forwardReplies(ss, cs, func(b []byte) []byte { return append(b, metadataField(t.node, nil)...) })
}

// metadataField is field 1 of every Talos message.
func metadataField(node string, failed error) []byte {
	m := &common.Metadata{Hostname: node}
	if failed != nil {
		m.Error = failed.Error()
		m.Status = status.Convert(failed).Proto()
	}

	b, err := proto.Marshal(m)
	if err != nil {
		// Only invalid UTF-8 can do this; the name alone is always valid.
		b = nil
	}

	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), b)
}

// failure is a reply with one message that holds only the error.
func failure(node string, err error) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), metadataField(node, err))
}

// nameMessages puts the host name into each message of a reply. Concatenating
// encoded messages merges them, so the metadata can simply be appended.
func nameMessages(reply []byte, node string) []byte {
	var out []byte

	for len(reply) > 0 {
		num, typ, n := protowire.ConsumeField(reply)
		if n < 0 {
			return out
		}

		if num == 1 && typ == protowire.BytesType {
			_, _, tagLen := protowire.ConsumeTag(reply)
			inner, _ := protowire.ConsumeBytes(reply[tagLen:])
			inner = append(append([]byte{}, inner...), metadataField(node, nil)...)
			out = protowire.AppendBytes(protowire.AppendTag(out, 1, protowire.BytesType), inner)
		} else {
			out = append(out, reply[:n]...)
		}

		reply = reply[n:]
	}

	return out
}

// Package proxy stands between the Cluster Autoscaler and a cloud provider. It
// passes every call on as it is, keeps a log of all, and loses answers on demand.
package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/ichor-project/ichor/testsuite/autoscaler/wire"
)

// Call is one call and its answer. Request and Response are of the newer wire;
// what only the older one has is among their unknown fields.
type Call struct {
	Method            string // without the service
	Start             time.Time
	Took              time.Duration
	Request, Response proto.Message
	// Code and Message are the provider's answer; Lost says that the client saw
	// another.
	Code    codes.Code
	Message string
	Lost    bool
}

// String leaves out the labels and annotations of nodes.
func (c Call) String() string {
	lost := ""
	if c.Lost {
		lost = " (lost)"
	}
	return fmt.Sprintf("%s %s{%s} %v%s in %s: {%v} %s", c.Start.Format("15:04:05.000"), c.Method, brief(c.Request), c.Code, lost,
		c.Took.Round(time.Millisecond/10), c.Response, c.Message)
}

func brief(m proto.Message) string {
	r, ok := m.(*wire.NodeGroupDeleteNodesRequest)
	if !ok {
		return fmt.Sprint(m)
	}
	text := r.GetId()
	for _, n := range r.GetNodes() {
		text += fmt.Sprintf(" %s %s %s", n.GetName(), n.GetProviderID(), n.GetAnnotations()["k8s.io/cluster-autoscaler/fake-node-reason"])
	}
	return text
}

// Effect bends a call.
type Effect int

// Effects.
const (
	Pass Effect = iota
	// LoseAnswer lets the provider act and tells the client Unavailable.
	LoseAnswer
	// LoseRequest tells the client Unavailable without asking the provider.
	LoseRequest
	// Hang lets the provider act and answers nothing until the client gives up.
	Hang
)

// Options say who talks to whom.
type Options struct {
	// Backend is the provider's address.
	Backend string
	// Server and Client are the TLS configurations of the two sides.
	Server, Client *tls.Config
}

// Proxy is a running proxy. All methods may be called at any time.
type Proxy struct {
	// Address is where the autoscaler connects to.
	Address string

	server  *grpc.Server
	backend *grpc.ClientConn

	mu    sync.Mutex
	calls []Call
	bends []func(Call) Effect
}

// Start listens on loopback and connects to the backend when the first call
// comes.
func Start(ctx context.Context, o Options) (*Proxy, error) {
	backend, err := grpc.NewClient("passthrough:///"+o.Backend,
		grpc.WithTransportCredentials(credentials.NewTLS(o.Client)),
		// The autoscaler shall not wait for the proxy to notice a restart.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: 2 * time.Second,
		}))
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{Address: listener.Addr().String(), backend: backend}
	p.server = grpc.NewServer(grpc.Creds(credentials.NewTLS(o.Server)),
		grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(p.handle))
	go func() { _ = p.server.Serve(listener) }() // ends with Close
	return p, nil
}

// Close ends all connections.
func (p *Proxy) Close() error {
	p.server.Stop()
	return p.backend.Close()
}

// Bend asks f about every call that follows; Code and Response of the call that
// it is given are not known yet. The first that does not let it pass decides.
func (p *Proxy) Bend(f func(Call) Effect) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bends = append(p.bends, f)
}

// Calls returns what has been answered so far, in order of the answers.
func (p *Proxy) Calls() []Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Call(nil), p.calls...)
}

// Mark is the number of calls so far, for Since.
func (p *Proxy) Mark() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.calls)
}

// Since returns the calls after a mark.
func (p *Proxy) Since(mark int) []Call { return p.Calls()[mark:] }

func (p *Proxy) handle(_ any, stream grpc.ServerStream) error {
	full, _ := grpc.MethodFromServerStream(stream)
	var in, out frame
	if err := stream.RecvMsg(&in); err != nil {
		return err
	}
	c := Call{Method: path.Base(full), Start: time.Now(), Request: decode(full, in.body, false)}
	effect := p.decide(c)
	err := lost
	if effect != LoseRequest {
		err = p.backend.Invoke(stream.Context(), full, &in, &out, grpc.ForceCodec(rawCodec{}))
	}
	c.Took, c.Code, c.Message, c.Lost = time.Since(c.Start), status.Code(err), status.Convert(err).Message(), effect != Pass
	c.Response = decode(full, out.body, true)
	p.mu.Lock()
	p.calls = append(p.calls, c)
	p.mu.Unlock()
	switch {
	case effect == Hang:
		<-stream.Context().Done()
		return status.FromContextError(stream.Context().Err()).Err()
	case effect != Pass:
		return lost
	case err != nil:
		return err
	}
	return stream.SendMsg(&out)
}

var lost = status.Error(codes.Unavailable, "the proxy lost it")

func (p *Proxy) decide(c Call) Effect {
	p.mu.Lock()
	bends := p.bends
	p.mu.Unlock()
	for _, f := range bends {
		if e := f(c); e != Pass {
			return e
		}
	}
	return Pass
}

// decode reads a message of the contract; nil for what the contract has not.
func decode(full string, body []byte, response bool) proto.Message {
	service := wire.File_testsuite_autoscaler_wire_wire_proto.Services().Get(0)
	method := service.Methods().ByName(protoreflect.Name(path.Base(full)))
	if method == nil {
		return nil
	}
	kind := method.Input()
	if response {
		kind = method.Output()
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(kind.FullName())
	if err != nil {
		return nil
	}
	m := t.New().Interface()
	if err := proto.Unmarshal(body, m); err != nil {
		return nil
	}
	return m
}

// frame is a message that nobody looks into.
type frame struct{ body []byte }

// rawCodec passes frames as they are. Its name is that of the usual codec, since
// it is part of the content type.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	f, ok := v.(*frame)
	if !ok {
		return nil, fmt.Errorf("proxy: cannot send a %T", v)
	}
	return f.body, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	f, ok := v.(*frame)
	if !ok {
		return fmt.Errorf("proxy: cannot receive a %T", v)
	}
	f.body = append([]byte(nil), data...)
	return nil
}

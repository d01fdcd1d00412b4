package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/autoscaler/cluster-autoscaler/cloudprovider"
	"k8s.io/autoscaler/cluster-autoscaler/config"
	autoscalercontext "k8s.io/autoscaler/cluster-autoscaler/context"
	autoscalererrors "k8s.io/autoscaler/cluster-autoscaler/utils/errors"
	"k8s.io/autoscaler/cluster-autoscaler/utils/gpu"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/ichor-project/ichor/tools/cluster-autoscaler/newwire/wire"
)

// cloudConfig is the file of --cloud-config, in the released client's form.
type cloudConfig struct {
	Address string           `json:"address"`
	Key     string           `json:"key"`
	Cert    string           `json:"cert"`
	CACert  string           `json:"cacert"`
	Timeout *metav1.Duration `json:"grpc_timeout"`
}

// callTimeout is the released client's default for every call.
const callTimeout = 5 * time.Second

// connect dials as the released client does: lazily, without keepalive or
// retries, with the certificate's name taken from the address, and in plain text
// if no certificate is named.
func connect(o config.AutoscalingOptions) (cloudprovider.CloudProvider, error) {
	body, err := os.ReadFile(o.CloudConfig)
	if err != nil {
		return nil, err
	}
	var c cloudConfig
	if err := yaml.Unmarshal(body, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", o.CloudConfig, err)
	}
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		return nil, fmt.Errorf("%s: address: %w", o.CloudConfig, err)
	}
	transport := insecure.NewCredentials()
	if c.Cert != "" {
		if transport, err = mutual(host, c); err != nil {
			return nil, fmt.Errorf("%s: %w", o.CloudConfig, err)
		}
	}
	conn, err := grpc.NewClient("passthrough:///"+c.Address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, err
	}
	timeout := callTimeout
	if c.Timeout != nil {
		timeout = c.Timeout.Duration
	}
	return &provider{
		caller: caller{wire.NewCloudProviderClient(conn), timeout},
		limits: autoscalercontext.NewResourceLimiterFromAutoscalingOptions(o),
		owners: map[string]cloudprovider.NodeGroup{},
	}, nil
}

func mutual(host string, c cloudConfig) (credentials.TransportCredentials, error) {
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.CACert)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", c.CACert)
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: host, Certificates: []tls.Certificate{pair}, RootCAs: roots,
	}), nil
}

// caller makes calls with the client's own time limit.
type caller struct {
	wire.CloudProviderClient
	timeout time.Duration
}

// rpc makes one call; what a provider does not implement is the core's own error
// where the released client translates it.
func rpc[Q, R any](c caller, method func(context.Context, *Q, ...grpc.CallOption) (*R, error), request *Q) (*R, error) {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	response, err := method(ctx, request)
	if err != nil {
		klog.V(1).Infof("%T: %v", request, err)
	}
	return response, err
}

func optional(err error) error {
	if status.Code(err) == codes.Unimplemented {
		return cloudprovider.ErrNotImplemented
	}
	return err
}

// provider is the cloud provider of the new wire. It caches what the released
// client caches, until the next Refresh or for good.
type provider struct {
	caller
	limits *cloudprovider.ResourceLimiter

	// The released client holds its lock during these calls, so that one slow
	// answer blocks the loop and the deletions beside it.
	mu       sync.Mutex
	groups   []cloudprovider.NodeGroup
	owners   map[string]cloudprovider.NodeGroup
	gpuLabel *string
	gpuTypes map[string]struct{}
}

var _ cloudprovider.CloudProvider = (*provider)(nil)

func (p *provider) Name() string { return cloudprovider.ExternalGrpcProviderName }

func (p *provider) NodeGroups() []cloudprovider.NodeGroup {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.groups != nil {
		return p.groups
	}
	response, err := rpc(p.caller, p.caller.NodeGroups, &wire.NodeGroupsRequest{})
	groups := []cloudprovider.NodeGroup{}
	if err != nil {
		return groups
	}
	for _, g := range response.GetNodeGroups() {
		groups = append(groups, newGroup(p.caller, g))
	}
	p.groups = groups
	return groups
}

func (p *provider) NodeGroupForNode(node *v1.Node) (cloudprovider.NodeGroup, error) {
	if node == nil {
		return nil, errors.New("no node given")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := node.Name + node.Spec.ProviderID
	if g, ok := p.owners[key]; ok {
		return g, nil
	}
	response, err := rpc(p.caller, p.caller.NodeGroupForNode, &wire.NodeGroupForNodeRequest{Node: external(node)})
	if err != nil || response.GetNodeGroup().GetId() == "" {
		return nil, err // no interface around a nil pointer
	}
	g := newGroup(p.caller, response.GetNodeGroup())
	p.owners[key] = g
	return g, nil
}

func (*provider) HasInstance(*v1.Node) (bool, error) { return true, cloudprovider.ErrNotImplemented }

func (p *provider) Pricing() (cloudprovider.PricingModel, autoscalererrors.AutoscalerError) {
	return prices{p.caller}, nil
}

func (*provider) GetAvailableMachineTypes() ([]string, error) {
	return []string{}, cloudprovider.ErrNotImplemented
}

func (*provider) NewNodeGroup(string, map[string]string, map[string]string, []v1.Taint, map[string]resource.Quantity) (cloudprovider.NodeGroup, error) {
	return nil, cloudprovider.ErrNotImplemented
}

func (p *provider) GetResourceLimiter() (*cloudprovider.ResourceLimiter, error) { return p.limits, nil }

func (p *provider) GPULabel() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gpuLabel == nil {
		response, err := rpc(p.caller, p.caller.GPULabel, &wire.GPULabelRequest{})
		if err != nil {
			return ""
		}
		label := response.GetLabel()
		p.gpuLabel = &label
	}
	return *p.gpuLabel
}

func (p *provider) GetAvailableGPUTypes() map[string]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gpuTypes == nil {
		response, err := rpc(p.caller, p.caller.GetAvailableGPUTypes, &wire.GetAvailableGPUTypesRequest{})
		if err != nil {
			return nil
		}
		p.gpuTypes = map[string]struct{}{}
		for kind := range response.GetGpuTypes() {
			p.gpuTypes[kind] = struct{}{}
		}
	}
	return p.gpuTypes
}

func (p *provider) GetNodeGpuConfig(node *v1.Node) *cloudprovider.GpuConfig {
	return gpu.GetNodeGPUFromCloudProvider(p, node)
}

func (p *provider) Cleanup() error {
	_, err := rpc(p.caller, p.caller.Cleanup, &wire.CleanupRequest{})
	return err
}

func (p *provider) Refresh() error {
	p.mu.Lock()
	p.groups, p.owners = nil, map[string]cloudprovider.NodeGroup{}
	p.mu.Unlock()
	_, err := rpc(p.caller, p.caller.Refresh, &wire.RefreshRequest{})
	return err
}

func external(n *v1.Node) *wire.ExternalGrpcNode {
	return &wire.ExternalGrpcNode{ProviderID: n.Spec.ProviderID, Name: n.Name, Labels: n.Labels, Annotations: n.Annotations}
}

package talos

import (
	"context"
	stdx509 "crypto/x509"
	"encoding/pem"
	"path"
	"strings"
	"time"

	"github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"google.golang.org/grpc"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Certificate is when somebody's certificate is valid.
type Certificate struct {
	// Name says whose it is.
	Name                string
	NotBefore, NotAfter time.Time
	// Renewed is when whoever holds it should have got another one at the latest;
	// zero where nobody does that.
	Renewed time.Time
}

// Names of certificates.
const (
	TalosAuthority       = "Talos authority"
	KubernetesAuthority  = "Kubernetes authority"
	EtcdAuthority        = "etcd authority"
	AggregationAuthority = "authority of aggregated APIs"
	// MachineAPICertificate is a node's own, for its machine API.
	MachineAPICertificate = "machine API certificate"
	// KubeletCertificate is what a kubelet shows the Kubernetes API.
	KubeletCertificate = "kubelet client certificate"
)

// How much of a certificate's life may be over before it counts as forgotten, in
// hundredths. Talos makes the machine API's for 24 hours and another one every 12;
// a kubelet asks for another one after 70 to 90 hundredths (client-go's certificate
// manager). Both are given a little more.
const (
	machineAPILife = 75
	kubeletLife    = 95
)

// Authorities returns the certificate authorities of a bundle: Talos', that of
// Kubernetes, of etcd and of aggregated APIs. Error: Internal, without content,
// when the bundle cannot be read.
func Authorities(bundle secrets.Value) ([]Certificate, error) {
	const op = "read the PKI bundle"
	b, err := loadBundle(bundle, time.Time{})
	if err != nil {
		return nil, err
	}
	var out []Certificate
	for _, a := range []struct {
		name string
		pair *x509.PEMEncodedCertificateAndKey
	}{
		{TalosAuthority, b.Certs.OS},
		{KubernetesAuthority, b.Certs.K8s},
		{EtcdAuthority, b.Certs.Etcd},
		{AggregationAuthority, b.Certs.K8sAggregator},
	} {
		if a.pair == nil {
			continue
		}
		cert, err := a.pair.GetCert()
		if err != nil {
			return nil, fault.New(fault.Internal, op, "the %s of the bundle cannot be read", a.name)
		}
		out = append(out, certificate(a.name, cert))
	}
	return out, nil
}

func certificate(name string, cert *stdx509.Certificate) Certificate {
	return Certificate{Name: name, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}
}

// renewed is certificate for one that is replaced after hundredths of its life.
func renewed(name string, cert *stdx509.Certificate, hundredths int64) Certificate {
	out := certificate(name, cert)
	out.Renewed = cert.NotBefore.Add(time.Duration(int64(cert.NotAfter.Sub(cert.NotBefore)) / 100 * hundredths))
	return out
}

// Inspection is what only somebody wants to know who is about to work on a node.
type Inspection struct {
	// Certificates are that of the machine API, and the kubelet's client certificate
	// where there is one that can be read.
	Certificates []Certificate
	// FreeBytes and DiskBytes are of the file system that holds container images;
	// FreeBytes is -1 when unknown. That is the ephemeral partition, unless images
	// have a volume of their own, as Talos allows since 1.14.
	FreeBytes, DiskBytes int64
}

// Inspect looks at a node once. Errors as of ProbeFacts; NotYet in maintenance
// mode. A certificate of the machine API that has expired already keeps it from
// being reached at all, which is Unauthorized.
func Inspect(ctx context.Context, opts DialOptions) (Inspection, error) {
	out := Inspection{FreeBytes: -1}
	n, err := Dial(ctx, opts)
	if err != nil {
		return out, err
	}
	out.FreeBytes, out.DiskBytes, err = n.space(ctx)
	if err != nil && !fault.Is(err, fault.NotFound, fault.NotYet) {
		return out, closing(n, err)
	}
	out.Certificates, err = n.certificates(ctx)
	return out, closing(n, err)
}

func (n *Node) certificates(ctx context.Context) ([]Certificate, error) {
	out := []Certificate{renewed(MachineAPICertificate, n.cert, machineAPILife)}
	cert, err := n.kubeletCertificate(ctx)
	if cert != nil {
		out = append(out, renewed(KubeletCertificate, cert, kubeletLife))
	}
	return out, err
}

// kubeletPair holds the kubelet's certificate and its key; the kubelet keeps it
// under this name whichever one is current.
var kubeletPair = path.Join(constants.KubeletPKIDir, "kubelet-client-current.pem")

// kubeletCertificate returns nil where there is none that can be read. The key
// behind it is not looked at.
func (n *Node) kubeletCertificate(ctx context.Context) (*stdx509.Certificate, error) {
	text, err := n.read(ctx, "read the kubelet's certificate", kubeletPair)
	if err != nil && !fault.Is(err, fault.Unavailable, fault.RateLimited) {
		err = nil // none, or nobody may read it
	}
	return firstCertificate([]byte(text)), err
}

// firstCertificate returns nil when a file of PEM blocks holds none.
func firstCertificate(file []byte) *stdx509.Certificate {
	for {
		block, rest := pem.Decode(file)
		if block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			if cert, err := stdx509.ParseCertificate(block.Bytes); err == nil {
				return cert
			}
		}
		file = rest
	}
}

// read returns the content of a small file of the node.
func (n *Node) read(ctx context.Context, op, file string) (string, error) {
	var text strings.Builder
	err := receive(ctx, n, op, repeatable, readTimeout,
		func(ctx context.Context) (grpc.ServerStreamingClient[common.Data], error) {
			return n.api.MachineClient.Read(ctx, &machine.ReadRequest{Path: file})
		},
		func(d *common.Data) error {
			text.Write(d.GetBytes())
			return nil
		})
	return text.String(), err
}

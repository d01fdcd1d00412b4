package talos

import (
	stdx509 "crypto/x509"
	"time"

	"github.com/siderolabs/crypto/x509"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Access is a request for credentials that are minted from the bundle, without
// asking any node.
type Access struct {
	Bundle secrets.Value
	// Cluster names the context.
	Cluster string
	// TTL is how long the credentials are valid from Now on.
	TTL time.Duration
	Now time.Time
}

func (a Access) validate(op string) error {
	if a.TTL <= 0 {
		return fault.New(fault.Invalid, op, "the lifetime of credentials must be positive, not %s", a.TTL)
	}
	if a.Cluster == "" {
		return fault.New(fault.Invalid, op, "the cluster has no name")
	}
	return nil
}

// Talosconfig returns a talosconfig with role os:admin. Endpoints are addresses
// of control planes without port: a routing target with a port is refused by
// the machine API. Nodes is the default for `talosctl --nodes` and may be empty.
func Talosconfig(a Access, endpoints, nodes []string) (secrets.Value, error) {
	const op = "make the talosconfig"
	if err := a.validate(op); err != nil {
		return secrets.Value{}, err
	}
	b, err := loadBundle(a.Bundle, a.Now)
	if err != nil {
		return secrets.Value{}, err
	}
	cert, err := b.GenerateTalosAPIClientCertificateWithTTL(role.MakeSet(role.Admin), a.TTL+clockSkew)
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the client certificate cannot be signed with the bundle's authority")
	}
	cfg := clientconfig.NewConfig(a.Cluster, endpoints, b.Certs.OS.Crt, cert)
	cfg.Contexts[a.Cluster].Nodes = nodes
	out, err := cfg.Bytes()
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the talosconfig cannot be encoded")
	}
	return secrets.NewValue(out), nil
}

// adminGroup is the group that kube-apiserver binds to cluster-admin by default.
const adminGroup = "system:masters"

// Kubeconfig returns a kubeconfig for an administrator (group system:masters,
// user "ichor:admin") at the endpoint, an https URL.
func Kubeconfig(a Access, endpoint string) (secrets.Value, error) {
	const op = "make the kubeconfig"
	if err := a.validate(op); err != nil {
		return secrets.Value{}, err
	}
	if _, err := parseEndpoint(endpoint); err != nil {
		return secrets.Value{}, err
	}
	b, err := loadBundle(a.Bundle, a.Now)
	if err != nil {
		return secrets.Value{}, err
	}
	ca, err := x509.NewCertificateAuthorityFromCertificateAndKey(b.Certs.K8s)
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the bundle's Kubernetes authority cannot be read")
	}
	start := a.Now.Add(-clockSkew)
	pair, err := x509.NewKeyPair(ca,
		x509.CommonName("ichor:admin"), x509.Organization(adminGroup),
		x509.NotBefore(start), x509.NotAfter(a.Now.Add(a.TTL)),
		x509.KeyUsage(stdx509.KeyUsageDigitalSignature),
		x509.ExtKeyUsage([]stdx509.ExtKeyUsage{stdx509.ExtKeyUsageClientAuth}))
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the client certificate cannot be signed with the bundle's authority")
	}
	id := x509.NewCertificateAndKeyFromKeyPair(pair)
	out, err := yaml.Marshal(newKubeconfig(a.Cluster, endpoint, b.Certs.K8s.Crt, id.Crt, id.Key))
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the kubeconfig cannot be encoded")
	}
	return secrets.NewValue(out), nil
}

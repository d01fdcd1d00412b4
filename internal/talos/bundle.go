package talos

import (
	"errors"
	"time"

	machinery "github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"go.yaml.in/yaml/v4"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// clockSkew is how far certificates are dated back. A fresh server boots with
// the clock of its host and synchronises later, so a certificate that begins
// "now" may not be valid yet on the other side.
const clockSkew = 10 * time.Minute

// NewBundle makes the PKI bundle of a cluster (certificate authorities, tokens
// and keys of Talos, etcd and Kubernetes) for a contract, as YAML in the form
// that `talosctl gen secrets` writes. Service account tokens are signed with an
// ECDSA key: Kubernetes and Talos accept it and it costs no half second of RSA.
// Every call makes a different bundle. Error: Invalid for unknown contracts.
func NewBundle(contract string, now time.Time) (secrets.Value, error) {
	const op = "make the PKI bundle"
	c, err := parseContract(contract)
	if err != nil {
		return secrets.Value{}, err
	}
	b, err := machinery.NewBundle(machinery.NewFixedClock(now.Add(-clockSkew)), c, machinery.WithECDSAServiceAccountKey())
	if err != nil {
		return secrets.Value{}, fault.Wrap(fault.Internal, op, err)
	}
	if err := b.Validate(c); err != nil {
		return secrets.Value{}, fault.Wrap(fault.Internal, op, err)
	}
	out, err := yaml.Marshal(b)
	if err != nil {
		return secrets.Value{}, fault.New(fault.Internal, op, "the bundle cannot be encoded")
	}
	return secrets.NewValue(out), nil
}

// loadBundle decodes a bundle. Errors name no content.
func loadBundle(v secrets.Value, now time.Time) (*machinery.Bundle, error) {
	const op = "read the PKI bundle"
	if v.Empty() {
		return nil, fault.Wrap(fault.Internal, op, errors.New("the bundle is empty"))
	}
	b := &machinery.Bundle{}
	if err := yaml.Unmarshal(v.Reveal(), b); err != nil {
		return nil, fault.New(fault.Internal, op, "the stored bundle is not a PKI bundle (its content is not repeated here)")
	}
	b.Clock = machinery.NewFixedClock(now.Add(-clockSkew))
	if b.Certs == nil || b.Certs.OS == nil || b.Certs.K8s == nil || b.Certs.Etcd == nil ||
		b.Secrets == nil || b.TrustdInfo == nil || b.Cluster == nil {
		return nil, fault.New(fault.Internal, op, "the stored bundle is incomplete")
	}
	return b, nil
}

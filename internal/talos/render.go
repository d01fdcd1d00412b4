package talos

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/blang/semver/v4"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/container"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"github.com/siderolabs/talos/pkg/machinery/config/generate"
	"github.com/siderolabs/talos/pkg/machinery/config/machine"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Patch is a strategic merge patch and the spec field that it came from.
type Patch struct {
	Field string // for error messages, for example "spec.talos.patches[0]"
	Body  []byte // may hold secrets
}

// RenderRequest is everything that goes into the machine config of one node.
type RenderRequest struct {
	Bundle  secrets.Value
	Cluster cluster.Ref
	// Spec is normalised; bodies of its patches come in Patches.
	Spec   cluster.Spec
	Frozen cluster.Frozen
	// Endpoint is the URL of the Kubernetes API, https://host:6443.
	Endpoint string
	// EndpointHosts are further names and addresses of the endpoint, for the
	// certificates of kube-apiserver and of the machine API.
	EndpointHosts []string
	// EndpointSources are prefixes from which a load balancer reaches port 6443
	// of the nodes, if it does so from outside the private network.
	EndpointSources []string
	Role            cluster.Role
	// Group and NodeName are used by Render only.
	Group    string
	NodeName string
	// Patches in order: all nodes, role, group.
	Patches []Patch
	// Base is what RenderBase returned when the cluster was created; Render
	// generates one when it is empty.
	Base secrets.Value
	// Components are versions that differ from the base's while an upgrade is
	// half-way. They win over patches, which keep repository and variant. Used by
	// Render only; without any, images are as base and patches have them.
	Components Components
	// Gzip compresses the result; every Talos platform detects it.
	Gzip bool
}

// Rendered is a complete machine config, ready to be sent.
type Rendered struct {
	UserData secrets.Value
	// SHA256 is the hex digest of UserData.
	SHA256 string
	// Size is the length of UserData in bytes, RawSize that of the plain config.
	Size, RawSize int
}

// RenderBase renders the config of a role without what differs between nodes
// and without patches. It is generated once, when the cluster is created, and
// kept: a later generator may write other documents for the same contract.
// Errors: Invalid when spec and versions do not fit together.
func RenderBase(req RenderRequest) (secrets.Value, error) {
	cfg, err := req.base()
	if err != nil {
		return secrets.Value{}, err
	}
	raw, err := encode(cfg)
	if err != nil {
		return secrets.Value{}, err
	}
	return secrets.NewValue(raw), nil
}

// Render applies patches and the identity of a node to the base config and
// validates the result as a node would in cloud mode. The same request gives the
// same bytes if it has a Base or, without one, the same bundle. Errors: Invalid
// naming the field of the patch that is wrong, never repeating its text.
func Render(req RenderRequest) (Rendered, error) {
	const op = "render machine config"
	var out Rendered
	talos, err := req.talosVersion()
	if err != nil {
		return out, err
	}
	var base config.Provider
	if req.Base.Empty() {
		base, err = req.base()
	} else if base, err = configloader.NewFromBytes(req.Base.Reveal()); err != nil {
		err = fault.New(fault.Internal, op, "the stored base config of role %s cannot be read", req.Role)
	}
	if err != nil {
		return out, err
	}
	contract, err := req.contract(talos)
	if err != nil {
		return out, err
	}
	id, err := req.identity(contract)
	if err != nil {
		return out, err
	}
	cfg, problem := assemble(base, req.Patches, id, talos)
	if problem != nil {
		return out, fault.New(fault.Invalid, op, "%s: %s", problem.Field, problem.Message)
	}
	cfg, moved, err := req.Components.apply(cfg, contract, req.Role, req.Patches)
	if err != nil {
		return out, err
	}
	if moved {
		if message := validate(cfg); message != "" {
			return out, fault.New(fault.Invalid, op, "%s", message)
		}
	}
	raw, err := encode(cfg)
	if err != nil {
		return out, err
	}
	data := raw
	if req.Gzip {
		if data, err = compress(raw); err != nil {
			return out, err
		}
	}
	sum := sha256.Sum256(data)
	return Rendered{UserData: secrets.NewValue(data), SHA256: hex.EncodeToString(sum[:]), Size: len(data), RawSize: len(raw)}, nil
}

// base generates the config of a role and adds the documents that every Ichor
// cluster has.
func (req RenderRequest) base() (config.Provider, error) {
	const op = "render base config"
	talos, err := req.talosVersion()
	if err != nil {
		return nil, err
	}
	contract, err := req.contract(talos)
	if err != nil {
		return nil, err
	}
	net, err := req.network()
	if err != nil {
		return nil, err
	}
	if _, err := parseEndpoint(req.Endpoint); err != nil {
		return nil, err
	}
	// Only certificates that a client presents have a lifetime here, and the
	// base holds none: the time does not reach the result.
	bundle, err := loadBundle(req.Bundle, time.Time{})
	if err != nil {
		return nil, err
	}
	kubernetes, ok := strings.CutPrefix(firstOf(req.Frozen.KubernetesVersion, req.Spec.Kubernetes.Version), "v")
	if !ok {
		return nil, fault.New(fault.Invalid, op, "spec.kubernetes.version: must be a version like v1.36.3")
	}
	in, err := generate.NewInput(req.Cluster.Name, req.Endpoint, kubernetes,
		generate.WithVersionContract(contract),
		generate.WithSecretsBundle(bundle),
		generate.WithAdditionalSubjectAltNames(req.EndpointHosts),
		// Cloud images are installed already: an install section with a disk
		// would partition one.
		generate.WithInstallDisk(""),
		generate.WithInstallImage(req.Frozen.InstallerImage))
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%s", explain(err))
	}
	in.PodNet, in.ServiceNet = []string{net.pods.String()}, []string{net.services.String()}
	kind := machine.TypeWorker
	if req.Role == cluster.RoleControlPlane {
		kind = machine.TypeControlPlane
	}
	cfg, err := in.Config(kind)
	if err != nil {
		return nil, fault.New(fault.Invalid, op, "%s", explain(err))
	}
	if cfg, err = adapt(cfg, contract, net, req.Role); err != nil {
		return nil, fault.New(fault.Internal, op, "%s", explain(err))
	}
	docs := append(cfg.Documents(), timeSync(talos))
	docs = append(docs, net.firewall(req.Role)...)
	out, err := container.New(docs...)
	if err != nil {
		return nil, fault.New(fault.Internal, op, "%s", explain(err))
	}
	if message := validate(out); message != "" {
		return nil, fault.New(fault.Invalid, op, "%s", message)
	}
	return out, nil
}

// talosVersion is the version that the nodes boot.
func (req RenderRequest) talosVersion() (semver.Version, error) {
	v, err := parseVersion(firstOf(req.Frozen.TalosVersion, req.Spec.Talos.Version))
	if err != nil {
		return v, fault.New(fault.Invalid, "read the Talos version", "spec.talos.version: must be a version like v1.13.5")
	}
	return v, nil
}

func (req RenderRequest) contract(talos semver.Version) (*config.VersionContract, error) {
	name := firstOf(req.Frozen.Contract, req.Spec.Talos.Contract, minor(talos))
	c, err := parseContract(name)
	if err != nil {
		return nil, err
	}
	if cv, err := parseVersion(name + ".0"); err != nil || cv.Minor > talos.Minor {
		return nil, fault.New(fault.Invalid, "choose the config contract",
			"spec.talos.contract: %s is newer than Talos v%s, which cannot read it", name, talos)
	}
	return c, nil
}

// network gathers the prefixes of the cluster.
func (req RenderRequest) network() (network, error) {
	const op = "read the network of the spec"
	n := req.Spec.Network
	subnet, field := n.CIDR, "spec.network.cidr"
	if n.Existing != nil {
		subnet, field = n.Existing.CIDR, "spec.network.existing.cidr"
	}
	var out network
	for _, p := range []struct {
		field, text string
		into        *netip.Prefix
	}{
		{field, subnet, &out.subnet},
		{"spec.network.podCIDR", firstOf(n.PodCIDR, cluster.DefaultPodCIDR), &out.pods},
		{"spec.network.serviceCIDR", firstOf(n.ServiceCIDR, cluster.DefaultServiceCIDR), &out.services},
	} {
		prefix, err := netip.ParsePrefix(p.text)
		if err != nil {
			return out, fault.New(fault.Invalid, op, "%s: %q is not a prefix like 10.100.0.0/24", p.field, p.text)
		}
		*p.into = prefix.Masked()
	}
	for _, list := range []struct {
		field string
		texts []string
		into  *[]netip.Prefix
	}{
		{"spec.network.adminCIDRs", n.AdminCIDRs, &out.admins},
		{"the load balancer's sources", req.EndpointSources, &out.balancers},
	} {
		for i, text := range list.texts {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return out, fault.New(fault.Invalid, op, "%s[%d]: %q is not a prefix like 203.0.113.0/24", list.field, i, text)
			}
			*list.into = append(*list.into, prefix.Masked())
		}
	}
	return out, nil
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" {
		return nil, fault.New(fault.Invalid, "read the endpoint", "%q is not a URL like https://host:6443", endpoint)
	}
	return u, nil
}

// encode writes a config without comments and examples: they double the size of
// user data, for which clouds have limits.
func encode(cfg config.Provider) ([]byte, error) {
	raw, err := cfg.EncodeBytes(encoder.WithComments(encoder.CommentsDisabled))
	if err != nil {
		return nil, fault.New(fault.Internal, "encode machine config", "%s", explain(err))
	}
	// The encoder of a config read from bytes may hand out those bytes.
	return slices.Clone(raw), nil
}

func compress(raw []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err == nil {
		if _, err = w.Write(raw); err == nil {
			err = w.Close()
		}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "compress machine config", fmt.Errorf("gzip: %w", err))
	}
	return buf.Bytes(), nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

package talos

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	coreconfig "github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Digest returns the hex digest of what a machine config says, plain or
// compressed: two configs have the same digest if and only if their documents
// hold the same fields with the same values.
//
// A node keeps the bytes that it was given: ApplyConfiguration and user data are
// parsed for validation, but stored, and shown by the machine API, as they came;
// only configs that come from several places at once are written anew. Comments,
// the order of fields and documents, and compression are the sender's, so the
// digest is taken over the decoded documents: each is encoded again by this
// version of machinery, without comments, ordered by kind and name. A field that
// is set to its default counts as set. A digest is comparable with digests made by
// the same release of Ichor only.
//
// The digest tells nothing about the secrets of the config: its keys and tokens
// cannot be guessed. Error: Internal, without content, when the config cannot be
// read.
func Digest(config secrets.Value) (string, error) {
	cfg, err := readConfig(config.Reveal())
	if err != nil {
		return "", err
	}
	return digestOf(cfg)
}

func readConfig(data []byte) (coreconfig.Provider, error) {
	const op = "read machine config"
	raw, err := plainConfig(data)
	if err != nil {
		return nil, fault.New(fault.Internal, op, "the machine config cannot be decompressed")
	}
	cfg, err := configloader.NewFromBytes(raw)
	if err != nil {
		return nil, fault.New(fault.Internal, op, "the machine config cannot be read: %s", explain(err))
	}
	return cfg, nil
}

func digestOf(cfg coreconfig.Provider) (string, error) {
	docs := slices.Clone(cfg.Documents())
	slices.SortStableFunc(docs, func(a, b config.Document) int {
		return cmp.Or(cmp.Compare(a.Kind(), b.Kind()), cmp.Compare(nameOf(a), nameOf(b)))
	})
	sum := sha256.New()
	for _, doc := range docs {
		body, err := encoder.NewEncoder(doc, encoder.WithComments(encoder.CommentsDisabled)).Encode()
		if err != nil {
			return "", fault.New(fault.Internal, "digest machine config", "document %s cannot be encoded", doc.Kind())
		}
		// A hash never fails to write. The separator cannot be part of a document.
		_, _ = sum.Write(append([]byte("---\n"), body...))
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func nameOf(doc config.Document) string {
	if named, ok := doc.(config.NamedDocument); ok {
		return named.Name()
	}
	return ""
}

// Images are the images of Kubernetes that a machine config names; empty where
// the node runs none.
type Images struct {
	Kubelet           string
	APIServer         string
	ControllerManager string
	Scheduler         string
	Proxy             string
}

// ReadImages returns the images of a machine config, plain or compressed. Error:
// Internal, without content, when it cannot be read.
func ReadImages(config secrets.Value) (Images, error) {
	cfg, err := readConfig(config.Reveal())
	if err != nil {
		return Images{}, err
	}
	return imagesOf(cfg), nil
}

func imagesOf(cfg coreconfig.Provider) Images {
	var out Images
	if c := cfg.K8sKubeletConfig(); c != nil {
		out.Kubelet = c.Image()
	}
	// Machinery answers with defaults for a worker, which runs none of these.
	if m := cfg.Machine(); m == nil || !m.Type().IsControlPlane() {
		return out
	}
	if c := cfg.K8sAPIServerConfig(); c != nil {
		out.APIServer = c.Image()
	}
	if c := cfg.K8sControllerManagerConfig(); c != nil {
		out.ControllerManager = c.Image()
	}
	if c := cfg.K8sSchedulerConfig(); c != nil {
		out.Scheduler = c.Image()
	}
	if c := cfg.K8sProxyConfig(); c != nil {
		out.Proxy = c.Image()
	}
	return out
}

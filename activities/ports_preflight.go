package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/ichor-project/ichor/internal/secrets"
)

// Inspector looks at what only the pre-flight of an upgrade asks for. It changes
// nothing.
type Inspector interface {
	// Authorities are the certificate authorities in a bundle.
	Authorities(bundle secrets.Value) ([]Certificate, error)
	// Node looks at a node that runs. Errors as of NodeControl.Facts.
	Node(ctx context.Context, bundle secrets.Value, address string) (NodeInspection, error)
	// Flags are what a complete machine config adds to the components of
	// Kubernetes.
	Flags(config secrets.Value) ([]ComponentFlags, error)
	// RemovedFlags are those of the flags that are gone on the way to another
	// Kubernetes.
	RemovedFlags(ctx context.Context, from, to string, flags []ComponentFlags) ([]RemovedFlag, error)
	// InstallerBytes is what a node downloads for an installer image. Errors:
	// whatever keeps the registry from being read.
	InstallerBytes(ctx context.Context, image string) (int64, error)
}

// Certificate is when a certificate is valid.
type Certificate struct {
	Name                string // whose it is
	NotBefore, NotAfter time.Time
	// Renewed is when another one should have taken its place at the latest; zero
	// where nobody renews it.
	Renewed time.Time
}

// NodeInspection is what somebody wants to know who is about to work on a node.
type NodeInspection struct {
	Certificates []Certificate
	// FreeBytes and DiskBytes are of the file system that holds container images;
	// FreeBytes is -1 when unknown.
	FreeBytes, DiskBytes int64
}

// ComponentFlags are what one component of Kubernetes is started with beyond its
// defaults.
type ComponentFlags struct {
	Component    string
	Args         map[string][]string // values by name, without dashes
	FeatureGates []string            // that are set elsewhere than by a flag
}

// RemovedFlag is something that a component is started with and that a minor of
// Kubernetes does not know.
type RemovedFlag struct {
	Component string
	Kind      string // "flag", "feature gate" or "admission plugin"
	Name      string
	Version   string // the first minor without it, for example "1.37"
}

func (r RemovedFlag) String() string {
	return fmt.Sprintf("the %s %s, which Kubernetes %s has no more", r.Kind, r.Name, r.Version)
}

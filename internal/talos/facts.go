package talos

import (
	"context"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/controller/generic"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/ichor-project/ichor/internal/fault"
)

// MaintenanceStage is the stage of a node that waits for a config.
const MaintenanceStage = "maintenance"

// Facts is what a node runs. What it does not tell is empty.
type Facts struct {
	// Version of Talos that is booted, for example "v1.13.5".
	Version string
	// Schematic is the Image Factory's id of what is booted; empty for images that
	// the factory did not build.
	Schematic string
	// Extensions are the short names of the system extensions, sorted.
	Extensions []string
	// BootID changes with every boot.
	BootID string
	MachineStatus
	Images
	// ConfigSHA256 is the Digest of the running machine config.
	ConfigSHA256 string
	// FreeBytes is the free space of the file system that holds container images, -1
	// when unknown.
	FreeBytes int64
}

// ProbeFacts looks once. A node in maintenance mode is a state, not an error: its
// stage is MaintenanceStage and nothing else is known. Errors as of ProbeNode.
func ProbeFacts(ctx context.Context, opts DialOptions) (Facts, error) {
	n, err := Dial(ctx, opts)
	if fault.Is(err, fault.NotYet) {
		return Facts{MachineStatus: MachineStatus{Stage: MaintenanceStage}, FreeBytes: -1}, nil
	} else if err != nil {
		return Facts{}, err
	}
	out, err := n.Facts(ctx)
	return out, closing(n, err)
}

// Facts reads what the node runs. What it does not know yet, because it has just
// booted, is left empty. Errors: Unavailable when it stops to answer.
func (n *Node) Facts(ctx context.Context) (Facts, error) {
	out := Facts{FreeBytes: -1}
	var err error
	if out.Version, err = n.Version(ctx); err != nil {
		return out, err
	}
	for _, read := range []func(context.Context, *Facts) error{
		n.readStatus, n.readBootID, n.readExtensions, n.readConfig, n.readSpace,
	} {
		if err := read(ctx, &out); err != nil && !fault.Is(err, fault.NotYet, fault.NotFound) {
			return out, err
		}
	}
	return out, nil
}

func (n *Node) readStatus(ctx context.Context, f *Facts) (err error) {
	f.MachineStatus, err = n.MachineStatus(ctx)
	return err
}

// bootIDFile is the kernel's own; the resource of Talos 1.14 shows its content.
const bootIDFile = "/proc/sys/kernel/random/boot_id"

func (n *Node) readBootID(ctx context.Context, f *Facts) error {
	text, err := n.read(ctx, "read boot id", bootIDFile)
	f.BootID = strings.TrimSpace(text)
	return err
}

// Talos writes these among the extensions; nobody asked for them. One is the id
// of the schematic, the other the index of kernel modules.
const (
	schematicExtension = constants.ImageFactorySchematicExtensionName
	modulesExtension   = "modules.dep"
)

func (n *Node) readExtensions(ctx context.Context, f *Facts) error {
	list, err := call(ctx, n, "list extensions", repeatable, readTimeout, func(ctx context.Context) (safe.List[*runtime.ExtensionStatus], error) {
		return safe.StateListAll[*runtime.ExtensionStatus](ctx, n.api.COSI)
	})
	if err != nil {
		return err
	}
	for e := range list.All() {
		switch m := e.TypedSpec().Metadata; m.Name {
		case schematicExtension:
			f.Schematic = m.Version
		case modulesExtension:
		default:
			f.Extensions = append(f.Extensions, m.Name)
		}
	}
	slices.Sort(f.Extensions)
	return nil
}

func (n *Node) readConfig(ctx context.Context, f *Facts) error {
	const op = "read machine config"
	res, err := call(ctx, n, op, repeatable, readTimeout, func(ctx context.Context) (*config.MachineConfig, error) {
		return getResource[*config.MachineConfig](ctx, n, config.ActiveID)
	})
	if err != nil || res == nil {
		return err
	}
	cfg := res.Provider()
	f.Images = imagesOf(cfg)
	f.ConfigSHA256, err = digestOf(cfg)
	return err
}

// getResource returns nil when the node has no such resource.
func getResource[R generic.ResourceWithRD](ctx context.Context, n *Node, id resource.ID) (R, error) {
	res, err := safe.StateGetByID[R](ctx, n.api.COSI, id)
	if state.IsNotFoundError(err) {
		var none R
		return none, nil
	}
	return res, err
}

func (n *Node) readSpace(ctx context.Context, f *Facts) (err error) {
	f.FreeBytes, _, err = n.space(ctx)
	return err
}

// space returns the free and the whole size of the file system that holds
// container images; free is -1 when unknown.
func (n *Node) space(ctx context.Context) (free, size int64, err error) {
	resp, err := call(ctx, n, "read free space", repeatable, readTimeout, func(ctx context.Context) (*machine.MountsResponse, error) {
		return n.api.MachineClient.Mounts(ctx, &emptypb.Empty{})
	})
	if err != nil {
		return -1, 0, err
	}
	free = -1
	best := ""
	for _, m := range resp.GetMessages() {
		for _, s := range m.GetStats() {
			at := s.GetMountedOn()
			if len(at) > len(best) && under(constants.CRIContainerdDataPath, at) && under(at, constants.EphemeralMountPoint) {
				best, free, size = at, int64(min(s.GetAvailable(), 1<<62)), int64(min(s.GetSize(), 1<<62))
			}
		}
	}
	return free, size, nil
}

// under reports whether a path is another one or below it.
func under(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

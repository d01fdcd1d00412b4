package talosnode

import (
	"context"
	"fmt"
	"strings"

	cosi "github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/siderolabs/talos/pkg/machinery/api/cluster"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
)

// machineAPI serves machine.MachineService of one boot.
type machineAPI struct {
	machine.UnimplementedMachineServiceServer

	s *session
}

func (s *session) register(r grpc.ServiceRegistrar) {
	machine.RegisterMachineServiceServer(r, &machineAPI{s: s})

	if s.version.atLeast(13) {
		machine.RegisterImageServiceServer(r, &imageAPI{s: s})
		machine.RegisterLifecycleServiceServer(r, &lifecycleAPI{s: s})
	}

	cluster.RegisterClusterServiceServer(r, &clusterAPI{s: s})
	storage.RegisterStorageServiceServer(r, &storageAPI{s: s})
	timeapi.RegisterTimeServiceServer(r, &timeAPI{s: s})
	cosi.RegisterStateServer(r, server.NewState(state.Filter(s.cosi, resourceAccess(s.cosi))))
}

// running returns the config or the error that maintenance gives.
func (s *session) running() (*nodeConfig, error) {
	if c := s.current(); c != nil {
		return c, nil
	}

	return nil, status.Error(codes.Unimplemented, "API is not implemented in maintenance mode")
}

// controlPlane is running for calls that only control planes answer.
func (s *session) controlPlane(what string) (*nodeConfig, error) {
	c, err := s.running()
	if err != nil {
		return nil, err
	}

	if !c.controlPlane {
		return nil, status.Errorf(codes.Unimplemented, "%s is only available on control plane nodes", what)
	}

	return c, nil
}

// Version implements the machine service.
func (a *machineAPI) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	arch := a.s.node.server.Image.Arch
	if arch == "" {
		arch = "amd64"
	}

	return &machine.VersionResponse{Messages: []*machine.Version{{
		Version: &machine.VersionInfo{
			Tag:       a.s.slot.version,
			Sha:       "devcloud",
			GoVersion: "go1.26",
			Os:        "linux",
			Arch:      arch,
		},
		Platform: &machine.PlatformInfo{Name: a.s.node.platform(), Mode: cloudMode{}.String()},
		Features: &machine.FeaturesInfo{Rbac: true},
	}}}, nil
}

// Hostname implements the machine service.
func (a *machineAPI) Hostname(context.Context, *emptypb.Empty) (*machine.HostnameResponse, error) {
	return &machine.HostnameResponse{Messages: []*machine.Hostname{{Hostname: a.s.hostname()}}}, nil
}

// ServiceList implements the machine service.
func (a *machineAPI) ServiceList(context.Context, *emptypb.Empty) (*machine.ServiceListResponse, error) {
	return &machine.ServiceListResponse{Messages: []*machine.ServiceList{
		{Services: a.s.services.info(a.s.serviceStatuses())},
	}}, nil
}

// verbs lists which service supports which operation through the API.
var verbs = map[string]string{"kubelet": "start restart"}

func (s *session) operate(id, verb string) error {
	known := false

	for _, st := range s.serviceStatuses() {
		known = known || st.id == id
	}

	if !known {
		return fmt.Errorf("service %q not defined", id)
	}

	if !strings.Contains(verbs[id], verb) {
		return fmt.Errorf("service %q doesn't support %s operation via API", id, verb)
	}

	s.restartKubelet()
	s.nudge()

	return nil
}

// ServiceStart implements the machine service.
func (a *machineAPI) ServiceStart(_ context.Context, in *machine.ServiceStartRequest) (*machine.ServiceStartResponse, error) {
	if err := a.s.operate(in.GetId(), "start"); err != nil {
		return nil, err
	}

	return &machine.ServiceStartResponse{Messages: []*machine.ServiceStart{{Resp: "Service \"" + in.GetId() + "\" started"}}}, nil
}

// ServiceStop implements the machine service.
func (a *machineAPI) ServiceStop(_ context.Context, in *machine.ServiceStopRequest) (*machine.ServiceStopResponse, error) {
	if err := a.s.operate(in.GetId(), "stop"); err != nil {
		return nil, err
	}

	return &machine.ServiceStopResponse{Messages: []*machine.ServiceStop{{Resp: "Service \"" + in.GetId() + "\" stopped"}}}, nil
}

// ServiceRestart implements the machine service.
func (a *machineAPI) ServiceRestart(_ context.Context, in *machine.ServiceRestartRequest) (*machine.ServiceRestartResponse, error) {
	if err := a.s.operate(in.GetId(), "restart"); err != nil {
		return nil, err
	}

	return &machine.ServiceRestartResponse{Messages: []*machine.ServiceRestart{{Resp: "Service \"" + in.GetId() + "\" restarted"}}}, nil
}

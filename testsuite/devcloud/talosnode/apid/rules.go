package apid

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/role"
)

var (
	admin    = role.MakeSet(role.Admin)
	operator = role.MakeSet(role.Admin, role.Operator)
	reader   = role.MakeSet(role.Admin, role.Operator, role.Reader)
	backup   = role.MakeSet(role.Admin, role.Operator, role.Reader, role.EtcdBackup)
)

// exceptions lists the methods that more than os:admin may call. Everything
// else is for administrators, which is also machined's own fallback.
//
// Source: the rules table of machined's service (Talos 1.13 and 1.14).
var exceptions = map[string]role.Set{
	"/cluster.ClusterService/HealthCheck":                   reader,
	"/inspect.InspectService/ControllerRuntimeDependencies": reader,

	"/machine.ImageService/List":   reader,
	"/machine.ImageService/Pull":   operator,
	"/machine.ImageService/Verify": role.MakeSet(role.Admin, role.Operator, role.Reader, role.ImageVerifier),

	// Reader only while in maintenance, which the handler verifies.
	"/machine.MachineService/ApplyConfiguration": role.MakeSet(role.Admin, role.Reader),

	"/machine.MachineService/CPUFreqStats":       reader,
	"/machine.MachineService/CPUInfo":            reader,
	"/machine.MachineService/Containers":         reader,
	"/machine.MachineService/DiskStats":          reader,
	"/machine.MachineService/DiskUsage":          reader,
	"/machine.MachineService/Dmesg":              reader,
	"/machine.MachineService/EtcdAlarmDisarm":    operator,
	"/machine.MachineService/EtcdAlarmList":      backup,
	"/machine.MachineService/EtcdDefragment":     operator,
	"/machine.MachineService/EtcdMemberList":     backup,
	"/machine.MachineService/EtcdSnapshot":       role.MakeSet(role.Admin, role.Operator, role.EtcdBackup),
	"/machine.MachineService/EtcdStatus":         backup,
	"/machine.MachineService/Events":             reader,
	"/machine.MachineService/Hostname":           reader,
	"/machine.MachineService/ImageList":          reader,
	"/machine.MachineService/ImagePull":          operator,
	"/machine.MachineService/List":               reader,
	"/machine.MachineService/LoadAvg":            reader,
	"/machine.MachineService/Logs":               reader,
	"/machine.MachineService/LogsContainers":     reader,
	"/machine.MachineService/Memory":             reader,
	"/machine.MachineService/Mounts":             reader,
	"/machine.MachineService/Netstat":            reader,
	"/machine.MachineService/NetworkDeviceStats": reader,
	"/machine.MachineService/PacketCapture":      operator,
	"/machine.MachineService/Processes":          reader,
	"/machine.MachineService/Reboot":             operator,
	"/machine.MachineService/Restart":            operator,
	"/machine.MachineService/ServiceList":        reader,
	"/machine.MachineService/ServiceRestart":     operator,
	"/machine.MachineService/ServiceStart":       operator,
	"/machine.MachineService/ServiceStop":        operator,
	"/machine.MachineService/Shutdown":           operator,
	"/machine.MachineService/Stats":              reader,
	"/machine.MachineService/SystemStat":         reader,
	"/machine.MachineService/Version":            reader,

	// Sensitive types are refused by the state itself.
	"/cosi.resource.State/Get":   reader,
	"/cosi.resource.State/List":  reader,
	"/cosi.resource.State/Watch": reader,

	"/storage.StorageService/Disks": reader,
	"/time.TimeService/Time":        reader,
	"/time.TimeService/TimeCheck":   reader,
}

// allowed returns the roles of which one is needed for a method.
func allowed(method string) role.Set {
	if set, ok := exceptions[method]; ok {
		return set
	}

	return admin
}

// Roles returns the caller's roles as apid passed them on.
func Roles(ctx context.Context) role.Set {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		return role.Set{}
	}

	set, _ := role.Parse(md.Get(constants.APIAuthzRoleMetadataKey))

	return set
}

func authorize(ctx context.Context, method string) error {
	if !Roles(ctx).IncludesAny(allowed(method)) {
		return status.Error(codes.PermissionDenied, "not authorized")
	}

	return nil
}

// Authorize returns the server options that enforce the role table on the
// machine service behind apid.
func Authorize() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := authorize(ctx, info.FullMethod); err != nil {
				return nil, err
			}

			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if err := authorize(ss.Context(), info.FullMethod); err != nil {
				return err
			}

			return handler(srv, ss)
		}),
	}
}

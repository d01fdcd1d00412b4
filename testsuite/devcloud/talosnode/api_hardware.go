package talosnode

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/api/storage"
	timeapi "github.com/siderolabs/talos/pkg/machinery/api/time"
)

func (s *session) memoryKiB() uint64 { return uint64(max(s.node.server.MemoryMiB, 0)) << 10 }

func (s *session) diskBytes() uint64 { return uint64(max(s.node.server.DiskGiB, 0)) << 30 }

// Memory implements the machine service.
func (a *machineAPI) Memory(context.Context, *emptypb.Empty) (*machine.MemoryResponse, error) {
	total := a.s.memoryKiB()

	return &machine.MemoryResponse{Messages: []*machine.Memory{{Meminfo: &machine.MemInfo{
		Memtotal: total, Memfree: total / 2, Memavailable: total / 4 * 3, Cached: total / 8,
	}}}}, nil
}

// CPUInfo implements the machine service.
func (a *machineAPI) CPUInfo(context.Context, *emptypb.Empty) (*machine.CPUInfoResponse, error) {
	info := &machine.CPUsInfo{}
	for i := range uint32(max(a.s.node.server.VCPUs, 1)) {
		info.CpuInfo = append(info.CpuInfo, &machine.CPUInfo{Processor: i, VendorId: "AuthenticAMD", ModelName: "devcloud", CpuMhz: 2400, CpuCores: 1, Siblings: 1})
	}

	return &machine.CPUInfoResponse{Messages: []*machine.CPUsInfo{info}}, nil
}

// LoadAvg implements the machine service.
func (a *machineAPI) LoadAvg(context.Context, *emptypb.Empty) (*machine.LoadAvgResponse, error) {
	return &machine.LoadAvgResponse{Messages: []*machine.LoadAvg{{Load1: 0.1, Load5: 0.1, Load15: 0.1}}}, nil
}

// SystemStat implements the machine service.
func (a *machineAPI) SystemStat(context.Context, *emptypb.Empty) (*machine.SystemStatResponse, error) {
	return &machine.SystemStatResponse{Messages: []*machine.SystemStat{{
		BootTime: uint64(max(a.s.booted.Unix(), 0)), CpuTotal: &machine.CPUStat{Idle: 1}, SoftIrq: &machine.SoftIRQStat{},
	}}}, nil
}

// Mounts implements the machine service.
func (a *machineAPI) Mounts(context.Context, *emptypb.Empty) (*machine.MountsResponse, error) {
	size := a.s.diskBytes()
	free := size / 4 * 3

	if a.s.node.Faults().DiskFull {
		free = 0
	}

	return &machine.MountsResponse{Messages: []*machine.Mounts{{Stats: []*machine.MountStat{
		{Filesystem: "/dev/vda4", Size: 100 << 20, Available: 90 << 20, MountedOn: "/system/state"},
		{Filesystem: "/dev/vda5", Size: size, Available: free, MountedOn: "/var"},
	}}}}, nil
}

// Processes implements the machine service.
func (a *machineAPI) Processes(context.Context, *emptypb.Empty) (*machine.ProcessesResponse, error) {
	list := &machine.Process{Processes: []*machine.ProcessInfo{{Pid: 1, State: "S", Threads: 20, Command: "init", Executable: "/sbin/init"}}}

	for i, st := range a.s.serviceStatuses() {
		if st.state == stateRunning {
			list.Processes = append(list.Processes, &machine.ProcessInfo{
				Pid: int32(100 + i), Ppid: 1, State: "S", Threads: 10, Command: st.id, Executable: "/sbin/" + st.id,
			})
		}
	}

	return &machine.ProcessesResponse{Messages: []*machine.Process{list}}, nil
}

// Stats implements the machine service.
func (a *machineAPI) Stats(_ context.Context, in *machine.StatsRequest) (*machine.StatsResponse, error) {
	out := &machine.Stats{}

	for _, st := range a.s.serviceStatuses() {
		if st.state == stateRunning {
			out.Stats = append(out.Stats, &machine.Stat{Namespace: in.GetNamespace(), Id: st.id, Name: st.id, MemoryUsage: 32 << 20})
		}
	}

	return &machine.StatsResponse{Messages: []*machine.Stats{out}}, nil
}

// Containers implements the machine service.
func (a *machineAPI) Containers(_ context.Context, in *machine.ContainersRequest) (*machine.ContainersResponse, error) {
	out := &machine.Container{}

	for i, st := range a.s.serviceStatuses() {
		if st.state == stateRunning {
			out.Containers = append(out.Containers, &machine.ContainerInfo{
				Namespace: in.GetNamespace(), Id: st.id, Name: st.id, Pid: uint32(100 + i), Status: "RUNNING",
			})
		}
	}

	return &machine.ContainersResponse{Messages: []*machine.Container{out}}, nil
}

// storageAPI serves storage.StorageService.
type storageAPI struct {
	storage.UnimplementedStorageServiceServer

	s *session
}

// Disks implements the storage service.
func (a *storageAPI) Disks(context.Context, *emptypb.Empty) (*storage.DisksResponse, error) {
	return &storage.DisksResponse{Messages: []*storage.Disks{{Disks: []*storage.Disk{{
		Size: a.s.diskBytes(), DeviceName: "/dev/vda", Type: storage.Disk_SSD, BusPath: "/pci0000:00/virtio1", SystemDisk: true, Subsystem: "/sys/class/block",
	}}}}}, nil
}

// timeAPI serves time.TimeService.
type timeAPI struct {
	timeapi.UnimplementedTimeServiceServer

	s *session
}

const timeServer = "time.cloudflare.com"

// Time implements the time service.
func (a *timeAPI) Time(ctx context.Context, _ *emptypb.Empty) (*timeapi.TimeResponse, error) {
	return a.TimeCheck(ctx, &timeapi.TimeRequest{Server: timeServer})
}

// TimeCheck implements the time service.
func (a *timeAPI) TimeCheck(_ context.Context, in *timeapi.TimeRequest) (*timeapi.TimeResponse, error) {
	if a.s.node.Faults().NTPNeverSyncs {
		return nil, status.Errorf(codes.Unavailable, "error querying NTP server %q: i/o timeout", in.GetServer())
	}

	now := timestamppb.New(time.Now())

	return &timeapi.TimeResponse{Messages: []*timeapi.Time{{Server: in.GetServer(), Localtime: now, Remotetime: now}}}, nil
}

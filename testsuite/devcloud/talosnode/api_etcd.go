package talosnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/etcdsim"
)

// bootstrapTimeWait is how long Bootstrap waits for the clock.
const bootstrapTimeWait = 5 * time.Second

// Bootstrap implements the machine service. It judges by this node's data
// directory alone, so that a second node can start a second cluster.
func (a *machineAPI) Bootstrap(ctx context.Context, in *machine.BootstrapRequest) (*machine.BootstrapResponse, error) {
	s := a.s

	config := s.current()
	if config == nil {
		return nil, status.Error(codes.FailedPrecondition, "bootstrap is not available yet")
	}

	if !config.controlPlane {
		return nil, status.Error(codes.Unimplemented, "bootstrap can only be performed on a control plane node")
	}

	if config.etcdCA == nil {
		return nil, status.Error(codes.InvalidArgument, "etcd CA is not set in the machine configuration")
	}

	if !s.timeSynced() {
		if err := s.fleet.opts.Clock.Sleep(ctx, bootstrapTimeWait); err != nil || !s.timeSynced() {
			return nil, status.Error(codes.FailedPrecondition, "time is not in sync yet")
		}
	}

	s.etcdLock.Lock()
	defer s.etcdLock.Unlock()

	d := s.node.read()
	if !d.etcd.empty() {
		return nil, status.Error(codes.AlreadyExists, "etcd data directory is not empty")
	}

	var recovery *etcdsim.Recovery

	if in.GetRecoverEtcd() {
		if d.recovery == nil {
			return nil, status.Error(codes.FailedPrecondition, "etcd snapshot is not uploaded")
		}

		recovery = &etcdsim.Recovery{Snapshot: d.recovery, SkipHashCheck: in.GetRecoverSkipHashCheck(), Restore: s.fleet.opts.Kubernetes.Restore}
	}

	if err := s.bootstrapEtcd(config, recovery); err != nil {
		return nil, fmt.Errorf("bootstrap: %w", err)
	}

	s.node.write(func(d *disk) { d.recovery = nil })

	if s.node.takeFault(func(f *Faults) *bool { return &f.LoseBootstrapResponse }) {
		return nil, s.breakConnections()
	}

	return &machine.BootstrapResponse{Messages: []*machine.Bootstrap{{}}}, nil
}

// member returns this node's running member.
func (a *machineAPI) member(what string) (etcdData, error) {
	if _, err := a.s.controlPlane(what); err != nil {
		return etcdData{}, err
	}

	data := a.s.runningEtcd()
	if data.empty() {
		return etcdData{}, status.Error(codes.Unavailable, "etcd: dial tcp 127.0.0.1:2379: connect: connection refused")
	}

	return data, nil
}

// anyMember returns a running member that this node can ask: its own, or one of
// the control plane nodes that discovery shows, as Talos' etcd client does.
func (a *machineAPI) anyMember(what string) (etcdData, error) {
	config, err := a.s.controlPlane(what)
	if err != nil {
		return etcdData{}, err
	}

	if data := a.s.runningEtcd(); !data.empty() {
		return data, nil
	}

	for _, p := range a.s.members(config) {
		if !p.etcd.empty() && config.etcdCA != nil && p.etcd.cluster.CA() == etcdFingerprint(config) && a.s.reaches(p, PortEtcdClient) {
			return p.etcd, nil
		}
	}

	return etcdData{}, status.Error(codes.Unavailable, "failed to create etcd client: context deadline exceeded")
}

// etcdError passes an error of etcd on. Talos wraps them, which costs all but
// one their gRPC code.
func etcdError(what string, err error) error {
	if errors.Is(err, etcdsim.ErrMemberNotFound) {
		return status.Error(codes.NotFound, err.Error())
	}

	return fmt.Errorf("failed to %s: %w", what, err)
}

// EtcdMemberList implements the machine service.
func (a *machineAPI) EtcdMemberList(_ context.Context, in *machine.EtcdMemberListRequest) (*machine.EtcdMemberListResponse, error) {
	find := a.anyMember
	if in.GetQueryLocal() {
		find = a.member
	}

	data, err := find("member list")
	if err != nil {
		return nil, err
	}

	if !in.GetQueryLocal() && !data.cluster.HasQuorum() {
		return nil, etcdError("list members", etcdsim.ErrNoLeader)
	}

	list := &machine.EtcdMembers{}
	for _, m := range data.cluster.Members() {
		list.LegacyMembers = append(list.LegacyMembers, m.Name)
		list.Members = append(list.Members, &machine.EtcdMember{
			Id:         m.ID,
			Hostname:   m.Name,
			PeerUrls:   []string{m.PeerURL},
			ClientUrls: []string{clientURL(m.PeerURL)},
			IsLearner:  m.Learner,
		})
	}

	return &machine.EtcdMemberListResponse{Messages: []*machine.EtcdMembers{list}}, nil
}

func clientURL(peer string) string {
	return string(bytes.Replace([]byte(peer), []byte(":2380"), []byte(":2379"), 1))
}

// EtcdStatus implements the machine service.
func (a *machineAPI) EtcdStatus(context.Context, *emptypb.Empty) (*machine.EtcdStatusResponse, error) {
	data, err := a.member("etcd status")
	if err != nil {
		return nil, err
	}

	st, err := data.cluster.Status(data.id)
	if err != nil {
		return nil, etcdError("get status", err)
	}

	version := a.s.version.etcdVersion()

	return &machine.EtcdStatusResponse{Messages: []*machine.EtcdStatus{{MemberStatus: &machine.EtcdMemberStatus{
		MemberId:         data.id,
		ProtocolVersion:  version,
		StorageVersion:   version[:3] + ".0",
		DbSize:           4 << 20,
		DbSizeInUse:      2 << 20,
		Leader:           st.Leader,
		RaftIndex:        st.Index,
		RaftTerm:         st.Term,
		RaftAppliedIndex: st.Index,
		Errors:           st.Errors,
		IsLearner:        st.Member.Learner,
	}}}}, nil
}

// EtcdAlarmList implements the machine service.
func (a *machineAPI) EtcdAlarmList(context.Context, *emptypb.Empty) (*machine.EtcdAlarmListResponse, error) {
	data, err := a.member("alarm list")
	if err != nil {
		return nil, err
	}

	if !data.cluster.HasQuorum() {
		return nil, etcdError("list alarms", etcdsim.ErrNoLeader)
	}

	return &machine.EtcdAlarmListResponse{Messages: []*machine.EtcdAlarm{{MemberAlarms: alarms(data.cluster.Alarms(false))}}}, nil
}

func alarms(in map[uint64]string) []*machine.EtcdMemberAlarm {
	var out []*machine.EtcdMemberAlarm

	for _, id := range slices.Sorted(maps.Keys(in)) {
		out = append(out, &machine.EtcdMemberAlarm{
			MemberId: id, Alarm: machine.EtcdMemberAlarm_AlarmType(machine.EtcdMemberAlarm_AlarmType_value[in[id]]),
		})
	}

	return out
}

// EtcdAlarmDisarm implements the machine service.
func (a *machineAPI) EtcdAlarmDisarm(context.Context, *emptypb.Empty) (*machine.EtcdAlarmDisarmResponse, error) {
	data, err := a.member("alarm disarm")
	if err != nil {
		return nil, err
	}

	return &machine.EtcdAlarmDisarmResponse{Messages: []*machine.EtcdAlarmDisarm{{MemberAlarms: alarms(data.cluster.Alarms(true))}}}, nil
}

// EtcdDefragment implements the machine service.
func (a *machineAPI) EtcdDefragment(context.Context, *emptypb.Empty) (*machine.EtcdDefragmentResponse, error) {
	if _, err := a.member("defragment"); err != nil {
		return nil, err
	}

	return &machine.EtcdDefragmentResponse{Messages: []*machine.EtcdDefragment{{}}}, nil
}

// EtcdForfeitLeadership implements the machine service.
func (a *machineAPI) EtcdForfeitLeadership(context.Context, *machine.EtcdForfeitLeadershipRequest) (*machine.EtcdForfeitLeadershipResponse, error) {
	data, err := a.member("forfeit leadership")
	if err != nil {
		return nil, err
	}

	leader, err := data.cluster.Forfeit(data.id)
	if err != nil {
		return nil, etcdError("forfeit leadership", err)
	}

	return &machine.EtcdForfeitLeadershipResponse{Messages: []*machine.EtcdForfeitLeadership{{Member: leader}}}, nil
}

// EtcdLeaveCluster implements the machine service: this node's own member
// goes and its data with it.
func (a *machineAPI) EtcdLeaveCluster(context.Context, *machine.EtcdLeaveClusterRequest) (*machine.EtcdLeaveClusterResponse, error) {
	if _, err := a.member("leave cluster"); err != nil {
		return nil, err
	}

	if err := a.s.leaveEtcd(); err != nil {
		return nil, etcdError("leave cluster", err)
	}

	return &machine.EtcdLeaveClusterResponse{Messages: []*machine.EtcdLeaveCluster{{}}}, nil
}

// EtcdRemoveMemberByID implements the machine service.
func (a *machineAPI) EtcdRemoveMemberByID(_ context.Context, in *machine.EtcdRemoveMemberByIDRequest) (*machine.EtcdRemoveMemberByIDResponse, error) {
	data, err := a.anyMember("etcd remove member")
	if err != nil {
		return nil, err
	}

	if err := data.cluster.Remove(in.GetMemberId()); err != nil {
		return nil, etcdError("remove member", err)
	}

	a.s.logf("[etcd] member %x removed through this node", in.GetMemberId())
	a.s.fleet.nudge()

	return &machine.EtcdRemoveMemberByIDResponse{Messages: []*machine.EtcdRemoveMemberByID{{}}}, nil
}

// EtcdSnapshot implements the machine service.
func (a *machineAPI) EtcdSnapshot(_ *machine.EtcdSnapshotRequest, out grpc.ServerStreamingServer[common.Data]) error {
	data, err := a.member("etcd snapshot")
	if err != nil {
		return err
	}

	keys, err := a.s.fleet.opts.Kubernetes.Snapshot(data.cluster.Datastore())
	if err != nil {
		return etcdError("snapshot", err)
	}

	snapshot, err := data.cluster.Snapshot(data.id, keys)
	if err != nil {
		return etcdError("snapshot", err)
	}

	for chunk := range slices.Chunk(snapshot, snapshotChunk) {
		if err := out.Send(&common.Data{Bytes: chunk}); err != nil {
			return err
		}
	}

	return nil
}

// snapshotChunk is far below the limit of a message.
const snapshotChunk = 256 << 10

// EtcdRecover implements the machine service.
func (a *machineAPI) EtcdRecover(in grpc.ClientStreamingServer[common.Data, machine.EtcdRecoverResponse]) error {
	if _, err := a.s.controlPlane("etcd recover"); err != nil {
		return err
	}

	if !a.s.node.read().etcd.empty() {
		return status.Error(codes.FailedPrecondition, "etcd data directory is not empty")
	}

	var snapshot []byte

	for {
		chunk, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			return err
		}

		snapshot = append(snapshot, chunk.GetBytes()...)
	}

	a.s.node.write(func(d *disk) { d.recovery = snapshot })

	return in.SendAndClose(&machine.EtcdRecoverResponse{Messages: []*machine.EtcdRecover{{}}})
}

package talosnode

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/registry"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/siderolabs/talos/pkg/machinery/constants"
	"github.com/siderolabs/talos/pkg/machinery/resources/block"
	"github.com/siderolabs/talos/pkg/machinery/resources/cluster"
	"github.com/siderolabs/talos/pkg/machinery/resources/config"
	"github.com/siderolabs/talos/pkg/machinery/resources/etcd"
	"github.com/siderolabs/talos/pkg/machinery/resources/k8s"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	"github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	timeres "github.com/siderolabs/talos/pkg/machinery/resources/time"
	"github.com/siderolabs/talos/pkg/machinery/resources/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/role"

	"github.com/ichor-project/ichor/testsuite/devcloud/talosnode/apid"
)

// namespaces are those that the resources below live in; some packages share
// one.
var namespaces = []resource.Namespace{
	v1alpha1.NamespaceName, cluster.NamespaceName, cluster.RawNamespaceName, config.NamespaceName, etcd.NamespaceName,
	k8s.NamespaceName, k8s.ControlPlaneNamespaceName, network.NamespaceName, runtime.NamespaceName, block.NamespaceName,
}

// types are the resource types a client can ask for. A type without an
// instance gives an empty list, as on a real machine.
var types = []meta.ResourceWithRD{
	&block.SystemDisk{}, &block.Disk{}, &block.DiscoveredVolume{}, &block.VolumeStatus{},
	&cluster.Affiliate{}, &cluster.Config{}, &cluster.Identity{}, &cluster.Info{}, &cluster.Member{},
	&config.MachineConfig{}, &config.MachineType{},
	&etcd.Member{}, &etcd.Spec{}, &etcd.Config{},
	&k8s.KubeletSpec{}, &k8s.Nodename{}, &k8s.NodeStatus{}, &k8s.StaticPod{}, &k8s.StaticPodStatus{}, &k8s.Manifest{},
	&k8s.APIServerConfig{}, &k8s.ControllerManagerConfig{}, &k8s.SchedulerConfig{}, &k8s.SecretsStatus{},
	&k8s.BootstrapManifestsConfig{}, &k8s.AdmissionControlConfig{}, &k8s.ConfigStatus{},
	&network.AddressStatus{}, &network.HostnameStatus{}, &network.NodeAddress{}, &network.Status{},
	&runtime.BootID{}, &runtime.Diagnostic{}, &runtime.ExtensionStatus{}, &runtime.MachineStatus{}, &runtime.PlatformMetadata{},
	&runtime.SecurityState{}, &runtime.Version{}, &runtime.MountStatus{},
	&timeres.Status{}, &v1alpha1.Service{},
}

// newResourceState makes the COSI state of one boot.
func newResourceState(ctx context.Context) (state.State, error) {
	st := state.WrapCore(namespaced.NewState(inmem.Build))

	ns := registry.NewNamespaceRegistry(st)
	if err := ns.RegisterDefault(ctx); err != nil {
		return nil, err
	}

	unique := slices.Clone(namespaces)
	slices.Sort(unique)

	for _, name := range slices.Compact(unique) {
		if err := ns.Register(ctx, name, name); err != nil {
			return nil, err
		}
	}

	rds := registry.NewResourceRegistry(st)
	if err := rds.RegisterDefault(ctx); err != nil {
		return nil, err
	}

	for _, t := range types {
		if err := rds.Register(ctx, t); err != nil {
			return nil, err
		}
	}

	return st, nil
}

// resourceAccess lets nobody write, shows sensitive types to administrators
// only and knows no unregistered types.
func resourceAccess(st state.State) state.FilteringRule {
	return func(ctx context.Context, access state.Access) error {
		if !access.Verb.Readonly() {
			return status.Error(codes.PermissionDenied, "write access is not allowed")
		}

		// Namespaces and resource definitions themselves.
		if access.ResourceType == meta.ResourceDefinitionType || access.ResourceType == meta.NamespaceType {
			return nil
		}

		rd, err := safe.StateGet[*meta.ResourceDefinition](ctx, st,
			resource.NewMetadata(meta.NamespaceName, meta.ResourceDefinitionType, strings.ToLower(access.ResourceType), resource.VersionUndefined))
		if err != nil {
			return status.Errorf(codes.PermissionDenied, "resource type %q is not supported", access.ResourceType)
		}

		if rd.TypedSpec().Sensitivity == meta.Sensitive && !apid.Roles(ctx).Includes(role.Admin) {
			return status.Error(codes.PermissionDenied, "not authorized")
		}

		return nil
	}
}

// publish creates or updates a resource. Errors can only come from the end of
// the session.
func publish[R resource.Resource](s *session, r R, set func(R)) {
	err := safe.StateModify(s.ctx, s.cosi, r, func(r R) error {
		set(r)

		return nil
	})
	if err != nil && s.ctx.Err() == nil {
		s.node.console.onChange("resources", "%s: %v", r.Metadata(), err)
	}
}

// publishBoot publishes what is known before any config.
func (s *session) publishBoot() {
	publish(s, runtime.NewVersion(), func(r *runtime.Version) {
		r.TypedSpec().Name, r.TypedSpec().Version = "Talos", s.slot.version
	})

	if s.version.atLeast(14) {
		publish(s, runtime.NewBootID(), func(r *runtime.BootID) { r.TypedSpec().BootID = s.bootID })
	}

	publish(s, runtime.NewPlatformMetadataSpec(runtime.NamespaceName, runtime.PlatformMetadataID), func(r *runtime.PlatformMetadata) {
		r.TypedSpec().Platform = s.node.platform()
		r.TypedSpec().Hostname = s.node.server.Name
		r.TypedSpec().Zone = s.node.server.Zone
		r.TypedSpec().InstanceType = s.node.server.Flavor
		r.TypedSpec().InstanceID = s.node.server.UUID
		r.TypedSpec().ProviderID = cmp.Or(s.node.server.ProviderID, "openstack:///"+s.node.server.UUID)
	})

	publish(s, runtime.NewExtensionStatus(runtime.NamespaceName, "0"), func(r *runtime.ExtensionStatus) {
		r.TypedSpec().Metadata.Name = "schematic"
		r.TypedSpec().Metadata.Version = s.slot.schematic
	})

	for i, name := range s.extensions() {
		publish(s, runtime.NewExtensionStatus(runtime.NamespaceName, fmt.Sprint(i+1)), func(r *runtime.ExtensionStatus) {
			_, short, found := strings.Cut(name, "/")
			if !found {
				short = name
			}

			r.TypedSpec().Metadata.Name = short
			r.TypedSpec().Metadata.Version = s.slot.version
		})
	}

	publish(s, block.NewSystemDisk(block.NamespaceName, block.SystemDiskID), func(r *block.SystemDisk) {
		r.TypedSpec().DiskID, r.TypedSpec().DevPath = "vda", "/dev/vda"
	})

	s.publishVolumes()
	publish(s, network.NewNodeAddress(network.NamespaceName, network.NodeAddressDefaultID), s.setAddresses)
	publish(s, network.NewNodeAddress(network.NamespaceName, network.NodeAddressCurrentID), s.setAddresses)
	publish(s, network.NewNodeAddress(network.NamespaceName, network.NodeAddressRoutedID), s.setAddresses)
	publish(s, network.NewStatus(network.NamespaceName, network.StatusID), func(r *network.Status) {
		spec := r.TypedSpec()
		spec.AddressReady, spec.ConnectivityReady, spec.HostnameReady, spec.EtcFilesReady = true, true, true, true
	})
	s.publishHostname()
}

// publishVolumes publishes the partitions that Talos makes.
func (s *session) publishVolumes() {
	sizes := map[string]uint64{
		constants.MetaPartitionLabel:      1 << 20,
		constants.StatePartitionLabel:     100 << 20,
		constants.EphemeralPartitionLabel: s.diskBytes() - min(s.diskBytes(), 2<<30),
	}

	for label, size := range sizes {
		publish(s, block.NewVolumeStatus(block.NamespaceName, label), func(r *block.VolumeStatus) {
			spec := r.TypedSpec()
			spec.Phase, spec.Type = block.VolumePhaseReady, block.VolumeTypePartition
			spec.Location, spec.ParentLocation = "/dev/vda", "/dev/vda"
			spec.Size = size
		})
	}
}

// extensions are those of the slot that runs.
func (s *session) extensions() []string {
	if look := s.fleet.opts.Extensions; look != nil {
		if names, ok := look(s.slot.schematic, s.slot.version); ok {
			return names
		}
	}

	if s.slot.schematic == s.node.server.Image.Schematic {
		return s.node.server.Image.Extensions
	}

	return nil
}

func (s *session) setAddresses(r *network.NodeAddress) {
	r.TypedSpec().Addresses = nil
	for _, a := range s.addresses() {
		r.TypedSpec().Addresses = append(r.TypedSpec().Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
}

func (s *session) publishHostname() {
	publish(s, network.NewHostnameStatus(network.NamespaceName, "hostname"), func(r *network.HostnameStatus) {
		r.TypedSpec().Hostname, r.TypedSpec().Domainname, _ = strings.Cut(s.hostname(), ".")
	})
}

// publishConfig publishes what follows from the machine config.
func (s *session) publishConfig(c *nodeConfig) {
	err := s.cosi.Destroy(s.ctx, config.NewMachineConfig(c.provider).Metadata())
	if err != nil && !state.IsNotFoundError(err) && s.ctx.Err() == nil {
		s.node.console.onChange("resources", "%v", err)
	}

	if err := s.cosi.Create(s.ctx, config.NewMachineConfig(c.provider)); err != nil && s.ctx.Err() == nil {
		s.node.console.onChange("resources", "%v", err)
	}

	publish(s, config.NewMachineType(), func(r *config.MachineType) { r.SetMachineType(c.machineType) })
	publish(s, k8s.NewNodename(k8s.NamespaceName, k8s.NodenameID), func(r *k8s.Nodename) { r.TypedSpec().Nodename = s.nodename(c) })
	publish(s, cluster.NewInfo(), func(r *cluster.Info) {
		r.TypedSpec().ClusterID, r.TypedSpec().ClusterName = c.clusterID, c.clusterName
	})
	publish(s, cluster.NewIdentity(cluster.NamespaceName, cluster.LocalIdentity), func(r *cluster.Identity) {
		r.TypedSpec().NodeID = s.node.read().nodeID
	})
	s.publishHostname()

	if c.kubernetes != nil {
		s.publishKubelet(c)
		s.publishComponents(c)
	}

	s.publishManifests(c)

	if k := c.kubernetes; k != nil && c.controlPlane {
		publish(s, k8s.NewBootstrapManifestsConfig(), func(r *k8s.BootstrapManifestsConfig) {
			spec := r.TypedSpec()
			spec.Server, spec.PodCIDRs, spec.FlannelEnabled = c.endpoint, k.podCIDRs, k.flannel

			spec.CNIName = "none"
			if k.flannel {
				spec.CNIName = "flannel"
			}
		})
	}
}

func (s *session) publishEtcdMember(id uint64) {
	publish(s, etcd.NewMember(etcd.NamespaceName, etcd.LocalMemberID), func(r *etcd.Member) {
		r.TypedSpec().MemberID = fmt.Sprintf("%016x", id)
	})
}

// publishStatus says whether anything changed.
func (s *session) publishStatus(stage runtime.MachineStage, ready bool, unmet []runtime.UnmetCondition) bool {
	changed := false

	publish(s, runtime.NewMachineStatus(), func(r *runtime.MachineStatus) {
		spec := r.TypedSpec()
		changed = spec.Stage != stage || spec.Status.Ready != ready || !slices.Equal(spec.Status.UnmetConditions, unmet)
		spec.Stage, spec.Status.Ready, spec.Status.UnmetConditions = stage, ready, unmet
	})

	return changed
}

func (s *session) publishService(st serviceStatus) {
	publish(s, v1alpha1.NewService(st.id), func(r *v1alpha1.Service) {
		r.TypedSpec().Running = st.state == stateRunning
		r.TypedSpec().Healthy = st.healthy
		r.TypedSpec().Unknown = st.unknown
	})
}

// destroyService takes a service's resource away, as its end does.
func (s *session) destroyService(id string) {
	err := s.cosi.Destroy(s.ctx, v1alpha1.NewService(id).Metadata())
	if err != nil && !state.IsNotFoundError(err) && s.ctx.Err() == nil {
		s.node.console.onChange("resources", "%v", err)
	}
}

func (s *session) publishTime() {
	publish(s, timeres.NewStatus(), func(r *timeres.Status) {
		r.TypedSpec().Synced = s.timeSynced()
	})
}

func (s *session) publishKubelet(c *nodeConfig) {
	publish(s, k8s.NewKubeletSpec(k8s.NamespaceName, k8s.KubeletID), func(r *k8s.KubeletSpec) {
		r.TypedSpec().Image = c.kubernetes.kubeletImage
		r.TypedSpec().ExpectedNodename = s.nodename(c)
	})
}

// publishKubernetes publishes node status and static pods.
func (s *session) publishKubernetes(c *nodeConfig) {
	s.mu.Lock()
	kube := s.kube
	s.mu.Unlock()

	if kube.kubelet != nil && kube.kubelet.Registered() {
		publish(s, k8s.NewNodeStatus(k8s.NamespaceName, s.nodename(c)), func(r *k8s.NodeStatus) {
			r.TypedSpec().Nodename = s.nodename(c)
			r.TypedSpec().NodeReady = kube.kubelet.Ready()
			r.TypedSpec().Labels = kube.kubeletSpec.Labels
		})
	}

	s.publishStaticPods(c)
}

// Package guest is the seam between devcloud's cloud (what a customer rents)
// and what runs on its servers (a Talos stand-in and, behind control planes, a
// real Kubernetes API). The cloud face boots guests through it; the Talos face
// reaches Kubernetes through it; neither imports the other.
package guest

import (
	"context"
	"crypto/tls"
	"net/netip"
	"time"
)

// Server is everything a guest may know of the machine it boots on: what real
// firmware and a real metadata service would tell it, and nothing more.
type Server struct {
	UUID string
	Name string // host name as metadata gives it
	// Label is what its owner calls the server where host names are the cloud's;
	// empty when Name is the owner's.
	Label  string
	Zone   string
	Flavor string
	VCPUs  int
	// MemoryMiB and DiskGiB are what the flavor and the request said.
	MemoryMiB int
	DiskGiB   int
	// GPUs is how many there are, and GPU what they are called: "NVIDIA T4".
	GPUs int
	GPU  string
	// Loopback is the address of this machine on the host that runs devcloud;
	// it is also the public address the cloud's API reports. All listeners of
	// the guest bind it, and all its outgoing connections come from it.
	Loopback netip.Addr
	// Private holds the addresses in private networks (not bindable here);
	// empty when the server has no private interface.
	Private []netip.Addr
	// Public says whether the server has a public interface.
	Public   bool
	UserData []byte
	Image    Image
	// Platform is whose metadata service the machine finds, in Talos' words;
	// empty means "openstack". ProviderID is what that service lets Talos say of
	// itself; empty means openstack:///UUID.
	Platform   string
	ProviderID string
}

// Image is what the server boots from.
type Image struct {
	UUID string
	// Schematic and TalosVersion come from the Image Factory URL of a custom
	// image import; both are empty for a stock image, which never becomes a
	// Talos node.
	Schematic    string
	TalosVersion string // "v1.13.5"
	Platform     string // "openstack"
	Arch         string // "amd64"
	// UserDataHandling is "pass-through" or "extend-cloud-config" and Firmware
	// is "bios" or "uefi", as the import asked.
	UserDataHandling string
	Firmware         string
	Extensions       []string
}

// Booter makes guests. Boot returns at once; booting goes on in the background
// and takes as long as the clock says.
type Booter interface {
	Boot(s Server) Guest
}

// Guest is one machine with its disk. PowerOff keeps the disk (a later PowerOn
// boots from it), Destroy does not. All three return after the listeners of
// the guest are closed and may be called in any order and repeatedly.
type Guest interface {
	PowerOn()
	PowerOff()
	Reboot()
	Destroy()
	// Log is what a console would show, oldest first: above all why a node
	// refused to join.
	Log() []string
}

// Firewalled is implemented by guests that filter packets. An emulated filter
// can only accept a connection and keep silent, which a load balancer's health
// check would take for a living program; so the balancer asks.
type Firewalled interface {
	// Admits says whether a connection from a loopback address to a port would
	// come about, as far as packet filters are concerned.
	Admits(source netip.Addr, port uint16) bool
}

// Clock scales every simulated duration: a speed of 60 makes a minute last a
// second. Sleep returns early with ctx's error.
type Clock interface {
	Sleep(ctx context.Context, d time.Duration) error
	Scale(d time.Duration) time.Duration
}

// Network answers what the emulated network knows: which cloud addresses stand
// behind a loopback source address (a server's public and private addresses, or
// those of a load balancer), so that ingress rules can be enforced by source.
// An address it does not know is returned alone: somebody outside the cloud.
type Network interface {
	Identities(source netip.Addr) []netip.Addr
	// Loopback returns the loopback address behind a cloud address.
	Loopback(address netip.Addr) (netip.Addr, bool)
}

// PacketFilter is implemented by networks that filter packets before they reach
// a machine.
type PacketFilter interface {
	// Delivers says whether TCP packets from one loopback address arrive at a port
	// of a machine with another.
	Delivers(source, machine netip.Addr, port uint16) bool
}

// Kubernetes runs real Kubernetes processes for the Talos stand-in.
type Kubernetes interface {
	// StartControlPlane starts one kube-apiserver for a control plane node on
	// the datastore of its etcd cluster (started when first needed, one
	// controller-manager and scheduler per cluster). It returns when the
	// processes have been started; Ready tells when the API answers.
	StartControlPlane(ctx context.Context, spec ControlPlane) (RunningControlPlane, error)
	// StartKubelet joins a node as a kubelet would: over spec.Endpoint, with the
	// bootstrap token, verifying the API's certificate with the CA. It returns
	// at once and keeps trying, as a kubelet does.
	StartKubelet(spec Kubelet) RunningKubelet
	// Snapshot returns the objects of an etcd cluster's datastore as they are at
	// one moment; nothing when it never had any.
	Snapshot(etcdCluster string) ([]byte, error)
	// Restore puts a snapshot into the datastore of an etcd cluster that has not
	// been used yet.
	Restore(etcdCluster string, snapshot []byte) error
	// DropCluster forgets the datastore of an etcd cluster whose last member is
	// gone.
	DropCluster(etcdCluster string)
}

// ControlPlane is what the machine config says about the API server.
type ControlPlane struct {
	EtcdCluster       string // one per successful Bootstrap; names the datastore
	ClusterName       string
	NodeName          string
	KubernetesVersion string // of the configured image, "v1.36.3"
	// Listen is where kube-apiserver must serve; the Talos face puts the node's
	// port 6443 with its ingress rules in front of it.
	Listen           netip.Addr
	Endpoint         string // https://host:6443
	CertSANs         []string
	CACert, CAKey    []byte // PEM, cluster CA
	AggregatorCACert []byte
	AggregatorCAKey  []byte
	ServiceAccount   []byte // PEM private key
	BootstrapToken   string // id.secret, as workers present it
	PodCIDRs         []string
	ServiceCIDRs     []string
	// DefaultCNI says that Talos' own flannel is configured, so that nodes get
	// a network without any applied manifest.
	DefaultCNI bool
	// Manifests are the objects that the node renders; the first control plane of a
	// cluster makes them, and later changes are left to whoever asks for them.
	Manifests []map[string]any
	// Exclusive is false when chaos runs share one API server per cluster.
	Exclusive bool
}

// RunningControlPlane is one node's API server.
type RunningControlPlane interface {
	// Backend is the address the API really listens on, known at once.
	Backend() netip.AddrPort
	Ready() bool
	// SetQuorum(false) makes the API stop answering, as it does without etcd.
	SetQuorum(ok bool)
	// Restart replaces the API server by one of a new spec, at the same Backend.
	// It returns when the new one has been started; of the old one nothing is
	// left then.
	Restart(spec ControlPlane) error
	// Stop ends the processes of this node; data stays with the cluster.
	Stop()
}

// Kubelet is what a node's config and hardware say about its kubelet.
type Kubelet struct {
	EtcdCluster           string // empty on workers
	NodeName              string
	Endpoint              string // as configured in the machine config
	CACert                []byte
	BootstrapToken        string
	Version               string // "v1.36.3", from the kubelet image
	TalosVersion          string
	ControlPlane          bool
	Labels                map[string]string
	Taints                []Taint
	ExternalCloudProvider bool
	ProviderID            string // only from kubelet extraConfig; usually empty
	InternalIP            netip.Addr
	ExternalIP            netip.Addr
	VCPUs                 int
	MemoryMiB             int
	DiskGiB               int
	GPUs                  int    // that containers can use
	Arch                  string // of the image; empty means "amd64"
	// Source is the node's own address, from which the kubelet connects.
	Source netip.Addr
	// BootID is the kernel's, new with each boot.
	BootID string
	// StaticPods are the pods that the node runs by itself, as they are now; nil
	// on workers.
	StaticPods func() []StaticPod
	// ServerUUID and Private are what the cloud controller would learn from the
	// cloud's API.
	ServerUUID string
	Private    bool
	// TLS lets tests override trust; normally nil.
	TLS *tls.Config
}

// StaticPod is a pod of a control plane node that its kubelet runs from a
// manifest of Talos and shows to the API as a mirror pod.
type StaticPod struct {
	Name        string // "kube-apiserver", without the node's name
	Image       string
	Command     []string
	Annotations map[string]string
	Ready       bool
}

// Taint is a Kubernetes taint.
type Taint struct{ Key, Value, Effect string }

// RunningKubelet is one node's kubelet.
type RunningKubelet interface {
	Registered() bool
	Ready() bool
	LastError() string
	// Drain cordons the node and evicts its pods with the node's own rights, as
	// Talos does in its own upgrade. The next kubelet of the node uncordons it.
	Drain(ctx context.Context) error
	Stop()
}

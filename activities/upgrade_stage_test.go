package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// canary is in every secret of the scene and must not leave an activity.
const canary = "CANARY-7f3a"

const (
	schematicA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	schematicB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// scene is a cluster with three control planes and two workers, with everything
// that an upgrade touches, in memory. It is safe for concurrent use.
type scene struct {
	mu sync.Mutex

	rec      cluster.Record
	rev      int64
	objects  map[string]string
	streams  map[string]string
	bodies   map[string]string
	storeErr error
	// meanwhile runs before the next write of the record, as another writer.
	meanwhile func(*cluster.Record)

	nodes map[string]*fakeNode // by address
	// hook is asked before each call to a node, and again after its effect; an
	// error is the call's.
	hook func(method, address string, after bool) error
	// tick runs at each look at a node.
	tick  func(n *fakeNode)
	calls []string

	objectsOf map[string]*KubeNode // Node objects by name
	kubeErr   error
	held      []string
	rounds    [][]PodLeft
	drainErr  error
	options   []DrainOptions
	pods      map[string]StaticPodView // by node and component
	gates     map[string]error
	applied   []string
	stuck     []plan.Refusal
	removed   []plan.Refusal
	scaler    string

	checkErr   error
	freezeErr  error
	installers []string // that exist; nil for all
	expires    time.Time
	leases     func(LeaseInput) (LeaseResult, error)
	frozen     int
}

type fakeNode struct {
	name, address string
	facts         NodeFacts
	err           error // of every call
	etcd          EtcdHealth
	staged        string
	needsReboot   bool
	boots         int
}

var (
	upgradeSpec = cluster.Spec{
		Cloud:        cluster.Cloud{Provider: "fake", Zone: "z1", Credentials: "env:TOKEN"},
		Talos:        cluster.Talos{Version: "v1.13.5", Contract: "v1.13", Extensions: []string{"siderolabs/a"}},
		Kubernetes:   cluster.Kubernetes{Version: "v1.35.1"},
		Network:      cluster.Network{CIDR: "10.0.0.0/24", AdminCIDRs: []string{"192.0.2.0/24"}},
		ControlPlane: cluster.ControlPlane{Replicas: 3, Flavor: "small"},
		NodeGroups:   []cluster.NodeGroup{{Name: "worker", Flavor: "small", Min: 1, Max: 5}},
		Manifests: []cluster.Manifest{
			{Name: "cni", Source: cluster.Source{Ref: "m1", SHA256: "s1"}}, {Name: "ccm", Source: cluster.Source{Ref: "m2", SHA256: "s2"}},
		},
	}
	planes  = []UpgradeTarget{plane(1), plane(2), plane(3)}
	workers = []UpgradeTarget{workerNode(1), workerNode(2)}
	all     = slices.Concat(planes, workers)
)

func plane(i int) UpgradeTarget {
	return UpgradeTarget{Role: cluster.RoleControlPlane, Group: "cp", Node: cluster.NodeAddress{
		MachineID: fmt.Sprint("c", i), Name: fmt.Sprint("demo-cp-", i), Address: fmt.Sprint("192.0.2.", i),
	}}
}

func workerNode(i int) UpgradeTarget {
	return UpgradeTarget{Role: cluster.RoleWorker, Group: "worker", Node: cluster.NodeAddress{
		MachineID: fmt.Sprint("w", i), Name: fmt.Sprint("demo-worker-", i), Address: fmt.Sprint("192.0.2.1", i),
	}}
}

func newScene() *scene {
	spec := cluster.Cluster{Spec: upgradeSpec}.Normalise().Spec
	s := &scene{
		objects: map[string]string{"bundle": canary + " bundle", "base-cp": canary + " base-cp v1.13.5 v1.35.1", "base-w": canary + " base-w v1.13.5 v1.35.1"},
		streams: map[string]string{}, bodies: map[string]string{"m1@s1": "cni", "m2@s2": "ccm"},
		nodes: map[string]*fakeNode{}, objectsOf: map[string]*KubeNode{}, pods: map[string]StaticPodView{}, gates: map[string]error{},
		expires: time.Now().AddDate(9, 0, 0), scaler: "v1.35.0",
		rec: cluster.Record{
			Schema: 1, Ref: testRef, Phase: cluster.PhaseReady, Spec: spec, SpecDigest: "old", Endpoint: "https://192.0.2.100:6443",
			BootstrapMachine: "c1",
			Frozen: cluster.Frozen{
				Contract: "v1.13", TalosVersion: "v1.13.5", KubernetesVersion: "v1.35.1", Schematic: schematicA,
				Image: "a-v1.13.5", ImageURL: "https://factory/a", ImageID: "img-1", InstallerImage: "factory/fake-installer/" + schematicA + ":v1.13.5",
				Bundle: "bundle", BaseConfig: []cluster.BaseConfig{
					{Role: cluster.RoleControlPlane, Ref: "base-cp", SHA256: "1"}, {Role: cluster.RoleWorker, Ref: "base-w", SHA256: "2"},
				},
			},
		},
		rev: 7,
	}
	var members []EtcdMemberView
	for i, t := range planes {
		members = append(members, EtcdMemberView{ID: uint64(i + 1), Name: t.Node.Name})
	}
	for i, t := range all {
		n := &fakeNode{name: t.Node.Name, address: t.Node.Address, facts: NodeFacts{
			Version: "v1.13.5", Schematic: schematicA, BootID: "boot-0", Stage: "running", Ready: true, FreeBytes: 20 << 30,
			Kubelet: "ghcr.io/siderolabs/kubelet:v1.35.1",
		}}
		if t.Role == cluster.RoleControlPlane {
			n.etcd = EtcdHealth{Running: true, MemberID: uint64(i + 1), Leader: 2, Members: members}
			n.facts.APIServer = "registry.k8s.io/kube-apiserver:v1.35.1"
		}
		s.nodes[t.Node.Address] = n
		s.objectsOf[t.Node.Name] = &KubeNode{Name: t.Node.Name, Ready: true, Version: "v1.35.1"}
	}
	return s
}

// upgrades ties the activities to the scene.
func (s *scene) upgrades() *Upgrades {
	store := sceneStore{scene: s}
	return &Upgrades{
		Store: store, Checker: s, Configs: sceneConfigs{s}, Factory: sceneFactory{s}, Releases: s, Machines: s, Groups: s, Clouds: s,
		Kube:   &Kube{Store: store, Kube: sceneKube{scene: s}, Timing: quick},
		Timing: quick, Now: func() time.Time { return time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC) },
	}
}

func (s *scene) called(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *scene) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

// sceneStore is the store of a scene.
type sceneStore struct {
	Store
	*scene
}

func (s sceneStore) Record(_ context.Context, name string) (cluster.Record, int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name != s.rec.Ref.Name {
		return cluster.Record{}, 0, fault.New(fault.NotFound, "read record", "none")
	}
	return s.rec, s.rev, nil
}

func (s sceneStore) PutRecord(_ context.Context, rec cluster.Record, expect int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f(&s.rec)
		s.rev++
	}
	if s.rev != expect {
		return 0, fault.New(fault.Conflict, "write record", "somebody was first")
	}
	s.rec, s.rev = rec, s.rev+1
	return s.rev, nil
}

func (s sceneStore) Object(_ context.Context, key string) (secrets.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.objects[key]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "read object", "no %s", key)
	}
	return secrets.NewValue([]byte(body)), nil
}

func (s sceneStore) EnsureObject(_ context.Context, _ cluster.Ref, name string, body secrets.Value) (string, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.objects[name]; !ok {
		s.objects[name] = string(body.Reveal())
	}
	return name, digestOf(s.objects[name]), nil
}

func (s sceneStore) Body(_ context.Context, ref, sum string) (secrets.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, ok := s.bodies[ref+"@"+sum]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "read body", "no %s", ref)
	}
	return secrets.NewValue([]byte(body)), nil
}

func (s sceneStore) Probe(context.Context, cluster.Ref) error { return s.storeErr }

func (s sceneStore) EnsureStream(_ context.Context, _ cluster.Ref, name string, write func(io.Writer) error) (StoredStream, error) {
	s.mu.Lock()
	kept, ok := s.streams[name]
	s.mu.Unlock()
	if !ok {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return StoredStream{}, err
		}
		s.mu.Lock()
		if _, ok := s.streams[name]; !ok {
			s.streams[name] = b.String()
		}
		kept = s.streams[name]
		s.mu.Unlock()
	}
	return StoredStream{Key: name, SHA256: digestOf(kept), Bytes: int64(len(kept))}, nil
}

func (s sceneStore) ReadStream(_ context.Context, stream StoredStream, w io.Writer) error {
	s.mu.Lock()
	kept, ok := s.streams[stream.Key]
	s.mu.Unlock()
	if !ok || digestOf(kept) != stream.SHA256 {
		return fault.New(fault.Invalid, "read stream", "not the one that is meant")
	}
	_, err := io.WriteString(w, kept)
	return err
}

// Check is the checker of a scene: it knows no version below v1.13.
func (s *scene) Check(_ context.Context, c cluster.Cluster) (cluster.Cluster, string, error) {
	if s.checkErr != nil {
		return cluster.Cluster{}, "", s.checkErr
	}
	n := c.Normalise()
	return n, n.Digest(), nil
}

// sceneFactory is the Image Factory of a scene.
type sceneFactory struct{ *scene }

func (f sceneFactory) Freeze(_ context.Context, spec cluster.Spec, _ cloud.Capabilities) (cluster.Frozen, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen++
	schematic := spec.Talos.Schematic
	if schematic == "" {
		schematic = schematicA
		if len(spec.Talos.Extensions) != 1 {
			schematic = schematicB
		}
	}
	v := spec.Talos.Version
	return cluster.Frozen{
		Contract: "v9.9", TalosVersion: v, KubernetesVersion: spec.Kubernetes.Version, Schematic: schematic,
		Image: schematic[:1] + "-" + v, ImageURL: "https://factory/" + schematic[:1] + v, InstallerImage: "factory/fake-installer/" + schematic + ":" + v,
	}, f.freezeErr
}

func (f sceneFactory) CheckInstaller(_ context.Context, image string) error {
	f.called("installer %s", image)
	if f.installers != nil && !slices.Contains(f.installers, image) {
		return fault.New(fault.Invalid, "look for the installer", "the factory has none")
	}
	return nil
}

func (s *scene) Rules(context.Context) (plan.VersionRules, error) {
	return plan.VersionRules{Talos: []plan.TalosRule{{Minor: "1.12"}, {Minor: "1.13"}, {Minor: "1.14"}}}, nil
}

// Open opens the one cloud of a scene.
func (s *scene) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return &stage{flavors: []cloud.Flavor{{Name: "small"}}}, "acc", nil
}

// sceneConfigs writes configs that show what they were made from.
type sceneConfigs struct{ *scene }

func (c sceneConfigs) NewBundle(string) (secrets.Value, error) {
	return secrets.Value{}, errors.New("no new bundle is ever made")
}

func (c sceneConfigs) Base(cluster.Record, secrets.Value, cluster.Role) (secrets.Value, error) {
	return secrets.Value{}, errors.New("no base is ever made anew")
}

func (c sceneConfigs) NodeSettings(secrets.Value) (NodeSettings, error) { return NodeSettings{}, nil }

func (c sceneConfigs) UserData(req UserDataRequest) (secrets.Value, string, error) {
	var patches []string
	for _, b := range req.Bodies {
		if strings.Contains(string(b.Body), "bad") {
			return secrets.Value{}, "", fault.New(fault.Invalid, "render", "%s: does not fit", b.Field)
		}
		patches = append(patches, string(b.Body))
	}
	text := fmt.Sprintf("%s|%s|%s|%+v|%s", req.Base.Reveal(), req.Machine, strings.Join(patches, ","), req.Components, canary)
	return secrets.NewValue([]byte(text)), digestOf(text), nil
}

func (c sceneConfigs) Rebase(rec cluster.Record, base secrets.Value, _ cluster.Role) (secrets.Value, error) {
	kind := strings.Fields(string(base.Reveal()))[1]
	return secrets.NewValue(fmt.Appendf(nil, "%s %s %s %s", canary, kind, rec.Frozen.TalosVersion, rec.Frozen.KubernetesVersion)), nil
}

func (c sceneConfigs) Digest(config secrets.Value) (string, error) {
	return digestOf(string(config.Reveal())), nil
}

func (c sceneConfigs) Images(config secrets.Value) (ComponentImages, error) {
	fields := strings.Fields(strings.SplitN(string(config.Reveal()), "|", 2)[0])
	v := fields[3]
	if strings.Contains(string(config.Reveal()), "pin-kubelet") {
		return ComponentImages{Kubelet: "kubelet:v1.30.0"}, nil
	}
	out := ComponentImages{Kubelet: "kubelet:" + v + "-slim"}
	if fields[1] == "base-cp" {
		out.APIServer, out.ControllerManager, out.Scheduler = "api:"+v, "cm:"+v, "sched:"+v
	}
	return out, nil
}

func (c sceneConfigs) Expires(secrets.Value) (time.Time, error) { return c.expires, nil }

// node finds a node and lets the hooks at it.
func (s *scene) node(method, address string, effect func(n *fakeNode) error) error {
	s.called("%s %s", method, address)
	if h := s.hook; h != nil {
		if err := h(method, address, false); err != nil {
			return err
		}
	}
	s.mu.Lock()
	n := s.nodes[address]
	if n == nil || n.err != nil {
		s.mu.Unlock()
		if n == nil {
			return fault.New(fault.Unavailable, "dial", "nobody answers")
		}
		return n.err
	}
	if s.tick != nil && method == "facts" {
		s.tick(n)
	}
	err := effect(n)
	s.mu.Unlock()
	if err == nil && s.hook != nil {
		err = s.hook(method, address, true)
	}
	return err
}

func (s *scene) Facts(_ context.Context, bundle secrets.Value, address string) (out NodeFacts, err error) {
	if !strings.Contains(string(bundle.Reveal()), canary) {
		return out, fault.New(fault.Unauthorized, "dial", "wrong bundle")
	}
	err = s.node("facts", address, func(n *fakeNode) error {
		out = n.facts
		return nil
	})
	return out, err
}

func (s *scene) Pull(_ context.Context, _ secrets.Value, address, image string, space ImageSpace, progress func(string)) error {
	return s.node("pull "+image+" "+string(space), address, func(*fakeNode) error {
		progress("1 of 2 layers")
		return nil
	})
}

func (s *scene) Install(_ context.Context, _ secrets.Value, address, image string, progress func(string)) error {
	return s.node("install "+image, address, func(*fakeNode) error {
		progress("writing")
		return nil
	})
}

func (n *fakeNode) boot() {
	n.boots++
	n.facts.BootID = fmt.Sprint("boot-", n.boots)
	if n.staged != "" {
		n.facts.ConfigSHA256, n.staged = n.staged, ""
	}
}

func (s *scene) UpgradeWhole(_ context.Context, _ secrets.Value, address, image string) error {
	return s.node("whole "+image, address, func(n *fakeNode) error {
		n.boot()
		return nil
	})
}

func (s *scene) Reboot(_ context.Context, _ secrets.Value, address string, mode RebootMode) error {
	return s.node("reboot "+string(mode), address, func(n *fakeNode) error {
		n.boot()
		return nil
	})
}

func (s *scene) Rollback(_ context.Context, _ secrets.Value, address string) error {
	return s.node("rollback", address, func(n *fakeNode) error {
		n.boot()
		return nil
	})
}

func (s *scene) Apply(_ context.Context, _ secrets.Value, address string, config secrets.Value, staged bool) error {
	return s.node(fmt.Sprint("apply staged=", staged), address, func(n *fakeNode) error {
		sum := digestOf(string(config.Reveal()))
		switch {
		case staged:
			n.staged = sum
		case n.needsReboot:
			return &fault.Error{Kind: fault.Invalid, Op: "apply", Code: NeedsReboot, Message: "must be staged"}
		default:
			n.facts.ConfigSHA256 = sum
		}
		return nil
	})
}

func (s *scene) EtcdHealth(_ context.Context, _ secrets.Value, address string) (out EtcdHealth, err error) {
	err = s.node("etcd", address, func(n *fakeNode) error {
		out = n.etcd
		out.Members = slices.Clone(n.etcd.Members)
		return nil
	})
	return out, err
}

func (s *scene) Forfeit(_ context.Context, _ secrets.Value, address string) error {
	return s.node("forfeit", address, func(own *fakeNode) error {
		for _, n := range s.nodes {
			if n.etcd.Running && n != own {
				s.lead(n.etcd.MemberID)
				return nil
			}
		}
		return fault.New(fault.Unsafe, "forfeit", "nobody else")
	})
}

func (s *scene) lead(id uint64) {
	for _, n := range s.nodes {
		if n.etcd.Running {
			n.etcd.Leader = id
		}
	}
}

func (s *scene) RemoveMember(_ context.Context, _ secrets.Value, address string, id uint64) error {
	return s.node(fmt.Sprint("remove ", id), address, func(*fakeNode) error {
		for _, n := range s.nodes {
			n.etcd.Members = slices.DeleteFunc(slices.Clone(n.etcd.Members), func(m EtcdMemberView) bool { return m.ID == id })
		}
		return nil
	})
}

func (s *scene) Leave(_ context.Context, _ secrets.Value, address string) error {
	return s.node("leave", address, func(own *fakeNode) error {
		for _, n := range s.nodes {
			n.etcd.Members = slices.DeleteFunc(slices.Clone(n.etcd.Members), func(m EtcdMemberView) bool { return m.ID == own.etcd.MemberID })
		}
		own.etcd = EtcdHealth{}
		return nil
	})
}

func (s *scene) Snapshot(_ context.Context, _ secrets.Value, address string, to io.Writer) error {
	return s.node("snapshot", address, func(n *fakeNode) error {
		_, err := io.WriteString(to, canary+" snapshot of "+n.name)
		return err
	})
}

func (s *scene) Recover(_ context.Context, _ secrets.Value, address string, from io.Reader) error {
	body, err := io.ReadAll(from)
	if err != nil {
		return fault.Wrap(fault.Unavailable, "recover", err)
	}
	return s.node("recover "+strings.TrimPrefix(string(body), canary+" "), address, func(n *fakeNode) error {
		n.etcd = EtcdHealth{Running: true, MemberID: 9, Leader: 9, Members: []EtcdMemberView{{ID: 9, Name: n.name}}}
		return nil
	})
}

func (s *scene) Lease(_ context.Context, in LeaseInput) (LeaseResult, error) { return s.leases(in) }

// act runs an activity with a bound, in a time of its own, and looks for the canary
// in what it returns.
func act[In, Out any](t *testing.T, f func(context.Context, In) (Out, error), in In) (Out, error) {
	t.Helper()
	var out Out
	var err error
	synctest.Test(t, func(t *testing.T) {
		err = (&stage{}).run(t, func(ctx context.Context) error {
			var err error
			out, err = f(ctx, in)
			return err
		})
	})
	text, jerr := json.Marshal(out)
	if jerr != nil {
		t.Fatal(jerr)
	}
	if strings.Contains(string(text), canary) || err != nil && strings.Contains(err.Error(), canary) {
		t.Errorf("a secret left the activity: %s, %v", text, err)
	}
	return out, err
}

// do is act for activities without a result.
func do[In any](t *testing.T, f func(context.Context, In) error, in In) error {
	t.Helper()
	_, err := act(t, func(ctx context.Context, in In) (struct{}, error) { return struct{}{}, f(ctx, in) }, in)
	return err
}

func workOn(t UpgradeTarget) NodeWorkInput {
	return NodeWorkInput{Ref: testRef, Target: t, Holder: "cluster/demo/node/" + t.Node.Name}
}

package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// stage is everything outside of one group, in memory.
type stage struct {
	cloud.Provider // panics where a test expects no call
	machines       []cloud.Machine
	hidden         []string // cloud ids that lists do not show though they exist
	listErr        error
	lists          int
	flavors        []cloud.Flavor
	created        []cloud.EnsureMachineRequest

	nodes    []KubeNode
	nodesErr error
	pods     [][]PodLeft // per round
	evictErr error
	cordoned []string
	deleted  []string
	absent   bool
	opened   []string // kubeconfigs
	values   map[secrets.Ref]string

	account  string
	accounts []string // of the record
	unknown  bool     // there is no record

	bodies   map[string]string
	settings NodeSettings
	rendered []UserDataRequest
	// byID is the capability, named are the provider IDs that were set.
	byID  bool
	named []string
}

var (
	testRef   = cluster.Ref{Name: "demo", UID: "u1"}
	testOwner = cloud.Owner{Cluster: testRef, Group: "worker"}
	viaConfig = KubeTarget{Kubeconfig: "env:KUBECONFIG_BODY"}
)

func (s *stage) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return s, s.account, nil
}

func (s *stage) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{PostWindow: time.Minute, Poll: time.Millisecond, NodesByProviderID: s.byID}
}

func (s *stage) Flavors(context.Context) ([]cloud.Flavor, error) { return s.flavors, nil }

func (s *stage) ListMachines(_ context.Context, o cloud.Owner) ([]cloud.Machine, error) {
	s.lists++
	if o.Cluster != testRef || o.Group != "" && o.Group != testOwner.Group {
		return nil, fmt.Errorf("list of %+v", o)
	}
	return slices.DeleteFunc(slices.Clone(s.machines), func(m cloud.Machine) bool { return slices.Contains(s.hidden, m.Ref.Cloud) }), s.listErr
}

func (s *stage) GetMachine(_ context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	for _, m := range s.machines {
		if m.Ref.Cloud == ref.Cloud {
			return m, nil
		}
	}
	return cloud.Machine{}, fault.New(fault.NotFound, "read server", "gone")
}

func (s *stage) DeleteMachine(_ context.Context, ref cloud.MachineRef) (bool, error) {
	at := slices.IndexFunc(s.machines, func(m cloud.Machine) bool { return m.Ref.Cloud == ref.Cloud })
	if at >= 0 {
		s.machines = slices.Delete(s.machines, at, at+1)
	}
	return at < 0, nil
}

func (s *stage) EnsureMachine(_ context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	s.created = append(s.created, req)
	return cloud.MachineLook{Machine: &cloud.Machine{Name: req.Spec.Name}, Created: true}, nil
}

// kubeOf is the Kubernetes port of a stage.
type kubeOf struct {
	*stage
	KubeAPI
}

func (k kubeOf) Open(context.Context, cluster.Record, secrets.Value) (KubeAPI, error) { return k, nil }

func (k kubeOf) OpenKubeconfig(_ context.Context, kubeconfig secrets.Value) (KubeAPI, error) {
	k.opened = append(k.opened, kubeconfig.RevealString())
	return k, nil
}

func (k kubeOf) Nodes(context.Context) ([]KubeNode, error) { return k.nodes, k.nodesErr }

func (k kubeOf) missing() error {
	if k.absent {
		return fault.New(fault.NotFound, "read node", "no such node")
	}
	return nil
}

func (k kubeOf) NameMachine(_ context.Context, name, id string) error {
	at := slices.IndexFunc(k.nodes, func(n KubeNode) bool { return n.Name == name })
	k.named = append(k.named, name+" "+id)
	if k.nodes[at].ProviderID = id; len(k.named) > 1 {
		// The cloud's controller finds it now, but not at the first attempt.
		k.nodes[at].Uninitialized = false
		return nil
	}
	k.nodes[at].ProviderID = ""
	return fault.New(fault.Conflict, "set the provider ID", "somebody was faster")
}

func (k kubeOf) CordonNode(_ context.Context, name string) error {
	k.cordoned = append(k.cordoned, name)
	return k.missing()
}

func (k kubeOf) DeleteNode(_ context.Context, name string) error {
	k.deleted = append(k.deleted, name)
	return k.missing()
}

func (k kubeOf) EvictPods(context.Context, string) ([]PodLeft, error) {
	if err := k.missing(); err != nil {
		return nil, err
	}
	if len(k.pods) == 0 {
		return nil, k.evictErr
	}
	now := k.pods[0]
	if len(k.pods) > 1 {
		k.pods = k.pods[1:]
	}
	return now, k.evictErr
}

func (s *stage) Resolve(_ context.Context, ref secrets.Ref) (secrets.Value, error) {
	v, ok := s.values[ref]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "resolve", "nothing there")
	}
	return secrets.NewValue([]byte(v)), nil
}

// storeOf is the store port of a stage.
type storeOf struct {
	Store
	*stage
}

func (s storeOf) PutRecord(_ context.Context, rec cluster.Record, expect int64) (int64, error) {
	s.accounts = rec.Accounts
	return expect + 1, nil
}

func (s storeOf) Record(context.Context, string) (cluster.Record, int64, error) {
	if s.unknown {
		return cluster.Record{}, 0, fault.New(fault.NotFound, "read record", "none")
	}
	return cluster.Record{
		Ref: testRef, Accounts: slices.Clone(s.accounts), Endpoint: "https://192.0.2.1:6443",
		Frozen: cluster.Frozen{Bundle: "bundle", BaseConfig: []cluster.BaseConfig{{Role: cluster.RoleWorker, Ref: "base"}}},
	}, 1, nil
}

func (s storeOf) Object(context.Context, string) (secrets.Value, error) {
	return secrets.NewValue([]byte("object")), nil
}

func (s storeOf) Body(_ context.Context, ref, sum string) (secrets.Value, error) {
	body, ok := s.bodies[ref+"@"+sum]
	if !ok {
		return secrets.Value{}, fault.New(fault.NotFound, "read body", "no %s", ref)
	}
	return secrets.NewValue([]byte(body)), nil
}

// configsOf is the port of machine configs of a stage.
type configsOf struct {
	MachineConfigs
	*stage
}

func (c configsOf) UserData(req UserDataRequest) (secrets.Value, string, error) {
	c.rendered = append(c.rendered, req)
	return secrets.NewValue([]byte("config")), "sum", nil
}

func (c configsOf) NodeSettings(secrets.Value) (NodeSettings, error) { return c.settings, nil }

var quick = Timing{Poll: time.Millisecond}

func (s *stage) kube() *Kube {
	return &Kube{Kube: kubeOf{stage: s}, Store: storeOf{stage: s}, Secrets: s, Timing: quick}
}

func (s *stage) watch() *Watch { return &Watch{Clouds: s, Kube: s.kube(), Timing: quick} }

func (s *stage) cloud() *Cloud {
	return &Cloud{Clouds: s, Store: storeOf{stage: s}, Configs: configsOf{stage: s}, Timing: quick}
}

// run executes an activity that would else wait for ever. A tenth of its time is
// there for its answer: more than a busy machine makes a goroutine wait.
func (s *stage) run(t *testing.T, f func(context.Context) error) error {
	t.Helper()
	return execute(t, nil, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return f(ctx)
	})
}

func wantType(t *testing.T, err error, want fault.Kind, words ...string) {
	t.Helper()
	var app *temporal.ApplicationError
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if !errors.As(err, &app) || app.Type() != string(want) {
		t.Fatalf("error %v, want %s", err, want)
	}
	for _, w := range words {
		if !strings.Contains(app.Message(), w) {
			t.Errorf("the message %q does not say %q", app.Message(), w)
		}
	}
}

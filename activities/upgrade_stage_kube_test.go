package activities

import (
	"context"
	"errors"
	"fmt"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

// sceneKube is the Kubernetes API of a scene.
type sceneKube struct {
	*scene
	KubeAPI
}

func (k sceneKube) Open(context.Context, cluster.Record, secrets.Value) (KubeAPI, error) {
	return k, nil
}

func (k sceneKube) OpenKubeconfig(context.Context, secrets.Value) (KubeAPI, error) {
	return nil, errors.New("no kubeconfig is used")
}

func (k sceneKube) Nodes(context.Context) ([]KubeNode, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []KubeNode
	for _, name := range sortedKeys(k.objectsOf) {
		out = append(out, *k.objectsOf[name])
	}
	return out, k.kubeErr
}

func (k sceneKube) GetNode(_ context.Context, name string) (KubeNode, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kubeErr != nil {
		return KubeNode{}, k.kubeErr
	}
	if n, ok := k.objectsOf[name]; ok {
		return *n, nil
	}
	return KubeNode{}, fault.New(fault.NotFound, "read node", "no such node")
}

func (k sceneKube) HoldNode(_ context.Context, name, holder string, cordon bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = append(k.held, fmt.Sprint("hold ", name, " ", holder, " ", cordon))
	return k.kubeErr
}

func (k sceneKube) ReleaseNode(_ context.Context, name, holder string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = append(k.held, fmt.Sprint("release ", name, " ", holder))
	return k.kubeErr
}

func (k sceneKube) DrainRound(_ context.Context, _ string, opts DrainOptions) ([]PodLeft, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.options = append(k.options, opts)
	if k.drainErr != nil || len(k.rounds) == 0 {
		return nil, k.drainErr
	}
	now := k.rounds[0]
	if len(k.rounds) > 1 {
		k.rounds = k.rounds[1:]
	}
	return now, nil
}

func (k sceneKube) StuckBudgets(context.Context) ([]plan.Refusal, error) { return k.stuck, nil }

func (k sceneKube) RemovedAPIs(_ context.Context, from, to string) ([]plan.Refusal, error) {
	k.called("removed %s %s", from, to)
	return k.removed, nil
}

func (k sceneKube) StaticPod(_ context.Context, node, component string) (StaticPodView, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p, ok := k.pods[node+" "+component]; ok {
		return p, k.kubeErr
	}
	return StaticPodView{}, fault.New(fault.NotFound, "read pod", "none")
}

func (k sceneKube) Gate(_ context.Context, g plan.Gate) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gates[g.Name]
}

func (k sceneKube) AutoscalerVersion(context.Context) (string, error) { return k.scaler, nil }

func (k sceneKube) Apply(_ context.Context, name string, manifest []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.applied = append(k.applied, name+"="+string(manifest))
	return k.kubeErr
}

func (k sceneKube) DiffManifests(_ context.Context, name string, manifest []byte) ([]ObjectChange, error) {
	return []ObjectChange{{Kind: "DaemonSet", Name: name, Change: "changed", Fields: []string{"spec." + string(manifest)}}}, nil
}

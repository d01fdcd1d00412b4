package workflows

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

// Clouds.

func (w *fakeWorld) Open(context.Context, cluster.Cloud) (cloud.Provider, string, error) {
	return fakeProvider{w}, "acct", nil
}

type fakeProvider struct{ w *fakeWorld }

func (fakeProvider) Capabilities() cloud.Capabilities {
	return cloud.Capabilities{
		Idempotency: cloud.TagScan, Settle: 30 * time.Second, AbsenceWindow: time.Minute, CreateTimeout: 2 * time.Minute,
		PostWindow: 20 * time.Second, Poll: 10 * time.Millisecond, SpreadLimit: 4,
	}
}

func (p fakeProvider) Flavors(context.Context) ([]cloud.Flavor, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	before, _ := p.w.enter("flavors")
	return []cloud.Flavor{{Name: "flex-4-2", VCPUs: 2, MemoryMiB: 4096, Arch: "amd64"}}, before
}

func (p fakeProvider) EnsureMachine(_ context.Context, req cloud.EnsureMachineRequest) (cloud.MachineLook, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, m := range w.machines {
		if m.Ref.ID == req.Spec.ID && !w.hides {
			// Of several the first is kept.
			w.machines = append(w.machines[:i+1:i+1], slices.DeleteFunc(slices.Clone(w.machines[i+1:]), func(o cloud.Machine) bool { return o.Ref.ID == m.Ref.ID })...)
			return cloud.MachineLook{Machine: &m}, nil
		}
	}
	if !req.Create {
		return cloud.MachineLook{}, nil
	}
	w.asked = append(w.asked, req.Spec)
	before, after := w.enter("create machine")
	if before != nil {
		return cloud.MachineLook{}, before
	}
	w.creates[req.Spec.ID]++
	w.madeOf = append(w.madeOf, req.Spec.ImageID)
	n := len(w.machines) + 1
	m := cloud.Machine{
		Ref: cloud.MachineRef{Owner: req.Spec.Owner, ID: req.Spec.ID, Cloud: fmt.Sprintf("uuid-%d-%d", n, w.calls["create machine"])}, Name: req.Spec.Name,
		State: cloud.MachineRunning, Public: fmt.Sprintf("198.51.100.%d", n), Private: fmt.Sprintf("10.0.0.%d", n), Role: req.Spec.Role,
	}
	m.ProviderID = "fake://" + m.Ref.Cloud
	w.machines = append(w.machines, m)
	return cloud.MachineLook{Machine: &m, Created: true}, after
}

func (p fakeProvider) GetMachine(_ context.Context, ref cloud.MachineRef) (cloud.Machine, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for _, m := range p.w.machines {
		if m.Ref.Cloud == ref.Cloud {
			return m, nil
		}
	}
	return cloud.Machine{}, fault.New(fault.NotFound, "get", "no such machine")
}

func (p fakeProvider) ListMachines(_ context.Context, o cloud.Owner) ([]cloud.Machine, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.w.machines), func(m cloud.Machine) bool {
		return o.Group != "" && m.Ref.Owner.Group != o.Group
	}), nil
}

func (p fakeProvider) DeleteMachine(_ context.Context, ref cloud.MachineRef) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if before, _ := p.w.enter("delete machine"); before != nil {
		return false, before
	}
	p.w.machines = slices.DeleteFunc(p.w.machines, func(m cloud.Machine) bool { return m.Ref.Cloud == ref.Cloud })
	return true, nil
}

func (p fakeProvider) PlanInfrastructure(cloud.InfrastructureSpec) ([]cloud.Step, error) {
	return p.w.steps, nil
}

func (p fakeProvider) PlacementStep(o cloud.Owner, _ string, shard int) (cloud.Step, error) {
	key := fmt.Sprintf("%s-%d", o.Group, shard)
	return cloud.Step{Kind: "placement", Key: key, Title: "placement " + key}, nil
}

func (p fakeProvider) EnsureResource(_ context.Context, req cloud.EnsureResourceRequest) (cloud.ResourceLook, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.resources {
		if r.Key == req.Step.Key {
			return cloud.ResourceLook{Resource: &r}, nil
		}
	}
	if !req.Create {
		return cloud.ResourceLook{}, nil
	}
	before, after := w.enter("create " + req.Step.Kind)
	if before != nil {
		return cloud.ResourceLook{}, before
	}
	w.creates[req.Step.Key]++
	r := cloud.Resource{Kind: req.Step.Kind, Key: req.Step.Key, Name: req.Step.Key, ID: "id-" + req.Step.Key, Ready: true}
	w.resources = append(w.resources, r)
	return cloud.ResourceLook{Resource: &r, Created: true}, after
}

func (p fakeProvider) GetResource(_ context.Context, r cloud.Resource) (cloud.Resource, error) {
	return r, nil
}

func (p fakeProvider) EndpointHost([]cloud.Resource) string { return "192.0.2.1" }

func (p fakeProvider) SyncMembers(context.Context, cloud.SyncMembersRequest) (cloud.MembersStatus, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	before, _ := p.w.enter("sync members")
	return cloud.MembersStatus{}, before
}

func (p fakeProvider) ListResources(context.Context, cloud.Owner) ([]cloud.Resource, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.Clone(p.w.resources), nil
}

func (p fakeProvider) DeleteResource(_ context.Context, r cloud.Resource) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if before, _ := p.w.enter("delete resource"); before != nil {
		return false, before
	}
	p.w.resources = slices.DeleteFunc(p.w.resources, func(o cloud.Resource) bool { return o.ID == r.ID })
	return true, nil
}

func (p fakeProvider) EnsureImage(_ context.Context, req cloud.EnsureImageRequest) (cloud.ImageLook, error) {
	w := p.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.images) > 0 {
		return cloud.ImageLook{Image: &w.images[0]}, nil
	}
	if !req.Create {
		return cloud.ImageLook{}, nil
	}
	before, after := w.enter("create image")
	if before != nil {
		return cloud.ImageLook{}, before
	}
	w.creates["image"]++
	w.images = append(w.images, cloud.Image{ID: "image-1", Name: req.Spec.Name, State: cloud.ImageReady, Users: []string{req.User.Cluster.UID}})
	return cloud.ImageLook{Image: &w.images[0], Created: true}, after
}

func (p fakeProvider) GetImage(context.Context, string) (cloud.Image, error) {
	return p.w.images[0], nil
}

func (p fakeProvider) ReleaseImage(context.Context, cloud.ImageSpec, cloud.Owner) (bool, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.images = nil
	return true, nil
}

func (p fakeProvider) ListImages(context.Context, cloud.Owner) ([]cloud.Image, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return slices.Clone(p.w.images), nil
}

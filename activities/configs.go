package activities

import (
	"context"
	"sync"

	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// configOf names the machine whose config is wanted.
type configOf struct {
	cluster cluster.Ref
	role    cluster.Role
	group   string
	name    string
	gzip    bool
}

// machineConfig renders the config of one machine from what the store holds. It
// never leaves the activity; only its digest does.
func machineConfig(ctx context.Context, s Store, configs MachineConfigs, of configOf) (secrets.Value, string, error) {
	rec, bundle, err := open(ctx, s, of.cluster)
	if err != nil {
		return secrets.Value{}, "", err
	}
	return newRenderer(s, configs, rec, bundle).render(ctx, UserDataRequest{Role: of.role, Group: of.group, Machine: of.name, Gzip: of.gzip})
}

// renderer renders configs of one cluster; what they have in common it reads once.
// It is safe for concurrent use.
type renderer struct {
	store   Store
	configs MachineConfigs
	rec     cluster.Record
	bundle  secrets.Value

	mu    sync.Mutex
	bases map[cluster.Role]secrets.Value
	have  map[string]secrets.Value // bodies by key
}

func newRenderer(s Store, configs MachineConfigs, rec cluster.Record, bundle secrets.Value) *renderer {
	return &renderer{store: s, configs: configs, rec: rec, bundle: bundle, bases: map[cluster.Role]secrets.Value{}, have: map[string]secrets.Value{}}
}

// config renders the plain config of a machine, with components that may differ
// from the record.
func (r *renderer) config(ctx context.Context, role cluster.Role, group, name string, c Components) (secrets.Value, string, error) {
	return r.render(ctx, UserDataRequest{Role: role, Group: group, Machine: name, Components: c})
}

// render completes a request.
func (r *renderer) render(ctx context.Context, req UserDataRequest) (secrets.Value, string, error) {
	req.Record, req.Bundle = r.rec, r.bundle
	var err error
	if req.Base, err = r.base(ctx, req.Role); err != nil {
		return secrets.Value{}, "", err
	}
	if req.Bodies, err = r.patches(ctx, req.Role, req.Group); err != nil {
		return secrets.Value{}, "", err
	}
	return r.configs.UserData(req)
}

func (r *renderer) base(ctx context.Context, role cluster.Role) (secrets.Value, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if base, ok := r.bases[role]; ok {
		return base, nil
	}
	for _, b := range r.rec.Frozen.BaseConfig {
		if b.Role == role {
			base, err := r.store.Object(ctx, b.Ref)
			if err == nil {
				r.bases[role] = base
			}
			return base, err
		}
	}
	return secrets.Value{}, fault.New(fault.Internal, "read base config", "the record has none for role %s", role)
}

// patches reads the patches that apply to a machine: all nodes, then role, then
// group.
func (r *renderer) patches(ctx context.Context, role cluster.Role, group string) ([]PatchBody, error) {
	var out []PatchBody
	if install := r.rec.Frozen.InstallPatch(group); install != nil {
		out = append(out, PatchBody{Field: "the image of group " + group, Body: install})
	}
	for _, p := range r.rec.Spec.PatchesOf(role, group) {
		body, err := r.body(ctx, *p.Source)
		if err != nil {
			return nil, err
		}
		out = append(out, PatchBody{Field: p.Field, Body: body.Reveal()})
	}
	return out, nil
}

func (r *renderer) body(ctx context.Context, src cluster.Source) (secrets.Value, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := src.Ref + "@" + src.SHA256
	if body, ok := r.have[key]; ok {
		return body, nil
	}
	body, err := r.store.Body(ctx, src.Ref, src.SHA256)
	if err == nil {
		r.have[key] = body
	}
	return body, err
}

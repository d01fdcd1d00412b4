package activities

import (
	"context"
	"fmt"

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
	req := UserDataRequest{Record: rec, Bundle: bundle, Role: of.role, Group: of.group, Machine: of.name, Gzip: of.gzip}
	if req.Base, err = baseConfig(ctx, s, rec, of.role); err != nil {
		return secrets.Value{}, "", err
	}
	if req.Bodies, err = patchBodies(ctx, s, rec.Spec, of.role, of.group); err != nil {
		return secrets.Value{}, "", err
	}
	return configs.UserData(req)
}

func baseConfig(ctx context.Context, s Store, rec cluster.Record, role cluster.Role) (secrets.Value, error) {
	for _, b := range rec.Frozen.BaseConfig {
		if b.Role == role {
			return s.Object(ctx, b.Ref)
		}
	}
	return secrets.Value{}, fault.New(fault.Internal, "read base config", "the record has none for role %s", role)
}

// patchBodies reads the patches that apply to a machine: all nodes, then role,
// then group.
func patchBodies(ctx context.Context, s Store, spec cluster.Spec, role cluster.Role, group string) ([]PatchBody, error) {
	var out []PatchBody
	add := func(field string, sources []cluster.Source) error {
		for i, src := range sources {
			body, err := s.Body(ctx, src.Ref, src.SHA256)
			if err != nil {
				return err
			}
			out = append(out, PatchBody{Field: fmt.Sprintf("%s[%d]", field, i), Body: body.Reveal()})
		}
		return nil
	}
	if err := add("spec.talos.patches", spec.Talos.Patches); err != nil {
		return nil, err
	}
	if role == cluster.RoleControlPlane {
		return out, add("spec.controlPlane.patches", spec.ControlPlane.Patches)
	}
	for i, g := range spec.NodeGroups {
		if g.Name == group {
			return out, add(fmt.Sprintf("spec.nodeGroups[%d].patches", i), g.Patches)
		}
	}
	return out, nil
}

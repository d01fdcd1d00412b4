package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/plan"
	"github.com/ichor-project/ichor/internal/secrets"
)

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

func (f sceneFactory) Freeze(_ context.Context, spec cluster.Spec, _ cluster.Talos, _ string, _ cloud.Capabilities) (cluster.Frozen, error) {
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

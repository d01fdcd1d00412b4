package main

import (
	"time"

	"github.com/ichor-project/ichor/activities"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
	"github.com/ichor-project/ichor/internal/talos"
)

// configAdapter renders machine configs with internal/talos.
type configAdapter struct{}

func (configAdapter) NewBundle(contract string) (secrets.Value, error) {
	return talos.NewBundle(contract, time.Now())
}

func (configAdapter) Base(rec cluster.Record, bundle secrets.Value, role cluster.Role) (secrets.Value, error) {
	req, err := talos.RequestOf(rec, bundle, role)
	if err != nil {
		return secrets.Value{}, err
	}
	return talos.RenderBase(req)
}

func (configAdapter) UserData(in activities.UserDataRequest) (secrets.Value, string, error) {
	req, err := talos.RequestOf(in.Record, in.Bundle, in.Role)
	if err != nil {
		return secrets.Value{}, "", err
	}
	req.Base, req.Group, req.NodeName, req.Gzip = in.Base, in.Group, in.Machine, in.Gzip
	req.Components = talos.Components(in.Components)
	for _, p := range in.Bodies {
		req.Patches = append(req.Patches, talos.Patch{Field: p.Field, Body: p.Body})
	}
	out, err := talos.Render(req)
	return out.UserData, out.SHA256, err
}

func (configAdapter) NodeSettings(userData secrets.Value) (activities.NodeSettings, error) {
	n, err := talos.ReadNode(userData)
	return activities.NodeSettings{Kubelet: n.Kubelet, Labels: n.Labels, Taints: n.Taints}, err
}

func (configAdapter) Rebase(rec cluster.Record, base secrets.Value, role cluster.Role) (secrets.Value, error) {
	return talos.Rebase(talos.RenderRequest{Base: base, Spec: rec.Spec, Frozen: rec.Frozen, Role: role})
}

func (configAdapter) Digest(config secrets.Value) (string, error) { return talos.Digest(config) }

func (configAdapter) Images(config secrets.Value) (activities.ComponentImages, error) {
	i, err := talos.ReadImages(config)
	return activities.ComponentImages{
		Kubelet: i.Kubelet, APIServer: i.APIServer, ControllerManager: i.ControllerManager, Scheduler: i.Scheduler,
	}, err
}

func (configAdapter) BootstrapImages(config secrets.Value, version string) (activities.BootstrapImages, error) {
	i, err := talos.PredictBootstrapImages(config, version)
	return activities.BootstrapImages{Proxy: i.Proxy, CoreDNS: i.CoreDNS, Flannel: i.Flannel}, err
}

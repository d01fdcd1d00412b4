package activities

import (
	"context"
	"strings"
	"time"

	"github.com/ichor-project/ichor/internal/fault"
	"github.com/ichor-project/ichor/internal/secrets"
)

// sceneInspection is what the pre-flight finds; all is well at first.
type sceneInspection struct {
	authorities    []Certificate
	authoritiesErr error
	nodes          map[string]NodeInspection // by address; others have room and fresh certificates
	nodeErr        map[string]error
	flagsErr       error
	bytes          int64
	bytesErr       error
}

// sceneNow is the time of a scene.
var sceneNow = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func newInspection() sceneInspection {
	return sceneInspection{
		authorities: []Certificate{{Name: "Talos authority", NotAfter: sceneNow.AddDate(9, 0, 0)}, {Name: "etcd authority", NotAfter: sceneNow.AddDate(9, 0, 0)}},
		nodes:       map[string]NodeInspection{}, nodeErr: map[string]error{}, bytes: 150 << 20,
	}
}

// fresh is a certificate in the first half of its life.
func fresh(name string) Certificate {
	return Certificate{Name: name, NotBefore: sceneNow.Add(-time.Hour), NotAfter: sceneNow.Add(23 * time.Hour), Renewed: sceneNow.Add(17 * time.Hour)}
}

// sceneInspector inspects a scene.
type sceneInspector struct{ *scene }

func (i sceneInspector) Authorities(bundle secrets.Value) ([]Certificate, error) {
	if !strings.Contains(string(bundle.Reveal()), canary) {
		return nil, fault.New(fault.Internal, "read bundle", "not the cluster's")
	}
	return i.inspected.authorities, i.inspected.authoritiesErr
}

func (i sceneInspector) Node(_ context.Context, _ secrets.Value, address string) (out NodeInspection, err error) {
	err = i.node("inspect", address, func(*fakeNode) error {
		out = NodeInspection{Certificates: []Certificate{fresh("machine API certificate")}, FreeBytes: 20 << 30, DiskBytes: 40 << 30}
		if n, ok := i.inspected.nodes[address]; ok {
			out = n
		}
		return i.inspected.nodeErr[address]
	})
	return out, err
}

// Flags finds "component:flag" words in the patches of a config of the scene.
func (i sceneInspector) Flags(config secrets.Value) ([]ComponentFlags, error) {
	var out []ComponentFlags
	patches := strings.SplitN(string(config.Reveal()), "|", 4)[2]
	for _, word := range strings.FieldsFunc(patches, func(r rune) bool { return r == ' ' || r == ',' }) {
		if component, flag, ok := strings.Cut(word, ":"); ok {
			out = append(out, ComponentFlags{Component: component, FeatureGates: []string{flag}})
		}
	}
	return out, i.inspected.flagsErr
}

// RemovedFlags has flags of the form gone-in-1.36.
func (i sceneInspector) RemovedFlags(_ context.Context, from, to string, flags []ComponentFlags) ([]RemovedFlag, error) {
	i.called("flags %s %s", from, to)
	var out []RemovedFlag
	for _, f := range flags {
		for _, g := range f.FeatureGates {
			if v, ok := strings.CutPrefix(g, "gone-in-"); ok && minorOf(from) < "v"+v && "v"+v <= minorOf(to) {
				out = append(out, RemovedFlag{Component: f.Component, Kind: "feature gate", Name: g, Version: v})
			}
		}
	}
	return out, nil
}

func (i sceneInspector) InstallerBytes(_ context.Context, image string) (int64, error) {
	i.called("size %s", image)
	return i.inspected.bytes, i.inspected.bytesErr
}

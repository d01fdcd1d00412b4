package world

import (
	"errors"
	"testing"
)

func TestVolumes(t *testing.T) {
	w, _, image := newWorld(t, nil)
	s := mustServer(t, w, ServerSpec{Name: "a", Image: image, Volumes: []VolumeSpec{{SizeGB: 100, Type: "bulk"}}})
	size := func(n int) *int { return &n }
	v, err := w.CreateVolume("data", "", VolumeSpec{SizeGB: 20}, "", []string{s.UUID}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func() error{
		"shrink":      func() error { return w.UpdateVolume(v.UUID, VolumePatch{SizeGB: size(10)}) },
		"two servers": func() error { return w.UpdateVolume(v.UUID, VolumePatch{Attach: true, Servers: []string{s.UUID, "x"}}) },
		"root detach": func() error { return w.UpdateVolume(s.VolumeIDs[0], VolumePatch{Attach: true}) },
		"bulk size": func() error {
			_, err := w.CreateVolume("x", "", VolumeSpec{SizeGB: 50, Type: "bulk"}, "", nil, nil)
			return err
		},
		"other zone": func() error {
			_, err := w.CreateVolume("x", "rma1", VolumeSpec{SizeGB: 50}, "", []string{s.UUID}, nil)
			return err
		},
	} {
		if err := do(); !IsKind(err, Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	if err := w.DeleteVolume(s.VolumeIDs[0]); !IsKind(err, InUse) {
		t.Errorf("delete of a root volume: %v", err)
	}
	snap, err := w.CreateSnapshot("snap", v.UUID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteVolume(v.UUID); !IsKind(err, InUse) {
		t.Errorf("delete of a volume with a snapshot: %v", err)
	}
	eventually(t, "running", func() bool { return w.status(s.UUID) == Running })
	if err := errors.Join(w.DeleteServer(s.UUID), w.DeleteSnapshot(snap.UUID)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "snapshot gone", func() bool { return len(w.Snapshots()) == 0 })
	left := w.Volumes()
	if len(left) != 2 || len(left[0].Servers) != 0 || len(left[1].Servers) != 0 {
		t.Errorf("volumes left of a deleted server: %+v; want the two that are no root volume, detached", left)
	}
	if err := errors.Join(w.DeleteVolume(left[0].UUID), w.DeleteVolume(left[1].UUID)); err != nil {
		t.Error(err)
	}
}

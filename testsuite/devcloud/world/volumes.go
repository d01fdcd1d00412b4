package world

import "context"

// Volume is a block device. Bulk volumes come in steps of 100 GB.
type Volume struct {
	Meta
	SizeGB  int
	Type    string
	Servers []string
	root    bool
}

// Root says whether a server boots from the volume.
func (v Volume) Root() bool { return v.root }

// Snapshot is a frozen copy of a volume.
type Snapshot struct {
	Meta
	SizeGB int
	Source string
	Status string // "available" or "deleting"
}

func checkVolume(spec *VolumeSpec) error {
	if spec.Type == "" {
		spec.Type = "ssd"
	}
	switch {
	case spec.Type != "ssd" && spec.Type != "bulk":
		return invalid("type", "%q is not a valid choice.", spec.Type)
	case spec.SizeGB < 1:
		return invalid("size_gb", "Ensure this value is greater than or equal to 1.")
	case spec.Type == "bulk" && spec.SizeGB%100 != 0:
		return invalid("size_gb", "Bulk volumes must be a multiple of 100 GB.")
	}
	return nil
}

func (w *World) addServerVolumes(s *Server, spec ServerSpec) {
	add := func(name string, v VolumeSpec, root bool) {
		vol := &Volume{Meta: w.newMeta(name, s.Zone, nil), SizeGB: v.SizeGB, Type: v.Type, Servers: []string{s.UUID}, root: root}
		w.volumes.add(vol)
		s.VolumeIDs = append(s.VolumeIDs, vol.UUID)
	}
	add(spec.Name+"-root", VolumeSpec{SizeGB: spec.RootGB, Type: "ssd"}, true)
	for _, v := range spec.Volumes {
		add("", v, false)
	}
}

// CreateVolume creates a volume, optionally from a snapshot and attached.
func (w *World) CreateVolume(name, zone string, spec VolumeSpec, snapshot string, servers []string, tags map[string]string) (Volume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if name == "" {
		return Volume{}, invalid("name", "This field is required.")
	}
	if snapshot != "" {
		s, err := w.snapshots.get(snapshot)
		if err != nil {
			return Volume{}, invalid("volume_snapshot_uuid", "Object with uuid=%s does not exist.", snapshot)
		}
		zone = s.Zone
		if spec.SizeGB == 0 {
			spec.SizeGB = s.SizeGB
		}
	}
	zone, err := pickZone(zone)
	if err != nil {
		return Volume{}, err
	}
	if err := checkVolume(&spec); err != nil {
		return Volume{}, err
	}
	if err := w.fitsStorage(spec.SizeGB); err != nil {
		return Volume{}, err
	}
	v := &Volume{Meta: w.newMeta(name, zone, tags), SizeGB: spec.SizeGB, Type: spec.Type}
	if err := w.connect(v, servers); err != nil {
		return Volume{}, err
	}
	w.volumes.add(v)
	w.record("volume_create", v.Meta)
	return *v, nil
}

// connect attaches a volume to exactly these servers.
func (w *World) connect(v *Volume, servers []string) error {
	if len(servers) > 1 {
		return invalid("server_uuids", "A volume can be attached to one server at most.")
	}
	for _, id := range servers {
		s, err := w.servers.get(id)
		if err != nil || s.deleting {
			return invalid("server_uuids", "Object with uuid=%s does not exist.", id)
		}
		if s.Zone != v.Zone {
			return invalid("server_uuids", "Server %s is not in zone %s.", id, v.Zone)
		}
	}
	for _, s := range w.servers.all() {
		s.VolumeIDs = without(s.VolumeIDs, v.UUID)
		for _, id := range servers {
			if s.UUID == id {
				s.VolumeIDs = append(s.VolumeIDs, v.UUID)
			}
		}
	}
	v.Servers = append([]string(nil), servers...)
	return nil
}

func without(in []string, id string) []string {
	out := make([]string, 0, len(in)+1)
	for _, x := range in {
		if x != id {
			out = append(out, x)
		}
	}
	return out
}

// Volumes returns all volumes.
func (w *World) Volumes() []Volume {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copies(w.volumes.all())
}

// Volume returns one volume.
func (w *World) Volume(id string) (Volume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.volumes.get(id)
	if err != nil {
		return Volume{}, err
	}
	return *v, nil
}

// VolumePatch changes one thing about a volume; nil means unchanged.
type VolumePatch struct {
	MetaPatch
	SizeGB  *int
	Servers []string
	Attach  bool // Servers is meant
}

// UpdateVolume applies a patch.
func (w *World) UpdateVolume(id string, p VolumePatch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.volumes.get(id)
	if err != nil {
		return err
	}
	if p.SizeGB != nil {
		if *p.SizeGB < v.SizeGB {
			return invalid("size_gb", "Volumes cannot be made smaller.")
		}
		if err := w.fitsStorage(*p.SizeGB - v.SizeGB); err != nil {
			return err
		}
		v.SizeGB = *p.SizeGB
	}
	if p.Attach {
		if v.root {
			return refuse(Invalid, "Root volumes cannot be detached.")
		}
		if err := w.connect(v, p.Servers); err != nil {
			return err
		}
	}
	p.apply(&v.Meta)
	w.record("volume_update", v.Meta)
	return nil
}

// DeleteVolume removes a volume that no server boots from and that has no
// snapshots.
func (w *World) DeleteVolume(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.volumes.get(id)
	if err != nil {
		return err
	}
	if v.root {
		return refuse(InUse, "The volume is the root volume of a server.")
	}
	for _, s := range w.snapshots.all() {
		if s.Source == id {
			return refuse(InUse, "The volume still has snapshots.")
		}
	}
	if err := w.connect(v, nil); err != nil {
		return err
	}
	w.volumes.remove(id)
	w.record("volume_delete", v.Meta)
	return nil
}

// CreateSnapshot freezes a volume.
func (w *World) CreateSnapshot(name, source string, tags map[string]string) (Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, err := w.volumes.get(source)
	if err != nil {
		return Snapshot{}, invalid("source_volume", "Object with uuid=%s does not exist.", source)
	}
	s := &Snapshot{Meta: w.newMeta(name, v.Zone, tags), SizeGB: v.SizeGB, Source: source, Status: "available"}
	w.snapshots.add(s)
	w.record("volume_snapshot_create", s.Meta)
	return *s, nil
}

// Snapshots returns all snapshots.
func (w *World) Snapshots() []Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	return copies(w.snapshots.all())
}

// Snapshot returns one snapshot.
func (w *World) Snapshot(id string) (Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.snapshots.get(id)
	if err != nil {
		return Snapshot{}, err
	}
	return *s, nil
}

// UpdateSnapshot renames or retags a snapshot.
func (w *World) UpdateSnapshot(id string, p MetaPatch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.snapshots.get(id)
	if err != nil {
		return err
	}
	p.apply(&s.Meta)
	return nil
}

// DeleteSnapshot starts the deletion of a snapshot.
func (w *World) DeleteSnapshot(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, err := w.snapshots.get(id)
	if err != nil {
		return err
	}
	s.Status = "deleting"
	w.record("volume_snapshot_delete", s.Meta)
	w.background(func(ctx context.Context) {
		if w.clock.Sleep(ctx, w.lat.Snapshot) != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.snapshots.remove(id)
	})
	return nil
}

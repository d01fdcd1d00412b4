package cloudscale

import "github.com/ichor-project/ichor/testsuite/devcloud/world"

func (a *API) volumeRoutes() {
	w := a.world
	a.handle("GET /v1/volumes", func(c call) (result, error) { return list(c, w.Volumes(), volumeView) })
	a.handle("POST /v1/volumes", a.createVolume)
	a.handle("GET /v1/volumes/{id}", func(c call) (result, error) {
		v, err := w.Volume(c.id())
		return one(c, v, err, volumeView)
	})
	a.handle("PATCH /v1/volumes/{id}", a.updateVolume)
	a.handle("DELETE /v1/volumes/{id}", func(c call) (result, error) { return done(w.DeleteVolume(c.id())) })

	a.handle("GET /v1/volume-snapshots", func(c call) (result, error) { return list(c, w.Snapshots(), a.snapshotView) })
	a.handle("POST /v1/volume-snapshots", func(c call) (result, error) {
		var req struct {
			metaRequest
			Source string `json:"source_volume"`
		}
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		s, err := w.CreateSnapshot(deref(req.Name), req.Source, req.Tags)
		return made(c, s, err, a.snapshotView)
	})
	a.handle("GET /v1/volume-snapshots/{id}", func(c call) (result, error) {
		s, err := w.Snapshot(c.id())
		return one(c, s, err, a.snapshotView)
	})
	a.handle("PATCH /v1/volume-snapshots/{id}", func(c call) (result, error) {
		var req metaRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateSnapshot(c.id(), req.patch()))
	})
	a.handle("DELETE /v1/volume-snapshots/{id}", func(c call) (result, error) { return done(w.DeleteSnapshot(c.id())) })
}

func (a *API) createVolume(c call) (result, error) {
	var req struct {
		metaRequest
		Zone     string   `json:"zone"`
		SizeGB   int      `json:"size_gb"`
		Type     string   `json:"type"`
		Servers  []string `json:"server_uuids"`
		Snapshot string   `json:"volume_snapshot_uuid"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	v, err := a.world.CreateVolume(deref(req.Name), req.Zone, world.VolumeSpec{SizeGB: req.SizeGB, Type: req.Type}, req.Snapshot, req.Servers, req.Tags)
	return made(c, v, err, volumeView)
}

func (a *API) updateVolume(c call) (result, error) {
	var req struct {
		metaRequest
		SizeGB  *int     `json:"size_gb"`
		Servers []string `json:"server_uuids"`
	}
	fields, err := read(c, &req)
	if err != nil {
		return result{}, err
	}
	if err := single(fields, "volume"); err != nil {
		return result{}, err
	}
	return done(a.world.UpdateVolume(c.id(), world.VolumePatch{
		MetaPatch: req.patch(), SizeGB: req.SizeGB, Servers: req.Servers, Attach: fields.has("server_uuids"),
	}))
}

func volumeView(c call, v world.Volume) obj {
	servers := []obj{}
	for _, id := range v.Servers {
		servers = append(servers, serverStub(c, id))
	}
	return obj{
		"href": c.href("volumes/%s", v.UUID), "uuid": v.UUID, "name": v.Name, "size_gb": v.SizeGB, "type": v.Type,
		"server_uuids": strs(v.Servers), "servers": servers, "zone": zoneStub(v.Zone), "tags": v.Tags,
		"created_at": timestamp(v.CreatedAt),
	}
}

func (a *API) snapshotView(c call, s world.Snapshot) obj {
	return obj{
		"href": c.href("volume-snapshots/%s", s.UUID), "uuid": s.UUID, "name": s.Name, "size_gb": s.SizeGB,
		"status": s.Status, "zone": zoneStub(s.Zone), "tags": s.Tags, "created_at": timestamp(s.CreatedAt),
		"source_volume": obj{"href": c.href("volumes/%s", s.Source), "uuid": s.Source},
	}
}

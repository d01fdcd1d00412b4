package cloudscale

import "github.com/ichor-project/ichor/testsuite/devcloud/world"

func (a *API) imageRoutes() {
	w := a.world
	a.handle("GET /v1/custom-images/import", func(c call) (result, error) { return list(c, w.Imports(), importView) })
	a.handle("POST /v1/custom-images/import", a.importImage)
	a.handle("GET /v1/custom-images/import/{id}", func(c call) (result, error) {
		i, err := w.Import(c.id())
		return one(c, i, err, importView)
	})
	a.handle("GET /v1/custom-images", func(c call) (result, error) { return list(c, w.Images(), imageView) })
	a.handle("GET /v1/custom-images/{id}", func(c call) (result, error) {
		i, err := w.Image(c.id())
		return one(c, i, err, imageView)
	})
	a.handle("PATCH /v1/custom-images/{id}", func(c call) (result, error) {
		var req struct {
			metaRequest
			Slug             *string `json:"slug"`
			UserDataHandling *string `json:"user_data_handling"`
		}
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateImage(c.id(), world.ImagePatch{
			MetaPatch: req.patch(), Slug: req.Slug, UserDataHandling: req.UserDataHandling,
		}))
	})
	a.handle("DELETE /v1/custom-images/{id}", func(c call) (result, error) { return done(w.DeleteImage(c.id())) })
}

func (a *API) importImage(c call) (result, error) {
	var req struct {
		metaRequest
		URL              string   `json:"url"`
		Slug             string   `json:"slug"`
		UserDataHandling string   `json:"user_data_handling"`
		Firmware         string   `json:"firmware_type"`
		Format           string   `json:"source_format"`
		Zones            []string `json:"zones"`
	}
	if _, err := read(c, &req); err != nil {
		return result{}, err
	}
	i, err := a.world.ImportImage(world.ImportSpec{
		URL: req.URL, Name: deref(req.Name), Slug: req.Slug, UserDataHandling: req.UserDataHandling,
		Firmware: req.Firmware, Format: req.Format, Zones: req.Zones, Tags: req.Tags,
	})
	return made(c, i, err, importView)
}

func importView(c call, i world.Import) obj {
	return obj{
		"href": c.href("custom-images/import/%s", i.UUID), "uuid": i.UUID, "url": i.URL, "status": i.Status,
		"error_message": i.ErrorMessage, "tags": i.Tags,
		"custom_image": obj{"href": c.href("custom-images/%s", i.UUID), "uuid": i.UUID, "name": i.Name},
	}
}

func imageView(c call, i world.Image) obj {
	return obj{
		"href": c.href("custom-images/%s", i.UUID), "uuid": i.UUID, "name": i.Name, "slug": i.Slug, "size_gb": i.SizeGB,
		"checksums": i.Checksums, "user_data_handling": i.UserDataHandling, "firmware_type": i.Firmware,
		"zones": zoneStubs(i.Zones), "tags": i.Tags, "created_at": timestamp(i.CreatedAt),
	}
}

package cloudscale

import "github.com/ichor-project/ichor/testsuite/devcloud/world"

func (a *API) userRoutes() {
	w := a.world
	type userRequest struct {
		Name *string           `json:"display_name"`
		Tags map[string]string `json:"tags"`
	}
	a.handle("GET /v1/objects-users", func(c call) (result, error) { return list(c, w.Users(), userView) })
	a.handle("POST /v1/objects-users", func(c call) (result, error) {
		var req userRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		u, err := w.CreateUser(deref(req.Name), req.Tags)
		return made(c, u, err, userView)
	})
	a.handle("GET /v1/objects-users/{id}", func(c call) (result, error) {
		u, err := w.User(c.id())
		return one(c, u, err, userView)
	})
	a.handle("PATCH /v1/objects-users/{id}", func(c call) (result, error) {
		var req userRequest
		if _, err := read(c, &req); err != nil {
			return result{}, err
		}
		return done(w.UpdateUser(c.id(), world.MetaPatch{Name: req.Name, Tags: req.Tags}))
	})
	a.handle("DELETE /v1/objects-users/{id}", func(c call) (result, error) { return done(w.DeleteUser(c.id())) })
}

func userView(c call, u world.ObjectsUser) obj {
	return obj{
		"href": c.href("objects-users/%s", u.UUID), "id": u.UUID, "display_name": u.Name, "tags": u.Tags,
		"keys": []obj{{"access_key": u.AccessKey, "secret_key": u.SecretKey}},
	}
}

package world

import "slices"

// defaultGroupSize is how many servers one anti-affinity group of cloudscale
// holds.
const defaultGroupSize = 4

// ServerGroup spreads its servers over physical hosts.
type ServerGroup struct {
	Meta
	Type    string
	Servers []string // filled on reading
}

// CreateGroup creates an anti-affinity group.
func (w *World) CreateGroup(name, typ, zone string, tags map[string]string) (ServerGroup, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	zone, err := pickZone(zone)
	if err != nil {
		return ServerGroup{}, err
	}
	if name == "" {
		return ServerGroup{}, invalid("name", "This field is required.")
	}
	if typ != "anti-affinity" {
		return ServerGroup{}, invalid("type", "%q is not a valid choice.", typ)
	}
	g := &ServerGroup{Meta: w.newMeta(name, zone, tags), Type: typ}
	w.groups.add(g)
	w.record("server_group_create", g.Meta)
	return w.withServers(*g), nil
}

// Groups returns all server groups.
func (w *World) Groups() []ServerGroup {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := copies(w.groups.all())
	for i := range out {
		out[i] = w.withServers(out[i])
	}
	return out
}

// Group returns one server group.
func (w *World) Group(id string) (ServerGroup, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, err := w.groups.get(id)
	if err != nil {
		return ServerGroup{}, err
	}
	return w.withServers(*g), nil
}

// UpdateGroup renames or retags a group.
func (w *World) UpdateGroup(id string, p MetaPatch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, err := w.groups.get(id)
	if err != nil {
		return err
	}
	p.apply(&g.Meta)
	w.record("server_group_update", g.Meta)
	return nil
}

// DeleteGroup removes a group; its servers stay.
func (w *World) DeleteGroup(id string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	g, err := w.groups.get(id)
	if err != nil {
		return err
	}
	for _, s := range w.servers.all() {
		s.Groups = slices.DeleteFunc(slices.Clone(s.Groups), func(x string) bool { return x == id })
	}
	w.groups.remove(id)
	w.record("server_group_delete", g.Meta)
	return nil
}

func (w *World) withServers(g ServerGroup) ServerGroup {
	g.Servers = nil
	for _, s := range w.servers.all() {
		if !s.deleting && slices.Contains(s.Groups, g.UUID) {
			g.Servers = append(g.Servers, s.UUID)
		}
	}
	return g
}

// fitsGroups checks that one more server may join the groups.
func (w *World) fitsGroups(ids []string, zone string) error {
	size := w.limits.ServerGroupSize
	if size == 0 {
		size = defaultGroupSize
	}
	for _, id := range ids {
		g, err := w.groups.get(id)
		if err != nil {
			return invalid("server_groups", "Object with uuid=%s does not exist.", id)
		}
		if g.Zone != zone {
			return invalid("server_groups", "Server group %s is not in zone %s.", id, zone)
		}
		if len(w.withServers(*g).Servers) >= size {
			return &Error{Kind: Quota, Field: "server_groups", Message: GroupFull}
		}
	}
	return nil
}

// MetaPatch changes the common part of a resource; nil means unchanged.
type MetaPatch struct {
	Name *string
	Tags map[string]string
}

func (p MetaPatch) apply(m *Meta) {
	if p.Name != nil {
		m.Name = *p.Name
	}
	if p.Tags != nil {
		m.Tags = p.Tags
	}
}

package snapshot

import (
	"encoding/json"
	"sync"

	"github.com/ichor-project/ichor/workflows"
)

// answer is a GroupStatus whose members are not decoded yet.
type answer struct {
	workflows.GroupStatus
	Members []json.RawMessage `json:"members"`
}

// members decodes the members of answers. Most of them are in the next answer as
// they were in the last one, and are taken from there: to decode hundreds is what
// a reading would spend its time with.
type members struct {
	mu sync.Mutex
	// last are the members of the last answer by workflow id and by how they were
	// written.
	last map[string]map[string]workflows.GroupMember
}

func (d *members) decode(id string, raw []json.RawMessage) ([]workflows.GroupMember, error) {
	d.mu.Lock()
	before := d.last[id] // never changed
	d.mu.Unlock()
	out := make([]workflows.GroupMember, len(raw))
	now := make(map[string]workflows.GroupMember, len(raw))
	for i, r := range raw {
		m, ok := before[string(r)]
		if !ok {
			if err := json.Unmarshal(r, &m); err != nil {
				return nil, err
			}
		}
		out[i], now[string(r)] = m, m
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.last = map[string]map[string]workflows.GroupMember{}
	}
	d.last[id] = now
	return out, nil
}

// forget drops what is kept of a group that is no more.
func (d *members) forget(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.last, id)
}

package account

import (
	"slices"

	"github.com/ichor-project/ichor/testsuite/devcloud/aws/query"
)

// spreadSize is how many instances of a spread group run in one zone.
const spreadSize = 7

// PlacementGroup keeps instances apart or together.
type PlacementGroup struct {
	Record
	Name, Strategy string
}

// CreatePlacementGroup makes a group; names are unique.
func (v View) CreatePlacementGroup(name, strategy string, tags []Tag) (PlacementGroup, error) {
	if name == "" {
		return PlacementGroup{}, query.Refuse("MissingParameter", "The request must contain the parameter groupName")
	}
	if !slices.Contains([]string{"spread", "cluster", "partition"}, strategy) {
		return PlacementGroup{}, query.Refuse("InvalidParameterValue", "Value (%s) for parameter strategy is invalid.", strategy)
	}
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	if v.a.placement(name) != nil {
		return PlacementGroup{}, query.Refuse("InvalidPlacementGroup.Duplicate", "The placement group '%s' already exists.", name)
	}
	g := &PlacementGroup{Record: newRecord("pg"), Name: name, Strategy: strategy}
	v.a.placements.add(g)
	v.a.setTags(g.ID, tags)
	v.a.note(v.Action, g.ID)
	return *g, nil
}

func (a *Account) placement(name string) *PlacementGroup {
	for _, g := range a.placements.all() {
		if g.Name == name {
			return g
		}
	}
	return nil
}

// PlacementGroups returns the groups.
func (v View) PlacementGroups() []PlacementGroup {
	return list(v, func(a *Account) *table[*PlacementGroup] { return &a.placements })
}

// DeletePlacementGroup removes a group without instances.
func (v View) DeletePlacementGroup(name string) error {
	v.a.mu.Lock()
	defer v.a.mu.Unlock()
	g := v.a.placement(name)
	if g == nil || !v.sees(&g.Record) {
		return query.Refuse("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", name)
	}
	if slices.ContainsFunc(v.a.instances.all(), func(i *Instance) bool { return i.Placement == name && i.State != Terminated }) {
		return query.Refuse("InvalidPlacementGroup.InUse", "The placement group '%s' is in use and may not be deleted.", name)
	}
	remove(v.a, &v.a.placements, g.ID)
	v.a.note(v.Action, g.ID)
	return nil
}

// fitsPlacement checks that one more instance has room in a group.
func (v View) fitsPlacement(name, zone string) error {
	if name == "" {
		return nil
	}
	g := v.a.placement(name)
	if g == nil || !v.sees(&g.Record) {
		return query.Refuse("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", name)
	}
	if g.Strategy != "spread" {
		return nil
	}
	n := 0
	for _, i := range v.a.instances.all() {
		if i.Placement == name && i.Zone == zone && i.counts() {
			n++
		}
	}
	if n >= spreadSize {
		return query.Refuse("InsufficientInstanceCapacity", "We currently do not have sufficient capacity to launch all of the additional "+
			"requested instances into the spread placement group '%s': it already has %d running instances in %s.", name, n, zone)
	}
	return nil
}

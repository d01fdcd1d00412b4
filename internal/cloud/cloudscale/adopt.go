package cloudscale

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"slices"
	"strings"

	sdk "github.com/cloudscale-ch/cloudscale-go-sdk/v8"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/fault"
)

var (
	_ cloud.Adopter    = (*Provider)(nil)
	_ cloud.NodeLabels = (*Provider)(nil)
)

// AdoptMachines implements cloud.Adopter. One request per server adds the whole
// identity at once, so a server never has a part of it.
func (p *Provider) AdoptMachines(ctx context.Context, req cloud.AdoptRequest) ([]cloud.Machine, error) {
	const op = "adopt servers"
	switch {
	case req.Owner.Cluster.UID == "" || req.Owner.Group == "":
		return nil, fault.New(fault.Internal, op, "an owner needs a cluster uid and a group")
	case req.Tag.Key == "" || cluster.ReservedTag(req.Tag.Key):
		return nil, fault.New(fault.Invalid, op, "the tag of servers to adopt must be one of your own, not %q", req.Tag.Key)
	}
	have, err := listTagged(ctx, p, "servers", p.sdk.Servers, req.Tag.Key, req.Tag.Value)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(have, older)
	var adopted []string // machine ids that the owner's list must have
	for _, s := range have {
		if of(s.Tags, req.Owner) {
			adopted = append(adopted, s.Tags[cluster.TagMachine])
		}
		if !adoptable(s.Tags, req) {
			continue
		}
		// A change of tags replaces all of them, and lists lag behind.
		now, err := get(ctx, p, "server", p.sdk.Servers, s.UUID)
		if fault.Is(err, fault.NotFound) { // deleted since the list was made
			continue
		}
		if err != nil {
			return nil, err
		}
		if of(now.Tags, req.Owner) {
			adopted = append(adopted, now.Tags[cluster.TagMachine])
		}
		if !adoptable(now.Tags, req) {
			continue
		}
		tags := maps.Clone(now.Tags)
		maps.Copy(tags, sdk.TagMap{
			cluster.TagCluster:     req.Owner.Cluster.UID,
			cluster.TagClusterName: req.Owner.Cluster.Name,
			cluster.TagGroup:       req.Owner.Group,
			cluster.TagMachine:     adoptedID(s.UUID),
			cluster.TagRole:        string(req.Role),
		})
		r := &sdk.ServerUpdateRequest{}
		r.Tags = &tags
		err = p.calls.Call(ctx, exchange.Request{Op: "tag server " + s.Name, Verb: exchange.Change}, func(ctx context.Context) error {
			return p.sdk.Servers.Update(ctx, s.UUID, r)
		})
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		adopted = append(adopted, adoptedID(s.UUID))
		p.log.InfoContext(ctx, "adopted a server", "server", s.UUID, "name", s.Name, "cluster", req.Owner.Cluster.Name, "group", req.Owner.Group)
	}
	machines, err := p.ListMachines(ctx, req.Owner)
	if err != nil {
		return nil, err
	}
	for _, id := range adopted {
		// Who takes a list that lags for all there is makes machines for those
		// that it lacks.
		if !slices.ContainsFunc(machines, func(m cloud.Machine) bool { return m.Ref.ID == id }) {
			return nil, fault.New(fault.NotYet, op, "machine %s is adopted, but the list of servers does not show it yet", id)
		}
	}
	return machines, nil
}

// of reports whether a server is a machine of an owner.
func of(have sdk.TagMap, owner cloud.Owner) bool {
	return have[cluster.TagCluster] == owner.Cluster.UID && have[cluster.TagGroup] == owner.Group && have[cluster.TagMachine] != ""
}

// adoptable reports whether a server has the tags and belongs to nobody yet.
func adoptable(have sdk.TagMap, req cloud.AdoptRequest) bool {
	return carries(have, append(slices.Clone(req.Also), req.Tag)) && !identified(have)
}

// carries reports whether a server has all of the tags. The API is only asked
// for one of them: of several it takes the last.
func carries(have sdk.TagMap, want []cluster.Tag) bool {
	for _, t := range want {
		if value, ok := have[t.Key]; !ok || value != t.Value {
			return false
		}
	}
	return true
}

// identified reports whether a server belongs to somebody already.
func identified(tags sdk.TagMap) bool {
	return tags[cluster.TagCluster] != "" || tags[cluster.TagMachine] != ""
}

// adoptedID is the machine id of an adopted server: the same each time, and in
// the alphabet of all machine ids. Forty bits keep two servers of one group
// apart.
func adoptedID(uuid string) string {
	sum := sha256.Sum256([]byte("adopted " + uuid))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:5]))
}

// NodeLabels implements cloud.NodeLabels: the region as the vendor's cloud
// controller manager derives it. The topology label of the CSI driver is not
// promised: only nodes on which the driver runs have it, and a pod that selects it
// would otherwise ask for nodes without end.
func (p *Provider) NodeLabels(zone string) []cluster.Tag {
	return catalog.Cloudscale().NodeLabels(zone)
}

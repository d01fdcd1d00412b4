package world

import "slices"

// What the API says when the account or the cloud is full. No public source
// shows cloudscale's own words; a client must not depend on more than the
// status and the presence of a detail.
const (
	GroupFull    = "The server group has reached its maximum of members."
	QuotaText    = "The request exceeds the quota of this project."
	ChangingText = "The resource is currently changing. Please try again later."
	NoStockText  = "There are currently not enough resources available for this flavor in this zone."
)

func over(limit, have int) bool { return limit > 0 && have > limit }

// fitsServer checks quotas and stock for one more server.
func (w *World) fitsServer(spec ServerSpec, f Flavor, zone string) error {
	if slices.Contains(w.limits.OutOfStock, f.Slug) || slices.Contains(w.limits.OutOfStock, f.Slug+"@"+zone) {
		return refuse(NoStock, NoStockText)
	}
	servers, cpus, mem := 1, f.VCPUs, f.MemoryGB
	for _, s := range w.servers.all() {
		servers++
		cpus += s.Flavor.VCPUs
		mem += s.Flavor.MemoryGB
	}
	storage := spec.RootGB
	for _, v := range spec.Volumes {
		storage += v.SizeGB
	}
	if over(w.limits.Servers, servers) || over(w.limits.VCPUs, cpus) || over(w.limits.MemoryGB, mem) {
		return refuse(Quota, QuotaText)
	}
	return w.fitsStorage(storage)
}

func (w *World) fitsStorage(gb int) error {
	for _, v := range w.volumes.all() {
		gb += v.SizeGB
	}
	if over(w.limits.StorageGB, gb) {
		return refuse(Quota, QuotaText)
	}
	return nil
}

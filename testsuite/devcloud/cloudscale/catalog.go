package cloudscale

import (
	"net/url"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/world"
)

func zoneStub(zone string) obj { return obj{"slug": zone} }

func zoneStubs(zones []string) []obj {
	out := []obj{}
	for _, z := range zones {
		out = append(out, zoneStub(z))
	}
	return out
}

func (a *API) regions(call) (result, error) {
	out := []obj{}
	for _, r := range world.Regions() {
		out = append(out, obj{"slug": r.Slug, "zones": zoneStubs(r.Zones)})
	}
	return ok(out)
}

func (a *API) flavors(call) (result, error) {
	out := []obj{}
	for _, f := range world.Flavors() {
		v := obj{"slug": f.Slug, "name": f.Name, "vcpu_count": f.VCPUs, "memory_gb": f.MemoryGB, "gpu": nil, "zones": zoneStubs(world.Zones())}
		if f.GPU != nil {
			v["gpu"] = obj{"name": f.GPU.Name, "count": f.GPU.Count, "vram_per_gpu_gb": f.GPU.VRAMPerGPUGB}
		}
		out = append(out, v)
	}
	return ok(out)
}

func (a *API) stockImages(call) (result, error) {
	out := []obj{}
	for _, i := range world.StockImages() {
		out = append(out, obj{
			"slug": i.Slug, "name": i.Name, "operating_system": i.OperatingSystem, "default_username": i.Username,
			"zones": zoneStubs(world.Zones()),
		})
	}
	return ok(out)
}

// projectLogs answers GET project-logs?start=TIME: what was done since then, and
// where to ask again for what comes later.
func (a *API) projectLogs(c call) (result, error) {
	var since time.Time
	if s := c.URL.Query().Get("start"); s != "" {
		t, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return result{}, fieldError("start", "Enter a valid date and time.")
		}
		since = t
	}
	next, results := since, []obj{}
	for _, e := range a.world.Journal(since) {
		results = append(results, obj{"timestamp": timestamp(e.Time), "action": e.Name, "message": e.Message})
		next = e.Time.Add(time.Microsecond)
	}
	return ok(obj{"results": results, "poll_more": c.href("project-logs?start=%s", url.QueryEscape(timestamp(next)))})
}

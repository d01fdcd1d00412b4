package world

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/ichor-project/ichor/testsuite/devcloud/guest"
)

// Latencies are simulated durations of the cloud; the clock's speed divides
// them. The defaults are what customers of cloudscale.ch usually see.
type Latencies struct {
	API          time.Duration // every API call
	ServerCreate time.Duration // POST until running
	ServerDelete time.Duration // DELETE until 404
	ServerStop   time.Duration
	ServerStart  time.Duration
	ServerReboot time.Duration
	LoadBalancer time.Duration // POST until running
	LBDelete     time.Duration
	ImageImport  time.Duration
	Snapshot     time.Duration // snapshot DELETE until 404
}

// DefaultLatencies returns the latencies used when none are given.
func DefaultLatencies() Latencies {
	return Latencies{
		API:          150 * time.Millisecond,
		ServerCreate: 25 * time.Second,
		ServerDelete: 5 * time.Second,
		ServerStop:   5 * time.Second,
		ServerStart:  8 * time.Second,
		ServerReboot: 5 * time.Second,
		LoadBalancer: 30 * time.Second,
		LBDelete:     3 * time.Second,
		ImageImport:  60 * time.Second,
		Snapshot:     3 * time.Second,
	}
}

// Limits are the quotas of the account; zero means unlimited.
type Limits struct {
	Servers       int `json:"servers"`
	VCPUs         int `json:"vcpus"`
	MemoryGB      int `json:"memory_gb"`
	StorageGB     int `json:"storage_gb"`
	LoadBalancers int `json:"load_balancers"`
	Networks      int `json:"networks"`
	CustomImages  int `json:"custom_images"`
	FloatingIPs   int `json:"floating_ips"`
	// ServerGroupSize is the number of servers one anti-affinity group holds;
	// zero means 4, cloudscale's limit.
	ServerGroupSize int `json:"server_group_size"`
	// OutOfStock lists "flavor@zone" (or "flavor") that the cloud cannot place.
	OutOfStock []string `json:"out_of_stock"`
}

// DescribeFunc tells what a custom image imported from url boots; ok is false
// for an image that is not Talos.
type DescribeFunc func(url string) (guest.Image, bool)

// Options configure a World.
type Options struct {
	// Speed divides all durations; zero means 1.
	Speed     float64
	Latencies *Latencies // nil means DefaultLatencies
	Limits    Limits
	// LoopbackPrefix is the first two octets of the pool of public addresses,
	// for example "127.77".
	LoopbackPrefix string
	// Booter starts what runs on servers with a custom image. Nil means that
	// nothing runs there.
	Booter guest.Booter
	// ImageClient fetches images for imports; ImageURL maps the URL of a
	// request to the one really fetched (identity when nil).
	ImageClient *http.Client
	ImageURL    func(string) (string, error)
	// Describe recognises Talos images; nil recognises none.
	Describe DescribeFunc
	Log      *slog.Logger
}

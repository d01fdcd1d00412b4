// Package cloudtest is the conformance suite of clouds: what every provider must
// do, whatever goes wrong between it and its cloud. A provider's tests call Run
// with a harness that can break the cloud on purpose and look into its books.
package cloudtest

import (
	"testing"
	"time"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cluster"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Effect is what goes wrong.
type Effect string

// Effects.
const (
	// LostReply: done, and the connection breaks before the answer.
	LostReply Effect = "lost reply"
	// Dropped: the connection breaks and nothing is done.
	Dropped Effect = "dropped"
	// Late: done only after the caller gave up, but within Capabilities.Settle.
	Late Effect = "late"
	// Throttled and ThrottledPage: 429 in the API's words, and as a proxy's page.
	Throttled     Effect = "throttled"
	ThrottledPage Effect = "throttled page"
	// Maintenance and ServerError: 503 and 500, nothing done.
	Maintenance Effect = "maintenance"
	ServerError Effect = "server error"
	// Unauthorized: the credentials are refused.
	Unauthorized Effect = "unauthorized"
	// QuotaFull and OutOfStock: refused for the account's limit, for capacity.
	QuotaFull  Effect = "quota full"
	OutOfStock Effect = "out of stock"
	// ImageMissing: the image is not there any more.
	ImageMissing Effect = "image missing"
	// Stale: reads do not show what is younger than Capabilities.Settle.
	Stale Effect = "stale"
	// Busy: deletion is refused because the thing is changing.
	Busy Effect = "busy"
	// WrongZone: the machine lands in another zone than asked.
	WrongZone Effect = "wrong zone"
)

// Call is the sort of request that an effect hits.
type Call string

// Calls.
const (
	CreateMachine Call = "create machine"
	ListMachines  Call = "list machines"
	ReadMachine   Call = "read machine"
	DeleteMachine Call = "delete machine"
	// CreateResource is any create of infrastructure, CreateImage any import.
	CreateResource Call = "create resource"
	CreateImage    Call = "create image"
	// Write is any request that is not a read.
	Write Call = "write"
)

// Fault bends the requests of a sort from the Nth on, Count times. The zero
// values mean the first one, once; a negative Count means all.
type Fault struct {
	On     Call
	Nth    int
	Count  int
	Effect Effect
}

// Cloud is one empty account and the power over it.
type Cloud interface {
	// Open returns a provider as a fresh process would have it.
	Open(t testing.TB) cloud.Provider
	// Inject adds a fault and Heal removes all; the count of requests that
	// decides about Nth starts at Inject.
	Inject(t testing.TB, f Fault)
	Heal()
	// Fired counts the faults, not yet healed, that have hit a request.
	Fired() int
	// Machine returns a request for a machine that the account can create.
	Machine(owner cloud.Owner, id string) cloud.MachineSpec
	UserData() secrets.Value
	// Books counts what the cloud itself knows to carry the cluster's uid, by
	// kind: "machine", "image", and the provider's own kinds.
	Books(uid string) map[string]int
	// Foreign makes a running machine as somebody else would, with these tags
	// and no request through the API, and returns its id. It is called only
	// where the provider is a cloud.Adopter.
	Foreign(t testing.TB, tags []cluster.Tag) (cloudID string)
	// Vanish removes a machine as if deleted by hand.
	Vanish(t testing.TB, cloudID string)
	// Infrastructure returns what the account can create, with a load balancer;
	// Image returns an image that can be imported and Broken one that cannot.
	// They are called only where the provider implements these.
	Infrastructure(owner cloud.Owner) cloud.InfrastructureSpec
	Image(name string) cloud.ImageSpec
	Broken(name string) cloud.ImageSpec
	// WriteRequests counts the requests so far that were not reads.
	WriteRequests() int
	// Zone says where a machine really is.
	Zone(cloudID string) string
}

// Impossible is implemented by a Cloud in which some effects cannot happen, since
// what it asks of its API leaves no room for them.
type Impossible interface {
	Impossible() []Effect
}

// Publisher is implemented by a Cloud that has images which somebody else
// publishes for everybody: they are used as they are.
type Publisher interface {
	// Published is such an image.
	Published() cloud.ImageSpec
}

// Harness makes clouds. Settings of its providers are short enough for tests but
// longer than the cloud's own latencies.
type Harness struct {
	New func(t *testing.T) Cloud
	// Seeds is how many random schedules of faults are tried.
	Seeds int
}

// patience bounds every wait of the suite.
const patience = 30 * time.Second

// Run tests a provider.
func Run(t *testing.T, h Harness) {
	for _, tc := range []struct {
		name string
		run  func(*testing.T, Cloud)
	}{
		{"Capabilities", testCapabilities},
		{"Flavors", testFlavors},
		{"CreateThenAdopt", testAdopt},
		{"LookCreatesNothing", testLook},
		{"CreatesAtMostOncePerCall", testOneRequest},
		{"RepairsDuplicates", testRepair},
		{"RunTwiceAtOnce", testTwice},
		{"ToldApartByCluster", testToldApart},
		{"KindsOfCreateErrors", testCreateErrors},
		{"ReadErrorsAreNeverAbsence", testReadErrors},
		{"ListIsCompleteOrAnError", testList},
		{"NotFoundIsProof", testNotFound},
		{"DeleteUntilGone", testDelete},
		{"DeleteBusy", testDeleteBusy},
		{"DeleteLostReply", testDeleteLost},
		{"DeleteNeverTouchesOthers", testDeleteForeign},
		{"DeletedByHand", testVanished},
		{"NobodysIsNoAbsence", testNobodys},
		{"WrongZone", testWrongZone},
		{"AdoptForeignMachines", testAdoptForeign},
		{"AdoptionSurvivesFaults", testAdoptionFaults},
		{"AdoptionRefuses", testAdoptRefuses},
		{"UserDataTooLarge", testUserData},
		{"ReservedTags", testReservedTags},
		{"NoSecretInErrors", testNoSecret},
		{"Infrastructure", testInfrastructure},
		{"InfrastructureLostReplies", testInfrastructureLost},
		{"InfrastructureForeign", testForeign},
		{"Spread", testSpread},
		{"Members", testMembers},
		{"PublishedImages", testPublished},
		{"Images", testImages},
		{"ImageLostReply", testImageLost},
		{"ImageFails", testImageFails},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.run(t, h.New(t))
		})
	}
	t.Run("EveryFaultEndsWithOne", func(t *testing.T) { testEveryFault(t, h) })
	t.Run("EveryScheduleEndsWithOne", func(t *testing.T) { testSchedules(t, h) })
}

func owner(uid string) cloud.Owner {
	return cloud.Owner{Cluster: cluster.Ref{Name: "demo", UID: uid}, Group: "workers"}
}

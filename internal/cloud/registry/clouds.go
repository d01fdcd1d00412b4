package registry

import (
	"context"

	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/aws"
	"github.com/ichor-project/ichor/internal/cloud/cloudscale"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Cloud is how accounts of one cloud are told apart and opened.
type Cloud struct {
	// RegionOf returns the region of a zone where each region is an account of its
	// own. Nil means that an account spans all zones.
	RegionOf func(zone string) (string, error)
	// Chain says that credentials may be left to the surroundings: "chain:" or
	// "chain:PROFILE".
	Chain bool
	// Open opens an account. It makes no call.
	Open func(ctx context.Context, a Account, o Options) (cloud.Provider, error)
}

// Account is one account of a cloud.
type Account struct {
	Region string // empty where an account spans all
	// Credentials are empty when they are left to the surroundings, where Profile
	// may choose among several.
	Credentials secrets.Value
	Profile     string
	// Observe is told of each request; nil if nobody wants to know.
	Observe exchange.Observe
}

// Clouds returns the clouds that Ichor knows, by the names that specs use. To add one
// is to add an entry.
func Clouds() map[string]Cloud {
	return map[string]Cloud{
		aws.Name:        {Open: openAWS, RegionOf: aws.RegionOf, Chain: true},
		cloudscale.Name: {Open: openCloudscale},
	}
}

func openAWS(ctx context.Context, a Account, o Options) (cloud.Provider, error) {
	return aws.New(ctx, aws.Options{
		Region: a.Region, Credentials: a.Credentials, Profile: a.Profile,
		InstanceProfile: o.InstanceProfile, ControlPlaneInstanceProfile: o.ControlPlaneProfile,
		Rate: o.Rate, Waits: o.Waits, Logger: o.Logger, Observe: a.Observe,
	})
}

func openCloudscale(_ context.Context, a Account, o Options) (cloud.Provider, error) {
	return cloudscale.New(cloudscale.Options{
		Token: a.Credentials, BaseURL: o.CloudscaleURL, Rate: o.Rate, Waits: o.Waits, Logger: o.Logger, Observe: a.Observe,
	})
}

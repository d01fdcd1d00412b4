package registry

import (
	"context"

	"github.com/ichor-project/ichor/internal/catalog"
	"github.com/ichor-project/ichor/internal/cloud"
	"github.com/ichor-project/ichor/internal/cloud/aws"
	"github.com/ichor-project/ichor/internal/cloud/cloudscale"
	"github.com/ichor-project/ichor/internal/cloud/exchange"
	"github.com/ichor-project/ichor/internal/secrets"
)

// Cloud is a cloud of the catalog and how accounts of it are opened.
type Cloud struct {
	catalog.Cloud
	// Open opens an account. It makes no call.
	Open func(ctx context.Context, a Account, o Options) (cloud.Provider, error)
}

// Account is one account of a cloud.
type Account struct {
	Region string // empty where an account spans all, as in all clouds that are not Regional
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
		aws.Name:        {catalog.AWS(), openAWS},
		cloudscale.Name: {catalog.Cloudscale(), openCloudscale},
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

package aws

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ichor-project/ichor/internal/catalog"
)

// What groups without a cluster of ours may say of their machines is what launching
// them understands.
func TestParamsAreThoseOfLaunch(t *testing.T) {
	if diff := cmp.Diff([]string{paramProfile, paramSecurityGroup}, catalog.AWS().Params); diff != "" {
		t.Errorf("parameters (-launch +catalog):\n%s", diff)
	}
}

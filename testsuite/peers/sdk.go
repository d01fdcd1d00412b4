//go:build peers

// The suite is a dependency of the tests here, which build it by name; this
// import keeps what it needs in go.sum. It is never compiled: the suite's
// package is complete only together with its tests.
package peers

import _ "github.com/cloudscale-ch/cloudscale-go-sdk/v8/test/integration"

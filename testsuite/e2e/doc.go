// Package e2e proves Ichor from the outside: the real command line and worker, a
// real Temporal server, and devcloud with real Kubernetes API servers behind it.
// Every test runs a whole system of its own on loopback and looks at the cloud's
// API, at Kubernetes and at Temporal, never into Ichor.
//
// The cloud comes from the table of package stack: ICHOR_TEST_CLOUD names it, and
// cloudscale is the default. Tests ask the table for what differs. What only one
// cloud has is tested there, whichever the suite runs on.
//
// The programs come from bin (make build tools), or from the folder that ICHOR_BIN
// names; a missing one fails the suite.
package e2e

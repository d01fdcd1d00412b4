// Package provider proves what the autoscaler's server remembers while parts of
// Ichor are missing: real Temporal, worker and provider as processes that are
// killed, devcloud as the account, a gRPC client in place of the autoscaler.
package provider

// Package standalone proves that Ichor takes over the workers of a cluster that
// was built by other means: real Temporal, worker and provider as processes,
// devcloud as the account, a gRPC client in place of the autoscaler.
package standalone

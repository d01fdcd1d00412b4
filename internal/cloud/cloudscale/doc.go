// Package cloudscale makes cloudscale.ch a cloud of Ichor.
//
// The API has no idempotency token, no unique names and no conditional
// requests. What makes repeating safe is identity tags in every create call,
// looking by one of them and checking the others here (the API does not combine
// tag filters), the repair of duplicates, and errors that say honestly whether
// a write may have been done. The vendor's SDK retries nothing and loses the
// status of errors; the transport of this package keeps what classify needs.
package cloudscale
